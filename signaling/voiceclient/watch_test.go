package voiceclient

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var w watch
	for i, s := range []struct {
		at, quiet    time.Duration
		received     uint64
		report, lost bool
	}{
		{0, 0, 0, false, false},                                 // well and alone
		{100 * time.Millisecond, 20, 1, true, false},            // somebody speaks
		{1000 * time.Millisecond, 20, 50, false, false},         // a second has not gone by
		{1100 * time.Millisecond, 20, 55, true, false},          //
		{2200 * time.Millisecond, 250e6, 55, false, false},      // a pause, with signs of life
		{2300 * time.Millisecond, 300e6, 55, true, false},       // or without
		{2600 * time.Millisecond, 600e6, 55, true, false},       // a doubt, at once
		{3000 * time.Millisecond, time.Second, 55, true, false}, // at once
		{3100 * time.Millisecond, 1100e6, 55, false, false},     //
		{3500 * time.Millisecond, 1500e6, 55, true, true},       // lost, once
		{3600 * time.Millisecond, 1600e6, 55, false, false},     //
		{4500 * time.Millisecond, 2500e6, 55, true, false},      // and again every second
		{4600 * time.Millisecond, 10e6, 56, false, false},       // it is back
		{5200 * time.Millisecond, 600e6, 56, true, false},       // a node whose answers take that long
		{5300 * time.Millisecond, 10e6, 56, false, false},       //
		{5900 * time.Millisecond, 600e6, 56, false, false},      // is not doubted all the time
		{6200 * time.Millisecond, lostAfter, 56, true, true},    // and gone again
		{6300 * time.Millisecond, lostAfter + 1e8, 56, false, false},
	} {
		if report, lost := w.step(start.Add(s.at), s.received, s.quiet); report != s.report || lost != s.lost {
			t.Errorf("step %d: report %t, lost %t", i, report, lost)
		}
	}
}

// TestNoFalseAlarm: at 30 % loss each way an idle path is reported once in an hour
// or less often and never left, and one without loss is asked rarely. In virtual
// time, twenty hours.
func TestNoFalseAlarm(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		draw := rand.New(rand.NewPCG(1, 2))
		p := &probing{}
		p.held.Store(true)
		now := time.Unix(1_800_000_000, 0)
		p.last.Store(now.UnixNano())
		asked, alarms, left := 0, 0, 0
		const hours = 20
		for range hours * int(time.Hour/probeEvery) {
			now = now.Add(probeEvery) // pion's rhythm
			if p.due(now) {
				asked++
				there, back := draw.Float64() >= loss, draw.Float64() >= loss
				if there && back {
					p.last.Store(now.UnixNano())
				}
			}
			if now.UnixNano()-p.last.Load() == int64(lostAfter) {
				alarms++
			}
			if now.UnixNano()-p.last.Load() == int64(lostAfter+anewEvery) {
				left++
			}
		}
		perHour, each := float64(alarms)/hours, time.Duration(hours)*time.Hour/time.Duration(asked)
		t.Logf("loss %.0f %%: %.2f alarms an hour, a check every %v", 100*loss, perHour, each)
		if loss == 0 && (alarms > 0 || each < probeAfter) {
			t.Errorf("without loss: %d alarms, a check every %v", alarms, each)
		}
		if perHour > 2 || left > 0 {
			t.Errorf("at %.0f %% loss: %.1f alarms an hour, %d seats asked for", 100*loss, perHour, left)
		}
	}
}

// TestColdStart: all servers are gone for two minutes, and then back. Whoever lost
// them tries again within 5 s, and no second sees more than its share.
func TestColdStart(t *testing.T) {
	const clients, outage = 5000, 2 * time.Minute
	var back []time.Duration
	tries := make(map[int]int) // by second
	for range clients {
		at, wait := time.Duration(0), backoffFirst
		for at < outage {
			at += pause(wait, nil)
			tries[int(at/time.Second)]++
			wait = min(max(2*wait, backoffMin), backoffMax)
		}
		back = append(back, at-outage)
	}
	slices.Sort(back)
	p99 := back[clients*99/100]
	busiest := 0
	for second, n := range tries {
		if second > int(2*backoffMax/time.Second) {
			busiest = max(busiest, n)
		}
	}
	t.Logf("back within %v (p99), at most %d of %d try in one second", p99, busiest, clients)
	if p99 > backoffMax {
		t.Errorf("p99 of the first try after the return is %v", p99)
	}
	if most := clients * 45 / 100; busiest > most { // one in 2.5 s on average
		t.Errorf("%d tries in one second, want at most %d", busiest, most)
	}
	// A server's hint holds.
	for range 100 {
		if d := pause(time.Second, &busyError{after: 3 * time.Second}); d < 3*time.Second || d > 4100*time.Millisecond {
			t.Fatalf("asked to wait 3 s, waits %v", d)
		}
	}
}
