// Package balance decides which guilds an instance that has too much to do gives to
// others to lead. In come the loads that all instances tell, what each guild here costs
// and the agreed list of guilds that are led elsewhere than hashing says; out go
// changes of that list. No clock and no I/O.
//
// That nothing flaps: a load must be high for a while before it counts, a move must
// bring something all that time, a guild that moved stays for a while, and what was given lately
// counts at once for who got it, though its own figures do not show it yet.
package balance

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
)

// Load is how much an instance has to do.
type Load struct {
	Led float64 `json:"led"` // entries a second of the guilds that it leads
	CPU float64 `json:"cpu"` // share of its processors that it uses, 0 to 1
}

// Lead is an entry of the agreed list: who leads a guild.
type Lead struct {
	Instance string  `json:"instance"`
	Epoch    uint64  `json:"epoch"` // grows with each move of the guild
	Work     float64 `json:"work"`  // entries a second that it had when it was given

	Since time.Time `json:"-"` // when this instance heard of it
}

// Rules say what is much and what is long. The zero value stands for the defaults.
type Rules struct {
	// High is the load (1: an instance can no more) from which guilds are given away
	// (default 0.6), Gain by how much the higher of the two loads must fall by it (0.1).
	High, Gain float64
	// Share of what an instance leads makes a guild worth moving (0.2).
	Share float64
	// Capacity are the entries a second that count as load 1 (10,000: one takes its
	// leader, who alone handles, saves and tells it, less than 0.1 ms of a processor).
	Capacity float64
	// Hold is how long a load must be high, and a move worth it (10 s), Settle the pause between two moves of
	// one instance (20 s), Stay how long a guild stays where it was moved to (5 min).
	Hold, Settle, Stay time.Duration
	// A guild with fewer than Cold entries a second (5) for Cool (10 min) goes back to
	// where hashing puts it.
	Cold float64
	Cool time.Duration
}

func (r Rules) filled() Rules {
	return Rules{
		High: cmp.Or(r.High, 0.6), Gain: cmp.Or(r.Gain, 0.1), Share: cmp.Or(r.Share, 0.2), Capacity: cmp.Or(r.Capacity, 10_000),
		Hold: cmp.Or(r.Hold, 10*time.Second), Settle: cmp.Or(r.Settle, 20*time.Second), Stay: cmp.Or(r.Stay, 5*time.Minute),
		Cold: cmp.Or(r.Cold, 5), Cool: cmp.Or(r.Cool, 10*time.Minute),
	}
}

// View is what an instance knows.
type View struct {
	Now   time.Time
	Self  string
	Loads map[string]Load         // of all instances that live, this one too
	Led   map[textchat.ID]float64 // entries a second of the guilds that this one leads
	Leads map[textchat.ID]Lead    // the agreed list
	Home  func(textchat.ID) string
}

// Why a guild is moved.
const (
	Hot  = "hot"  // its leader has too much to do
	Died = "died" // who was to lead it is no more
	Cold = "cold" // it has little to do any more
)

// Move is a change of the agreed list: To leads Guild from now on, or (empty) who does
// by hashing. Epoch is that of the entry that it replaces; zero: there is none.
type Move struct {
	Guild textchat.ID
	To    string
	Epoch uint64
	Work  float64
	Why   string
}

// Balancer remembers how long things have been as they are. The zero value, with Rules
// or none, is ready.
type Balancer struct {
	Rules Rules

	// Owned by the caller.
	since time.Time // since when the load is high, and a move would bring something
	gave  time.Time
	cold  map[textchat.ID]time.Time // since when guilds that were moved here are
}

// Review says what to change. Each change is one instance's to make: what is wrong of a
// guild whose leader died is its heir's by hashing.
func (b *Balancer) Review(v View) []Move {
	r := b.Rules.filled()
	moves := b.undo(r, v)
	loads := make(map[string]float64, len(v.Loads))
	for name, l := range v.Loads {
		loads[name] = max(l.CPU, l.Led/r.Capacity)
	}
	for _, l := range v.Leads {
		if _, alive := loads[l.Instance]; alive && l.Instance != v.Self && v.Now.Sub(l.Since) < r.Settle {
			loads[l.Instance] += l.Work / r.Capacity
		}
	}
	m, ok := choose(r, v, loads)
	if !ok || loads[v.Self] < r.High {
		b.since = time.Time{}
		return moves
	}
	if b.since.IsZero() {
		b.since = v.Now
	}
	if v.Now.Sub(b.since) < r.Hold || !b.gave.IsZero() && v.Now.Sub(b.gave) < r.Settle {
		return moves
	}
	b.gave = v.Now
	return append(moves, m)
}

// undo takes entries back that are of no use any more.
func (b *Balancer) undo(r Rules, v View) (moves []Move) {
	cold := make(map[textchat.ID]time.Time)
	for _, id := range slices.Sorted(maps.Keys(v.Leads)) {
		l := v.Leads[id]
		back := Move{Guild: id, Epoch: l.Epoch}
		_, alive := v.Loads[l.Instance]
		switch {
		case !alive && v.Home(id) == v.Self:
			back.Why = Died
		case l.Instance == v.Self && v.Led[id] < r.Cold && v.Now.Sub(l.Since) >= r.Stay:
			since, ok := b.cold[id]
			if !ok {
				since = v.Now
			}
			if cold[id] = since; v.Now.Sub(since) >= r.Cool {
				back.Why = Cold
			}
		}
		if back.Why != "" {
			moves = append(moves, back)
		}
	}
	b.cold = cold
	return moves
}

// choose finds the move that brings most.
func choose(r Rules, v View, loads map[string]float64) (best Move, ok bool) {
	self, total := loads[v.Self], 0.0
	for _, n := range v.Led {
		total += n
	}
	to := ""
	for _, name := range slices.Sorted(maps.Keys(loads)) {
		if name != v.Self && (to == "" || loads[name] < loads[to]) {
			to = name
		}
	}
	if to == "" {
		return best, false
	}
	after := self - r.Gain
	for _, id := range slices.Sorted(maps.Keys(v.Led)) {
		n := v.Led[id]
		l, moved := v.Leads[id]
		if n < r.Share*total || n < r.Cold || moved && v.Now.Sub(l.Since) < r.Stay {
			continue
		}
		work := n / r.Capacity
		if higher := max(self-work, loads[to]+work); higher < after || !ok && higher == after {
			after, ok = higher, true
			best = Move{Guild: id, To: to, Epoch: l.Epoch, Work: n, Why: Hot}
		}
	}
	return best, ok
}
