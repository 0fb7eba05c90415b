package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/remote"
	"voicefleet/bench/internal/role"
)

// Generator is a generator of light clients, and where it is.
type Generator struct {
	Name string // for people
	role.Generator
	Stop func() error

	clock remote.Clock // of one on another machine
}

// seat is a client of a generator; the zero value is none.
type seat struct{ generator, client int } // client counts from 1

// crowd is all light clients of a run.
type crowd struct {
	// Immutable.
	generators []Generator

	mu sync.Mutex
	// Guarded by mu.
	in []int // clients of each generator
}

// rtpHeader is the least that a datagram has beside the Opus packet.
const rtpHeader = 12

// startGenerators starts as many processes as are wanted, if there are light
// members at all.
func (r *run) startGenerators(ctx context.Context) error {
	light := false
	smallest := r.small + smallerBy
	for _, m := range r.members {
		light = light || !m.Faithful
	}
	if !light {
		return nil
	}
	c := &crowd{generators: r.config.Remote}
	if len(c.generators) == 0 {
		for i := range r.config.Generators {
			g, err := StartGenerator(r.config.Self, fmt.Sprintf("generator %d", i+1), loopback, smallest+rtpHeader)
			if err != nil {
				return err
			}
			r.stops = append(r.stops, g.Stop)
			c.generators = append(c.generators, g)
		}
	}
	c.in = make([]int, len(c.generators))
	r.light = c
	_, err := c.each(ctx, func(ctx context.Context, g Generator) (lightclient.Pace, error) { return g.Pace(ctx) })
	return err
}

// loopback is where generators of our own have their clients.
var loopback = netip.MustParseAddr("127.0.0.1")

// StartGenerator starts a generator process: self is this program with the
// arguments that lead to forward.RunRole, voiceSize the shortest datagram that
// counts as voice.
func StartGenerator(self []string, name string, host netip.Addr, voiceSize int) (Generator, error) {
	args := append(append([]string(nil), self[1:]...), "generator", host.String(), strconv.Itoa(voiceSize))
	p, err := child.Start(name, self[0], args...)
	if err != nil {
		return Generator{}, err
	}
	return Generator{Name: name, Generator: role.Generator{Caller: p, PID: p.PID()}, Stop: p.Stop}, nil
}

// pids are the generators of this machine.
func (c *crowd) pids() []int {
	var pids []int
	for _, g := range c.generators {
		if g.PID != 0 {
			pids = append(pids, g.PID)
		}
	}
	return pids
}

// each asks all generators at once: they are to answer at the same moment.
func (c *crowd) each(ctx context.Context, ask func(context.Context, Generator) (lightclient.Pace, error)) (lightclient.Pace, error) {
	all := make([]lightclient.Pace, len(c.generators))
	group, ctx := errgroup.WithContext(ctx)
	for i, g := range c.generators {
		group.Go(func() (err error) {
			all[i], err = ask(ctx, g)
			return err
		})
	}
	err := group.Wait()
	var sum lightclient.Pace
	for _, one := range all {
		sum.Add(one)
	}
	return sum, err
}

func (c *crowd) reset(ctx context.Context) error {
	_, err := c.each(ctx, func(ctx context.Context, g Generator) (lightclient.Pace, error) {
		return lightclient.Pace{}, g.Reset(ctx)
	})
	return err
}

// counts are those of all clients, and how the generators keep up.
func (c *crowd) counts(ctx context.Context) (lightclient.Counts, lightclient.Pace, error) {
	var sum lightclient.Counts
	var mu sync.Mutex
	pace, err := c.each(ctx, func(ctx context.Context, g Generator) (lightclient.Pace, error) {
		counts, err := g.Counts(ctx)
		if err != nil {
			return lightclient.Pace{}, err
		}
		mu.Lock()
		sum.Add(counts)
		mu.Unlock()
		return g.Pace(ctx)
	})
	return sum, pace, err
}

// add makes a client in the generator that has the fewest.
func (c *crowd) add(ctx context.Context, slots int, sampled bool) (seat, string, error) {
	c.mu.Lock()
	best := 0
	for i := range c.in {
		if c.in[i] < c.in[best] {
			best = i
		}
	}
	c.in[best]++
	c.mu.Unlock()
	added, err := c.generators[best].Add(ctx, lightclient.Seat{Slots: slots, Sampled: sampled})
	if err != nil {
		c.gone(best)
		return seat{}, "", fmt.Errorf("make client: %w", err)
	}
	return seat{best, added[0].ID}, added[0].Offer, nil
}

func (c *crowd) gone(generator int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in[generator]--
}

// connect hands a client its answer.
func (c *crowd) connect(ctx context.Context, s seat, answer string) (lightclient.Stages, error) {
	done, err := c.generators[s.generator].Connect(ctx, role.Answer{ID: s.client, SDP: answer, Timeout: joinTimeout})
	switch {
	case err != nil:
		return lightclient.Stages{}, err
	case done[0].Err != "":
		return done[0].Stages, errors.New(done[0].Err)
	}
	return done[0].Stages, nil
}

func (c *crowd) close(ctx context.Context, s seat) {
	_ = c.generators[s.generator].Close(ctx, s.client) // a generator that is gone has closed it
	c.gone(s.generator)
}

func (c *crowd) talk(ctx context.Context, s seat, talk lightclient.Talk) error {
	return c.generators[s.generator].Talk(ctx, []role.Talking{{Client: s.client, Talk: talk}}, nil)
}

// by groups members by their generator.
func (c *crowd) by(members []*member) [][]*member {
	groups := make([][]*member, len(c.generators))
	for _, m := range members {
		if m.seat != (seat{}) {
			groups[m.seat.generator] = append(groups[m.seat.generator], m)
		}
	}
	return groups
}

// talkAll begins the talks of members.
func (c *crowd) talkAll(ctx context.Context, members []*member) error {
	for i, group := range c.by(members) {
		list := make([]role.Talking, len(group))
		for k, m := range group {
			list[k] = role.Talking{Client: m.seat.client, Talk: m.talk}
		}
		if err := c.generators[i].Talk(ctx, list, nil); err != nil {
			return err
		}
	}
	return nil
}

// judgeAll begins to judge members; those with the same window in one request.
func (c *crowd) judgeAll(ctx context.Context, members []*member, w *outcome, config func(*member, *outcome) meter.Config) error {
	for i, group := range c.by(members) {
		same := make(map[meter.Config][]int)
		for _, m := range group {
			same[config(m, w)] = append(same[config(m, w)], m.seat.client)
		}
		for config, clients := range same {
			if err := c.generators[i].Judge(ctx, clients, config); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask tells members what they were to hear and asks what they heard.
func (c *crowd) ask(ctx context.Context, members []*member, expected func(*member) []expectation) error {
	for i, group := range c.by(members) {
		if len(group) == 0 {
			continue
		}
		var all []role.Expectation
		clients := make([]int, len(group))
		at := make(map[int]*member, len(group))
		for k, m := range group {
			clients[k] = m.seat.client
			at[m.seat.client] = m
			for _, e := range expected(m) {
				all = append(all, role.Expectation{Clients: []int{m.seat.client}, Talker: e.talker, Plan: e.plan})
			}
		}
		if err := c.generators[i].Expect(ctx, all); err != nil {
			return err
		}
		heard, err := c.generators[i].HeardBy(ctx, clients)
		if err != nil {
			return err
		}
		for _, h := range heard {
			result := h.Result
			at[h.Client].heard = &result
		}
	}
	return nil
}
