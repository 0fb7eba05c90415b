package bench_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
)

// example is a report with everything in it, drawn from a seed.
func example(seed uint64) *bench.Report {
	random := rand.New(rand.NewPCG(seed, 1))
	r := &bench.Report{
		Kind: "scenario", Seed: seed, Started: time.Date(2026, 5, 4, 10, 30, 0, 0, time.UTC), Took: bench.Seconds(154 * time.Second),
		Command:  fmt.Sprintf("voicebench scenario run stage --program=bin/voicefleet --seed=%d", seed),
		Machine:  bench.Machine{CPU: "Example CPU 3000", Cores: 2, Memory: 16 << 30, Kernel: "6.12.0", Go: "go1.26.0"},
		Scenario: "name: stage\nabout: one huge stage\nrooms:\n  - count: 1\n    members: 300\n    talkers: 3\nwarmup: 5s\nduration: 2m\n",
		Window:   bench.Seconds(20 * time.Second),
		Notes:    []string{"the generator was busy for 61 % of one core", "latency is from the moment a packet was due until it was read from the socket"},
		Events:   []bench.Event{{At: 40, Text: "freeze engine for 2 s"}, {At: 80, Text: "loss 1 % on all media"}},
		Goals: []bench.Goal{
			{Name: "packets lost", Value: .084, Bound: .1, Unit: "%"},
			{Name: "one-way latency, 99th percentile", Value: 2.31, Bound: 5, Unit: "ms"},
			{Name: "users", Value: 3060, Bound: 3000, AtLeast: true, Unit: "users"},
			{Name: "CPU against the raw loop", Value: 1.52, Bound: 1.35, Unit: "times"},
			{Name: "join time, 95th percentile", Bound: 400, Unit: "ms", Void: "nobody joined in the window"},
		},
		Tables: []bench.Table{{
			Title: "CPU per forwarded packet in µs: median (least..greatest) of the windows",
			Head:  []string{"case", "arm", "user", "system", "total", "loss", "p99 ms"},
			Rows: [][]string{
				{"3x300", "node", "0.49 (0.34..0.70)", "3.37 (3.02..3.43)", "3.80 (3.72..3.90)", "0 of 3624000", "2.22"},
				{"3x300", "raw", "0.00 (0.00..0.00)", "3.01 (2.96..3.07)", "3.01 (2.96..3.07)", "0 of 3624000", "-"},
				{"3x300", "pion", "5.47 (4.32..5.93)", "6.46 (6.03..6.54)", "11.93 (10.34..12.46)", "12 of 3624000", "4.71"},
			},
			Values: map[string]any{"big": uint64(math.MaxUint64)},
		}},
	}
	for i, name := range []string{"node", "pion"} {
		h := hdrhistogram.New(1000, 60_000_000_000, 3)
		for range 40000 {
			v := 600_000 * math.Exp(.45*random.NormFloat64()) * float64(1+i)
			if random.Float64() < .0015 {
				v *= 9
			}
			_ = h.RecordValue(int64(v))
		}
		d := bench.DistributionOf(name, "ms", h, 1e6)
		d.Plot = "One-way latency"
		r.Distributions = append(r.Distributions, d)
	}
	h := hdrhistogram.New(1000, 60_000_000_000, 3)
	for range 300 {
		_ = h.RecordValue(int64(90e6 * math.Exp(1.2*random.NormFloat64())))
	}
	r.Distributions = append(r.Distributions, bench.DistributionOf("Time to first audio", "ms", h, 1e6))
	for _, s := range []struct {
		plot, name, unit string
		of               func(t float64) float64
	}{
		{"Packets out", "node", "packets/s", func(float64) float64 { return 141e3 + 1500*random.NormFloat64() }},
		{"Loss", "all listeners", "%", func(t float64) float64 {
			if t > 80 && t < 100 {
				return 1 + .1*random.NormFloat64()
			}
			return max(0, .02*random.NormFloat64())
		}},
		{"CPU", "engine, user", "cores", func(float64) float64 { return .21 + .01*random.NormFloat64() }},
		{"CPU", "engine, system", "cores", func(float64) float64 { return .62 + .02*random.NormFloat64() }},
		{"CPU", "agent", "cores", func(float64) float64 { return .02 + .002*random.NormFloat64() }},
		{"CPU", "generator", "cores", func(float64) float64 { return .5 + .03*random.NormFloat64() }},
		{"CPU", "whole machine", "cores", func(float64) float64 { return 1.4 + .04*random.NormFloat64() }},
	} {
		out := bench.Series{Plot: s.plot, Name: s.name, Unit: s.unit}
		for t := range 140 {
			v := s.of(float64(t))
			if t >= 40 && t < 42 && s.plot != "Loss" {
				v *= .1
			}
			out.Points = append(out.Points, bench.Point{At: float64(t), V: v})
		}
		r.Series = append(r.Series, out)
	}
	for _, m := range []bench.Metric{
		{Name: "CPU per forwarded packet", Unit: "µs", Better: bench.Less},
		{Name: "loss", Unit: "%", Better: bench.Less},
		{Name: "packets out", Unit: "packets/s", Better: bench.More},
		{Name: "memory per session", Unit: "KiB", Better: bench.Less},
		{Name: "sessions", Unit: ""},
	} {
		for range 6 {
			v := map[string]float64{"CPU per forwarded packet": 3.8, "packets out": 141e3, "memory per session": 38, "sessions": 3060, "loss": .02}[m.Name]
			m.Samples = append(m.Samples, v*math.Exp(.02*random.NormFloat64()))
		}
		r.Metrics = append(r.Metrics, m)
	}
	return r
}

func htmlOf(t testing.TB, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	if b.Len() > bench.MaxHTML {
		t.Fatalf("a page of %d bytes", b.Len())
	}
	return b.String()
}

// elements are all a page may consist of, with their attributes.
var (
	elements = strings.Fields(`html head meta title style body main header section footer h1 h2 h3 p b ul ol li pre dl dt dd
		details summary div table caption thead tbody tr th td span figure figcaption small svg desc text path g circle rect`)
	attributes = strings.Fields(`lang charset name content http-equiv class scope viewbox role id aria-labelledby aria-hidden
		d x y r cx cy rx width height fill-opacity`)
)

// harmless holds that a page consists of what we put there and of text. It gives the text.
func harmless(t testing.TB, page string) string {
	t.Helper()
	var text strings.Builder
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Fatal(z.Err())
			}
			return text.String()
		case html.TextToken:
			text.Write(z.Text())
		case html.CommentToken:
			t.Errorf("a comment: %q", z.Raw())
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := z.Token()
			if !slices.Contains(elements, tag.Data) {
				t.Fatalf("element %q", tag.String())
			}
			for _, a := range tag.Attr {
				if !slices.Contains(attributes, strings.ToLower(a.Key)) {
					t.Fatalf("attribute %q of %q", a.Key, tag.String())
				}
			}
		}
	}
}

func TestHTML(t *testing.T) {
	page := htmlOf(t, example(7).WriteHTML)
	text := harmless(t, page)
	for _, want := range []string{"2 of 5 goals missed", "--seed=7", "members: 300", "Example CPU 3000", "16.0 GiB", "void, nobody joined", "wanted at most 1.35",
		"freeze engine for 2 s", "One-way latency", "99.9 %", "11.93 (10.34..12.46)", "took 2 min 34 s", "generator was busy", "CPU per forwarded packet"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, never := range []string{"http://", "https://", "url(", "@import", "<script", "ZgotmplZ"} {
		if strings.Contains(page, never) {
			t.Errorf("%q in the page", never)
		}
	}
	// One pair for latency, one for first audio; packets, loss, CPU.
	if n := strings.Count(page, `<svg class="chart"`); n != 7 {
		t.Errorf("%d plots, want 7", n)
	}
	// Marks at both events in each plot over time.
	if n := strings.Count(page, `<g class="k">`); n != 2*3 {
		t.Errorf("%d marks, want 6", n)
	}
	if name := os.Getenv("BENCH_PAGE"); name != "" {
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHTMLVerdicts(t *testing.T) {
	met := &bench.Report{Goals: []bench.Goal{{Name: "x", Value: 1, Bound: 2}}}
	for _, c := range []struct {
		r    *bench.Report
		want string
	}{
		{&bench.Report{}, "No goals were set"},
		{met, "The one goal is met"},
		{&bench.Report{Partial: "interrupted"}, "interrupted."},
	} {
		if text := harmless(t, htmlOf(t, c.r.WriteHTML)); !strings.Contains(text, c.want) {
			t.Errorf("no %q in %s", c.want, text)
		}
	}
}

// TestHTMLIsBounded holds that a report of many megabytes makes a page that says
// what it leaves out.
func TestHTMLIsBounded(t *testing.T) {
	r := example(7)
	long := strings.Repeat("word ", 1000)
	r.Scenario = strings.Repeat(long, 40)
	for i := range 200 {
		s := r.Series[0]
		s.Plot, s.Name = fmt.Sprintf("plot %d", i/3), long
		r.Series = append(r.Series, s)
		d := r.Distributions[0]
		d.Plot = fmt.Sprint(i)
		r.Distributions = append(r.Distributions, d)
		r.Goals = append(r.Goals, bench.Goal{Name: long, Void: long})
		r.Metrics = append(r.Metrics, bench.Metric{Name: long, Samples: make([]float64, 5000)})
		r.Tables[0].Rows = append(r.Tables[0].Rows, slices.Repeat([]string{long}, 12))
		r.Notes = append(r.Notes, long)
		r.Events = append(r.Events, bench.Event{At: float64(i), Text: long})
	}
	for range 300 {
		r.Tables = append(r.Tables, r.Tables[0])
	}
	text := harmless(t, htmlOf(t, r.WriteHTML))
	for _, want := range []string{"plots are left out", "(cut)", "more goals stand in the JSON", "more rows stand"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// fill puts a text into every string of a value.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(text)
		}
	case reflect.Pointer:
		fill(v.Elem(), text)
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title></desc></svg><script>`, `</style><script>`,
	`<!-- `, `]]><x>`, `{{.Title}}`, "javascript:alert(1)", "\x00\x1b[31m\x7f<b>", "\xff\xfe<a>", "\u202Eright to left<i>", "&lt;script&gt;", "</pre></details><iframe>",
}

func TestHTMLNamesCannotInject(t *testing.T) {
	for _, text := range hostile {
		notHarmful(t, text)
	}
}

func notHarmful(t *testing.T, text string) {
	r := example(7)
	for i := range r.Series { // several lines in a plot
		r.Series[i].Points = r.Series[i].Points[:12]
	}
	fill(reflect.ValueOf(r), text)
	page := htmlOf(t, r.WriteHTML)
	harmless(t, page)
	if strings.ContainsAny(page, "\x00\x1b\x7f\u202e") {
		t.Errorf("control characters of %q in the page", text)
	}
}

func FuzzHTML(f *testing.F) {
	for _, text := range hostile {
		f.Add(text, 0.0, 1.0)
	}
	f.Add("x", math.Inf(1), math.NaN())
	f.Add("x", -1e308, 1e308)
	f.Fuzz(func(t *testing.T, text string, a, b float64) {
		notHarmful(t, text)
		r := example(7)
		r.Series[0].Points = []bench.Point{{At: a, V: b}, {At: b, V: a}, {At: 1, V: 1}}
		r.Distributions[0].Points = []bench.Quantile{{Q: a, V: b}, {Q: .5, V: a}, {Q: 1, V: b}}
		r.Goals[0].Value, r.Goals[1].Bound = a, b
		r.Metrics[0].Samples = []float64{a, b}
		r.Events[0].At = a
		page := htmlOf(t, r.WriteHTML)
		harmless(t, page)
		if svg := page[strings.Index(page, "<main>"):]; strings.Contains(svg, `"NaN`) || strings.Contains(svg, "MNaN") || strings.Contains(svg, `"+Inf`) {
			t.Error("a place that is no number")
		}
	})
}
