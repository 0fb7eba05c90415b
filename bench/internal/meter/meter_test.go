package meter

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"voicefleet/bench/internal/mark"
)

var start = time.Unix(1_700_000_000, 0)

// packet is one that arrives.
type packet struct {
	mark.Mark
	at time.Time
}

// send makes the packets of a plan, each 7 ms late.
func send(talker uint32, plan []Span) []packet {
	var out []packet
	for _, s := range plan {
		for i := s.First; i < s.First+s.Count; i++ {
			due := start.Add(time.Duration(i) * mark.Frame)
			out = append(out, packet{mark.Mark{Talker: talker, Index: i, Onset: s.Onset, Voiced: s.Voiced, Due: due}, due.Add(7 * time.Millisecond)})
		}
	}
	return out
}

// listen plays packets in the order of their arrival to a listener.
func listen(c Config, plans map[uint32][]Span, packets []packet) *Listener {
	slices.SortStableFunc(packets, func(a, b packet) int { return a.at.Compare(b.at) })
	l := NewListener(c)
	for _, p := range packets {
		l.Hear(p.Mark, p.at)
	}
	for id, plan := range plans {
		l.Expect(id, plan)
	}
	return l
}

func seconds(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

// about says whether a histogram's figure is the value it stands for.
func about(got, want time.Duration) bool {
	return got >= want && float64(got) <= float64(want)*1.01+2000
}

func TestCleanTalk(t *testing.T) {
	plan := []Span{{Count: 1000, Voiced: true}}
	l := listen(Config{From: seconds(2), To: seconds(12)}, map[uint32][]Span{1: plan}, send(1, plan))
	r := l.Result()
	if r.Expected != 500 || r.Received != 500 || r.Lost != 0 || r.Frames != 500 || r.Concealed != 0 || r.Gap.Count() != 0 || r.Spurts != 0 || r.Open != 0 {
		t.Errorf("%+v", r)
	}
	if r.Latency.Count() != 500 || !about(r.Latency.Quantile(0), 7*time.Millisecond) || !about(r.Latency.Quantile(1), 7*time.Millisecond) || r.Latency.Mean() != 7*time.Millisecond {
		t.Errorf("latency %v to %v, mean %v", r.Latency.Quantile(0), r.Latency.Quantile(1), r.Latency.Mean())
	}
	if r.Jitter.Count() != 500 || r.Jitter.Max() != 0 {
		t.Errorf("jitter of %d up to %v", r.Jitter.Count(), r.Jitter.Max())
	}
	if !r.First.Equal(start.Add(7 * time.Millisecond)) {
		t.Errorf("first %v", r.First)
	}
	// 80 ms at first, 20 ms from some time in the second second on.
	if m := r.MouthToEar(); m < 27*time.Millisecond || m > 30*time.Millisecond {
		t.Errorf("mouth to ear %v", m)
	}
	if len(r.Slices) != 10 {
		t.Fatalf("%d slices", len(r.Slices))
	}
	for i, s := range r.Slices {
		if !s.At.Equal(seconds(float64(2+i))) || s.For != time.Second || s.Expected != 50 || s.Received != 50 || s.Loss() != 0 || s.Latency.Quantile(.99) < 7*time.Millisecond || s.Latency.Quantile(.99) > 9*time.Millisecond {
			t.Errorf("slice %d: %+v", i, s)
		}
	}
}

// TestFaults holds single faults against what they are by definition.
func TestFaults(t *testing.T) {
	long := []Span{{Count: 1000, Voiced: true}}
	// Spurts of 50 frames, pauses of 50 between.
	var pausing, silence []Span
	for i := range uint32(10) {
		pausing = append(pausing, Span{First: 100 * i, Count: 50, Onset: 100 * i, Voiced: true})
		silence = append(silence, Span{First: 100 * i, Count: 50, Onset: 100 * i, Voiced: true}, Span{First: 100*i + 50, Count: 50, Onset: 100*i + 50})
	}
	drop := func(which func(i uint32) bool) func(packet) []packet {
		return func(p packet) []packet {
			if which(p.Index) {
				return nil
			}
			return []packet{p}
		}
	}
	late := func(by func(i uint32) time.Duration) func(packet) []packet {
		return func(p packet) []packet {
			p.at = p.at.Add(by(p.Index))
			return []packet{p}
		}
	}
	between := func(i, from, to uint32) bool { return from <= i && i < to }
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		plan  []Span
		fault func(packet) []packet
		want  Result // its figures that are not zero, with loss by Expected - Lost
		gap   time.Duration
		clip  time.Duration
	}{
		{"one lost", long, drop(func(i uint32) bool { return i == 500 }),
			Result{Expected: 1000, Lost: 1, Frames: 1000, Concealed: 1, Spurts: 1, Bursts: 1, BurstFrames: 1}, 40 * ms, 0},
		{"two lost, five between", long, drop(func(i uint32) bool { return i == 500 || i == 506 }),
			Result{Expected: 1000, Lost: 2, Frames: 1000, Concealed: 2, Spurts: 1, Bursts: 2, BurstFrames: 2}, 160 * ms, 0},
		{"two seconds lost", long, drop(func(i uint32) bool { return between(i, 400, 500) }),
			Result{Expected: 1000, Lost: 100, Frames: 1000, Concealed: 100, Spurts: 1, Bursts: 1, BurstFrames: 100}, 2020 * ms, 0},
		{"the end lost", long, drop(func(i uint32) bool { return i >= 900 }),
			Result{Expected: 1000, Lost: 100, Frames: 1000, Concealed: 100, Spurts: 1, Bursts: 1, BurstFrames: 100, Open: 1}, 2020 * ms, 0},
		{"the last five lost", long, drop(func(i uint32) bool { return i >= 995 }),
			Result{Expected: 1000, Lost: 5, Frames: 1000, Concealed: 5, Spurts: 1}, 0, 0},
		{"all twice", long, func(p packet) []packet { return []packet{p, p} },
			Result{Expected: 1000, Duplicates: 1000, Frames: 1000, Spurts: 1}, 0, 0},
		{"one behind the next", long, late(func(i uint32) time.Duration {
			if i == 20 {
				return 25 * ms
			}
			return 0
		}), Result{Expected: 1000, Reordered: 1, Frames: 1000, Spurts: 1}, 0, 0},
		{"one far too late", long, late(func(i uint32) time.Duration {
			if i == 500 {
				return 300 * ms
			}
			return 0
		}), Result{Expected: 1000, Reordered: 1, Frames: 1000, Concealed: 1, Spurts: 1, Bursts: 1, BurstFrames: 1}, 40 * ms, 0},
		// 0.5 s that then come at once: what is more than 200 ms late is thrown away
		// (500, 480 .. 220 ms: 15 frames), for 200 ms less the 20 ms of the buffer (9
		// frames) the listener waits.
		{"frozen and flushed", long, late(func(i uint32) time.Duration {
			if between(i, 500, 526) {
				return time.Duration(525-i) * mark.Frame
			}
			return 0
		}), Result{Expected: 1000, Frames: 1009, Concealed: 15 + 9, Spurts: 1, Bursts: 1, BurstFrames: 15}, 520 * ms, 0},
		{"a longer way", long, late(func(i uint32) time.Duration {
			if i >= 500 {
				return 100 * ms
			}
			return 0
		}), Result{Expected: 1000, Frames: 1004, Concealed: 4, Spurts: 1}, 120 * ms, 0},
		{"pauses", pausing, drop(func(uint32) bool { return false }),
			Result{Expected: 500, Frames: 950, Concealed: 450, SilentConcealed: 450, Spurts: 10}, 0, 0},
		{"first 100 ms clipped", pausing, drop(func(i uint32) bool { return i%100 < 5 }),
			Result{Expected: 500, Lost: 50, Frames: 950, Concealed: 500, SilentConcealed: 450, Spurts: 10, Clipped: 10}, 0, 100 * ms},
		{"a spurt lost", pausing, drop(func(i uint32) bool { return i/100 == 5 }),
			Result{Expected: 500, Lost: 50, Frames: 950, Concealed: 500, SilentConcealed: 450, Spurts: 9, Missed: 1}, 0, 0},
		{"near the end of a spurt", pausing, drop(func(i uint32) bool { return i == 545 }),
			Result{Expected: 500, Lost: 1, Frames: 950, Concealed: 451, SilentConcealed: 450, Spurts: 10, Bursts: 1, BurstFrames: 1}, 40 * ms, 0},
		{"silence is sent", silence, drop(func(uint32) bool { return false }),
			Result{Expected: 1000, Frames: 1000, Spurts: 10}, 0, 0},
		{"silence is lost", silence, drop(func(i uint32) bool { return i%100 == 60 }),
			Result{Expected: 1000, Lost: 10, Frames: 1000, Concealed: 10, SilentConcealed: 10, Spurts: 10}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var packets []packet
			for _, p := range send(1, c.plan) {
				packets = append(packets, c.fault(p)...)
			}
			config := Config{From: start, To: seconds(20)}
			l := listen(config, map[uint32][]Span{1: c.plan}, packets)
			got := l.Result()
			if again := l.Result(); !reflect.DeepEqual(got, again) {
				t.Errorf("a second time %+v", again)
			}
			gaps, clips := got.Gap, got.Clip
			want := c.want
			want.Received = want.Expected - want.Lost
			seen := Result{Expected: got.Expected, Received: got.Received, Lost: got.Lost, Duplicates: got.Duplicates, Reordered: got.Reordered,
				Stray: got.Stray, Unvoiced: got.Unvoiced, Old: got.Old, Negative: got.Negative,
				Frames: got.Frames, Concealed: got.Concealed, SilentConcealed: got.SilentConcealed, Bursts: got.Bursts, BurstFrames: got.BurstFrames,
				Spurts: got.Spurts, Clipped: got.Clipped, Missed: got.Missed, Open: got.Open}
			if !reflect.DeepEqual(seen, want) {
				t.Errorf("measured %+v\nwant     %+v", seen, want)
			}
			if got.WorstGap != c.gap || gaps.Max() != c.gap || (c.gap > 0) != (gaps.Count() == 1) {
				t.Errorf("%d gaps, worst %v, want %v", gaps.Count(), got.WorstGap, c.gap)
			}
			if clips.Max() != c.clip || clips.Count() != int64(c.want.Clipped) || !about(clips.Quantile(0), c.clip) {
				t.Errorf("%d clips of %v to %v, want %v", clips.Count(), clips.Quantile(0), clips.Max(), c.clip)
			}
			lost := uint64(0)
			for _, s := range got.Slices {
				lost += s.Expected - s.Received
			}
			if lost != want.Lost {
				t.Errorf("%d lost in the slices, want %d", lost, want.Lost)
			}
		})
	}
}

func TestFixedPlayout(t *testing.T) {
	plan := []Span{{Count: 500, Voiced: true}}
	packets := send(1, plan)
	for i := range packets {
		// 0, 10 .. 90 ms later, never past the next but four.
		packets[i].at = packets[i].at.Add(time.Duration(i%10) * 10 * time.Millisecond)
	}
	for _, c := range []struct {
		playout   time.Duration
		concealed uint64
	}{{100 * time.Millisecond, 0}, {50 * time.Millisecond, 4 * 50}, {20 * time.Millisecond, 7 * 50}} {
		r := listen(Config{From: start, To: seconds(10), Playout: c.playout}, map[uint32][]Span{1: plan}, packets)
		got := r.Result()
		if got.Concealed != c.concealed || got.Frames != 500 || got.Lost != 0 {
			t.Errorf("with %v: %d of %d concealed, want %d", c.playout, got.Concealed, got.Frames, c.concealed)
		}
		if want := c.playout + 7*time.Millisecond; got.MouthToEar() != want {
			t.Errorf("with %v: mouth to ear %v", c.playout, got.MouthToEar())
		}
	}
}

// TestAdaptivePlayout: the buffer grows to what the delays need.
func TestAdaptivePlayout(t *testing.T) {
	plan := []Span{{Count: 3000, Voiced: true}}
	packets := send(1, plan)
	random := rand.New(rand.NewPCG(3, 3))
	for i := range packets {
		packets[i].at = packets[i].at.Add(time.Duration(random.IntN(110)) * time.Millisecond)
	}
	l := listen(Config{From: seconds(10), To: seconds(60)}, map[uint32][]Span{1: plan}, packets)
	r := l.Result()
	if share := r.Concealment(); share > 0.002 {
		t.Errorf("%.2f %% concealed", 100*share)
	}
	if m := r.MouthToEar(); m < 120*time.Millisecond || m > 130*time.Millisecond {
		t.Errorf("mouth to ear %v, want the next step of 20 ms above 110 ms and the way", m)
	}
}

func TestJitter(t *testing.T) {
	plan := []Span{{Count: 200, Voiced: true}}
	packets := send(1, plan)
	want, last := 0.0, time.Duration(0)
	for i := range packets {
		d := 7*time.Millisecond + time.Duration(i%3)*time.Millisecond
		packets[i].at = packets[i].Due.Add(d)
		if i > 0 {
			want += (math.Abs(float64(d-last)) - want) / 16 // RFC 3550 section 6.4.1
		}
		last = d
	}
	r := listen(Config{From: seconds(2), To: seconds(4)}, map[uint32][]Span{1: plan}, packets).Result()
	if r.Jitter.Count() != 100 || math.Abs(float64(r.Jitter.Max())-want) > 1e5 || r.Jitter.Max() > 2*time.Millisecond {
		t.Errorf("jitter of %d up to %v, want %v", r.Jitter.Count(), r.Jitter.Max(), time.Duration(want))
	}
}

// TestAgainstNaive drops every hundredth packet, doubles and reorders some, clips
// spurts, all by seeds, and counts with maps and sorted lists what that is.
func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		config := Config{From: seconds(5), To: seconds(45)}
		plans := map[uint32][]Span{}
		var packets []packet
		var want Result
		var latencies, clips []time.Duration
		inside := func(p packet) bool { return !p.Due.Before(config.From) && p.Due.Before(config.To) }
		nth := 0
		for talker := range uint32(1 + random.IntN(5)) {
			var plan []Span
			for i := uint32(0); i < 2500; {
				n := 20 + uint32(random.IntN(100))
				plan = append(plan, Span{First: i, Count: n, Onset: i, Voiced: true})
				i += n + 20 + uint32(random.IntN(100))
			}
			plans[talker] = plan
			for _, s := range plan {
				clip := uint32(0)
				if random.IntN(3) == 0 {
					clip = 1 + uint32(random.IntN(8))
				}
				first := uint32(0)
				heard := false
				for _, p := range send(talker, []Span{s}) {
					if inside(p) {
						want.Expected++
					}
					if p.Index < s.Onset+clip {
						continue
					}
					if nth++; nth%100 == 0 {
						continue
					}
					p.at = p.at.Add(time.Duration(random.IntN(3000)) * time.Microsecond)
					if random.IntN(50) == 0 {
						p.at = p.at.Add(time.Duration(20+random.IntN(60)) * time.Millisecond)
					}
					if !heard {
						heard, first = true, p.Index
					}
					packets = append(packets, p)
					if inside(p) {
						want.Received++
						latencies = append(latencies, p.at.Sub(p.Due))
					}
					if random.IntN(40) == 0 {
						p.at = p.at.Add(time.Duration(random.IntN(100)) * time.Millisecond)
						packets = append(packets, p)
						if inside(p) {
							want.Duplicates++
						}
					}
				}
				if onset := start.Add(time.Duration(s.Onset) * mark.Frame); onset.Before(config.From) || !onset.Before(config.To) {
					continue
				}
				want.Spurts++
				if first > s.Onset {
					want.Clipped++
					clips = append(clips, time.Duration(first-s.Onset)*mark.Frame)
				}
			}
		}
		want.Lost = want.Expected - want.Received
		l := listen(config, plans, packets)
		got := l.Result()
		// Reordered: new, and a later one of the talker came before.
		top, came := map[uint32]uint32{}, map[[2]uint32]bool{}
		for _, p := range packets { // sorted by listen
			key := [2]uint32{p.Talker, p.Index}
			if !came[key] && p.Index < top[p.Talker] && inside(p) {
				want.Reordered++
			}
			came[key] = true
			top[p.Talker] = max(top[p.Talker], p.Index)
		}
		if got.Expected != want.Expected || got.Received != want.Received || got.Lost != want.Lost || got.Duplicates != want.Duplicates ||
			got.Reordered != want.Reordered || got.Spurts != want.Spurts || got.Clipped != want.Clipped || got.Missed != 0 || got.Stray != 0 {
			t.Errorf("seed %d: measured %+v\nwant %+v", seed, got, want)
		}
		slices.Sort(latencies)
		slices.Sort(clips)
		for _, q := range []float64{.01, .5, .9, .99, 1} {
			if n := int(math.Ceil(q*float64(len(latencies)))) - 1; !about(got.Latency.Quantile(q), latencies[n]) && q < 1 || math.Abs(float64(got.Latency.Quantile(q)-latencies[n])) > 1e6 {
				t.Errorf("seed %d: latency %v at %v, want %v", seed, got.Latency.Quantile(q), q, latencies[n])
			}
			if n := max(int(math.Ceil(q*float64(len(clips)))), 1) - 1; !about(got.Clip.Quantile(q), clips[n]) && q < 1 {
				t.Errorf("seed %d: clip %v at %v, want %v", seed, got.Clip.Quantile(q), q, clips[n])
			}
		}
		// What is lost is concealed; of the rest at most what came late.
		if got.Concealed < got.Lost || got.Concealed-got.SilentConcealed > got.Lost+want.Reordered+uint64(len(packets)/10) {
			t.Errorf("seed %d: %d concealed, %d of them silent, %d lost", seed, got.Concealed, got.SilentConcealed, got.Lost)
		}
	}
}

// TestOutsideThePlan: packets of others, of pauses, of the past, of too many.
func TestOutsideThePlan(t *testing.T) {
	plan := []Span{{Count: 100, Voiced: true}, {First: 200, Count: 2000, Onset: 200, Voiced: true}}
	packets := send(1, plan)
	packets = append(packets, send(1, []Span{{First: 100, Count: 3, Onset: 100}})...) // the tail a gate lets through
	packets = append(packets, send(2, []Span{{Count: 10, Voiced: true}})...)          // a talker of another room
	old := packets[50]
	old.at = seconds(40)
	early := packets[60]
	early.at = early.Due.Add(-time.Millisecond)
	packets[60] = early
	r := listen(Config{From: start, To: seconds(60)}, map[uint32][]Span{1: plan}, append(packets, old)).Result()
	if r.Expected != 2100 || r.Received != 2100 || r.Unvoiced != 3 || r.Stray != 10 || r.Old != 1 || r.Duplicates != 0 || r.Negative != 1 {
		t.Errorf("%+v", r)
	}
	if r.Latency.Quantile(0) > 2*time.Microsecond {
		t.Errorf("least latency %v, want 0 for a packet before its time", r.Latency.Quantile(0))
	}

	many := NewListener(Config{})
	for id := range uint32(MaxTalkers + 3) {
		for _, p := range send(id, []Span{{Count: 2, Voiced: true}}) {
			many.Hear(p.Mark, p.at)
		}
		many.Expect(id, []Span{{Count: 2, Voiced: true}})
	}
	if r := many.Result(); r.Ignored != 6 || r.IgnoredPlans != 3 || r.Expected != 2*MaxTalkers || r.Received != 2*MaxTalkers || r.Stray != 0 {
		t.Errorf("too many talkers: %+v", r)
	}
}

// TestPlanOfTheUnheard: nothing came, and all of it is expected, where and when.
func TestPlanOfTheUnheard(t *testing.T) {
	l := NewListener(Config{From: seconds(1), To: seconds(3)})
	l.Expect(1, []Span{{Count: 1000, Voiced: true, Due: start}})
	r := l.Result()
	if r.Expected != 100 || r.Lost != 100 || r.Frames != 100 || r.Concealed != 100 || r.Concealment() != 1 || r.Loss() != 1 || !r.First.IsZero() {
		t.Errorf("%+v", r)
	}
	for _, s := range r.Slices {
		if s.Expected != 50 || s.Loss() != 1 {
			t.Errorf("%+v", s)
		}
	}
	if len(r.Slices) != 2 {
		t.Errorf("%d slices", len(r.Slices))
	}
}

// TestBurstRatio: losses in pairs are twice as long as those of chance.
func TestBurstRatio(t *testing.T) {
	plan := []Span{{Count: 2000, Voiced: true}}
	packets := slices.DeleteFunc(send(1, plan), func(p packet) bool { return p.Index%100 >= 98 && p.Index < 1990 })
	r := listen(Config{From: start, To: seconds(40)}, map[uint32][]Span{1: plan}, packets).Result()
	if want := 2 * (1 - float64(r.Lost)/2000); math.Abs(r.BurstRatio()-want) > 0.01 || r.Bursts != 19 {
		t.Errorf("burst ratio %.3f of %d bursts, want %.3f", r.BurstRatio(), r.Bursts, want)
	}
}

func TestMergeAndJSON(t *testing.T) {
	plan := []Span{{Count: 1000, Voiced: true}}
	var merged, back Result
	for talker := range uint32(3) {
		packets := slices.DeleteFunc(send(talker, plan), func(p packet) bool { return p.Index > 500 && p.Index < 500+10*talker })
		r := listen(Config{From: start, To: seconds(20)}, map[uint32][]Span{talker: plan}, packets).Result()
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var read Result
		if err := json.Unmarshal(b, &read); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(read); err != nil || string(again) != string(b) {
			t.Errorf("read back %s\nwant %s, %v", again, b, err)
		}
		merged.Merge(r)
		back.Merge(read)
	}
	if merged.Listeners != 3 || merged.Expected != 3000 || merged.Lost != 9+19 || merged.Gap.Count() != 2 || merged.WorstGap != 400*time.Millisecond ||
		math.Abs(merged.WorstLoss-0.019) > 1e-9 || merged.Latency.Count() != 3000-28 || len(merged.Slices) != 20 {
		t.Errorf("%+v", merged)
	}
	if s := merged.Slices[10]; s.Expected != 150 || s.Received != 150-28+1 && s.Received != 150-28 {
		t.Errorf("%+v", s)
	}
	if h := merged.Latency.HDR(); h.TotalCount() != 3000-28 || h.Max() < int64(7*time.Millisecond) || h.Max() > int64(7100*time.Microsecond) {
		t.Errorf("HDR of %d up to %d", h.TotalCount(), h.Max())
	}
	a, _ := json.Marshal(merged)
	b, _ := json.Marshal(back)
	if string(a) != string(b) {
		t.Errorf("merged from JSON %s\nwant %s", b, a)
	}
}

func TestHearAllocatesNothing(t *testing.T) {
	plan := []Span{{Count: 1_000_000, Voiced: true}}
	l := NewListener(Config{From: start, To: seconds(20_000), Slice: 100 * time.Second})
	m := mark.Mark{Talker: 1, Voiced: true}
	i := uint32(0)
	hear := func() {
		m.Index = i
		if i%485 == 1 {
			m.Onset = i - 1 // now and then a spurt, whose first frame is lost
		}
		m.Due = start.Add(time.Duration(i) * mark.Frame)
		if i%97 != 0 { // a loss and a gap
			l.Hear(m, m.Due.Add(time.Duration(i%50)*time.Millisecond))
		}
		i++
	}
	hear()
	hear()
	if n := testing.AllocsPerRun(5000, hear); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	l.Expect(1, plan)
	if r := l.Result(); r.Gap.Count() == 0 || r.Clipped == 0 || r.Lost == 0 {
		t.Errorf("the run was too tame: %d gaps, %d clipped, %d lost", r.Gap.Count(), r.Clipped, r.Lost)
	}
}

// TestBytes holds the figures of the package comment.
func TestBytes(t *testing.T) {
	l := NewListener(Config{From: start, To: seconds(60)})
	empty := l.Bytes()
	for id := range uint32(25) {
		for _, p := range send(id, []Span{{Count: 10, Voiced: true}}) {
			l.Hear(p.Mark, p.at)
		}
	}
	if full := l.Bytes(); full > 72<<10 {
		t.Errorf("25 talkers over a minute take %d bytes", full)
	}
	one := listen(Config{}, nil, send(1, []Span{{Count: 10, Voiced: true}})).Bytes()
	if one > 43<<10 {
		t.Errorf("one talker takes %d bytes", one)
	}
	if slices := 60 * 168; empty < slices || empty > slices+1024 {
		t.Errorf("60 slices take %d bytes", empty)
	}
	if long := NewListener(Config{From: start, To: start.Add(24 * time.Hour)}).Bytes(); long > 41<<10 {
		t.Errorf("a day takes %d bytes", long)
	}
}

func BenchmarkHear(b *testing.B) {
	l := NewListener(Config{From: start, To: start.Add(1e6 * time.Second), Slice: 1e5 * time.Second})
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		due := start.Add(time.Duration(i/25) * mark.Frame)
		l.Hear(mark.Mark{Talker: i % 25, Index: i / 25, Voiced: true, Due: due}, due.Add(7*time.Millisecond))
		i++
	}
}

// TestLatencyIsOfSpeech holds that frames of silence which a server forwards late, in
// front of the spurt they led to, are no latency of what is heard.
func TestLatencyIsOfSpeech(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	l := NewListener(Config{From: start, To: start.Add(time.Second)})
	for i := range uint32(4) {
		due := start.Add(time.Duration(i) * mark.Frame)
		l.Hear(mark.Mark{Talker: 1, Index: i, Onset: 3, Voiced: i == 3, Due: due}, start.Add(3*mark.Frame+time.Millisecond))
	}
	l.Expect(1, []Span{{First: 3, Count: 1, Onset: 3, Voiced: true}})
	r := l.Result()
	if r.Latency.Count() != 1 || r.Latency.Max() != time.Millisecond || r.Unvoiced != 3 || r.Lost != 0 {
		t.Errorf("%d packets, the latest %v, %d unvoiced, %d lost", r.Latency.Count(), r.Latency.Max(), r.Unvoiced, r.Lost)
	}
}
