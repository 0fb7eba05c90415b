package scenario

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Plan is a scenario worked out: every member, every spurt, every fault. The same
// scenario gives the same plan.
//
//	start   all are in    window                       end   tail
//	  │ arrivals │ warm-up │  churn, faults, late joins │     │
//	  ├──────────┼─────────┼────────────────────────────┼─────┤
//	  Arrive     talk      Within: Arrive, Leave, At
//
// Times of members with Within, and of faults, count from the start of the window;
// arrivals before it count from the start of the run. How long these take is for
// the server to show, so the window has no time of its own.
type Plan struct {
	Scenario *Scenario
	// Members in the order they come: those before the window, then those within.
	// A member's place here is its number, unique in the run.
	Members []Member
	// Rooms have the numbers Members name.
	Rooms  []Room
	Faults []Fault
	Totals Totals
}

// Tail is how long talkers go on after the window, so that it ends in the middle
// of talk.
const Tail = time.Second

// Member is one client from its arrival to its leave.
type Member struct {
	Room int
	// Seat is the member's place in its room; talkers have the first ones. With
	// churn a seat is taken by one member after the other.
	Seat     int
	Talks    bool
	Faithful bool
	// Sampled listeners are judged packet by packet.
	Sampled bool
	// Within: comes within the window.
	Within bool
	Arrive time.Duration
	// Leave is when in the window the member leaves; 0: it stays to the end.
	Leave time.Duration
	// Phase is when within each interval a packet of it is due.
	Phase time.Duration
	// Spurts of a talker who pauses count from Warmup before the window, or from
	// its arrival if that is within; nil: it talks all the time.
	Spurts []Spurt
}

// Room is one room.
type Room struct {
	Group   int // of Scenario.Rooms
	Members int // at the same time
	Talkers int
	Talk    Talk
}

// Fault is the begin or the end of a step.
type Fault struct {
	At   time.Duration
	End  bool // what the step did is undone
	Step Step
}

// Totals are what a plan adds up to.
type Totals struct {
	Rooms, Users, Talkers, Listeners int // at the same time; listeners hear somebody
	Members                          int // all who come, with churn
	Within                           int // of them within the window
	Faithful, Sampled                int // at the same time
	Pairs                            int // who hears whom: a talker and each other member
	// Packets per second, means over the window: what talkers send, and what a
	// server sends listeners of it if it loses nothing. The few frames it adds
	// around spurts are not counted.
	PacketsIn, PacketsOut float64
	// MbitOut is PacketsOut as UDP payload.
	MbitOut float64
}

// overhead is what a datagram of our server has beside the Opus packet: RTP
// header 12, CSRC 4, extension 8, tag of AEAD_AES_128_GCM 16 bytes.
const overhead = 40

// The streams of random numbers of a plan, so that one part of a scenario does
// not move another. Talk has one of each talker above them.
const (
	streamOrder = iota + 1
	streamArrival
	streamChurn
	streamPhase
	streamSample
	streamTalk
)

// planner holds a plan in the making.
type planner struct {
	s     *Scenario
	plan  *Plan
	seats [][]int // by room: who is in each seat, as index of Members; the last to come
	phase *rand.Rand
}

// Plan works the scenario out. The scenario is one that Check lets pass.
func (s *Scenario) Plan() *Plan {
	p := &planner{s: s, plan: &Plan{Scenario: s}, phase: s.random(streamPhase)}
	p.rooms()
	p.arrivals()
	p.churn()
	p.talk()
	p.sort()
	p.faults()
	p.totals()
	return p.plan
}

func (s *Scenario) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, stream)) }

// rooms makes the rooms and who is in them at first.
func (p *planner) rooms() {
	listener, block := 0, p.s.random(streamSample)
	chosen := 0
	for g, group := range p.s.Rooms {
		for n := range group.Count {
			room := len(p.plan.Rooms)
			p.plan.Rooms = append(p.plan.Rooms, Room{Group: g, Members: group.Members, Talkers: group.Talkers, Talk: group.Talk})
			seats := make([]int, group.Members)
			for seat := range group.Members {
				m := Member{Room: room, Seat: seat, Talks: seat < group.Talkers, Phase: p.randomPhase()}
				// The last are the faithful ones: they listen beside light ones.
				m.Faithful = group.Bots == BotsFaithful || n < group.Check && seat >= group.Members-group.Faithful
				if !m.Talks || group.Talkers > 1 {
					// One of each block, so that no seat is preferred.
					if listener%p.s.SampleEvery == 0 {
						chosen = listener + block.IntN(p.s.SampleEvery)
					}
					m.Sampled = listener == chosen || m.Faithful
					listener++
				}
				seats[seat] = len(p.plan.Members)
				p.plan.Members = append(p.plan.Members, m)
			}
			p.seats = append(p.seats, seats)
		}
	}
	// A last block that is not full may have chosen nobody; with one listener in
	// all that would be nobody to judge.
	if listener > 0 && listener < p.s.SampleEvery && !slices.ContainsFunc(p.plan.Members, func(m Member) bool { return m.Sampled }) {
		i := slices.IndexFunc(p.plan.Members, func(m Member) bool { return !m.Talks || p.plan.Rooms[m.Room].Talkers > 1 })
		p.plan.Members[i].Sampled = true
	}
}

func (p *planner) randomPhase() time.Duration {
	return time.Duration(p.phase.Int64N(int64(Interval)))
}

// arrivals says when each comes: talkers first, then the others as if shuffled.
func (p *planner) arrivals() {
	var first, others []int
	for i, m := range p.plan.Members {
		if m.Talks {
			first = append(first, i)
		} else {
			others = append(others, i)
		}
	}
	p.s.random(streamOrder).Shuffle(len(others), func(i, k int) { others[i], others[k] = others[k], others[i] })
	order := append(first, others...)
	if p.s.Join.When == WhenWithin {
		order = others
		for _, i := range others {
			p.plan.Members[i].Within = true
		}
	}
	random, at := p.s.random(streamArrival), 0.0
	for n, i := range order {
		switch j := p.s.Join; {
		case j.Arrival == ArrivalPoisson:
			at += random.ExpFloat64() / j.Rate
		case j.Over > 0:
			at = float64(n) * j.Over.Seconds() / float64(len(order))
		case j.Arrival == ArrivalRamp:
			at = float64(n) / j.Rate
		}
		m := &p.plan.Members[i]
		if m.Arrive = seconds(at); m.Within {
			// What four standard deviations of a Poisson process do not hold comes
			// when the window ends.
			m.Arrive = min(m.Arrive, p.s.Duration)
		}
	}
}

// churn lets members leave at the moments of a Poisson process, each another of
// those who are in, and others take their seats. So a stay is exponential.
func (p *planner) churn() {
	rate := p.s.leaves()
	if rate == 0 {
		return
	}
	type place struct{ room, seat int }
	var may []place
	for room, seats := range p.seats {
		for seat, i := range seats {
			if !p.plan.Members[i].Talks || p.s.Churn.Who == WhoAll {
				may = append(may, place{room, seat})
			}
		}
	}
	random := p.s.random(streamChurn)
	for at := random.ExpFloat64() / rate; at < p.s.Duration.Seconds() && len(p.plan.Members) < 2*maxMembers; at += random.ExpFloat64() / rate {
		who := may[random.IntN(len(may))]
		now := seconds(at)
		left := &p.plan.Members[p.seats[who.room][who.seat]]
		if now == 0 || left.Within && left.Arrive >= now {
			continue // nobody there yet
		}
		left.Leave = now
		next := *left
		next.Within, next.Arrive, next.Leave, next.Phase = true, now, 0, p.randomPhase()
		p.seats[who.room][who.seat] = len(p.plan.Members)
		p.plan.Members = append(p.plan.Members, next)
	}
}

// sort brings members into the order they come.
func (p *planner) sort() {
	within := func(m Member) int {
		if m.Within {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(p.plan.Members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(within(a), within(b)), cmp.Compare(a.Arrive, b.Arrive))
	})
}

// intervals is how long a member talks.
func (p *planner) intervals(m Member) uint32 {
	length := p.s.Warmup + p.s.Duration + Tail
	if m.Within {
		length -= p.s.Warmup + m.Arrive
	}
	if m.Leave > 0 {
		length -= p.s.Duration + Tail - m.Leave
	}
	return uint32((length + Interval - 1) / Interval)
}

// talk draws the spurts of those who pause. Members are not sorted yet, so that who
// says what does not depend on who comes when.
func (p *planner) talk() {
	partner := make(map[int]int) // room of two to its first talker
	for i := range p.plan.Members {
		m := &p.plan.Members[i]
		if !m.Talks {
			continue
		}
		random := p.s.random(streamTalk + uint64(i))
		switch p.plan.Rooms[m.Room].Talk.Pattern {
		case TalkP59:
			m.Spurts = oneWay(random, p.intervals(*m))
		case TalkTwoWay:
			if first, ok := partner[m.Room]; ok {
				both := twoWay(p.s.random(streamTalk+uint64(first)), p.intervals(*m))
				p.plan.Members[first].Spurts, m.Spurts = both[0], both[1]
			} else {
				partner[m.Room] = i
			}
		}
		if m.Spurts == nil && p.plan.Rooms[m.Room].Talk.Pattern != TalkContinuous {
			m.Spurts = []Spurt{} // never, which nil is not
		}
	}
}

func (p *planner) faults() {
	for _, f := range p.s.Faults {
		p.plan.Faults = append(p.plan.Faults, Fault{At: f.At, Step: f})
		if f.For > 0 {
			p.plan.Faults = append(p.plan.Faults, Fault{At: f.At + f.For, End: true, Step: f})
		}
	}
	// What ends makes room for what begins at the same time.
	slices.SortStableFunc(p.plan.Faults, func(a, b Fault) int {
		ends := 0
		if a.End != b.End {
			if ends = 1; a.End {
				ends = -1
			}
		}
		return cmp.Or(cmp.Compare(a.At, b.At), ends)
	})
}

// present is the share of the window in which a member is in its room.
func (p *planner) present(m Member) float64 {
	from, to := time.Duration(0), p.s.Duration
	if m.Within {
		from = m.Arrive
	}
	if m.Leave > 0 {
		to = m.Leave
	}
	return float64(to-from) / float64(p.s.Duration)
}

// voiced is the share of the window in which a member talks.
func (p *planner) voiced(m Member) float64 {
	if m.Spurts == nil {
		return p.present(m)
	}
	begin := int64(p.s.Warmup / Interval) // of the window, in intervals of the talk
	window := int64(p.s.Duration / Interval)
	if m.Within {
		begin = -int64(m.Arrive / Interval)
	}
	sum := int64(0)
	for _, s := range m.Spurts {
		first := int64(s.First) - begin
		sum += max(0, min(first+int64(s.Count), window)-max(first, 0))
	}
	return float64(sum) / float64(window)
}

func (p *planner) totals() {
	t := &p.plan.Totals
	const rate = float64(time.Second / Interval)
	forwarded := make([]float64, len(p.plan.Rooms)) // packets/s that each other member is to get
	own := make([]float64, len(p.plan.Members))
	for i, m := range p.plan.Members {
		t.Members++
		if m.Within {
			t.Within++
		}
		if !m.Talks {
			continue
		}
		talk := p.plan.Rooms[m.Room].Talk
		sent := p.voiced(m)
		own[i] = sent
		if talk.Silence {
			if sent = p.present(m); !p.s.Server.SilenceGate {
				own[i] = sent
			}
		}
		t.PacketsIn += rate * sent
		own[i] *= rate
		forwarded[m.Room] += own[i]
	}
	for i, m := range p.plan.Members {
		r := p.plan.Rooms[m.Room]
		hears := min(forwarded[m.Room]-own[i], rate*float64(p.s.Server.Slots)) * p.present(m)
		t.PacketsOut += hears
		t.MbitOut += hears * float64(r.Talk.Bytes+overhead) * 8 / 1e6
		if m.Leave > 0 {
			continue // somebody else has the seat
		}
		if m.Faithful {
			t.Faithful++
		}
		if m.Sampled {
			t.Sampled++
		}
	}
	for i, r := range p.plan.Rooms {
		t.Rooms++
		t.Users += r.Members
		t.Talkers += r.Talkers
		t.Listeners += p.s.Rooms[p.plan.Rooms[i].Group].hearing()
		t.Pairs += r.Talkers * (r.Members - 1)
	}
}
