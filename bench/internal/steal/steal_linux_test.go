package steal

import (
	"testing"
	"time"

	"voicefleet/bench/internal/procstat"
)

// TestTaken: what is taken of one core within 100 ms counts together, not that of several,
// and not what came long before.
func TestTaken(t *testing.T) {
	const ms = time.Millisecond
	begin := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		steal [][2]time.Duration // of two cores, 20 ms apart
		want  time.Duration
	}{
		{"nothing", [][2]time.Duration{{5000 * ms, 70 * ms}, {5000 * ms, 70 * ms}}, 0},
		{"at the first look", [][2]time.Duration{{5000 * ms, 70 * ms}}, 0},
		{"one after the other", [][2]time.Duration{{0, 0}, {10 * ms, 0}, {20 * ms, 0}, {40 * ms, 0}}, 40 * ms},
		{"of both", [][2]time.Duration{{0, 0}, {10 * ms, 20 * ms}, {20 * ms, 20 * ms}}, 20 * ms},
		{"slowly", [][2]time.Duration{{0, 0}, {10 * ms, 0}, {10 * ms, 0}, {10 * ms, 0}, {10 * ms, 0}, {10 * ms, 0}, {10 * ms, 0}, {20 * ms, 0}}, 10 * ms},
	} {
		var taken taken
		for i, s := range c.steal {
			taken.see(begin.Add(time.Duration(i)*lookEvery), []procstat.Machine{{Steal: s[0]}, {Steal: s[1]}})
		}
		if taken.most != c.want || len(taken.readings) > int(atOnce/lookEvery)+1 {
			t.Errorf("%s: %v, want %v; %d readings are kept", c.name, taken.most, c.want, len(taken.readings))
		}
	}
	var late taken
	late.see(begin, []procstat.Machine{{}})
	late.see(begin.Add(time.Second), []procstat.Machine{{Steal: 300 * ms}})
	if late.most != 300*ms {
		t.Errorf("the look was late, and %v were taken", late.most)
	}
	var changing taken
	changing.see(begin, []procstat.Machine{{Steal: ms}, {Steal: ms}})
	changing.see(begin.Add(ms), []procstat.Machine{{Steal: 500 * ms}})
	if changing.most != 0 {
		t.Errorf("a core went, and %v were taken", changing.most)
	}
}

// TestWatch: it looks, forgets and ends.
func TestWatch(t *testing.T) {
	w := Begin()
	defer w.End()
	looked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.taken.readings)
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(10 * time.Second); looked() == 0; <-again.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not look")
		}
	}
	w.mu.Lock()
	w.taken.most = time.Hour
	w.mu.Unlock()
	if most := w.Most(); most != time.Hour {
		t.Errorf("%v were taken", most)
	}
	w.Reset()
	if most := w.Most(); most >= time.Hour {
		t.Errorf("%v are still taken", most)
	}
}
