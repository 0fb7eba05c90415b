package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/remote"
	"voicefleet/bench/internal/role"
	"voicefleet/bench/scenario"
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
	home       []int // generator of each room; nil: members are spread

	mu sync.Mutex
	// Guarded by mu.
	in []crew // of each generator
}

// crew is the clients of a generator.
type crew struct {
	count   int // those on their way included
	clients map[int]struct{}
}

// homes places each room whole, in the generator that is to have the fewest members
// by then: what a listener hears is then timed by the clock of its talkers. With
// fewer rooms than generators it is nil.
func homes(rooms []scenario.Room, generators int) []int {
	if len(rooms) < generators {
		return nil
	}
	home, load := make([]int, len(rooms)), make([]int, generators)
	for i, room := range rooms {
		for g := range load {
			if load[g] < load[home[i]] {
				home[i] = g
			}
		}
		load[home[i]] += room.Members
	}
	return home
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
	c := &crowd{generators: slices.Clone(r.config.Remote)}
	if len(c.generators) == 0 {
		for i := range r.config.Generators {
			g, err := StartGenerator(r.config.Self, fmt.Sprintf("generator %d", i+1), loopback)
			if err != nil {
				return err
			}
			r.stops = append(r.stops, g.Stop)
			c.generators = append(c.generators, g)
		}
	} else {
		r.stops = append(r.stops, c.empty)
	}
	c.home = homes(r.plan.Rooms, len(c.generators))
	for range c.generators {
		c.in = append(c.in, crew{clients: make(map[int]struct{})})
	}
	r.light = c
	for i := range c.generators {
		g := &c.generators[i]
		if err := g.align(ctx); err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		if err := g.Setup(ctx, lightclient.Setup{Offset: g.clock.Offset, VoiceSize: smallest + rtpHeader}); err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
	}
	return nil
}

// align measures the clock of a generator on another machine.
func (g *Generator) align(ctx context.Context) (err error) {
	if g.PID == 0 {
		g.clock, err = remote.Align(ctx, g, alignments)
	}
	return err
}

// clocks measures the clocks of generators elsewhere once more and reports how they
// stood. Their clients were told the first offset, so what it may be off by holds
// the way it went meanwhile.
func (r *run) clocks(ctx context.Context) error {
	var list []remote.Named
	for _, g := range r.light.generators {
		if g.PID != 0 {
			continue
		}
		begun := g.clock
		if err := g.align(ctx); err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		whole := remote.Over(begun, g.clock)
		whole.Uncertainty = max(begun.Uncertainty, (g.clock.Offset-begun.Offset).Abs()+g.clock.Uncertainty)
		list = append(list, remote.Named{Name: g.Name, Clock: whole})
	}
	if len(list) == 0 {
		return nil
	}
	table, note := remote.Clocks(list)
	r.report.Tables = append(r.report.Tables, table)
	if r.light.home != nil && len(list) > 1 {
		note = "each room was in one generator: its latencies need no clock but that one's"
	}
	r.note("%s", note)
	return nil
}

// loopback is where generators of our own have their clients.
var loopback = netip.MustParseAddr("127.0.0.1")

// StartGenerator starts a generator process: self is this program with the
// arguments that lead to forward.RunRole.
func StartGenerator(self []string, name string, host netip.Addr) (Generator, error) {
	args := append(append([]string(nil), self[1:]...), "generator", host.String())
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

// add makes a client for a room: in the room's generator, or in the one that has the
// fewest.
func (c *crowd) add(ctx context.Context, room, slots int, sampled bool) (seat, string, error) {
	at := c.choose(room)
	added, err := c.generators[at].Add(ctx, lightclient.Seat{Slots: slots, Sampled: sampled})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.in[at].count--
		return seat{}, "", fmt.Errorf("make client: %w", err)
	}
	c.in[at].clients[added[0].ID] = struct{}{}
	return seat{at, added[0].ID}, added[0].Offer, nil
}

// choose finds the generator for one more member of a room, and counts it.
func (c *crowd) choose(room int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	best := 0
	if c.home != nil {
		best = c.home[room]
	} else {
		for i := range c.in {
			if c.in[i].count < c.in[best].count {
				best = i
			}
		}
	}
	c.in[best].count++
	return best
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in[s.generator].count--
	delete(c.in[s.generator].clients, s.client)
}

// empty closes all clients, for generators that go on after the run.
func (c *crowd) empty() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanup)
	defer cancel()
	var errs []error
	for i, g := range c.generators {
		c.mu.Lock()
		list := slices.Collect(maps.Keys(c.in[i].clients))
		c.in[i] = crew{clients: make(map[int]struct{})}
		c.mu.Unlock()
		if err := g.Close(ctx, list...); err != nil {
			errs = append(errs, fmt.Errorf("%s: close clients: %w", g.Name, err))
		}
	}
	return errors.Join(errs...)
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

// firsts asks when members heard anything first.
func (c *crowd) firsts(ctx context.Context, members []*member) error {
	for i, group := range c.by(members) {
		clients := make([]int, len(group))
		for k, m := range group {
			clients[k] = m.seat.client
		}
		counted, err := c.generators[i].CountsOf(ctx, clients)
		if err != nil {
			return err
		}
		for k, one := range counted {
			group[k].first = one.First
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
