package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"voicefleet/bench"
)

// run runs a command line in this process.
func run(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	cmd := root()
	var o, e bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// saved writes a report with one figure, which is better when less, to a file.
func saved(t *testing.T, name string, samples ...float64) string {
	t.Helper()
	r := &bench.Report{
		Kind: "forward", Command: "voicebench forward --seed=7", Seed: 7, Started: time.Date(2026, 5, 4, 10, 30, 0, 0, time.UTC),
		Machine: bench.Machine{CPU: "Example CPU", Cores: 2, Memory: 4 << 30, Kernel: "6.12.0", Go: "go1.26.0"},
		Goals:   []bench.Goal{{Name: "packets lost", Bound: 0, Unit: "packets"}},
		Metrics: []bench.Metric{{Name: "CPU per packet", Unit: "µs", Better: bench.Less, Samples: samples}},
	}
	file := filepath.Join(t.TempDir(), name)
	if err := writeFile(file, r.WriteJSON); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCompare(t *testing.T) {
	before := saved(t, "before.json", 3.8, 3.82, 3.78)
	after := saved(t, "after.json", 4.8, 4.82, 4.78)
	once := saved(t, "once.json", 9)
	for _, c := range []struct {
		args []string
		fail bool
		want string
	}{
		{[]string{before, before}, false, "1 no difference seen"},
		{[]string{before, after}, false, "+26.3 %"},
		{[]string{before, after, "--fail-worse", "25"}, true, "WORSE by more than 25 %: CPU per packet"},
		{[]string{before, after, "--fail-worse", "30"}, false, "1 worse"},
		{[]string{after, before, "--fail-worse", "0"}, false, "1 better"},
		{[]string{before, once, "--fail-worse", "0"}, false, "too few samples"},
	} {
		out, _, err := run(t, append([]string{"compare"}, c.args...)...)
		if errors.Is(err, errMissed) != c.fail || err != nil && !c.fail || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v, want %q in\n%s", c.args, err, c.want, out)
		}
	}
	page := filepath.Join(t.TempDir(), "change.html")
	out, errs, err := run(t, "compare", before, after, "--json", "-", "--html", page)
	var c bench.Comparison
	if err != nil || json.Unmarshal([]byte(out), &c) != nil || len(c.Changes) != 1 || c.Changes[0].Verdict != bench.GotWorse || !strings.Contains(errs, "1 worse") {
		t.Errorf("%v: %s\n%s", err, out, errs)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("CPU per packet")) {
		t.Errorf("page of %d bytes, %v", len(b), err)
	}
}

func TestHTMLOfReport(t *testing.T) {
	report := saved(t, "report.json", 1, 2)
	page := filepath.Join(t.TempDir(), "report.html")
	if _, _, err := run(t, "html", report, page); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	if err != nil || !bytes.Contains(b, []byte("The one goal is met")) || !bytes.Contains(b, []byte("voicebench forward --seed=7")) {
		t.Errorf("%v, %s", err, b)
	}
	out, _, err := run(t, "html", report, "-")
	if err != nil || out != string(b) {
		t.Errorf("standard output differs from the file: %v", err)
	}
	if _, _, err := run(t, "html", report, report); err == nil || !strings.Contains(err.Error(), "is the report itself") {
		t.Errorf("a page over its report: %v", err)
	}
	if _, err := bench.ReadFile(report); err != nil {
		t.Errorf("the report is gone: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "no-such-folder", "x.html")
	if _, _, err := run(t, "html", report, missing); err == nil || !strings.Contains(err.Error(), "write report") {
		t.Errorf("a page nowhere: %v", err)
	}
}

// TestFinishWritesPage holds that a measurement with --html leaves a page, also
// when a goal is missed.
func TestFinishWritesPage(t *testing.T) {
	o := output{html: filepath.Join(t.TempDir(), "x.html")}
	cmd := root()
	cmd.SetContext(t.Context())
	cmd.SetOut(io.Discard)
	r := &bench.Report{Kind: "call", Goals: []bench.Goal{{Name: "loss", Value: 2, Bound: 1}}}
	if err := o.finish(cmd, r, nil); !errors.Is(err, errMissed) {
		t.Errorf("%v, want that a goal was missed", err)
	}
	if b, err := os.ReadFile(o.html); err != nil || !bytes.Contains(b, []byte("1 of 1 goals missed")) {
		t.Errorf("%v: %s", err, b)
	}
	r.Partial = "ended"
	if err := o.finish(cmd, r, nil); !errors.Is(err, errPartial) {
		t.Errorf("%v, want that the report is not whole", err)
	}
}
