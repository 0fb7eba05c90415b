package child

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/procstat"
)

// ErrPriority is why a process cannot step back: it could not return.
var ErrPriority = errors.New("want root, or a limit of nice (ulimit -e) of 20")

// StepBack has the process run only when nobody else wants a core (SCHED_IDLE, sched(7)),
// or again as others do. What a process of ours stands for is on other machines than
// what is measured: it then takes nothing from it. With ErrPriority all stays as it was.
func (p *Process) StepBack(back bool) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if back {
		var nice unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NICE, &nice); err != nil || os.Geteuid() != 0 && nice.Cur < 20 {
			return errors.Join(ErrPriority, err)
		}
		attr.Policy = unix.SCHED_IDLE
	}
	// A thread that begins meanwhile begins as the one that it came from: so there are
	// new ones only until all are done.
	done := make(map[int]bool)
	for more := true; more; {
		more = false
		threads, err := procstat.Threads(p.PID())
		if err != nil {
			return err
		}
		for _, t := range threads {
			if done[t.ID] {
				continue
			}
			done[t.ID], more = true, true
			if err := unix.SchedSetAttr(t.ID, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("priority of %s: %w", p.name, err)
			}
		}
	}
	return nil
}
