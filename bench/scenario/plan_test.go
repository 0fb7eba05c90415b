package scenario

import (
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew")

// checked is a scenario that may be planned.
func checked(t *testing.T, s *Scenario) *Scenario {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// near fails unless a measured figure is within a share of the true one.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*want {
		t.Errorf("%s is %.4g, want %.4g within %g %%", what, got, want, 100*share)
	}
}

// TestPlanIsKept holds a plan against one written down: a seed must go on giving
// the same run.
func TestPlanIsKept(t *testing.T) {
	s, err := Parse("", []byte(`name: kept
seed: 42
rooms:
  - {members: 4, talkers: 2, talk: {pattern: p59-two-way}, faithful: 1}
  - {count: 2, members: 3, talk: {pattern: p59}}
join: {arrival: poisson, when: within, rate: 3}
churn: {rate: 0.5}
duration: 10s
sample_every: 3
faults: [{at: 2s, for: 1s, do: cut}, {at: 3s, do: kill}]
`))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Plan()
	b := &strings.Builder{}
	for i, m := range p.Members {
		fmt.Fprintf(b, "member %d: room %d seat %d talks %v faithful %v sampled %v within %v arrive %v leave %v phase %v spurts %v\n",
			i, m.Room, m.Seat, m.Talks, m.Faithful, m.Sampled, m.Within, m.Arrive, m.Leave, m.Phase, m.Spurts)
	}
	for _, f := range p.Faults {
		fmt.Fprintf(b, "fault %v: %s end %v\n", f.At, f.Step.Do, f.End)
	}
	fmt.Fprintf(b, "totals %+v\n", p.Totals)
	const file = "testdata/plan.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || b.String() != string(want) {
		t.Errorf("%v; the plan is now\n%s", err, b)
	}
}

// TestPlanProperties holds what is true of every plan, for all shipped scenarios
// and several seeds.
func TestPlanProperties(t *testing.T) {
	for _, s := range Library() {
		for seed := range uint64(3) {
			s.Seed = seed + 1
			if s.Name == "night" {
				s.Duration = time.Hour // the rest is the same
			}
			p := s.Plan()
			if again := s.Plan(); !reflect.DeepEqual(p, again) {
				t.Fatalf("%s: planned twice it differs", s.Name)
			}
			checkPlan(t, s, p)
		}
	}
}

func checkPlan(t *testing.T, s *Scenario, p *Plan) {
	t.Helper()
	type chair struct{ room, seat int }
	seats := make(map[chair][]Member)
	for i, m := range p.Members {
		if i > 0 && !m.Within && p.Members[i-1].Within || i > 0 && m.Within == p.Members[i-1].Within && m.Arrive < p.Members[i-1].Arrive {
			t.Fatalf("%s: member %d is out of order", s.Name, i)
		}
		if m.Phase < 0 || m.Phase >= Interval || m.Leave < 0 || m.Leave >= s.Duration || m.Within && m.Arrive > s.Duration {
			t.Fatalf("%s: member %d: %+v", s.Name, i, m)
		}
		room := p.Rooms[m.Room]
		if m.Talks != (m.Seat < room.Talkers) || (m.Spurts != nil) != (m.Talks && room.Talk.Pattern != TalkContinuous) {
			t.Fatalf("%s: member %d talks %v in pattern %s", s.Name, i, m.Talks, room.Talk.Pattern)
		}
		end := uint32(0)
		for k, spurt := range m.Spurts {
			if spurt.Count == 0 || k > 0 && spurt.First <= end {
				t.Fatalf("%s: member %d: spurts %v", s.Name, i, m.Spurts)
			}
			end = spurt.First + spurt.Count
		}
		if most := uint32((s.Warmup + s.Duration + Tail) / Interval); end > most {
			t.Fatalf("%s: member %d talks to %d of %d", s.Name, i, end, most)
		}
		seats[chair{m.Room, m.Seat}] = append(seats[chair{m.Room, m.Seat}], m)
	}
	if len(seats) != s.Users() || p.Totals.Users != s.Users() || p.Totals.Members != len(p.Members) {
		t.Fatalf("%s: %d seats, totals %+v", s.Name, len(seats), p.Totals)
	}
	for at, taken := range seats {
		for i, m := range taken {
			last := i == len(taken)-1
			if last != (m.Leave == 0) || !last && taken[i+1].Arrive != m.Leave {
				t.Fatalf("%s: seat %v is taken by %+v", s.Name, at, taken)
			}
		}
	}
	listeners := p.Totals.Listeners
	if s.SampleEvery == 1 && p.Totals.Sampled != listeners || p.Totals.Sampled < listeners/s.SampleEvery ||
		p.Totals.Sampled > listeners/s.SampleEvery+1+p.Totals.Faithful {
		t.Fatalf("%s: %d of %d listeners are judged", s.Name, p.Totals.Sampled, listeners)
	}
}

func TestTotals(t *testing.T) {
	for _, c := range []struct {
		name                 string
		users, pairs         int
		in, out, mbit, slack float64
	}{
		{"500x8", 4000, 3500, 25000, 175000, 196, 1e-9},
		{"discord-2018", 3060, 2856, 10200, 142800, 260.467, 1e-5},
		{"stage", 1003, 3006, 150, 150300, 168.336, 1e-5},
		{"all-talk", 25, 600, 1250, 30000, 33.6, 1e-9},
		{"parity", 50, 1200, 2500, 60000, 67.2, 1e-9},
		// 300 talkers, each heard by 9 for 38.75 % of the time.
		{"defaults", 300, 2700, 15000, 52311, 58.59, 0.02},
	} {
		s, err := Load(c.name)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Plan().Totals
		if got.Users != c.users || got.Pairs != c.pairs {
			t.Errorf("%s: %+v", c.name, got)
		}
		near(t, c.name+" in", got.PacketsIn, c.in, c.slack)
		near(t, c.name+" out", got.PacketsOut, c.out, c.slack)
		near(t, c.name+" Mbit/s", got.MbitOut, c.mbit, c.slack)
	}
	// The gate off: silence is forwarded as well.
	s, err := Load("defaults")
	if err != nil {
		t.Fatal(err)
	}
	s.Server.SilenceGate = false
	near(t, "gate off", s.Plan().Totals.PacketsOut, 300*9*50, 1e-9)
	// Crowded: nobody hears more than K at once.
	s = checked(t, New("crowded", Rooms{Members: 40, Talkers: 30}))
	near(t, "crowded", s.Plan().Totals.PacketsOut, 40*16*50, 1e-9)
	if !s.Crowded() {
		t.Error("30 talkers and 16 slots are not crowded")
	}
}

// TestPoissonArrivals holds rate and spread of arrivals: the gaps of a Poisson
// process have a standard deviation like their mean.
func TestPoissonArrivals(t *testing.T) {
	for seed := range uint64(5) {
		s := New("storm", Rooms{Count: 1000, Members: 8})
		s.Seed, s.Join = seed+1, Join{Arrival: ArrivalPoisson, Rate: 20}
		p := checked(t, s).Plan()
		var gaps []float64
		for i := range p.Members[1:] {
			gaps = append(gaps, (p.Members[i+1].Arrive - p.Members[i].Arrive).Seconds())
		}
		mean, deviation := moments(gaps)
		near(t, "mean gap", mean, 1.0/20, 0.05) // 4 standard deviations of 8,000 are 4.5 %
		near(t, "deviation", deviation, 1.0/20, 0.07)
		if !p.Members[999].Talks || p.Members[1000].Talks {
			t.Error("talkers do not come first")
		}
	}
}

func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, math.Sqrt(deviation)
}

func TestRamp(t *testing.T) {
	for _, j := range []Join{{Arrival: ArrivalRamp, Rate: 10}, {Arrival: ArrivalRamp, Over: 8 * time.Second}} {
		s := New("ramp", Rooms{Count: 10, Members: 8})
		s.Join = j
		p := checked(t, s).Plan()
		for i, m := range p.Members {
			if want := time.Duration(i) * 100 * time.Millisecond; (m.Arrive - want).Abs() > time.Microsecond {
				t.Fatalf("%+v: member %d comes at %v, want %v", j, i, m.Arrive, want)
			}
		}
	}
}

// TestStays holds that stays are exponential with the mean asked for.
func TestStays(t *testing.T) {
	s := New("churn", Rooms{Count: 50, Members: 9})
	s.Duration, s.Churn = 10*time.Minute, Churn{Stay: 20 * time.Second}
	p := checked(t, s).Plan()
	var stays []float64
	for _, m := range p.Members {
		// Stays that the window cuts off are left out by looking at its first half.
		if m.Within && m.Arrive < s.Duration/2 {
			if m.Leave == 0 {
				m.Leave = s.Duration
			}
			stays = append(stays, (m.Leave - m.Arrive).Seconds())
		}
	}
	mean, deviation := moments(stays)
	near(t, "mean stay", mean, 20, 0.05)
	near(t, "deviation", deviation, 20, 0.08)
	near(t, "joins", float64(p.Totals.Within), 400.0/20*600, 0.04)
}

// TestOneWay holds the figures of P.59: mean spurt 1.004 s, mean pause 1.587 s,
// activity 38.75 %, whatever the seed and without a start that is special.
func TestOneWay(t *testing.T) {
	const hour = uint32(time.Hour / Interval)
	for seed := range uint64(4) {
		s := New("", Rooms{})
		s.Seed = seed + 1
		spurts := oneWay(s.random(streamTalk), 10*hour)
		talk, pause := lengths(spurts)
		mean, deviation := moments(talk)
		near(t, "spurt", mean, 1.004, 0.04)
		near(t, "spurt deviation", deviation, 1.004, 0.05)
		near(t, "pause", first(moments(pause)), 1.587, 0.04)
		near(t, "activity", sum(talk)/36000, 0.3875, 0.03)
	}
	// At the very start as many talk as at any time.
	talking := 0
	s := New("", Rooms{})
	for i := range uint64(4000) {
		if spurts := oneWay(s.random(streamTalk+i), 50); len(spurts) > 0 && spurts[0].First == 0 {
			talking++
		}
	}
	near(t, "talking at the start", float64(talking)/4000, 0.3875, 0.08)
}

func first(a, _ float64) float64 { return a }

// lengths are the spurts and the pauses between them, in seconds.
func lengths(spurts []Spurt) (talk, pause []float64) {
	for i, s := range spurts {
		talk = append(talk, float64(s.Count)*Interval.Seconds())
		if i > 0 {
			before := spurts[i-1]
			pause = append(pause, float64(s.First-before.First-before.Count)*Interval.Seconds())
		}
	}
	return talk, pause
}

func sum(v []float64) float64 {
	total := 0.0
	for _, x := range v {
		total += x
	}
	return total
}

// TestTwoWay holds the shares that follow from the states of P.59.
func TestTwoWay(t *testing.T) {
	const intervals = uint32(10 * time.Hour / Interval)
	s := New("", Rooms{})
	both := twoWay(s.random(streamTalk), intervals)
	var on [2][]bool
	for i, spurts := range both {
		on[i] = make([]bool, intervals)
		for _, s := range spurts {
			for k := s.First; k < s.First+s.Count; k++ {
				on[i][k] = true
			}
		}
	}
	double, mutual := 0, 0
	for k := range intervals {
		switch {
		case on[0][k] && on[1][k]:
			double++
		case !on[0][k] && !on[1][k]:
			mutual++
		}
	}
	near(t, "double talk", float64(double)/float64(intervals), 0.0742, 0.05)
	near(t, "mutual silence", float64(mutual)/float64(intervals), 0.2246, 0.04)
	for _, spurts := range both {
		talk, _ := lengths(spurts)
		near(t, "activity", sum(talk)/36000, 0.425, 0.04)
	}
}

// TestPartsAreApart holds that one part of a scenario does not move another.
func TestPartsAreApart(t *testing.T) {
	plain := New("a", Rooms{Count: 20, Members: 8, Talk: Talk{Pattern: TalkP59}})
	stormy := New("a", Rooms{Count: 20, Members: 8, Talk: Talk{Pattern: TalkP59}})
	stormy.Join = Join{Arrival: ArrivalPoisson, Rate: 10}
	a, b := checked(t, plain).Plan(), checked(t, stormy).Plan()
	talkers := func(p *Plan) []Member {
		list := slices.DeleteFunc(slices.Clone(p.Members), func(m Member) bool { return !m.Talks })
		slices.SortFunc(list, func(a, b Member) int { return a.Room - b.Room })
		return list
	}
	for i, m := range talkers(a) {
		if n := talkers(b)[i]; len(m.Spurts) == 0 || !reflect.DeepEqual(m.Spurts, n.Spurts) || m.Phase != n.Phase {
			t.Fatalf("the talker of room %d talks differently because it came differently", i)
		}
	}
	other := New("a", Rooms{Count: 20, Members: 8, Talk: Talk{Pattern: TalkP59}})
	other.Seed = 2
	if reflect.DeepEqual(checked(t, other).Plan().Members, a.Members) {
		t.Error("another seed gives the same plan")
	}
}

func TestFaithfulSitBesideLight(t *testing.T) {
	s := New("check", Rooms{Count: 3, Members: 5, Faithful: 2, Check: 2}, Rooms{Members: 2, Bots: BotsFaithful})
	p := checked(t, s).Plan()
	got := make([]string, 4)
	for _, m := range p.Members {
		if m.Faithful {
			got[m.Room] += fmt.Sprint(m.Seat)
		}
	}
	for i := range got {
		b := []byte(got[i])
		slices.Sort(b)
		got[i] = string(b)
	}
	if want := []string{"34", "34", "", "01"}; !slices.Equal(got, want) {
		t.Errorf("faithful seats %q, want %q", got, want)
	}
}

// TestSamplingPrefersNoSeat holds that over many rooms all seats are judged alike,
// also when their number divides the block.
func TestSamplingPrefersNoSeat(t *testing.T) {
	s := New("sample", Rooms{Count: 1600, Members: 8, Talkers: 8})
	p := checked(t, s).Plan()
	seats := make([]float64, 8)
	for _, m := range p.Members {
		if m.Sampled {
			seats[m.Seat]++
		}
	}
	for _, n := range seats {
		near(t, "judged in a seat", n, 100, 0.4) // 4 standard deviations of 100
	}
}

func TestFaultsInOrder(t *testing.T) {
	s := New("faults", Rooms{Members: 2})
	s.Faults = []Step{
		{At: 5 * time.Second, Do: DoCut, For: time.Second},
		{At: time.Second, Do: DoLoss, LossPercent: 1, For: 4 * time.Second},
		{At: 5 * time.Second, Do: DoKill},
	}
	var got []string
	for _, f := range checked(t, s).Plan().Faults {
		got = append(got, fmt.Sprintf("%v %s %v", f.At, f.Step.Do, f.End))
	}
	want := []string{"1s loss false", "5s loss true", "5s cut false", "5s kill false", "6s cut true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
