package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// round is what one fault did.
type round struct {
	At     time.Duration // since the run began
	Victim string
	// Hit are the listeners who were on the victim, Spared all others.
	Hit, Spared []Heard
	// Far are those of its listeners who come from afar, if there were any: one by a
	// relay and one by another node.
	Far        []Heard
	Moved      int // paths that were opened in the window
	Resumed    int // voice WebSockets that were resumed
	FarMoved   int // of those from afar
	FarResumed int
	Ended      int // calls that ended, each a failure
	Split      int // calls on two nodes at the end of the window
	// Late is how far the harness itself was behind its schedule at worst: what is
	// heard of that is not the fleet's doing.
	Late time.Duration
	// Taken is the most that the host took away of one core within 0.1 s: nor is that.
	Taken   time.Duration
	Figures map[string]float64
}

// worst is the listener with the longest gap.
func worst(heard []Heard) Heard {
	var w Heard
	for _, h := range heard {
		if h.Gap >= w.Gap {
			w = h
		}
	}
	return w
}

// lost is how many packets did not come, of how many.
func lost(heard []Heard) (lost, expected uint64) {
	for _, h := range heard {
		lost += h.Lost
		expected += h.Expected
	}
	return lost, expected
}

// recovered is how many hear somebody again.
func recovered(heard []Heard) int {
	n := 0
	for _, h := range heard {
		if h.Recovered {
			n++
		}
	}
	return n
}

// gaps are those of a group, in order, in seconds.
func gaps(heard []Heard) []float64 {
	list := make([]float64, len(heard))
	for i, h := range heard {
		list[i] = h.Gap.Seconds()
	}
	slices.Sort(list)
	return list
}

// quantile of an ordered list: the least value that the share q does not exceed.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	i := int(q*float64(len(list))+0.999999) - 1
	return list[min(max(i, 0), len(list)-1)]
}

// line tells a round to people.
func (one *round) line(t trial, i, of int) string {
	text := fmt.Sprintf("%5.0f s  %s %d/%d", one.At.Seconds(), t.title, i+1, of)
	if one.Victim != "" {
		text += " (" + one.Victim + ")"
	}
	if n := len(one.Hit); n > 0 {
		g, w := gaps(one.Hit), worst(one.Hit)
		text += fmt.Sprintf(": gap median %.3f s, worst %.3f s (listener %d), %d of %d recovered", quantile(g, 0.5), w.Gap.Seconds(), w.Member, recovered(one.Hit), n)
	}
	if n := len(one.Spared); n > 0 {
		l, e := lost(one.Spared)
		text += fmt.Sprintf("; others: worst %.3f s, %d of %d lost", worst(one.Spared).Gap.Seconds(), l, e)
	}
	text += fmt.Sprintf("; %d paths opened, %d resumed", one.Moved, one.Resumed)
	if len(one.Far) > 0 {
		text += fmt.Sprintf("; from afar: worst %.3f s, %d of %d recovered, %d paths opened, %d resumed", worst(one.Far).Gap.Seconds(), recovered(one.Far), len(one.Far), one.FarMoved, one.FarResumed)
	}
	if one.Ended > 0 {
		text += fmt.Sprintf(", %d calls ENDED", one.Ended)
	}
	if one.Split > 0 {
		text += fmt.Sprintf(", %d calls SPLIT", one.Split)
	}
	for _, name := range slices.Sorted(maps.Keys(one.Figures)) {
		text += fmt.Sprintf("; %s %.4g", name, one.Figures[name])
	}
	return text + fmt.Sprintf("; harness late %.3f s, host took %.2f s", one.Late.Seconds(), one.Taken.Seconds())
}

// window is a judgement of everybody under way.
type window struct {
	run    *run
	before standing
	where  []string // node of each member when the fault came
	far    []*farListener
}

// watch begins a window and returns when its run-up is over.
func (r *run) watch(ctx context.Context, far ...*farListener) (*window, error) {
	w := &window{run: r, before: r.crowd.stand(), far: far}
	r.crowd.engine.Reset()
	r.host.Reset()
	from := r.crowd.clock.slot(time.Now()) + 3
	for _, m := range r.crowd.members {
		m.ear.judge(from)
		node, _, _, _ := m.state()
		w.where = append(w.where, node)
	}
	for _, l := range far {
		l.ear.judge(from)
		l.had = l.call.Stats()
	}
	return w, sleep(ctx, runUp)
}

// conclude ends the window now and deals its listeners out by whether they were on the
// victim; without one all were.
func (w *window) conclude(ctx context.Context, one *round, victim string) error {
	c := w.run.crowd
	to := c.clock.slot(time.Now()) + 3
	for _, m := range c.members {
		m.ear.until(to)
	}
	for _, l := range w.far {
		l.ear.until(to)
	}
	if err := sleep(ctx, time.Until(c.clock.due(to))+lastPackets); err != nil {
		return err
	}
	one.Victim, one.Late, one.Taken = victim, c.engine.Pace().Worst, w.run.host.Most()
	for i, m := range c.members {
		h := m.ear.heard()
		if victim == "" || w.where[i] == victim {
			one.Hit = append(one.Hit, h)
		} else {
			one.Spared = append(one.Spared, h)
		}
	}
	after := c.stand()
	one.Moved = int(after.opened - w.before.opened)
	one.Resumed = max(after.resumes-w.before.resumes, 0) // of sessions that are still the same
	one.Split = after.split
	for _, l := range w.far {
		now := l.call.Stats()
		one.FarMoved += now.Moves - l.had.Moves
		one.FarResumed += now.Voice.Resumes - l.had.Voice.Resumes
		h := l.ear.heard()
		if !h.Recovered {
			w.run.say("        who listens from afar does not hear: %+v, with %+v", now, l.call.Members())
		}
		one.Far = append(one.Far, h)
	}
	return nil
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
