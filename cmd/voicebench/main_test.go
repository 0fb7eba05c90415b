package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// programs is the folder that built makes; empty: no test wanted it.
var programs string

// built makes both programs, once for all tests.
var built = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "voicebench-test-"); err != nil {
		return "", err
	}
	programs = dir
	for _, name := range []string{"voicebench", "voicefleet"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "../"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if programs != "" {
		_ = os.RemoveAll(programs)
	}
	os.Exit(status)
}

// build gives the programs.
func build(t *testing.T) (voicebench, voicefleet string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "voicebench"), filepath.Join(dir, "voicefleet")
}

func freeTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// result is the JSON of a report.
type result struct {
	Kind, Command, Partial string
	Seed                   uint64
	Window                 float64 `json:"window_s"`
	Tables                 []struct {
		Title  string
		Rows   [][]string
		Values json.RawMessage
	}
	Goals []struct {
		Name, Void string
		Value      float64
		Met        bool
	}
	Metrics []struct {
		Name, Unit string
		Samples    []float64
	}
}

// samples are those of a metric.
func (r result) samples(t *testing.T, name string) []float64 {
	t.Helper()
	for _, m := range r.Metrics {
		if m.Name == name {
			return m.Samples
		}
	}
	t.Errorf("no metric %q in %+v", name, r.Metrics)
	return nil
}

// runBench runs the program with a report to read. Status 2 is no failure here: a
// busy machine misses goals of speed.
func runBench(t *testing.T, program string, args ...string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, "--json", file, "--seed", "7")...)
	out, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	kind := args[0]
	if kind == "scenario" {
		kind = "load"
	}
	if r.Kind != kind || r.Seed != 7 || r.Partial != "" || !strings.Contains(r.Command, "voicebench "+args[0]) || !bytes.Contains(out, []byte("seed 7; again with: voicebench "+args[0])) {
		t.Errorf("report %+v\n%s", r, out)
	}
	if (exit != nil) != strings.Contains(string(out), "MISSED") {
		t.Errorf("status %v with\n%s", err, out)
	}
	t.Logf("%s", out)
	return r
}

// value finds a goal whose value must be right on any machine.
func (r result) value(t *testing.T, name string) float64 {
	t.Helper()
	for _, g := range r.Goals {
		if strings.Contains(g.Name, name) {
			return g.Value
		}
	}
	t.Fatalf("no goal %q in %+v", name, r.Goals)
	return 0
}

// judged looks at what listeners of one kind heard: talkers first, and whoever came
// later heard somebody soon.
func (r result) judged(t *testing.T, kind string, listeners int) {
	t.Helper()
	for _, name := range []string{"wrong_voice", "duplicates", "loss_percent"} {
		if n := r.value(t, name); n != 0 {
			t.Errorf("%s: %v", name, n)
		}
	}
	var rows []struct {
		Member                   int
		Kind                     string
		Expected, Received, Lost uint64
		FirstAudio               float64 `json:"first_audio_ms"`
	}
	for _, table := range r.Tables {
		if strings.Contains(table.Title, "judged listeners") {
			if err := json.Unmarshal(table.Values, &rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(rows) != listeners {
		t.Errorf("%d listeners, want %d", len(rows), listeners)
	}
	for _, l := range rows {
		if l.Kind != kind || l.Expected < 40 || l.Received != l.Expected || l.Lost != 0 || l.Member > 2 && l.FirstAudio <= 0 {
			t.Errorf("%+v", l)
		}
	}
	if r.Window <= 0 || len(r.Metrics) == 0 {
		t.Errorf("window of %v s, %d metrics", r.Window, len(r.Metrics))
	}
}

// smallScenario is one room that nobody pauses in.
const smallScenario = `name: small
seed: 7
rooms:
  - members: 5
    talkers: 2
warmup: 500ms
duration: 2s
goals:
  - {metric: wrong_voice, at_most: 0}
  - {metric: duplicates, at_most: 0}
  - {metric: loss_percent, at_most: 0}
`

func scenarioFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestMeasurements runs every measurement for a moment against the real program.
func TestMeasurements(t *testing.T) {
	t.Parallel() // it mostly waits
	voicebench, voicefleet := build(t)
	t.Run("forward", func(t *testing.T) {
		r := runBench(t, voicebench, "forward", "--program", voicefleet, "--cases", "2x4", "--window", "1s", "--rounds", "1")
		var cases []struct {
			Arms map[string]struct {
				Windows []struct{ Expected, Received, Packets, Opened, Refused uint64 }
			}
		}
		if err := json.Unmarshal(r.Tables[0].Values, &cases); err != nil || len(cases) != 1 {
			t.Fatalf("%d cases, %v", len(cases), err)
		}
		const expected = 50 * 2 * 5 // intervals, talkers, who hear each
		for arm, a := range cases[0].Arms {
			if w := a.Windows[0]; w.Expected != expected || w.Received != expected {
				t.Errorf("%s: %+v", arm, w)
			}
		}
		if r.Window != 1 {
			t.Errorf("windows of %v s", r.Window)
		}
		for _, name := range []string{"2x4: CPU per packet, edge", "2x4: CPU per packet, raw, system", "2x4: latency p99, pion"} {
			if s := r.samples(t, name); len(s) != 1 { // one window; its CPU may be below a tick
				t.Errorf("%s: %v", name, s)
			}
		}
		if w := cases[0].Arms["edge"].Windows[0]; w.Opened == 0 || w.Refused != 0 {
			t.Errorf("node: %+v", w)
		}
	})
	t.Run("memory", func(t *testing.T) {
		r := runBench(t, voicebench, "memory", "--program", voicefleet, "--sessions", "40", "--settle", "1s")
		var readings []struct {
			Sessions  int     `json:"sessions"`
			AgentRSS  int64   `json:"agent_rss_bytes"`
			EngineRSS int64   `json:"engine_rss_bytes"`
			Agent     float64 `json:"agent_goroutines"`
			Engine    int     `json:"engine_goroutines"`
		}
		if err := json.Unmarshal(r.Tables[0].Values, &readings); err != nil || len(readings) != 2 {
			t.Fatalf("%d readings, %v", len(readings), err)
		}
		for _, m := range readings {
			if m.AgentRSS < 1<<20 || m.EngineRSS < 1<<20 || m.Agent < 5 || m.Engine < 2 {
				t.Errorf("%+v", m)
			}
		}
		if s := r.samples(t, "memory per session"); len(s) != 1 {
			t.Errorf("memory per session: %v", s)
		}
		// A goroutine each would be 40.
		if grown := readings[1].Engine - readings[0].Engine; readings[1].Sessions != 40 || grown > 20 {
			t.Errorf("%d goroutines for %d sessions", grown, readings[1].Sessions)
		}
	})
	t.Run("call", func(t *testing.T) {
		r := runBench(t, voicebench, "call", "--program", voicefleet, "--bots", "4", "--talkers", "2", "--length", "2s", "--pauses=false")
		r.judged(t, "faithful", 4)
	})
	t.Run("light call", func(t *testing.T) {
		r := runBench(t, voicebench, "call", "--light", "--program", voicefleet, "--bots", "6", "--talkers", "2", "--length", "2s", "--pauses=false")
		r.judged(t, "light", 6)
	})
	t.Run("scenario", func(t *testing.T) {
		r := runBench(t, voicebench, "scenario", "run", scenarioFile(t, smallScenario), "--program", voicefleet)
		r.judged(t, "light", 5)
	})
	t.Run("join", func(t *testing.T) {
		r := runBench(t, voicebench, "join", "--program", voicefleet, "--joins", "3", "--accounts", "2")
		if n := r.value(t, "joins that failed"); n != 0 {
			t.Errorf("%v joins failed", n)
		}
		if s := r.samples(t, "op 4 to first audio heard"); len(s) != 3 || slices.Min(s) <= 0 {
			t.Errorf("first audio: %v", s)
		}
	})
	t.Run("gateway", func(t *testing.T) {
		r := runBench(t, voicebench, "gateway", "--program", voicefleet, "--sessions", "20", "--fan-outs", "0", "--length", "1s", "--drop", "0", "--settle", "100ms")
		for _, name := range []string{"did not get in", "deliveries lost", "twice", "out of order"} {
			if n := r.value(t, name); n != 0 {
				t.Errorf("%s: %v", name, n)
			}
		}
		var rows []struct {
			Step                string
			Expected, Delivered int
		}
		if err := json.Unmarshal(r.Tables[1].Values, &rows); err != nil || len(rows) != 1 || rows[0].Step != "rate" || rows[0].Delivered == 0 || rows[0].Delivered != rows[0].Expected {
			t.Errorf("%+v, %v", rows, err)
		}
	})
}

// TestRefusals holds that what cannot be measured is told in one line that says
// why, with status 1.
func TestRefusals(t *testing.T) {
	closed := "http://127.0.0.1:" + freeTCP(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"forward", "--program", "no-such-program"}, "no program to measure"},
		{[]string{"forward", "--cases", "40x40"}, "more than 33 talkers"},
		{[]string{"forward", "--cases", "ten"}, "want TALKERSxLISTENERS"},
		{[]string{"forward", "--window", "1ms"}, "want 1 s to 1 h"},
		{[]string{"memory", "--sessions", "15"}, "whole calls"},
		{[]string{"memory", "--program", "no-such-program"}, "no program to measure"},
		{[]string{"call", "--program", "no-such-program"}, "no program to measure"},
		{[]string{"call", "--server", closed, "--invite", "x"}, "connection refused"},
		{[]string{"call", "--server", closed}, "a way in"},
		{[]string{"call", "--server", "voice.example", "--invite", "x"}, "no http or https URL"},
		{[]string{"call", "--server", closed, "--token", "x"}, "guild"},
		{[]string{"call", "--invite", "x"}, "--server URL or --data FOLDER need to go with it"},
		{[]string{"call", "--channel", "x"}, "--server URL or --data FOLDER need to go with it"},
		{[]string{"call", "--bus", "nats://127.0.0.1:1"}, "add --light"},
		{[]string{"call", "--light", "--on", "east1"}, "--on needs --bus"},
		{[]string{"call", "--slots", "1", "--talkers", "3"}, "raise --slots"},
		{[]string{"call", "--bots", "501"}, "2 to 500"},
		{[]string{"call", "--length", "1ms"}, "want 1s to 24h"},
		{[]string{"join", "--token", "x"}, "--server URL or --data FOLDER need to go with it"},
		{[]string{"call", "--server", closed, "--invite", "x", "--ca", "no-such-file"}, "read certificates"},
		{[]string{"call", "--data", "no-such-folder"}, "does it run?"},
		{[]string{"call", "--talkers", "9"}, "of 5 bots talk"},
		{[]string{"join", "--server", closed, "--invite", "x"}, "connection refused"},
		{[]string{"join", "--joins", "-1"}, "want 1 to 100,000"},
		{[]string{"gateway", "--program", "no-such-program"}, "no program to measure"},
		{[]string{"gateway", "--server", closed, "--invite", "x"}, "connection refused"},
		{[]string{"gateway", "--token", "x", "--guild", "1"}, "--server"},
		{[]string{"gateway", "--sessions", "100", "--accounts", "1"}, "at least 7"},
		{[]string{"role"}, "no role named"},
		{[]string{"role", "nobody"}, "no role \"nobody\""},
		{[]string{"dance"}, "unknown command"},
		{[]string{"compare", "a.json"}, "accepts 2 arg(s)"},
		{[]string{"compare", "no-such-file", "no-such-file"}, "read report: open no-such-file"},
		{[]string{"compare", "main.go", "main.go"}, "main.go: read report: line 1, column 1"},
		{[]string{"compare", "--fail-worse", "-1", "a", "b"}, "want percent, 0 or more"},
		{[]string{"html", "no-such-file", "out.html"}, "read report: open no-such-file"},
		{[]string{"html", "doc.go", "out.html"}, "want a file that --json wrote"},
	} {
		cmd := root()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetIn(strings.NewReader(""))
		cmd.SetArgs(c.args)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || errors.Is(err, errMissed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}
