package chart

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Scale is how an axis spaces its values.
type Scale int

// The scales.
const (
	Linear Scale = iota
	// Log is by powers of ten; values up to 0 stand at the lower end.
	Log
	// Time is linear in seconds, with ticks people count time by.
	Time
	// Tail is for shares q from 0 to 1, spaced by -log10(1-q): as much room for
	// 99 to 99.9 % as for 90 to 99 %, as HDR histograms are drawn.
	Tail
)

// Axis is one side of a chart.
type Axis struct {
	Label string // what is shown beside the axis
	Unit  string // follows values where they are told one by one
	Scale Scale
	Zero  bool // a linear axis starts at 0, if no value is below
}

// Tick is a place on an axis that is named.
type Tick struct {
	V    float64
	Text string
}

// huge bounds what is drawn, so that differences stay finite.
const huge = 1e300

// tailEnd is the last share a Tail axis tells apart from 1: one of 10 million.
const tailEnd = 7

// place is where a value stands on the axis before it is stretched to pixels.
func (s Scale) place(v float64) float64 {
	switch v = min(max(v, -huge), huge); s {
	case Log:
		return math.Log10(max(v, 1/huge))
	case Tail:
		if v >= 1 {
			return tailEnd
		}
		return min(-math.Log10(1-max(v, 0)), tailEnd)
	}
	return v
}

// nice is the step of 1, 2 or 5 times a power of ten that parts a width into at
// most n.
func nice(width float64, n int) float64 {
	raw := width / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// timeSteps are what people count time by, in seconds.
var timeSteps = []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400}

func timeStep(width float64, n int) float64 {
	if width/float64(n) > timeSteps[len(timeSteps)-1] || width <= timeSteps[0] {
		return nice(width, n)
	}
	for _, s := range timeSteps {
		if s*float64(n) >= width {
			return s
		}
	}
	return timeSteps[len(timeSteps)-1]
}

// ticks are at most about n places between lo and hi, and the bounds of an axis
// that ends on them if it is to end on ticks.
func (a Axis) ticks(lo, hi float64, n int, ends bool) (ticks []Tick, from, to float64) {
	switch a.Scale {
	case Tail:
		return tailTicks(lo, hi, n), lo, hi
	case Log:
		return logTicks(lo, hi, n, ends)
	}
	step := nice(hi-lo, n)
	if a.Scale == Time {
		step = timeStep(hi-lo, n)
	}
	first, last := math.Ceil(lo/step-1e-9), math.Floor(hi/step+1e-9)
	if ends {
		first, last = math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
		lo, hi = first*step, last*step
	}
	for i := first; i <= last && len(ticks) < 100; i++ {
		v := i * step
		text := Count(v, step)
		if a.Scale == Time {
			text = clock(v, step, max(math.Abs(lo), math.Abs(hi)))
		}
		ticks = append(ticks, Tick{v, text})
	}
	return ticks, lo, hi
}

// logTicks are the powers of ten, and 2 and 5 times them when there is room; lo and
// hi are logarithms, ticks are values.
func logTicks(lo, hi float64, n int, ends bool) (ticks []Tick, from, to float64) {
	low, high := math.Floor(lo+1e-9), math.Ceil(hi-1e-9)
	if high <= low {
		high = low + 1
	}
	if ends || hi-lo < .5 {
		lo, hi = low, high
	}
	every := max(1, math.Ceil((high-low)/float64(n)))
	for e := low; e <= high && len(ticks) < 100; e += every {
		for _, m := range []float64{1, 2, 5} {
			if m > 1 && 3*(hi-lo) > float64(n) {
				break
			}
			v := m * math.Pow(10, e)
			if at := math.Log10(v); at >= lo-1e-9 && at <= hi+1e-9 {
				ticks = append(ticks, Tick{v, Count(v, v)})
			}
		}
	}
	return ticks, lo, hi
}

// tailTicks are 0, 50, 90, 99, 99.9 % and so on; the median only where it does not
// touch its neighbours.
func tailTicks(lo, hi float64, n int) []Tick {
	var ticks []Tick
	if lo <= 0 {
		ticks = append(ticks, Tick{0, "0 %"})
	}
	if hi <= float64(n)/2 {
		ticks = append(ticks, Tick{.5, "50 %"})
	}
	for e := 1; float64(e) <= hi+1e-9; e++ {
		q := 1 - math.Pow(10, -float64(e))
		ticks = append(ticks, Tick{q, Percentile(q)})
	}
	return ticks
}

// Percentile is a share as people name it: 0.999 is "99.9 %".
func Percentile(q float64) string {
	return strconv.FormatFloat(100*q, 'g', 9, 64) + " %"
}

// Count is a number with as many decimals as the step between neighbours asks for,
// in thousands (k), millions (M) or billions (G) when it is large.
func Count(v, step float64) string {
	size := max(math.Abs(v), math.Abs(step))
	if v == 0 {
		return "0"
	}
	if size >= 1e15 || size < 1e-4 {
		return minus(strconv.FormatFloat(v, 'g', 3, 64))
	}
	suffix := ""
	for _, p := range []struct {
		from, by float64
		name     string
	}{{1e10, 1e9, " G"}, {1e7, 1e6, " M"}, {1e4, 1e3, " k"}} {
		if size >= p.from*(1-1e-9) {
			v, step, suffix = v/p.by, step/p.by, p.name
			break
		}
	}
	decimals := 0
	if step > 0 {
		decimals = min(max(0, -int(math.Floor(math.Log10(step)+1e-9))), 6)
	}
	return minus(strconv.FormatFloat(v, 'f', decimals, 64)) + suffix
}

// Value is a number with up to three digits that count, and its unit.
func Value(v float64, unit string) string {
	var text string
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0), size >= 1e15, size > 0 && size < 1e-4:
		text = minus(strconv.FormatFloat(v, 'g', 3, 64))
	case v == math.Trunc(v) && size < 1e4:
		text = Count(v, 1)
	default:
		text = Count(v, math.Pow(10, math.Floor(math.Log10(size))-2))
	}
	if number, suffix, _ := strings.Cut(text, " "); strings.Contains(number, ".") && !strings.Contains(number, "e") {
		text = strings.TrimRight(strings.TrimRight(number, "0"), ".")
		if suffix != "" {
			text += " " + suffix
		}
	}
	switch {
	case unit == "":
		return text
	case text[len(text)-1] > '9' && slices.Contains(prefixed, unit):
		return text + unit // Mbit/s
	}
	return text + " " + unit
}

// prefixed are units that k, M and G are written together with.
var prefixed = []string{"bit/s", "bit", "B", "B/s"}

// minus writes a minus sign, which is as wide as a plus sign.
func minus(s string) string { return strings.Replace(s, "-", "−", 1) }

// clock is a moment on a time axis with the given step that reaches to top, all in
// seconds.
func clock(v, step, top float64) string {
	if v == 0 {
		return "0"
	}
	sign := ""
	if v < 0 {
		sign, v = "−", -v
	}
	whole := int64(min(math.Round(v), 1e15))
	switch {
	case top < 120:
		return sign + Count(v, step) + " s"
	case top < 7200:
		return sign + strconv.FormatInt(whole/60, 10) + ":" + two(whole%60)
	}
	return sign + strconv.FormatInt(whole/3600, 10) + ":" + two(whole%3600/60) + " h"
}

func two(n int64) string {
	if n < 10 {
		return "0" + strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10)
}
