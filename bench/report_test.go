package bench_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"voicefleet/bench"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want bench.Spread
		text string
	}{
		{nil, bench.Spread{}, "-"},
		{[]float64{2}, bench.Spread{Median: 2, Min: 2, Max: 2, N: 1}, "2.00"},
		{[]float64{9, 1}, bench.Spread{Median: 5, Min: 1, Max: 9, N: 2}, "5.00 (1.00..9.00)"},
		{[]float64{3, 1, 2}, bench.Spread{Median: 2, Min: 1, Max: 3, N: 3}, "2.00 (1.00..3.00)"},
	} {
		if got := bench.SpreadOf(c.in); got != c.want || got.String() != c.text {
			t.Errorf("%v: %+v %q", c.in, got, got)
		}
	}
}

// TestGoals holds that a bound kept exactly is kept, and that what was not
// measured is missed.
func TestGoals(t *testing.T) {
	r := bench.Report{Goals: []bench.Goal{
		{Name: "kept", Value: 1.35, Bound: 1.35},
		{Name: "over", Value: 1.36, Bound: 1.35, Unit: "times"},
		{Name: "void", Bound: 1, Void: "the yardstick lost packets"},
		{Name: "nan", Value: math.NaN(), Bound: 1},
	}}
	missed := r.Missed()
	if len(missed) != 3 || missed[0].Name != "over" || missed[1].Name != "void" || missed[2].Name != "nan" {
		t.Fatalf("missed %+v", missed)
	}
	var text, js bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"met     kept", "MISSED  over: 1.36 times, at most 1.35", "MISSED  void: void, the yardstick lost packets", "MISSED  nan"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if err := r.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Goals []struct {
			Name string
			Met  bool
		}
	}
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Goals) != 4 || !back.Goals[0].Met || back.Goals[1].Met || back.Goals[3].Met {
		t.Errorf("%+v, %v", back, err)
	}
}
