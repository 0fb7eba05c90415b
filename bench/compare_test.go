package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/bench"
)

// again is a report as it is after a trip through JSON.
func again(t testing.TB, r *bench.Report) *bench.Report {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	back, err := bench.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestReadBack(t *testing.T) {
	r := example(3)
	r.Took, r.Partial = bench.Seconds(1234567891), "interrupted"
	back := again(t, r)
	var big struct{ Big uint64 }
	if err := json.Unmarshal(back.Tables[0].Values.(json.RawMessage), &big); err != nil || big.Big != math.MaxUint64 {
		t.Errorf("values %s, %v", back.Tables[0].Values, err)
	}
	r.Tables[0].Values, back.Tables[0].Values = nil, nil
	if !reflect.DeepEqual(r, back) {
		t.Errorf("wrote %+v\nread %+v", r, back)
	}
}

// TestWriteSurvivesNaN holds that one figure that is no number does not cost the
// report.
func TestWriteSurvivesNaN(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	back := again(t, &bench.Report{
		Kind:          "x",
		Goals:         []bench.Goal{{Name: "g", Value: nan, Bound: 1}},
		Metrics:       []bench.Metric{{Name: "m", Samples: []float64{1, nan, 2, inf}}, {Name: "n"}},
		Distributions: []bench.Distribution{{Name: "d", Points: []bench.Quantile{{Q: 0, V: 1}, {Q: .5, V: nan}, {Q: 1, V: 2}}}},
		Series:        []bench.Series{{Name: "s", Points: []bench.Point{{At: 1, V: inf}, {At: 2, V: 2}}}},
	})
	if got := back.Metrics[0].Samples; !slices.Equal(got, []float64{1, 2}) {
		t.Errorf("samples %v", got)
	}
	if len(back.Distributions[0].Points) != 2 || len(back.Series[0].Points) != 1 || back.Goals[0].Void == "" {
		t.Errorf("%+v", back)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "the file is empty"},
		{"{}", "no kind"},
		{"[1]", "line 1, column 1: this is a array, want an object"},
		{"{\n  \"kind\": \"x\",\n  \"seed\": \"seven\"}", "line 3, column 17: field seed is a string, want uint64"},
		{"{\n \"kind\": \"x\",,}", "line 2, column 14: invalid character ','"},
		{`{"kind":"x"} trailing`, "invalid character 't' after top-level value"},
		{`{"kind":"x","took_s":1e300}`, "more than a duration holds"},
		{`{"kind":"x","took_s":"1s"}`, `"1s" is no number of seconds`},
		{`{"kind":"x","metrics":[{"samples":[1]}]}`, "metrics[0] has no name"},
		{`{"kind":"x","metrics":[{"name":"m"},{"name":"m"}]}`, `two metrics are named "m"`},
		{`{"kind":"x","metrics":[{"name":"m","better":"big"}]}`, `better is "big", want "less", "more" or nothing`},
		{`{"kind":"x","distributions":[{"name":"d","points":[{"q":0.5,"v":2},{"q":0.4,"v":3}]}]}`, `distribution "d"`},
		{`{"kind":"x","distributions":[{"name":"d","points":[{"q":1.5,"v":2}]}]}`, `from 0 to 1`},
		{`{"kind":"x","tables":[{"title":"t","head":["a"],"rows":[["1","2"]]}]}`, `row 1 has 2 cells under 1 heads`},
	} {
		if _, err := bench.Read(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.in, err, c.want)
		}
	}
	if r, err := bench.Read(strings.NewReader(`{"kind":"x","from_the_future":{"a":[1]}}`)); err != nil || r.Kind != "x" {
		t.Errorf("a field of a newer program: %v", err)
	}
	if _, err := bench.Read(zeros{}); err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("a stream without end: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// FuzzRead holds that whatever was read can be compared with itself and drawn.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := example(1).WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"kind":"x","metrics":[{"name":"m","samples":[1e308,1e-308,-1]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := bench.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		harmless(t, htmlOf(t, r.WriteHTML))
		c, err := bench.Compare(r, r)
		if err != nil {
			return
		}
		var js bytes.Buffer
		if err := c.WriteJSON(&js); err != nil {
			t.Fatal(err)
		}
		for _, ch := range c.Changes {
			if ch.Verdict != bench.NoDifference && ch.Verdict != bench.TooFew {
				t.Errorf("a report differs from itself: %+v", ch)
			}
		}
	})
}

func one(name string, better bench.Better, samples ...float64) *bench.Report {
	return &bench.Report{Kind: "x", Metrics: []bench.Metric{{Name: name, Unit: "ms", Better: better, Samples: samples}}}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		a, b       []float64
		better     bench.Better
		want       bench.Verdict
		difference bool
		estimate   float64
		worsening  float64
	}{
		{[]float64{1, 1.01, .99}, []float64{2, 2.02, 1.98}, bench.Less, bench.GotWorse, false, 2, 100},
		{[]float64{1, 1.01, .99}, []float64{2, 2.02, 1.98}, bench.More, bench.GotBetter, false, 2, -100},
		{[]float64{1, 1.01, .99}, []float64{2, 2.02, 1.98}, "", bench.Changed, false, 2, 0},
		{[]float64{2, 2.02, 1.98}, []float64{1, 1.01, .99}, bench.More, bench.GotWorse, false, .5, 50},
		{[]float64{1, 3, 2}, []float64{3, 1, 2}, bench.Less, bench.NoDifference, false, 1, 0},
		{[]float64{1}, []float64{2, 3}, bench.Less, bench.TooFew, false, math.Sqrt(6), 100 * (math.Sqrt(6) - 1)},
		{nil, []float64{2, 3}, bench.Less, bench.TooFew, true, 0, 0},
		{[]float64{0, 0, 0}, []float64{0, 0, 0}, bench.Less, bench.NoDifference, true, 0, 0},
		{[]float64{0, 0, 0}, []float64{.1, .11, .09}, bench.Less, bench.GotWorse, true, .1, math.Inf(1)},
		{[]float64{-4, -4.1, -3.9}, []float64{-2, -2.1, -1.9}, bench.Less, bench.GotWorse, true, 2, 50},
		{[]float64{5, 5}, []float64{6, 6}, bench.Less, bench.GotWorse, false, 1.2, 20},
		{[]float64{math.NaN(), 5, 5}, []float64{5, 5, math.Inf(1)}, bench.Less, bench.NoDifference, false, 1, 0},
		{[]float64{1e308, 1e307}, []float64{1e-308, 1e-307}, bench.Less, bench.GotBetter, false, 0, -100},
	} {
		got, err := bench.Compare(one("m", c.better, c.a...), one("m", c.better, c.b...))
		if err != nil {
			t.Fatal(err)
		}
		ch := got.Changes[0]
		if ch.Verdict != c.want || ch.Difference != c.difference || math.Abs(ch.Estimate-c.estimate) > .001 {
			t.Errorf("%v to %v: %+v, want %s, %v", c.a, c.b, ch, c.want, c.estimate)
		}
		if w := ch.Worsening(); w != c.worsening && math.Abs(w-c.worsening) > .1 {
			t.Errorf("%v to %v: worse by %v %%, want %v %%", c.a, c.b, w, c.worsening)
		}
		if worse := got.Worse(49); (len(worse) == 1) != (c.want == bench.GotWorse && c.worsening > 49) {
			t.Errorf("%v to %v: %v worse by more than 49 %%", c.a, c.b, worse)
		}
		var js bytes.Buffer
		if err := got.WriteJSON(&js); err != nil {
			t.Error(err)
		}
	}
}

// TestWelchByHand is an interval that was worked out apart: x = 1..5, y = 3, 5, 7,
// 9 with means 3 and 6, variances 2.5 and 20/3, shares .5 and 5/3, so 4.750 degrees of
// freedom, t = 2.6120 and half a width of 2.6120 √(13/6).
func TestWelchByHand(t *testing.T) {
	a, b := []float64{1, 2, 3, 4, 5}, []float64{3, 5, 7, 9}
	a[0], b[0] = 0+1, 3
	shift := func(v []float64) []float64 { // below 0, so that differences are compared
		out := slices.Clone(v)
		for i := range out {
			out[i] -= 100
		}
		return out
	}
	c, err := bench.Compare(one("m", bench.Less, shift(a)...), one("m", bench.Less, shift(b)...))
	if err != nil {
		t.Fatal(err)
	}
	half := 2.6120 * math.Sqrt(13./6)
	if ch := c.Changes[0]; math.Abs(ch.Estimate-3) > 1e-9 || math.Abs(ch.Low-(3-half)) > .01 || math.Abs(ch.High-(3+half)) > .01 {
		t.Errorf("%+v, want 3 ± %v", ch, half)
	}
}

// TestCoverage draws many pairs of reports whose true change is known and counts how
// often the interval holds it, and how often a change is seen where there is none.
func TestCoverage(t *testing.T) {
	const pairs = 4000
	random := rand.New(rand.NewPCG(11, 5))
	for _, c := range []struct {
		name         string
		n, m         int
		spreadA      float64
		spreadB      float64
		ratio        float64
		difference   bool
		least, most  float64
		seenAtLeast  float64 // of the true change
		seenAtMostNo float64 // where there is none
	}{
		{"alike", 5, 5, .1, .1, 1, false, .94, .975, 0, .06},
		{"unlike", 4, 9, .05, .3, 1, false, .93, .975, 0, .07},
		{"worse by 25 %", 6, 6, .05, .05, 1.25, false, .94, .965, .99, 1},
		{"differences", 5, 7, .4, .2, 3, true, .93, .97, .99, 1},
		{"two windows", 2, 2, .1, .1, 1, false, .94, 1, 0, .06},
	} {
		held, seen := 0, 0
		for range pairs {
			draw := func(n int, spread, of float64) []float64 {
				out := make([]float64, n)
				for i := range out {
					if c.difference {
						out[i] = of - 10 + spread*random.NormFloat64()
					} else {
						out[i] = of * math.Exp(spread*random.NormFloat64())
					}
				}
				return out
			}
			got, err := bench.Compare(one("m", bench.Less, draw(c.n, c.spreadA, 1)...), one("m", bench.Less, draw(c.m, c.spreadB, c.ratio)...))
			if err != nil {
				t.Fatal(err)
			}
			truth := c.ratio
			if c.difference {
				truth = c.ratio - 1
			}
			ch := got.Changes[0]
			if ch.Low <= truth && truth <= ch.High {
				held++
			}
			if ch.Verdict != bench.NoDifference {
				seen++
			}
		}
		coverage, found := float64(held)/pairs, float64(seen)/pairs
		t.Logf("%s: %.3f held, %.3f seen", c.name, coverage, found)
		if coverage < c.least || coverage > c.most || found < c.seenAtLeast || found > c.seenAtMostNo {
			t.Errorf("%s: the interval held the truth in %.3f, want %.3f to %.3f; a change was seen in %.3f", c.name, coverage, c.least, c.most, found)
		}
	}
}

func TestCompareWarns(t *testing.T) {
	a, b := example(1), example(2)
	c, err := bench.Compare(a, b)
	if err != nil || len(c.Warnings) != 0 {
		t.Errorf("two runs alike: %v %v", c.Warnings, err)
	}
	b.Machine.CPU, b.Machine.Cores, b.Machine.Kernel = "Other CPU", 64, "7.0"
	b.Scenario += "more: true\n"
	b.Window = bench.Seconds(5 * time.Second)
	b.Partial = "interrupted"
	b.Metrics[0].Unit = "ns"
	b.Metrics[1].Name = "lost"
	if c, err = bench.Compare(a, b); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings, "\n")
	for _, want := range []string{"CPU Example CPU 3000 and Other CPU; cores 2 and 64", "kernel", "scenarios differ", "windows differ: 20 s and 5 s", "B is partial: interrupted", `in "µs"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in %q", want, all)
		}
	}
	if !slices.Equal(c.OnlyA, []string{"loss"}) || !slices.Equal(c.OnlyB, []string{"lost"}) || len(c.Changes) != 3 {
		t.Errorf("%v, %v, %d changes", c.OnlyA, c.OnlyB, len(c.Changes))
	}
	a, b = example(1), example(2)
	a.Scenario, b.Scenario = "", ""
	a.Command, b.Command = "voicebench forward --json=a.json --seed=1 --cases=3x300", "voicebench forward --cases=10x10 --seed=2"
	if c, err = bench.Compare(a, b); err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "--cases=3x300 forward voicebench and --cases=10x10") {
		t.Errorf("commands that differ: %v %v", c.Warnings, err)
	}
	if _, err := bench.Compare(one("x", ""), one("y", "")); err == nil || !strings.Contains(err.Error(), "no figure is in both") {
		t.Errorf("nothing in common: %v", err)
	}
	if _, err := bench.Compare(nil, a); err == nil {
		t.Error("nothing to compare was compared")
	}
}

func TestCompareWrites(t *testing.T) {
	a, b := example(1), example(2)
	for i := range b.Metrics[0].Samples {
		b.Metrics[0].Samples[i] *= 1.3
	}
	for i := range b.Metrics[1].Samples {
		a.Metrics[1].Samples[i] = 0
	}
	c, err := bench.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var text, js bytes.Buffer
	if err := c.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	page := htmlOf(t, c.WriteHTML)
	words := harmless(t, page)
	for _, want := range []string{"CPU per forwarded packet", "+0.0", "6, 6", "worse", "no difference seen", "by chance alone"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
		if want != "6, 6" && !strings.Contains(words, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	var back bench.Comparison
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Changes) != 5 || !reflect.DeepEqual(back.Changes, c.Changes) {
		t.Errorf("%+v, %v", back, err)
	}
	if n := strings.Count(page, `<svg class="chart"`); n != 2*3 {
		t.Errorf("%d plots, want a pair for each of 3 distributions", n)
	}
	for _, text := range hostile {
		x, y := example(1), example(2)
		fill(reflect.ValueOf(x), text)
		fill(reflect.ValueOf(y), text)
		for i := range x.Metrics {
			x.Metrics[i].Name += fmt.Sprint(i)
			y.Metrics[i].Name += fmt.Sprint(i)
		}
		if c, err = bench.Compare(x, y); err != nil {
			t.Fatal(err)
		}
		harmless(t, htmlOf(t, c.WriteHTML))
	}
	t.Log(text.String())
	if name := os.Getenv("BENCH_COMPARE_PAGE"); name != "" {
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
