package chart

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// charts are drawn in testdata, each with what is special about it.
func charts() map[string]Chart {
	wave := func(n int, f func(x float64) float64) []Point {
		var out []Point
		for i := range n {
			out = append(out, Point{float64(i), f(float64(i))})
		}
		return out
	}
	return map[string]Chart{
		"time": {ID: "a", Title: "CPU", X: Axis{Label: "time since the start", Scale: Time}, Y: Axis{Label: "cores", Unit: "cores", Zero: true},
			Lines: []Line{
				{"user", wave(21, func(x float64) float64 { return .5 + .1*math.Sin(x/3) })},
				{"system", wave(21, func(x float64) float64 { return 1.2 })},
			},
			Marks: []Mark{{X: 8, Name: "1", Text: "1: kill engine at 8 s"}}},
		"tail": {ID: "b", Title: "Latency", Width: 430, Height: 280, X: Axis{Label: "percentile", Scale: Tail}, Y: Axis{Label: "ms", Unit: "ms", Zero: true},
			Lines: []Line{{"Latency", []Point{{0, .1}, {.5, .6}, {.9, 1}, {.99, 1.8}, {.999, 4}, {1, 9}}}}},
		"log": {ID: "c", Title: "Share", Width: 430, Height: 280, X: Axis{Label: "ms", Scale: Log}, Y: Axis{Label: "%", Unit: "%", Zero: true},
			Lines: []Line{{"a", []Point{{0, 0}, {.2, 5}, {3, 50}, {40, 99}, {900, 100}}}, {"b", []Point{{.1, 0}, {.2, 50}, {.4, 100}}}}},
		"gaps":  {ID: "d", Title: "Gaps", Y: Axis{Label: "packets/s"}, Lines: []Line{{"Gaps", []Point{{0, 1e5}, {1, 2e5}, {2, math.NaN()}, {3, 1.5e5}, {4, math.Inf(1)}, {5, 1e5}, {6, 1e5}}}}},
		"empty": {ID: "e", Title: "Nothing", X: Axis{Scale: Time}},
		"hostile": {ID: `"><script>`, Title: `</title><script>alert("1")</script>`, X: Axis{Label: `<b>`}, Y: Axis{Label: `'"&`, Unit: `<i>`},
			Lines: []Line{{"\x1b[31m</text>\u202E", []Point{{1, -2}}}, {strings.Repeat("long ", 40), []Point{{2, 3}, {1, 4}}}},
			Marks: []Mark{{X: 1, Name: `<script>`, Text: `</title><script>`}}},
	}
}

func TestGolden(t *testing.T) {
	for name, c := range charts() {
		got := strings.ReplaceAll(c.SVG(), "><", ">\n<") + "\n"
		file := filepath.Join("testdata", name+".svg")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is drawn otherwise; look at it, then run with -update:\n%s", name, got)
		}
	}
}

var lengths = regexp.MustCompile(`NaN|Inf|e[+-]\d`)

// sound holds that a drawing is XML of our elements, with a title and a description,
// and that all its places are numbers.
func sound(t testing.TB, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	title, desc := false, false
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch e.Name.Local {
		case "title":
			title = true
		case "desc":
			desc = true
		case "svg", "text", "path", "g", "circle", "rect":
		default:
			t.Fatalf("element %q in\n%s", e.Name.Local, svg)
		}
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "d", "x", "y", "cx", "cy", "width", "height", "viewBox":
				if lengths.MatchString(a.Value) {
					t.Fatalf("%s is %q", a.Name.Local, a.Value)
				}
			}
		}
	}
	if !title || !desc {
		t.Errorf("no title or no description in\n%s", svg)
	}
}

func TestSound(t *testing.T) {
	for _, c := range charts() {
		sound(t, c.SVG())
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		a      Axis
		lo, hi float64
		n      int
		ends   bool
		want   string
	}{
		{Axis{}, 0, 9.3, 5, true, "0, 2, 4, 6, 8, 10"},
		{Axis{}, 0, 1.38, 4, true, "0, 0.5, 1.0, 1.5"},
		{Axis{}, 0, 141e3, 4, true, "0, 50 k, 100 k, 150 k"},
		{Axis{}, -3, 3, 6, true, "−3, −2, −1, 0, 1, 2, 3"},
		{Axis{}, 0, 259e6, 3, true, "0, 100 M, 200 M, 300 M"},
		{Axis{}, 0, .0007, 4, false, "0, 0.0002, 0.0004, 0.0006"},
		{Axis{Scale: Time}, 0, 60, 8, false, "0, 10 s, 20 s, 30 s, 40 s, 50 s, 60 s"},
		{Axis{Scale: Time}, 0, 150, 6, false, "0, 0:30, 1:00, 1:30, 2:00, 2:30"},
		{Axis{Scale: Time}, 0, 9000, 6, false, "0, 0:30 h, 1:00 h, 1:30 h, 2:00 h, 2:30 h"},
		{Axis{Scale: Time}, 0, 2, 4, false, "0, 1 s, 2 s"},
		{Axis{Scale: Tail}, 0, 4.2, 6, false, "0 %, 90 %, 99 %, 99.9 %, 99.99 %"},
		{Axis{Scale: Tail}, 0, 2, 6, false, "0 %, 50 %, 90 %, 99 %"},
		{Axis{Scale: Log}, -1, 3, 6, true, "0.1, 1, 10, 100, 1000"},
		{Axis{Scale: Log}, 0, 1, 6, true, "1, 2, 5, 10"},
		{Axis{Scale: Log}, math.Log10(.3), math.Log10(30), 6, false, "0.5, 1, 2, 5, 10, 20"},
	} {
		ticks, _, _ := c.a.ticks(c.lo, c.hi, c.n, c.ends)
		var texts []string
		for _, k := range ticks {
			texts = append(texts, k.Text)
		}
		if got := strings.Join(texts, ", "); got != c.want {
			t.Errorf("%+v from %v to %v: %s, want %s", c.a, c.lo, c.hi, got, c.want)
		}
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{0, "%", "0 %"}, {.084, "%", "0.084 %"}, {2.314, "ms", "2.31 ms"}, {3060, "users", "3060 users"}, {141234, "packets/s", "141 k packets/s"},
		{12345678, "", "12.3 M"}, {-1.5, "", "−1.5"}, {1e-7, "s", "1e−07 s"}, {.1, "", "0.1"}, {1763.4, "ms", "1763 ms"}, {100, "", "100"},
		{math.NaN(), "x", "-"}, {math.Inf(1), "", "+Inf"}, {2.5e10, "bit/s", "25 Gbit/s"}, {259e6, "bit/s", "259 Mbit/s"}, {900, "bit/s", "900 bit/s"},
	} {
		if got := Value(c.v, c.unit); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
}

// TestThin holds that a peak survives when points are left out.
func TestThin(t *testing.T) {
	var points []Point
	for i := range 10000 {
		points = append(points, Point{float64(9999 - i), 1})
	}
	points[1234].Y, points[7777].Y = 50, -50
	got := thin(points, 100)
	least, most := 0., 0.
	for i, p := range got {
		least, most = min(least, p.Y), max(most, p.Y)
		if i > 0 && p.X < got[i-1].X {
			t.Fatalf("%v after %v", p, got[i-1])
		}
	}
	if len(got) > 100 || least != -50 || most != 50 {
		t.Errorf("%d points from %v to %v", len(got), least, most)
	}
}

// TestHoverTellsAll holds that of many points each is below a column to hover over.
func TestHoverTellsAll(t *testing.T) {
	c := Chart{Title: "x", Lines: []Line{{Name: "x"}}}
	for i := range 200 {
		c.Lines[0].Points = append(c.Lines[0].Points, Point{float64(i), float64(i % 50)})
	}
	svg := c.SVG()
	if n := strings.Count(svg, "<rect"); n != columns {
		t.Errorf("%d columns, want %d", n, columns)
	}
	for _, want := range []string{"0 to 3\nx: 0 to 3<", "x: 47 to 49<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the columns", want)
		}
	}
}

func TestSmall(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{Bullet(1, 2, true), `class="ok" y="4" width="40"`},
		{Bullet(9, 2, false), `class="bad" y="4" width="120"`},
		{Strip([]float64{1, 2}), `cx="155"`},
		{Strip([]float64{3, 3}), `cx="80"`},
		{Interval(-1, 0, 1, 0, 1, "ok"), `M5 8H145`},
		{Interval(-9, 0, 9, 0, 1, `"><script>`), `class="none" cx="75"`},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("no %q in %s", c.want, c.got)
		}
	}
	for _, got := range []string{Bullet(1, 0, true), Bullet(math.NaN(), 1, true), Bullet(-1, 1, true), Strip(nil), Strip([]float64{math.NaN()}), Interval(math.NaN(), 0, 1, 0, 1, ""), Interval(0, 0, 0, 0, 0, "")} {
		if got != "" {
			t.Errorf("drawn from nothing: %s", got)
		}
	}
}

// TestBounded holds that no amount of points or lines makes a chart large.
func TestBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := Chart{Title: "many"}
	for i := range 100 {
		l := Line{Name: fmt.Sprint("line ", i)}
		for x := range 3000 {
			l.Points = append(l.Points, Point{float64(x), random.Float64()})
		}
		c.Lines = append(c.Lines, l)
	}
	svg := c.SVG()
	sound(t, svg)
	if len(svg) > 120<<10 || !strings.Contains(svg, "and 88 more, not drawn") {
		t.Errorf("%d bytes", len(svg))
	}
}

func FuzzChart(f *testing.F) {
	f.Add("name", 0., 1., 2., 3., 0)
	f.Add("<&>\x00\xff", math.MaxFloat64, -math.MaxFloat64, math.Inf(1), math.NaN(), 1)
	f.Add("x", 5e-324, 0., 1e-300, 1., 1)
	f.Add("x", 1., 1+1e-16, 1e300, -1e300, 3)
	f.Fuzz(func(t *testing.T, name string, a, b, c, d float64, scale int) {
		s := Scale(uint(scale) % 4)
		chart := Chart{ID: name, Title: name, X: Axis{Label: name, Scale: s}, Y: Axis{Label: name, Unit: name, Scale: Scale(uint(scale) / 4 % 2), Zero: scale%2 == 0},
			Lines: []Line{{name, []Point{{a, b}, {c, d}, {b, c}}}, {name, []Point{{d, a}}}}, Marks: []Mark{{X: a, Name: name, Text: name}}}
		sound(t, chart.SVG())
	})
}
