package scenario

import "time"

// Scenario says who comes when, who talks how, what goes wrong, and what is to be
// reached. The yaml tags are the names of the language; doc.go tells what each
// means. A bounds tag holds the least and the most; an optional field may be left
// zero, which then means "none".
type Scenario struct {
	Name  string `yaml:"name"`
	About string `yaml:"about" optional:"true"`
	Seed  uint64 `yaml:"seed" bounds:"1..18446744073709551615"`

	Server   Server        `yaml:"server"`
	Rooms    []Rooms       `yaml:"rooms"`
	Join     Join          `yaml:"join"`
	Churn    Churn         `yaml:"churn" optional:"true"`
	Warmup   time.Duration `yaml:"warmup" bounds:"200ms..10m"`
	Duration time.Duration `yaml:"duration" bounds:"1s..24h"`
	// SampleEvery: of so many listeners one is judged packet by packet.
	SampleEvery int    `yaml:"sample_every" bounds:"1..20000"`
	Faults      []Step `yaml:"faults" optional:"true"`
	Goals       []Goal `yaml:"goals" optional:"true"`
}

// Server is the server to start for the run.
type Server struct {
	Kind    Kind `yaml:"kind"`
	Workers int  `yaml:"workers" bounds:"1..128"`
	Slots   int  `yaml:"slots" bounds:"1..32"` // K
	// SilenceGate is on unless a scenario says otherwise; New turns it on.
	SilenceGate bool `yaml:"silence_gate"`
}

// Kind is what kind of server.
type Kind string

// The kinds: one media node with the harness as its allocator, or a whole
// server with accounts and gateways.
const (
	KindNode Kind = "node"
	KindUp   Kind = "up"
)

// Rooms are Count rooms that are alike.
type Rooms struct {
	Count    int  `yaml:"count" bounds:"1..10000"`
	Members  int  `yaml:"members" bounds:"2..20000"` // of one room, talkers included
	Talkers  int  `yaml:"talkers" bounds:"1..20000"` // of the members
	Bots     Bots `yaml:"bots"`
	Faithful int  `yaml:"faithful" bounds:"1..20000" optional:"true"` // of the members, in the rooms to check
	Check    int  `yaml:"check" bounds:"1..10000" optional:"true"`    // rooms with faithful bots
	Talk     Talk `yaml:"talk"`
}

// Bots is what kind of client the members are.
type Bots string

// The kinds of bots.
const (
	BotsLight    Bots = "light"
	BotsFaithful Bots = "faithful"
)

// Talk is how the talkers of a room talk.
type Talk struct {
	Pattern Pattern `yaml:"pattern"`
	// Silence: in pauses send frames of silence, as a browser does, not nothing.
	Silence bool `yaml:"silence"`
	// Bytes is the length of a light talker's Opus packet.
	Bytes int `yaml:"bytes" bounds:"80..1200"`
}

// Pattern is when a talker talks.
type Pattern string

// The patterns. Those of ITU-T P.59 are in talk.go.
const (
	TalkContinuous Pattern = "continuous"
	TalkP59        Pattern = "p59"
	TalkTwoWay     Pattern = "p59-two-way"
)

// Join is how the members arrive.
type Join struct {
	Arrival Arrival       `yaml:"arrival"`
	When    When          `yaml:"when"`
	Rate    float64       `yaml:"rate" bounds:"0.01..5000" optional:"true"` // 1/s
	Over    time.Duration `yaml:"over" bounds:"10ms..24h" optional:"true"`
}

// Arrival is how arrivals are spread over time.
type Arrival string

// The arrivals.
const (
	ArrivalAtOnce  Arrival = "at-once"
	ArrivalRamp    Arrival = "ramp"
	ArrivalPoisson Arrival = "poisson"
)

// When says whether members arrive before or within the window.
type When string

// The times to arrive.
const (
	WhenBefore When = "before"
	WhenWithin When = "within"
)

// Churn is members who leave in the window, each followed by another. The zero
// value is none.
type Churn struct {
	Rate float64       `yaml:"rate" bounds:"0.001..1000" optional:"true"` // leaves per s, in all rooms together
	Stay time.Duration `yaml:"stay" bounds:"1s..24h" optional:"true"`     // mean
	Who  Who           `yaml:"who" optional:"true"`
}

// Who says which members a churn is about.
type Who string

// Who may leave.
const (
	WhoListeners Who = "listeners"
	WhoAll       Who = "all"
)

// Step is a fault at a time.
type Step struct {
	At  time.Duration `yaml:"at" bounds:"0s..24h"` // since the window began
	For time.Duration `yaml:"for" bounds:"1ms..24h" optional:"true"`
	Do  Do            `yaml:"do"`
	On  On            `yaml:"on"`

	// Of faults of the network.
	Direction        Direction     `yaml:"direction" optional:"true"`
	LossPercent      float64       `yaml:"loss_percent" bounds:"0.001..100" optional:"true"`
	Exact            bool          `yaml:"exact" optional:"true"` // every n-th packet instead of a random one
	Burst            float64       `yaml:"burst" bounds:"1..1000" optional:"true"`
	Delay            time.Duration `yaml:"delay" bounds:"100us..10s" optional:"true"`
	Jitter           time.Duration `yaml:"jitter" bounds:"100us..10s" optional:"true"`
	DuplicatePercent float64       `yaml:"duplicate_percent" bounds:"0.001..100" optional:"true"`
	ReorderPercent   float64       `yaml:"reorder_percent" bounds:"0.001..100" optional:"true"`
	ClipOnset        time.Duration `yaml:"clip_onset" bounds:"20ms..10s" optional:"true"`
}

// Do is what a step does.
type Do string

// What a step may do: the first three to a process, the others to the network.
const (
	DoKill      Do = "kill"
	DoFreeze    Do = "freeze"
	DoDrain     Do = "drain"
	DoCut       Do = "cut"
	DoLoss      Do = "loss"
	DoDelay     Do = "delay"
	DoJitter    Do = "jitter"
	DoDuplicate Do = "duplicate"
	DoReorder   Do = "reorder"
	DoClip      Do = "clip"
)

// Network says whether the step is one for the UDP proxy.
func (d Do) Network() bool {
	switch d {
	case DoCut, DoLoss, DoDelay, DoJitter, DoDuplicate, DoReorder, DoClip:
		return true
	}
	return false
}

// On is what a step is done to.
type On string

// The parts of a server: the process that forwards, the one that commands it,
// both; and the path of the media.
const (
	OnEngine On = "engine"
	OnAgent  On = "agent"
	OnNode   On = "node"
	OnMedia  On = "media"
)

// Direction is a way through the network.
type Direction string

// The directions, as the client sees them.
const (
	DirectionUp   Direction = "up"
	DirectionDown Direction = "down"
	DirectionBoth Direction = "both"
)

// Goal is a bound for a metric: one of AtMost and AtLeast is set.
type Goal struct {
	Metric  string   `yaml:"metric"`
	AtMost  *float64 `yaml:"at_most" bounds:"-1000000000000..1000000000000" optional:"true"`
	AtLeast *float64 `yaml:"at_least" bounds:"-1000000000000..1000000000000" optional:"true"`
}

// AtMost is the goal that a metric does not exceed a bound.
func AtMost(metric string, bound float64) Goal { return Goal{Metric: metric, AtMost: &bound} }

// AtLeast is the goal that a metric reaches a bound.
func AtLeast(metric string, bound float64) Goal { return Goal{Metric: metric, AtLeast: &bound} }

// Bound is the bound, and whether it is to be reached instead of kept.
func (g Goal) Bound() (bound float64, atLeast bool) {
	switch {
	case g.AtLeast != nil:
		return *g.AtLeast, true
	case g.AtMost != nil:
		return *g.AtMost, false
	}
	return 0, false
}

// The words each type of word may be.
func (Kind) words() []string { return words(KindNode, KindUp) }
func (Bots) words() []string { return words(BotsLight, BotsFaithful) }
func (Pattern) words() []string {
	return words(TalkContinuous, TalkP59, TalkTwoWay)
}
func (Arrival) words() []string {
	return words(ArrivalAtOnce, ArrivalRamp, ArrivalPoisson)
}
func (When) words() []string { return words(WhenBefore, WhenWithin) }
func (Who) words() []string  { return words(WhoListeners, WhoAll) }
func (Do) words() []string {
	return words(DoKill, DoFreeze, DoDrain, DoCut, DoLoss, DoDelay, DoJitter, DoDuplicate, DoReorder, DoClip)
}
func (On) words() []string { return words(OnEngine, OnAgent, OnNode, OnMedia) }
func (Direction) words() []string {
	return words(DirectionUp, DirectionDown, DirectionBoth)
}

// word is a string of a closed list.
type word interface{ words() []string }

func words[T ~string](list ...T) []string {
	s := make([]string, len(list))
	for i, w := range list {
		s[i] = string(w)
	}
	return s
}

// New starts a scenario from what most want: a media node with the silence gate
// on. Change what is to be different and call Check.
func New(name string, rooms ...Rooms) *Scenario {
	s := &Scenario{Name: name, Server: Server{SilenceGate: true}, Rooms: rooms}
	s.fill(func(string) bool { return false })
	return s
}

// Call is the scenario of one room of people on a server with accounts, as
// voicebench call makes it.
func Call(name string, members, talkers int, bots Bots, talk Talk) *Scenario {
	s := New(name, Rooms{Members: members, Talkers: talkers, Bots: bots, Talk: talk})
	s.Server.Kind = KindUp
	return s
}

const (
	defaultSeed     = 1
	defaultSlots    = 16
	defaultBytes    = 100
	defaultWarmup   = 2 * time.Second
	defaultDuration = 20 * time.Second
	// judgeAll is how many listeners are all judged; of more, one of judgeOne is.
	judgeAll = 100
	judgeOne = 16
)

// or puts a default in the place of a zero, unless the zero was written.
func or[T comparable](v *T, path string, set func(string) bool, def T) {
	var zero T
	if *v == zero && !set(path) {
		*v = def
	}
}

// fill gives zero fields their defaults; set says of a path whether it was
// written, zero or not.
func (s *Scenario) fill(set func(path string) bool) {
	or(&s.Seed, "seed", set, defaultSeed)
	or(&s.Server.Kind, "server.kind", set, KindNode)
	or(&s.Server.Workers, "server.workers", set, 1)
	or(&s.Server.Slots, "server.slots", set, defaultSlots)
	or(&s.Warmup, "warmup", set, defaultWarmup)
	or(&s.Duration, "duration", set, defaultDuration)
	or(&s.Join.Arrival, "join.arrival", set, ArrivalAtOnce)
	or(&s.Join.When, "join.when", set, WhenBefore)
	for i := range s.Rooms {
		r, path := &s.Rooms[i], element("rooms", i)
		or(&r.Count, path+".count", set, 1)
		or(&r.Talkers, path+".talkers", set, 1)
		or(&r.Bots, path+".bots", set, BotsLight)
		or(&r.Talk.Pattern, path+".talk.pattern", set, TalkContinuous)
		or(&r.Talk.Bytes, path+".talk.bytes", set, defaultBytes)
		if r.Faithful > 0 {
			or(&r.Check, path+".check", set, 1)
		}
	}
	if s.Churn != (Churn{}) {
		or(&s.Churn.Who, "churn.who", set, WhoListeners)
	}
	every := 1
	if s.listeners() > judgeAll {
		every = judgeOne
	}
	or(&s.SampleEvery, "sample_every", set, every)
	for i := range s.Faults {
		f, path := &s.Faults[i], element("faults", i)
		switch {
		case f.Do.Network():
			or(&f.On, path+".on", set, OnMedia)
			or(&f.Direction, path+".direction", set, DirectionBoth)
			if s.Duration > f.At {
				or(&f.For, path+".for", set, s.Duration-f.At)
			}
		case f.Do == DoDrain:
			or(&f.On, path+".on", set, OnNode)
		case s.Server.Kind == KindUp: // one process
			or(&f.On, path+".on", set, OnNode)
		default:
			or(&f.On, path+".on", set, OnEngine)
		}
	}
}

// hearing is how many members of a room have somebody to hear.
func (r Rooms) hearing() int {
	if r.Talkers == 1 {
		return r.Members - 1
	}
	return r.Members
}

// listeners is how many members of all rooms have somebody to hear, bounded so
// that nonsense does not overflow.
func (s *Scenario) listeners() int {
	n := 0
	for _, r := range s.Rooms {
		n = min(n+min(max(r.Count, 0), maxMembers)*min(max(r.hearing(), 0), maxMembers), maxMembers+1)
	}
	return n
}

// Users is how many are in all rooms at the same time.
func (s *Scenario) Users() int {
	n := 0
	for _, r := range s.Rooms {
		n = min(n+min(max(r.Count, 0), maxMembers+1)*min(max(r.Members, 0), maxMembers+1), maxMembers+1)
	}
	return n
}

// Crowded says whether a room has more talkers than its listeners have slots for:
// who is heard then depends on loudness, so that loss cannot be judged.
func (s *Scenario) Crowded() bool {
	for _, r := range s.Rooms {
		if r.Talkers > s.Server.Slots+1 {
			return true
		}
	}
	return false
}
