package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// scale is the form of a histogram as Gil Tene's HDR histogram has it: units of
// 2^unit ns, linear up to 2^(half+1) units, from there 2^half steps to each doubling.
type scale struct{ unit, half uint }

var (
	// fine has two significant digits: steps of 1 µs up to 262 µs, then of 0.8 % or less.
	fine = scale{unit: 10, half: 7}
	// coarse is for the many histograms of a time series: 33 µs up to 262 µs, then 25 % or less.
	coarse = scale{unit: 15, half: 2}
)

// longest is the greatest value a histogram tells apart, 68.7 s; what is longer counts
// as this long.
const longest = 1<<36 - 1

// index finds the counter of a value, 0 for those below zero.
func (s scale) index(ns int64) int {
	u := uint64(min(max(ns, 0), longest)) >> s.unit
	e := max(bits.Len64(u)-int(s.half)-1, 0)
	return e<<s.half + int(u>>e)
}

// top is the greatest value with this index.
func (s scale) top(i int) int64 {
	e := max(i>>s.half-1, 0)
	u := int64(i - e<<s.half)
	return (u+1)<<(uint(e)+s.unit) - 1
}

// length is the count of counters.
func (s scale) length() int { return s.index(longest) + 1 }

// tally is a fine histogram of one listener. Its counters take part of 2^32 values
// each, a day of 64 talkers.
type tally struct {
	counts []uint32
	sum    float64 // ns
	max    int64
}

func newTally() tally { return tally{counts: make([]uint32, fine.length())} }

func (t *tally) record(ns int64) {
	t.counts[fine.index(ns)]++
	t.sum += float64(max(ns, 0))
	t.max = max(t.max, ns)
}

// Histogram holds durations with two significant digits, from 1 µs to 68.7 s. The zero
// value is empty, and so is nil to all methods that only read.
type Histogram struct {
	counts []int64 // of fine, up to the last that is not zero
	total  int64
	sum    float64 // ns
	max    int64
}

// histogram copies a tally.
func (t *tally) histogram() *Histogram {
	h := &Histogram{sum: t.sum, max: t.max}
	for i, n := range t.counts {
		if n > 0 {
			h.add(i, int64(n))
		}
	}
	return h
}

func (h *Histogram) add(i int, n int64) {
	for len(h.counts) <= i {
		h.counts = append(h.counts, 0)
	}
	h.counts[i] += n
	h.total += n
}

// Record adds a value.
func (h *Histogram) Record(d time.Duration) {
	h.add(fine.index(int64(d)), 1)
	h.sum += float64(max(d, 0))
	h.max = max(h.max, int64(d))
}

// Merge adds the values of another histogram, which may be nil.
func (h *Histogram) Merge(o *Histogram) {
	if o == nil {
		return
	}
	for i, n := range o.counts {
		if n > 0 {
			h.add(i, n)
		}
	}
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is how many values there are.
func (h *Histogram) Count() int64 {
	if h == nil {
		return 0
	}
	return h.total
}

// Mean is the mean value, zero without values.
func (h *Histogram) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(h.total))
}

// Max is the greatest value.
func (h *Histogram) Max() time.Duration {
	if h == nil {
		return 0
	}
	return time.Duration(h.max)
}

// Quantile is the value that the share q (0 to 1) of all values does not exceed, zero
// without values.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return min(time.Duration(quantile(fine, h.counts, h.total, q)), h.Max())
}

func quantile[N int64 | uint32](s scale, counts []N, total int64, q float64) int64 {
	rank := max(int64(math.Ceil(min(max(q, 0), 1)*float64(total))), 1)
	for i, n := range counts {
		if rank -= int64(n); rank <= 0 {
			return s.top(i)
		}
	}
	return 0
}

// HDR is the histogram as others draw and print it. Values are nanoseconds.
func (h *Histogram) HDR() *hdrhistogram.Histogram {
	return hdrhistogram.Import(h.snapshot())
}

func (h *Histogram) snapshot() *hdrhistogram.Snapshot {
	s := &hdrhistogram.Snapshot{LowestTrackableValue: 1 << fine.unit, HighestTrackableValue: longest, SignificantFigures: 2}
	if h != nil {
		s.Counts = h.counts
	}
	return s
}

// wire is the JSON of a histogram: the snapshot without the zeros at its end, and what
// its counters no longer know.
type wire struct {
	*hdrhistogram.Snapshot
	Sum float64 // ns
	Max int64   // ns
}

// MarshalJSON writes a hdrhistogram.Snapshot, with Sum and Max beside it.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{h.snapshot(), h.sum, h.max})
}

// UnmarshalJSON reads it back.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	w := wire{Snapshot: &hdrhistogram.Snapshot{}}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read histogram: %w", err)
	}
	want := (&Histogram{}).snapshot()
	if w.LowestTrackableValue != want.LowestTrackableValue || w.HighestTrackableValue != want.HighestTrackableValue ||
		w.SignificantFigures != want.SignificantFigures || len(w.Counts) > fine.length() {
		return errors.New("read histogram: it has other bounds than ours: run both sides with the same version")
	}
	*h = Histogram{sum: w.Sum, max: w.Max}
	for i, n := range w.Counts {
		if n < 0 {
			return fmt.Errorf("read histogram: counter %d is %d", i, n)
		}
		if n > 0 {
			h.add(i, n)
		}
	}
	return nil
}

// Coarse holds durations in steps of at most 25 %, from 33 µs to 68.7 s, as counters up
// to the last that is not zero. It is small enough for a time series.
type Coarse []uint32

// Quantile is the value that the share q (0 to 1) of all values does not exceed, rounded
// up to the next step; zero without values.
func (c Coarse) Quantile(q float64) time.Duration {
	total := int64(0)
	for _, n := range c {
		total += int64(n)
	}
	if total == 0 {
		return 0
	}
	return time.Duration(quantile(coarse, c, total, q))
}

// plus is the sum of both, in memory of its own.
func (c Coarse) plus(o Coarse) Coarse {
	sum := make(Coarse, max(len(c), len(o)))
	copy(sum, c)
	for i, n := range o {
		sum[i] += n
	}
	return sum
}
