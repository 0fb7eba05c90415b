package meter

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// TestHistogramIsHDR holds our counters against those of the library.
func TestHistogramIsHDR(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	theirs := hdrhistogram.New(1024, longest, 2)
	ours, tally := &Histogram{}, newTally()
	for range 20_000 {
		v := int64(1) << random.IntN(36)
		v += random.Int64N(v)
		if err := theirs.RecordValue(v); err != nil {
			t.Fatal(err)
		}
		ours.Record(time.Duration(v))
		tally.record(v)
	}
	if !theirs.Equals(ours.HDR()) || !theirs.Equals(tally.histogram().HDR()) {
		t.Error("the counters differ")
	}
	for _, q := range []float64{0.001, .5, .9, .99, .999} {
		if a, b := theirs.ValueAtQuantile(100*q), int64(ours.Quantile(q)); a != b {
			t.Errorf("quantile %v: %d, the library says %d", q, b, a)
		}
	}
	if len(theirs.Export().Counts) != fine.length() {
		t.Errorf("%d counters, the library has %d", fine.length(), len(theirs.Export().Counts))
	}
	b, err := json.Marshal(ours)
	if err != nil {
		t.Fatal(err)
	}
	var snapshot hdrhistogram.Snapshot
	if err := json.Unmarshal(b, &snapshot); err != nil || !hdrhistogram.Import(&snapshot).Equals(theirs) {
		t.Errorf("the JSON is not that of a snapshot: %v", err)
	}
}

func TestHistogramBounds(t *testing.T) {
	h := &Histogram{}
	h.Record(-time.Second)
	h.Record(time.Hour)
	if h.Count() != 2 || h.Quantile(0.5) > 2*time.Microsecond || h.Quantile(1) < time.Minute || h.Max() != time.Hour {
		t.Errorf("%v and %v, max %v", h.Quantile(0.5), h.Quantile(1), h.Max())
	}
	var none *Histogram
	if none.Count() != 0 || none.Quantile(.5) != 0 || none.Mean() != 0 || none.Max() != 0 || none.HDR().TotalCount() != 0 {
		t.Error("nil holds something")
	}
	for _, bad := range []string{`7`, `{"LowestTrackableValue":1}`, `{"LowestTrackableValue":1024,"HighestTrackableValue":68719476735,"SignificantFigures":2,"Counts":[-1]}`} {
		if err := json.Unmarshal([]byte(bad), &Histogram{}); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if len(slice{}.latency) != coarse.length() {
		t.Errorf("a slice has %d counters, the scale %d", len(slice{}.latency), coarse.length())
	}
	for _, s := range []scale{fine, coarse} {
		for i := range s.length() {
			if got := s.index(s.top(i)); got != i || i+1 < s.length() && s.index(s.top(i)+1) != i+1 {
				t.Fatalf("%+v: the top of counter %d is in counter %d", s, i, got)
			}
		}
	}
}
