package load

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/meter"
)

// expectation is what a listener is to hear of a talker.
type expectation struct {
	talker uint32
	plan   []meter.Span
}

// expectations are a listener's: everybody else who talks in its room.
func (r *run) expectations(m *member, w *outcome) []expectation {
	from, to := m.present(w.begin, w.end)
	var list []expectation
	for _, t := range r.talkers[m.Room] {
		if t == m {
			continue
		}
		if plan := t.expected(from, to, r.plan.Scenario.Server.SilenceGate); len(plan) > 0 {
			list = append(list, expectation{t.id, plan})
		}
	}
	return list
}

// collect asks all judged members who are still in what they heard.
func (r *run) collect(ctx context.Context, w *outcome) error {
	var light []*member
	for _, m := range r.members {
		switch {
		case m.joined.IsZero() || !m.Sampled || m.heard != nil:
		case m.bot != nil:
			r.collectBot(m, w)
		default:
			light = append(light, m)
		}
	}
	if r.light == nil {
		return nil
	}
	if err := r.light.ask(ctx, light, func(m *member) []expectation { return r.expectations(m, w) }); err != nil {
		return err
	}
	if err := r.light.firsts(ctx, r.unheard()); err != nil {
		return err
	}
	return r.clocks(ctx)
}

// unheard are the light members who are in, and of whom it is not known when they
// heard anything first.
func (r *run) unheard() []*member {
	var list []*member
	for _, m := range r.members {
		if m.bot == nil && m.in() && m.first.IsZero() {
			list = append(list, m)
		}
	}
	return list
}

// collectBot asks a faithful bot.
func (r *run) collectBot(m *member, w *outcome) {
	b := m.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard == nil {
		return
	}
	for _, e := range r.expectations(m, w) {
		b.heard.Expect(e.talker, e.plan)
	}
	result := b.heard.Result()
	m.heard = &result
}

// lastPackets is how long those due before a leave may be on their way.
const lastPackets = 200 * time.Millisecond

// farewell asks a member who leaves within the window what it heard. What a generator
// does not answer is left out; that it is gone, the run notices.
func (r *run) farewell(ctx context.Context, m *member, w *outcome) {
	if m.bot == nil {
		_ = r.light.firsts(ctx, []*member{m})
	}
	if !m.Sampled {
		return
	}
	if m.bot != nil {
		r.collectBot(m, w)
		return
	}
	_ = r.light.ask(ctx, []*member{m}, func(m *member) []expectation { return r.expectations(m, w) })
}

// leaveAll ends the calls of all who are still in. Sessions at a node have nothing
// beside it, and end with it.
func (r *run) leaveAll() error {
	if _, node := r.door.(nodeDoor); node {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanup)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, m := range r.members {
		if m.in() && m.leave != nil {
			group.Go(func() error {
				m.mu.Lock()
				m.left = time.Now()
				m.mu.Unlock()
				if err := m.leave(ctx); err != nil {
					return fmt.Errorf("member %d of room %d: %w", m.Seat+1, m.Room+1, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}
