package others

import (
	"testing"
	"time"

	"voicefleet/bench/internal/procstat"
)

// TestShare: of 10 s of two cores, 6 were worked, 1 stolen and 4 ours.
func TestShare(t *testing.T) {
	machine := procstat.Machine{User: 4 * time.Second, System: time.Second, SoftIRQ: time.Second, Steal: time.Second, Idle: 3 * time.Second}
	ours := procstat.CPU{User: 3 * time.Second, System: time.Second}
	if got := share(machine, ours); got != 0.3 {
		t.Errorf("others had %v, want 0.3", got)
	}
	if got := share(procstat.Machine{}, procstat.CPU{}); got != 0 {
		t.Errorf("in no time others had %v", got)
	}
}
