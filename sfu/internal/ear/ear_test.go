package ear

import (
	"math/rand/v2"
	"testing"
	"time"
)

// tick lets seconds pass in which the listener is sent 50 packets and its client
// is heard, and returns the second of the verdict, or 0.
func (e *Ear) ticks(from, seconds int) (at int, v Verdict) {
	for i := range seconds {
		now := time.Duration(from+i+1) * time.Second
		if v := e.Tick(now, 50, now); v != Same {
			return i + 1, v
		}
	}
	return 0, Same
}

func TestPatience(t *testing.T) {
	quick := func(e *Ear) {
		for range quickKnown {
			e.Heard(Feedback)
		}
	}
	for _, c := range []struct {
		name   string
		before func(*Ear)
		want   int // seconds until it is deaf
	}{
		{"nothing ever came", func(*Ear) {}, 90},
		{"reports every 5 s", func(e *Ear) { e.Heard(Report); e.Reported(5 * time.Second) }, 76},
		{"reports every second", func(e *Ear) { e.Heard(Report); e.Reported(time.Second) }, 16},
		{"reports every 5 s, and one without progress", func(e *Ear) { e.Heard(Report); e.Reported(5 * time.Second); e.ticks(0, 5); e.Stuck() }, 11},
		{"a report without progress comes too early to mean anything", func(e *Ear) { e.Heard(Report); e.Reported(5 * time.Second); e.ticks(0, 4); e.Stuck() }, 72},
		{"transport-wide feedback", quick, 4},
		{"too little of it to rely on", func(e *Ear) { e.Heard(Feedback) }, 91},
		{"the client says so twice", func(e *Ear) { e.Say(true); e.ticks(0, 2); e.Say(false); e.ticks(2, 3); e.Say(false) }, 1},
		{"the client says so once", func(e *Ear) { e.Heard(Report); e.Say(true); e.ticks(0, 10); e.Say(false) }, 81},
		{"the client says so again too soon", func(e *Ear) {
			e.Heard(Report)
			e.Say(true)
			e.ticks(0, 2)
			e.Say(false)
			e.ticks(2, 1)
			e.Say(false)
		}, 88},
		{"the client says so of a pause, and then of another", func(e *Ear) {
			e.Heard(Report)
			e.Say(true)
			e.ticks(0, 2)
			e.Say(false)
			e.Say(true)
			e.ticks(2, 3)
			e.Say(false)
		}, 88},
		{"evidence takes it all back", func(e *Ear) { quick(e); e.ticks(0, 2); e.Heard(Request) }, 4},
	} {
		var e Ear
		c.before(&e)
		if at, v := e.ticks(10, 200); at != c.want || v != Deaf {
			t.Errorf("%s: verdict %d after %d s, want Deaf after %d", c.name, v, at, c.want)
		}
	}
}

// TestWordAlone: one that sends no reports, and whose word does not come as central is away,
// is not deaf for that.
func TestWordAlone(t *testing.T) {
	var e Ear
	e.Say(true)
	e.ticks(0, 10)
	e.Say(false) // the last word: of a pause
	if at, v := e.ticks(10, 600); v != Same {
		t.Errorf("without its word: verdict %d after %d s", v, at)
	}
	e.Say(false)
	if at, v := e.ticks(610, 10); at != 1 || v != Deaf {
		t.Errorf("it says again that it hears nothing: verdict %d after %d s", v, at)
	}
}

func TestVerdicts(t *testing.T) {
	deaf := func() *Ear {
		e := &Ear{}
		e.Heard(Report)
		e.Reported(time.Second)
		return e
	}
	e := deaf()
	for i := range 1000 { // nobody speaks: fewer than 10 packets a second
		if now := time.Duration(i) * time.Second; e.Tick(now, audiblePackets-1, now) != Same {
			t.Fatal("judged in silence")
		}
	}
	for i := range 1000 { // its client is not heard either
		if e.Tick(time.Duration(1000+i)*time.Second, 50, 990*time.Second) != Same {
			t.Fatal("judged while gone")
		}
	}
	if v := e.Tick(2000*time.Second, 50, 2000*time.Second); v != Deaf {
		t.Fatalf("back, and still hears nothing: %d", v)
	}
	if v := e.Tick(2001*time.Second, 50, 2001*time.Second); v != Same {
		t.Fatalf("told twice: %d", v)
	}
	e.Heard(Report)
	if v := e.Tick(2002*time.Second, 0, 2002*time.Second); v != Hears {
		t.Fatalf("hears again: %d", v)
	}
	if at, v := e.ticks(3000, 100); at != 15 || v != Deaf {
		t.Fatalf("deaf again: %d after %d s", v, at)
	}
	// A process that stood still for a minute has not listened for a minute.
	e = deaf()
	if v := e.Tick(60*time.Second, 50, 60*time.Second); v != Same {
		t.Fatalf("after a pause of ours: %d", v)
	}
}

// link is a listener in virtual time, on a way that loses packets in both
// directions at random: what is sent to it, what it answers, what an Ear makes of
// it.
type link struct {
	rng      *rand.Rand
	loss     float64
	feedback bool                         // transport-wide, every 100 ms when something stamped came
	every    time.Duration                // between receiver reports, times 0.5 to 1.5
	down     func(now time.Duration) bool // nothing reaches it
	pauses   bool                         // who speaks pauses now and then
	words    bool                         // the client says whether it hears, over its WebSocket

	ear     Ear
	pauseAt time.Duration // until when somebody speaks, or does not
	silent  bool
	said    words
	stream  Stream
	next    uint64
	highest uint64
	came    bool
	told    time.Duration
	spoken  time.Duration // when something was sent to it last
}

// words is the way of a client's reports over TCP, and what the voice gateway tells
// the node of them.
type words struct {
	received uint64 // by the client so far

	next  time.Duration // when the client reports again
	queue []word        // under way, in order

	// The gateway's.
	any                   bool
	last, fresh           time.Duration
	after, grewAt, toldAt time.Duration
	known                 uint64
	saidDeaf, grewSince   bool
}

type word struct {
	arrives  time.Duration
	received uint64
}

// Of the gateway and of edgeagent, which this package may not import.
const (
	reportEvery = time.Second
	reportPause = 100 * time.Millisecond
	lateReport  = 1500 * time.Millisecond
	hearsPause  = 1800 * time.Millisecond // what is a little early goes, too
	hearsKept   = 10 * time.Second
)

// say has the client report every second. What is lost is sent again by TCP after 0.2,
// 0.4, 0.8 s ..., and all that was sent after it waits for it.
func (l *link) say(now time.Duration) {
	w := &l.said
	if now >= w.next {
		w.next = now + reportEvery
		arrives := now
		for again := 200 * time.Millisecond; l.rng.Float64() < l.loss; again *= 2 {
			arrives += again
		}
		if n := len(w.queue); n > 0 {
			arrives = max(arrives, w.queue[n-1].arrives)
		}
		w.queue = append(w.queue, word{arrives, w.received})
	}
	for len(w.queue) > 0 && w.queue[0].arrives <= now {
		received := w.queue[0].received
		w.queue = w.queue[1:]
		if now < w.after {
			continue
		}
		w.after = now + reportPause
		if now-w.last > lateReport {
			w.fresh = now + lateReport
		}
		w.last = now
		grew := received != w.known
		if grew || !w.any {
			w.known, w.grewAt, w.any = received, now, true
			w.grewSince = w.grewSince || grew
		}
		hears := grew || w.saidDeaf && w.grewSince
		pause := hearsPause
		if hears && !w.saidDeaf {
			pause = hearsKept
		}
		if !hears && (now-w.grewAt < time.Second || now < w.fresh) || now-w.toldAt < pause {
			continue
		}
		w.toldAt, w.saidDeaf, w.grewSince = now, !hears, false
		l.ear.Say(hears)
	}
}

// speaks says whether somebody does: without pauses always, with them for 1 to 6 s at a
// time, and nobody for as long.
func (l *link) speaks(now time.Duration) bool {
	if !l.pauses {
		return true
	}
	if now >= l.pauseAt {
		l.silent = !l.silent
		l.pauseAt = now + time.Second + time.Duration(l.rng.Int64N(int64(5*time.Second)))
	}
	return !l.silent
}

const frame = 20 * time.Millisecond

// run lets so much time pass and returns when each verdict fell.
func (l *link) run(t *testing.T, total time.Duration) (verdicts []time.Duration) {
	lost := func() bool { return l.rng.Float64() < l.loss }
	jitter := func() time.Duration { return time.Duration(float64(l.every) * (0.5 + l.rng.Float64())) }
	const first = 7000
	l.next = first
	report, feedback, tick, stamp, own := jitter(), time.Duration(0), time.Second, time.Duration(0), time.Duration(0)
	check := 2500 * time.Millisecond
	stamped, missed, sent := false, int32(0), 0
	for now := frame; now <= total; now += frame {
		if l.words {
			l.say(now)
		}
		// A packet to it.
		if l.speaks(now) {
			asks := l.feedback && now >= stamp
			if asks {
				stamp = now + 400*time.Millisecond
				if l.ear.Late() {
					stamp = 0
				}
			}
			if !lost() && !l.down(now) {
				if l.came {
					missed += int32(l.next - l.highest - 1)
				}
				l.highest, l.came = l.next, true
				l.said.received++
				stamped = stamped || asks
			}
			l.next++
			l.spoken = now
			sent++
		}
		// What it answers.
		if stamped && now >= feedback {
			stamped, feedback = false, now+100*time.Millisecond
			if !lost() {
				own = now
				l.ear.Heard(Feedback)
			}
		}
		if now >= report {
			report = now + jitter()
			if l.came && !lost() {
				own = now
				l.report(now, missed)
			}
		}
		if now >= check {
			check = now + 2500*time.Millisecond
			if !lost() {
				own = now
			}
		}
		if now >= tick {
			tick += time.Second
			if l.ear.Tick(now, sent, own) != Same {
				verdicts = append(verdicts, now)
			}
			sent = 0
		}
	}
	return verdicts
}

// report does what the forward core does with one.
func (l *link) report(now time.Duration, missed int32) {
	switch p, expected, lost := l.stream.Read(uint32(l.highest), missed, l.next, uint32(l.next-7000)); p {
	case Grew:
		if l.told != 0 {
			l.ear.Reported(now - l.told)
		}
		l.told = now
		l.ear.Heard(Report)
		l.ear.Down.Add(now, expected, lost)
	case Stuck:
		if l.told != 0 {
			l.ear.Reported(now - l.told)
		}
		l.told = now
		if l.next-1-l.highest >= 50 && now-l.spoken <= 2*time.Second {
			l.ear.Stuck()
		}
	}
}

// TestNoFalseMends: an hour at 30 % loss both ways, somebody speaking all the
// time, many times over, with each kind of evidence. Nobody is called deaf.
func TestNoFalseMends(t *testing.T) {
	seeds := 100
	if testing.Short() || raceDetector { // which has nothing to find in a core, and is slow
		seeds = 10
	}
	for _, c := range []struct {
		name     string
		feedback bool
		every    time.Duration
		words    bool
		pauses   bool
	}{
		{"reports every 5 s", false, 5 * time.Second, false, false},
		{"reports every second", false, time.Second, false, false},
		{"transport-wide feedback", true, 5 * time.Second, false, false},
		{"the client's word", false, 5 * time.Second, true, false},
		// A word is late by what TCP needs: it may tell of a pause that is over.
		{"the client's word, of who pauses", false, 5 * time.Second, true, true},
		{"transport-wide feedback and the client's word, of who pauses", true, 5 * time.Second, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				l := &link{rng: rand.New(rand.NewPCG(uint64(seed), 5)), loss: 0.3, feedback: c.feedback, every: c.every, words: c.words, pauses: c.pauses,
					down: func(time.Duration) bool { return false }}
				if v := l.run(t, time.Hour); len(v) != 0 {
					t.Fatalf("seed %d: deaf or not at %v", seed, v)
				}
				if f := l.ear.Down.fraction; f < 0.1 || f > 0.5 {
					t.Fatalf("seed %d: loss of %v", seed, f)
				}
			}
		})
	}
}

// TestDeafIsFound: nothing comes any more from some moment on, for good or for a
// while; the listener itself is heard.
func TestDeafIsFound(t *testing.T) {
	const cut = 5 * time.Minute
	for _, c := range []struct {
		name     string
		feedback bool
		every    time.Duration
		loss     float64
		within   time.Duration
	}{
		// The last feedback, 3 s, a look every second, and a check that says that
		// the client lives.
		{"transport-wide feedback", true, 5 * time.Second, 0, 7 * time.Second},
		{"transport-wide feedback, 30 % loss", true, 5 * time.Second, 0.3, 12 * time.Second},
		{"reports every second", false, time.Second, 0, 20 * time.Second},
		{"reports every 5 s", false, 5 * time.Second, 0, 25 * time.Second},
		{"reports every 5 s, 30 % loss", false, 5 * time.Second, 0.3, 60 * time.Second},
	} {
		for seed := range 50 {
			l := &link{rng: rand.New(rand.NewPCG(uint64(seed), 6)), loss: c.loss, feedback: c.feedback, every: c.every,
				down: func(now time.Duration) bool { return now >= cut && now < cut+2*time.Minute }}
			v := l.run(t, 10*time.Minute)
			// A report written after the cut may still tell of progress before it,
			// which takes a quick verdict back once.
			if n := len(v); n != 2 && n != 4 || v[0] < cut || v[0] > cut+c.within || v[n-1] < cut+2*time.Minute {
				t.Fatalf("%s, seed %d: deaf and not any more at %v", c.name, seed, v)
			}
		}
	}
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name            string
		highest, before uint32
		lost, lostWas   int32
		next            uint64
		sent            uint32
		want            Progress
		expected, miss  uint32
	}{
		{"nothing came yet", 0, 0, 0, 0, 7100, 100, Nothing, 0, 0},
		{"the first", 7050, 0, 3, 0, 7100, 100, Grew, 0, 0},
		{"the first, of an engine that sent little so far", 7050, 0, 3, 0, 7100, 10, Nothing, 0, 0},
		{"more came", 7099, 7050, 5, 3, 7100, 100, Grew, 49, 2},
		{"no more came", 7050, 7050, 3, 3, 7100, 100, Stuck, 0, 0},
		{"an old one", 7040, 7050, 1, 3, 7100, 100, Nothing, 0, 0},
		{"of what was not sent", 7100, 7050, 0, 0, 7100, 100, Nonsense, 0, 0},
		{"of what was not sent, far ahead", 7100 + 1<<14, 7050, 0, 0, 7100, 100, Nonsense, 0, 0},
		{"over the rollover", 1<<16 | 3, 65530, 0, 0, 1<<16 | 4, 100, Grew, 9, 0},
		{"a receiver that counts fewer rollovers", 1<<16 | 3, 65530, 0, 0, 7<<16 | 4, 100, Grew, 9, 0},
		{"more lost than there was", 7060, 7050, 1 << 20, 0, 7100, 100, Grew, 10, 10},
		{"sent again", 7060, 7050, -5, 3, 7100, 100, Grew, 10, 0},
		{"begun anew", 3, 5 << 16, 0, 0, 4, 100, Nothing, 0, 0},
	} {
		s := Stream{known: c.before != 0, highest: c.before, lost: c.lostWas}
		if p, expected, missing := s.Read(c.highest, c.lost, c.next, c.sent); p != c.want || expected != c.expected || missing != c.miss {
			t.Errorf("%s: %d, %d of %d lost", c.name, p, missing, expected)
		}
	}
}

func TestLoss(t *testing.T) {
	var l Loss
	if _, ok := l.Fraction(0); ok {
		t.Error("known from the start")
	}
	l.Add(time.Second, 50, 10)
	if _, ok := l.Fraction(time.Second); ok {
		t.Error("known of 50 packets")
	}
	l.Add(2*time.Second, 50, 0)
	if f, ok := l.Fraction(2 * time.Second); !ok || f < 0.0999 || f > 0.1001 {
		t.Errorf("%v, %v", f, ok)
	}
	l.Add(3*time.Second, 200, 1000) // a lie
	if f, ok := l.Fraction(3 * time.Second); !ok || f != 1 {
		t.Errorf("%v, %v", f, ok)
	}
	if _, ok := l.Fraction(3*time.Second + lossKept + 1); ok {
		t.Error("an old figure stands")
	}
}

// FuzzStream: whatever a client reports, nothing more is lost than there was.
func FuzzStream(f *testing.F) {
	f.Add(uint32(7000), int32(3), uint64(7100), uint32(9), uint32(7050), int32(0))
	f.Fuzz(func(t *testing.T, a uint32, lost int32, next uint64, sent, b uint32, more int32) {
		var s Stream
		s.Read(a, lost, next, sent)
		if _, expected, missing := s.Read(b, more, next, sent); missing > expected || expected >= 1<<15 {
			t.Fatalf("%d of %d", missing, expected)
		}
	})
}
