package gateway

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lateSend is from when on something was begun late: the generator was busy.
// lateStorm is that for connections that are all to resume at one moment: each takes
// some 0.1 ms of a core to open.
const (
	lateSend  = 10 * time.Millisecond
	lateStorm = 100 * time.Millisecond
)

// pace is how well the generator kept to the moments it had planned.
type pace struct {
	limit time.Duration // from when on it was late; 0: lateSend

	mu sync.Mutex
	// Guarded by mu.
	late *hdrhistogram.Histogram // how much later than planned, of all
	over int64                   // later than limit
	full int64                   // not begun: inFlight were under way
}

// began counts something begun so much later than planned.
func (p *pace) began(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late == nil {
		p.late = newHistogram()
	}
	record(p.late, late)
	limit := p.limit
	if limit == 0 {
		limit = lateSend
	}
	if late >= limit {
		p.over++
	}
}

// skipped counts something that was not begun.
func (p *pace) skipped() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full++
}

// share is the percentage that was late or not begun at all.
func (p *pace) share() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.full
	if p.late != nil {
		n += p.late.TotalCount()
	}
	return percent(p.over+p.full, n)
}

// percent is n of all, 0 of nothing.
func percent(n, all int64) float64 {
	if all == 0 {
		return 0
	}
	return 100 * float64(n) / float64(all)
}

// begun is how late what was begun was.
func (p *pace) begun() *hdrhistogram.Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late == nil {
		return newHistogram()
	}
	return hdrhistogram.Import(p.late.Export())
}
