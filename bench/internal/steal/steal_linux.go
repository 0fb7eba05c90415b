package steal

import (
	"context"
	"sync"
	"time"

	"voicefleet/bench/internal/procstat"
)

// Watch is one under way. What was taken is told in hundredths of a second, as Linux
// tells it. Safe for concurrent use.
type Watch struct {
	stop context.CancelFunc
	over chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	taken taken
}

const (
	// lookEvery is how often the host's share is looked at, atOnce what "at once" is.
	lookEvery = 20 * time.Millisecond
	atOnce    = 100 * time.Millisecond
)

// Begin watches until End. Where Linux does not tell, nothing is ever taken.
func Begin() *Watch {
	ctx, stop := context.WithCancel(context.Background())
	w := &Watch{stop: stop, over: make(chan struct{})}
	go func() {
		defer close(w.over)
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				cores, err := procstat.ReadCores()
				if err != nil {
					return
				}
				w.mu.Lock()
				w.taken.see(time.Now(), cores)
				w.mu.Unlock()
			}
		}
	}()
	return w
}

// Reset forgets what was taken until now.
func (w *Watch) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = taken{}
}

// Most is the most that was taken of one core within 100 ms, since Reset.
func (w *Watch) Most() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken.most
}

// End ends the watch.
func (w *Watch) End() {
	w.stop()
	<-w.over
}

// taken is what was taken of each core.
type taken struct {
	readings []reading // of the last 100 ms and one before, the oldest first
	most     time.Duration
}

type reading struct {
	at    time.Time
	steal []time.Duration // of each core
}

// see takes in how the cores' times stand. A core that goes or comes is another machine.
func (t *taken) see(now time.Time, cores []procstat.Machine) {
	r := reading{at: now}
	for _, c := range cores {
		r.steal = append(r.steal, c.Steal)
	}
	if n := len(t.readings); n > 0 && len(t.readings[n-1].steal) != len(r.steal) {
		t.readings = nil
	}
	t.readings = append(t.readings, r)
	for len(t.readings) > 2 && now.Sub(t.readings[1].at) >= atOnce { // one is kept that late looks may count from
		t.readings = t.readings[1:]
	}
	for i, steal := range r.steal {
		t.most = max(t.most, steal-t.readings[0].steal[i])
	}
}
