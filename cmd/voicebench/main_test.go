package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// build makes both programs once for all tests.
func build(t *testing.T) (voicebench, voicefleet string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	dir := t.TempDir()
	for _, name := range []string{"voicebench", "voicefleet"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "../"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
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
	if r.Kind != args[0] || r.Seed != 7 || r.Partial != "" || !strings.Contains(r.Command, "voicebench "+args[0]) || !bytes.Contains(out, []byte("seed 7; again with: voicebench "+args[0])) {
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

// TestMeasurements runs every measurement for a moment against the real program.
func TestMeasurements(t *testing.T) {
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
		// A goroutine each would be 40.
		if grown := readings[1].Engine - readings[0].Engine; readings[1].Sessions != 40 || grown > 20 {
			t.Errorf("%d goroutines for %d sessions", grown, readings[1].Sessions)
		}
	})
	t.Run("call", func(t *testing.T) {
		r := runBench(t, voicebench, "call", "--program", voicefleet, "--bots", "4", "--talkers", "2", "--length", "2s", "--pauses=false")
		if n := r.value(t, "wrong name"); n != 0 {
			t.Errorf("%v packets under a wrong name", n)
		}
		var rows []struct {
			Bot                int
			Expected, Received uint64
			FirstAudio         int64 `json:"first_audio_ns"`
		}
		if err := json.Unmarshal(r.Tables[0].Values, &rows); err != nil || len(rows) != 4 {
			t.Fatalf("%d listeners, %v", len(rows), err)
		}
		for _, l := range rows {
			if l.Expected < 50 || l.Received != l.Expected || l.FirstAudio <= 0 {
				t.Errorf("%+v", l)
			}
		}
	})
	t.Run("join", func(t *testing.T) {
		r := runBench(t, voicebench, "join", "--program", voicefleet, "--joins", "3", "--accounts", "2")
		if n := r.value(t, "joins that failed"); n != 0 {
			t.Errorf("%v joins failed", n)
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
		{[]string{"call", "--invite", "x"}, "need --server"},
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
