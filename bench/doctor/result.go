package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"voicefleet/bench"
)

// Result is what was found and what it means.
type Result struct {
	Kind    string        `json:"kind"` // doctor
	Started time.Time     `json:"started"`
	Machine bench.Machine `json:"machine"`
	Checks  []Check       `json:"checks"`
	Found   Snapshot      `json:"snapshot"`
}

// ResultOf judges a snapshot of this machine.
func ResultOf(started time.Time, s Snapshot) *Result {
	return &Result{Kind: "doctor", Started: started, Machine: bench.ThisMachine(), Checks: Judge(s), Found: s}
}

// Count is how many checks have a verdict.
func (r *Result) Count(v Verdict) int {
	n := 0
	for _, c := range r.Checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// WriteJSON writes the result for programs.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the result for people: the table, then what to change, the worst
// first.
func (r *Result) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	m := r.Machine
	fmt.Fprintf(b, "\n%s, %d cores, %.1f GiB, Linux %s\n\n", m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.Kernel)
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "what\tfound\twanted\tverdict")
	for _, c := range r.Checks {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", c.Name, c.Found, c.Wanted, c.Verdict)
	}
	_ = tab.Flush() // into memory
	for _, v := range []Verdict{Bad, Better} {
		for _, c := range r.Checks {
			if c.Verdict == v {
				fmt.Fprintf(b, "\n%s: %s, found %s\n  %s\n  change: %s\n", v, c.Name, c.Found, c.Why, c.Change)
			}
		}
	}
	fmt.Fprintf(b, "\n%d good, %d could be better, %d bad\n", r.Count(Good), r.Count(Better), r.Count(Bad))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
