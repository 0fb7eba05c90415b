package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// An agent has little work, in many goroutines: a datagram of a link passes five of
// them. With idle processors at hand each hand-over wakes a thread, which looks for
// more work before it sleeps again, and that costs more than the work. So the agent
// has as many processors as it has use for, and mostly one.

// processorsEvery is how often they are counted anew: who suddenly has more to do is
// held up for so long at most.
const processorsEvery = time.Second

// processorsFor is how many processors a process is to have that used so many, of
// most it may have: half of one is to spare.
func processorsFor(used float64, most int) int { return min(1+int(2*used), most) }

// fitProcessors gives this process the processors it needs until ctx ends.
func fitProcessors(ctx context.Context) error {
	most := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(most)
	tick := time.NewTicker(processorsEvery)
	defer tick.Stop()
	before, at := time.Duration(-1), time.Now()
	for {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return fmt.Errorf("count processors: %w", os.NewSyscallError("getrusage", err))
		}
		now, busy := time.Now(), time.Duration(u.Utime.Nano()+u.Stime.Nano())
		if before >= 0 {
			if n := processorsFor(float64(busy-before)/float64(now.Sub(at)), most); n != runtime.GOMAXPROCS(0) {
				runtime.GOMAXPROCS(n)
			}
		}
		before, at = busy, now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
