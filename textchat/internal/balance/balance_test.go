package balance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"voicefleet/textchat"
)

// fleet is some instances in virtual time: each reviews once a second, and all hear
// of a move at once.
type fleet struct {
	now   time.Time
	all   map[string]*Balancer
	work  map[textchat.ID]float64 // entries a second
	other map[string]float64      // CPU that has nothing to do with leading
	leads map[textchat.ID]Lead
	noise *rand.Rand // nil: figures are exact
	moves []Move
	by    []string // who made each
}

func newFleet(names ...string) *fleet {
	f := &fleet{now: time.Unix(1e9, 0), all: map[string]*Balancer{}, work: map[textchat.ID]float64{}, other: map[string]float64{}, leads: map[textchat.ID]Lead{}}
	for _, n := range names {
		f.all[n] = &Balancer{Rules: Rules{Capacity: 2000}}
	}
	return f
}

// home has guild n at the n-th of those that live.
func (f *fleet) home(id textchat.ID) string {
	names := slices.Sorted(maps.Keys(f.all))
	return names[int(id)%len(names)]
}

func (f *fleet) leader(id textchat.ID) string {
	if l, ok := f.leads[id]; ok && f.all[l.Instance] != nil {
		return l.Instance
	}
	return f.home(id)
}

// led is what an instance leads.
func (f *fleet) led(name string) map[textchat.ID]float64 {
	list := map[textchat.ID]float64{}
	for id, n := range f.work {
		if f.leader(id) == name {
			if f.noise != nil {
				n *= 0.7 + 0.6*f.noise.Float64()
			}
			list[id] = n
		}
	}
	return list
}

func (f *fleet) load(name string) Load {
	sum := 0.0
	for _, n := range f.led(name) {
		sum += n
	}
	return Load{Led: sum, CPU: min(1, f.other[name]+sum/4000)}
}

func (f *fleet) run(d time.Duration) {
	for end := f.now.Add(d); f.now.Before(end); f.now = f.now.Add(time.Second) {
		loads := map[string]Load{}
		for name := range f.all {
			loads[name] = f.load(name)
		}
		for _, name := range slices.Sorted(maps.Keys(f.all)) {
			for _, m := range f.all[name].Review(View{f.now, name, loads, f.led(name), f.leads, f.home}) {
				if f.leads[m.Guild].Epoch != m.Epoch {
					continue // the list was changed meanwhile
				}
				f.moves, f.by = append(f.moves, m), append(f.by, name)
				if m.To == "" {
					delete(f.leads, m.Guild)
				} else {
					f.leads[m.Guild] = Lead{Instance: m.To, Epoch: m.Epoch + 1, Work: m.Work, Since: f.now}
				}
			}
		}
	}
}

// TestHotGuildMoves holds that of two hot guilds at one instance one goes to the
// emptiest, and then nothing moves any more.
func TestHotGuildMoves(t *testing.T) {
	f := newFleet("a", "b", "c")
	f.work[0], f.work[3], f.work[1] = 700, 700, 400 // a, a, b
	f.run(9 * time.Second)
	if len(f.moves) != 0 {
		t.Fatalf("moved after 9 s: %+v", f.moves)
	}
	f.run(time.Hour)
	if len(f.moves) != 1 || f.moves[0].To != "c" || f.moves[0].Why != Hot || f.by[0] != "a" {
		t.Fatalf("moves %+v by %v", f.moves, f.by)
	}
}

// TestNothingToGain holds that the only hot guild is not carried around.
func TestNothingToGain(t *testing.T) {
	f := newFleet("a", "b")
	f.work[0] = 1900
	f.run(time.Hour)
	if len(f.moves) != 0 {
		t.Errorf("moves %+v", f.moves)
	}
}

// TestBusyOtherwise holds that a guild leaves an instance that is busy with other
// things, of which its share is small.
func TestBusyOtherwise(t *testing.T) {
	f := newFleet("a", "b")
	f.other["a"] = 0.75
	f.work[0], f.work[2], f.work[4] = 300, 20, 20
	f.run(time.Hour)
	if len(f.moves) != 1 || f.moves[0].Guild != 0 || f.moves[0].To != "b" {
		t.Errorf("moves %+v", f.moves)
	}
}

// TestBorderline holds that loads which swing around the border, with figures that are
// never exact, lead to few moves.
func TestBorderline(t *testing.T) {
	for seed := range uint64(3) {
		f := newFleet("a", "b", "c", "d")
		f.noise = rand.New(rand.NewPCG(seed, 1))
		for id := range textchat.ID(12) {
			f.work[id] = 300 + 300*f.noise.Float64()
		}
		for i := range 240 {
			f.work[textchat.ID(i%12)] *= 0.8 + 0.4*f.noise.Float64()
			f.run(15 * time.Second)
		}
		if len(f.moves) > 24 {
			t.Errorf("seed %d: %d moves in an hour", seed, len(f.moves))
		}
		last := map[textchat.ID]string{}
		for i, m := range f.moves {
			if m.Why == Hot && last[m.Guild] == m.To {
				t.Errorf("seed %d: move %d puts %v to %s, where it is", seed, i, m.Guild, m.To)
			}
			last[m.Guild] = m.To
		}
	}
}

// TestGiversDoNotMeet holds that many who give at once do not flood the emptiest.
func TestGiversDoNotMeet(t *testing.T) {
	names := []string{}
	for i := range 8 {
		names = append(names, fmt.Sprintf("i%d", i))
	}
	f := newFleet(names...)
	for i := range 7 { // the last has nothing
		f.work[textchat.ID(i)], f.work[textchat.ID(i+8)] = 800, 800
	}
	f.run(time.Hour)
	for name := range f.all {
		if l := f.load(name); l.Led > 1600 {
			t.Errorf("%s leads %v", name, l.Led)
		}
	}
	if len(f.moves) != 1 {
		t.Errorf("moves %+v", f.moves)
	}
}

// TestTargetDies holds that the entry is taken back once, by the heir, and that the
// guild stays there when the target comes back.
func TestTargetDies(t *testing.T) {
	f := newFleet("a", "b", "c")
	f.work[0], f.work[3], f.work[1] = 700, 700, 400
	f.run(time.Minute)
	if f.leads[0].Instance != "c" {
		t.Fatalf("leads %+v", f.leads)
	}
	delete(f.all, "c")
	f.work[3] = 100
	f.run(time.Minute)
	if n := len(f.moves); n != 2 || f.moves[1].Why != Died || f.by[1] != f.home(0) {
		t.Fatalf("moves %+v by %v", f.moves, f.by)
	}
	f.all["c"] = &Balancer{}
	f.run(10 * time.Minute)
	if len(f.moves) != 2 {
		t.Errorf("moves %+v", f.moves)
	}
}

// TestColdGuildGoesHome holds that the list does not grow for ever.
func TestColdGuildGoesHome(t *testing.T) {
	f := newFleet("a", "b")
	f.work[0], f.work[2] = 700, 700
	f.run(20 * time.Minute)
	clear(f.work)
	f.run(5 * time.Minute)
	if len(f.moves) != 1 {
		t.Fatalf("moves %+v", f.moves)
	}
	f.run(6 * time.Minute)
	if len(f.moves) != 2 || f.moves[1].Why != Cold || f.by[1] != "b" || len(f.leads) != 0 {
		t.Errorf("moves %+v by %v, left %+v", f.moves, f.by, f.leads)
	}
}
