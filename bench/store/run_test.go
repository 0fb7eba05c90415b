package store

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	for want, c := range map[string]Config{
		`no engine "oracle"`:     {Only: []string{"oracle"}},
		"on data of its own":     {Address: "sqlite:data"},
		"1 to 512 writers":       {Writers: -1},
		"10 to 100,000 messages": {Rate: 1},
		"of 0.1 s or more":       {Length: time.Millisecond},
		"make a folder":          {Only: []string{SQLite}, Dir: "no-such-folder"},
		"want 1 to 44 of":        {Only: []string{CQL}, Address: "cql://127.0.0.1/No"},
	} {
		if r, err := Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// TestSQLite runs all steps on a small scale: what is told is whole, goals that cannot
// be missed are met and those that cannot be met are missed, and nothing is left behind.
func TestSQLite(t *testing.T) {
	dir := t.TempDir()
	r, err := Run(t.Context(), Config{Only: []string{SQLite}, Dir: dir, Seed: 1, Length: 300 * time.Millisecond, Rate: 100, History: 20_000, Pages: 500,
		MinWrites: 1, MaxPage: time.Minute, MaxLookUp: time.Minute, MaxRefused: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 5 || len(r.Goals) != 4 || r.Partial != "" {
		t.Fatalf("%d tables, %d goals, %q", len(r.Tables), len(r.Goals), r.Partial)
	}
	for _, g := range r.Missed() {
		t.Errorf("missed: %v", g)
	}
	rows, ok := r.Tables[3].Values.([]historyResult)
	if !ok || len(rows) != 1 || rows[0].Messages != 20_000 || rows[0].Page < 40 || rows[0].P50 <= 0 || len(rows[0].Depths) != len(depths) || rows[0].Depths[4].P50 <= 0 {
		t.Errorf("history: %+v", r.Tables[3].Values)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	r, err = Run(t.Context(), Config{Only: []string{SQLite}, Dir: dir, Length: 100 * time.Millisecond, Rate: 10, History: 1, MinWrites: 1e9, MaxLookUp: time.Minute})
	if err != nil || len(r.Missed()) != 1 || len(r.Tables) != 3 {
		t.Errorf("a goal that cannot be met: %+v, %v", r, err)
	}
}

func TestStatements(t *testing.T) {
	early := statements{bounds: []float64{0.001, 0.005, 0.01}, counts: []uint64{5, 5, 5}, total: 6}
	late := statements{bounds: early.bounds, counts: []uint64{54, 105, 105}, total: 106}
	for want, s := range map[string]statements{"x 100 < 5 < 5 < 5": late.since(early), "x 6 < 1 more more": early.since(statements{}), "x 106 < 1 < 5 more": {early.bounds, []uint64{54, 105, 105}, 106}} {
		if got := strings.Join(s.row("x"), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
