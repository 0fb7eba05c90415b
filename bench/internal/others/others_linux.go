package others

import (
	"errors"
	"os"

	"voicefleet/bench/internal/procstat"
)

// noticeable is the share of the machine from which on others are noted.
const noticeable = 0.05

// Watch has stop note how much of the machine others used meanwhile, if it was so much
// that it shows in what is measured. This process and all that it started are no others.
func Watch(name string, note func(format string, args ...any)) (stop func()) {
	machine, err := procstat.ReadMachine()
	ours, err2 := procstat.TreeCPU(os.Getpid())
	return func() {
		machineNow, err3 := procstat.ReadMachine()
		oursNow, err4 := procstat.TreeCPU(os.Getpid())
		if err := errors.Join(err, err2, err3, err4); err != nil {
			note("%s: cannot tell what others used of the machine: %v", name, err)
			return
		}
		if share := share(machineNow.Sub(machine), oursNow.Sub(ours)); share > noticeable {
			note("%s: others used %.0f %% of the machine", name, 100*share)
		}
	}
}

// share is what others had of a machine's time: what was not ours of the time in which its
// cores worked, and what its host took away.
func share(machine procstat.Machine, ours procstat.CPU) float64 {
	return float64(machine.Busy()+machine.Steal-ours.Total()) / float64(max(machine.Total(), 1))
}
