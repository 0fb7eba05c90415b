package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestDoctor is the command itself: its findings as JSON, and status 2 if
// and only if one of them is bad.
func TestDoctor(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for two seconds")
	}
	var out, table bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetErr(&table)
	cmd.SetArgs([]string{"doctor", "--json"})
	err := cmd.ExecuteContext(t.Context())
	var r struct {
		Checks []struct{ Name, Verdict, Change string }
	}
	if e := json.Unmarshal(out.Bytes(), &r); e != nil || len(r.Checks) < 15 {
		t.Fatalf("%d checks, %v, %v", len(r.Checks), e, err)
	}
	bad := 0
	for _, c := range r.Checks {
		if c.Verdict == "bad" {
			bad++
		}
		if !strings.Contains(table.String(), c.Name) {
			t.Errorf("the table lacks %s", c.Name)
		}
	}
	if errors.Is(err, errMissed) != (bad > 0) || err != nil && bad == 0 {
		t.Errorf("%d are bad: %v", bad, err)
	}
}
