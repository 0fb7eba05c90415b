package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"voicefleet/bench/internal/target"
)

// Deed is something that can be done to the fleet of a [Demo].
type Deed string

// The deeds.
const (
	Kill    Deed = "kill"
	Freeze  Deed = "freeze"
	Drain   Deed = "drain"
	Upgrade Deed = "upgrade"
)

// Demo is a fleet on this host's loopback addresses whose calls talk until it ends, to
// be looked at and to be hurt.
type Demo struct {
	// Page is a link that lets its reader talk with the bots; Console shows the fleet.
	Page, Console string

	run   *run
	doing sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	busy  string // what is being done; empty: nothing
	done  []Done
	count int
	nodes []NodeState
}

// Done is a deed that is over.
type Done struct {
	Number    int // from 1 on
	At        time.Time
	Deed      Deed
	Node      string
	Listeners int // who were on the node
	Recovered int
	Median    time.Duration
	Worst     time.Duration
	Listener  int // who had the worst gap
	Moved     int // paths that were opened meanwhile
	Err       error
}

// NodeState is a node as the demo shows it.
type NodeState struct {
	Node             string
	State            string
	Calls, Listeners int
}

// Picture is how the demo stands.
type Picture struct {
	Nodes            []NodeState
	Listeners, Quiet int // Quiet of them hear nothing right now
	Busy             string
	Done             []Done // the newest last
}

const (
	// quietAfter is a silence that somebody notices, doneKept how many deeds are shown.
	quietAfter = 100 * time.Millisecond
	doneKept   = 8
	// lookEvery is the pace at which the allocator is asked for its nodes.
	lookEvery = time.Second
)

// OpenDemo starts the fleet and its crowd.
func OpenDemo(ctx context.Context, config Config) (*Demo, error) {
	config.Loopback, config.speech = true, true
	if err := config.Validate(); err != nil {
		return nil, err
	}
	r, err := open(ctx, config)
	if err != nil {
		return nil, err
	}
	d := &Demo{run: r}
	if err := d.links(ctx); err != nil {
		_ = r.close()
		return nil, err
	}
	return d, nil
}

// links finds the ways in for a person.
func (d *Demo) links(ctx context.Context) error {
	var invites []struct{ Link string }
	out, err := d.run.fleet.Ctl(ctx, "invite", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &invites)
	}
	if err != nil || len(invites) == 0 {
		return fmt.Errorf("find the way in: %d invites: %w", len(invites), err)
	}
	// The browser gives its microphone to http on localhost only.
	d.Page = strings.Replace(invites[0].Link, "127.0.0.1", "localhost", 1)
	out, err = d.run.fleet.Ctl(ctx, "console")
	d.Console = strings.Replace(strings.TrimSpace(out), "127.0.0.1", "localhost", 1)
	return err
}

// Watch keeps the picture of the nodes until ctx ends.
func (d *Demo) Watch(ctx context.Context) {
	for {
		d.look(ctx)
		if sleep(ctx, lookEvery) != nil {
			return
		}
	}
}

func (d *Demo) look(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	views, err := d.run.fleet.Nodes(ask)
	if err != nil {
		return // the old picture stays
	}
	states := make(map[string]NodeState)
	for _, v := range views {
		states[string(v.Node)] = NodeState{State: string(v.State), Calls: v.CallCount}
	}
	list := make([]NodeState, len(d.run.fleet.Edges))
	for i, e := range d.run.fleet.Edges {
		s, there := states[e.Name]
		if !there {
			s.State = "gone"
		}
		s.Node = e.Name
		list[i] = s
	}
	d.mu.Lock()
	d.nodes = list
	d.mu.Unlock()
}

// Picture is how it stands now.
func (d *Demo) Picture() Picture {
	s := d.run.crowd.stand()
	p := Picture{Listeners: len(d.run.crowd.members)}
	for _, m := range d.run.crowd.members {
		if m.ear.silentFor() > quietAfter {
			p.Quiet++
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.Busy, p.Done, p.Nodes = d.busy, slices.Clone(d.done), slices.Clone(d.nodes)
	for i := range p.Nodes {
		p.Nodes[i].Listeners = s.nodes[p.Nodes[i].Node]
	}
	return p
}

// Do begins a deed at the node that has most listeners, and says at which. One is done
// at a time.
func (d *Demo) Do(ctx context.Context, deed Deed) (node string, err error) {
	s := d.run.crowd.stand()
	victim := d.run.fleet.Edges[0]
	for _, e := range d.run.fleet.Edges {
		if s.nodes[e.Name] > s.nodes[victim.Name] {
			victim = e
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy != "" {
		return "", fmt.Errorf("one at a time: %s is under way", d.busy)
	}
	d.busy = fmt.Sprintf("%s %s", deed, victim.Name)
	d.doing.Go(func() { d.perform(ctx, deed, victim) })
	return victim.Name, nil
}

// perform does a deed in a window of its own and makes good what it did.
func (d *Demo) perform(ctx context.Context, deed Deed, victim *target.Unit) {
	one := &round{Figures: make(map[string]float64)}
	done := Done{At: time.Now(), Deed: deed, Node: victim.Name}
	done.Err = d.hurt(ctx, one, deed, victim)
	if w := worst(one.Hit); len(one.Hit) > 0 {
		done.Listeners, done.Recovered, done.Moved = len(one.Hit), recovered(one.Hit), one.Moved
		done.Median = time.Duration(quantile(gaps(one.Hit), 0.5) * float64(time.Second))
		done.Worst, done.Listener = w.Gap, w.Member
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = ""
	d.count++
	done.Number = d.count
	d.done = append(d.done, done)
	d.done = d.done[max(len(d.done)-doneKept, 0):]
}

func (d *Demo) hurt(ctx context.Context, one *round, deed Deed, victim *target.Unit) error {
	r := d.run
	do := map[Deed]func() error{
		Kill:   victim.Kill,
		Freeze: victim.Freeze,
		Upgrade: func() error {
			_, err := r.fleet.Ctl(ctx, "upgrade", victim.Name)
			return err
		},
		Drain: func() error {
			if _, err := r.fleet.Ctl(ctx, "drain", victim.Name, "--reason", "demo"); err != nil {
				return err
			}
			return r.empty(ctx, victim)
		},
	}[deed]
	err := r.hurt(ctx, one, victim, seenFor, do)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// Whatever came of it, the fleet is whole again.
	if deed == Drain {
		if _, undone := r.fleet.Ctl(ctx, "undrain", victim.Name); err == nil {
			err = undone
		}
	}
	if healed := r.heal(ctx); err == nil {
		err = healed
	}
	return err
}

// Close ends all of it.
func (d *Demo) Close() error {
	d.doing.Wait()
	return d.run.close()
}
