package remote

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// exchange makes an exchange with a clock that is offset ahead: out and back are the
// ways there and back, held is the time at the other side.
func exchange(at time.Time, offset, out, held, back time.Duration) Exchange {
	t := at.UnixNano()
	return Exchange{
		Sent:     t,
		Received: t + int64(out+offset),
		Replied:  t + int64(out+held+offset),
		Returned: t + int64(out+held+back),
	}
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestEstimate(t *testing.T) {
	const µs, msec = time.Microsecond, time.Millisecond
	for _, c := range []struct {
		name          string
		exchanges     []Exchange
		offset, bound time.Duration
		fails         bool
	}{
		{name: "even ways", exchanges: []Exchange{exchange(noon, 37*msec, 100*µs, 50*µs, 100*µs)}, offset: 37 * msec, bound: 100 * µs},
		{name: "behind", exchanges: []Exchange{exchange(noon, -2*time.Second, 100*µs, 0, 100*µs)}, offset: -2 * time.Second, bound: 100 * µs},
		{name: "all of the delay on the way there", exchanges: []Exchange{exchange(noon, 0, 200*µs, 0, 0)}, offset: 100 * µs, bound: 100 * µs},
		{name: "all of it on the way back", exchanges: []Exchange{exchange(noon, 0, 0, 0, 200*µs)}, offset: -100 * µs, bound: 100 * µs},
		{name: "the shortest counts", exchanges: []Exchange{
			exchange(noon, 5*msec, 9*msec, 0, 100*µs),
			exchange(noon.Add(msec), 5*msec, 60*µs, 3*msec, 40*µs),
			exchange(noon.Add(2*msec), 5*msec, 100*µs, 0, 30*msec),
		}, offset: 5*msec + 10*µs, bound: 50 * µs},
		{name: "set by 1 s meanwhile", exchanges: []Exchange{
			exchange(noon, 0, 100*µs, 0, 100*µs),
			exchange(noon.Add(msec), time.Second, 90*µs, 0, 90*µs),
		}, fails: true},
		{name: "set during an exchange", exchanges: []Exchange{{Sent: 1000, Received: 1000, Replied: 5000, Returned: 2000}}, fails: true},
		{name: "none", fails: true},
	} {
		got, err := Estimate(c.exchanges)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.fails {
			continue
		}
		if off := (got.Offset - c.offset).Abs(); off > 2 || got.Uncertainty < c.bound || got.Uncertainty > c.bound+3 || got.Samples != len(c.exchanges) {
			t.Errorf("%s: %+v, want %v ± %v", c.name, got, c.offset, c.bound)
		}
	}
}

// drifting is a clock that is ahead by start at noon and gains by drift.
type drifting struct {
	start time.Duration
	drift float64
}

func (d drifting) ahead(at time.Time) time.Duration {
	return d.start + time.Duration(d.drift*float64(at.Sub(noon)))
}

// align makes exchanges with ways of any length, each its own.
func (d drifting) align(r *rand.Rand, at time.Time, n int) []Exchange {
	var list []Exchange
	for range n {
		out := time.Duration(r.ExpFloat64()*200) * time.Microsecond
		back := time.Duration(r.ExpFloat64()*200) * time.Microsecond
		if r.IntN(10) == 0 {
			out += time.Duration(r.IntN(20)) * time.Millisecond
		}
		list = append(list, exchange(at, d.ahead(at), out, time.Duration(r.IntN(50_000)), back))
		at = at.Add(out + back + time.Millisecond)
	}
	return list
}

// TestErrorIsBounded lets ways differ at will: the truth is always within what the
// estimate says of itself, at any time between two alignments, and so is a latency
// between two generators.
func TestErrorIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 1))
	for range 2000 {
		length := time.Duration(1+r.IntN(600)) * time.Second
		// The clock moves during one exchange, too: 100 ppm of at most 40 ms.
		const slack = 4 * time.Microsecond
		var clocks [2]Clock
		var truths [2]drifting
		for i := range clocks {
			truths[i] = drifting{start: time.Duration(r.Int64N(int64(2*time.Hour))) - time.Hour, drift: (r.Float64() - .5) * 200e-6}
			n := 1 + r.IntN(40)
			start, err := Estimate(truths[i].align(r, noon, n))
			if err != nil {
				t.Fatal(err)
			}
			end, err := Estimate(truths[i].align(r, noon.Add(length), n))
			if err != nil {
				t.Fatal(err)
			}
			if off := (start.Offset - truths[i].ahead(start.Measured)).Abs(); off > start.Uncertainty+slack {
				t.Fatalf("%v, truly %v", start, truths[i].ahead(start.Measured))
			}
			clocks[i] = Over(start, end)
		}
		for _, share := range []float64{0.1, 0.5, 0.9} {
			at := noon.Add(time.Duration(share * float64(length)))
			for i, c := range clocks {
				if off := (c.Ahead(at) - truths[i].ahead(at)).Abs(); off > c.Uncertainty+slack {
					t.Fatalf("%v, after %v off by %v", c, at.Sub(noon), off)
				}
				if off := math.Abs(c.Drift - truths[i].drift); off > c.DriftUncertainty+1e-6 && length > 10*time.Second {
					t.Fatalf("%v, drift truly %v", c, truths[i].drift)
				}
				if back := c.Ours(c.Theirs(at)).Sub(at).Abs(); back > 10*time.Nanosecond {
					t.Fatalf("there and back is off by %v", back)
				}
			}
			const truth = 7 * time.Millisecond
			measured := truth + truths[1].ahead(at) - truths[0].ahead(at)
			correction, uncertainty := Skew(clocks[0], clocks[1], at)
			if off := (measured - correction - truth).Abs(); off > uncertainty+2*slack {
				t.Fatalf("latency off by %v, said ± %v", off, uncertainty)
			}
		}
	}
}

func TestOverWithoutTimeBetween(t *testing.T) {
	c := Clock{Offset: 5, Uncertainty: 3, Measured: noon}
	if got := Over(c, c); got != c {
		t.Errorf("got %+v", got)
	}
}

func TestClockInWords(t *testing.T) {
	for want, c := range map[string]Clock{
		"37.002 ms ahead of ours ± 0.041 ms":                    {Offset: 37002 * time.Microsecond, Uncertainty: 41 * time.Microsecond},
		"1.000 ms behind ours ± 0.500 ms, drift +3.1 ± 0.2 ppm": {Offset: -time.Millisecond, Uncertainty: 500 * time.Microsecond, Drift: 3.1e-6, DriftUncertainty: 0.2e-6},
	} {
		if c.String() != want {
			t.Errorf("%q, want %q", c.String(), want)
		}
	}
	list := []Named{{"a", Clock{Uncertainty: 100 * time.Microsecond}}, {"b", Clock{Uncertainty: 300 * time.Microsecond}}, {"c", Clock{Uncertainty: 200 * time.Microsecond}}}
	table, note := Clocks(list)
	if len(table.Rows) != 3 || len(table.Rows[0]) != len(table.Head) || !strings.Contains(note, "± 0.500 ms") {
		t.Errorf("%+v, %q", table, note)
	}
	if _, note := Clocks(list[:1]); strings.Contains(note, "±") {
		t.Errorf("one generator: %q", note)
	}
}
