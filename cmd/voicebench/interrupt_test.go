package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// session is a run of the program in a process group of its own, as a shell starts it.
type session struct {
	cmd  *exec.Cmd
	json string
	said chan string // lines of its standard error
	all  bytes.Buffer
}

// begin starts the program. Its descendants carry a mark in their environment, by
// which they are found when it has ended.
func begin(t *testing.T, program string, args ...string) *session {
	t.Helper()
	s := &session{json: filepath.Join(t.TempDir(), "report.json"), said: make(chan string, 1024)}
	s.cmd = exec.Command(program, append(args, "--json", s.json)...)
	s.cmd.Env = append(os.Environ(), s.mark())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the program
		defer close(s.said)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			s.said <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it starts no more of them
		for pid := range s.processes(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
	})
	return s
}

func (s *session) mark() string { return "VOICEBENCH_TEST=" + s.json }

// until waits for a line with this text.
func (s *session) until(t *testing.T, text string) {
	t.Helper()
	patience := time.After(time.Minute)
	for {
		select {
		case line, more := <-s.said:
			fmt.Fprintln(&s.all, line)
			if strings.Contains(line, text) {
				return
			}
			if !more {
				t.Fatalf("it ended without %q:\n%s", text, s.all.String())
			}
		case <-patience:
			t.Fatalf("no %q in a minute:\n%s", text, s.all.String())
		}
	}
}

// end waits for the end of the program, whose status must be 1, and reads the report.
func (s *session) end(t *testing.T) (r result, said string) {
	t.Helper()
	patience := time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	defer patience.Stop()
	for line := range s.said {
		fmt.Fprintln(&s.all, line)
	}
	err := s.cmd.Wait()
	said = s.all.String()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, want status 1\n%s", err, said)
	}
	if left := s.processes(t); len(left) > 0 {
		t.Errorf("still running: %v\n%s", left, said)
	}
	b, err := os.ReadFile(s.json)
	if err != nil {
		t.Fatalf("no report: %v\n%s", err, said)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Partial == "" {
		t.Errorf("the report is not marked as partial:\n%s", b)
	}
	return r, said
}

// processes are the command lines of what this session started and still runs, by pid.
func (s *session) processes(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Fatalf("no /proc: %v", err)
	}
	found := make(map[int]string)
	for _, name := range files {
		environ, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(environ, []byte(s.mark()+"\x00")) {
			continue // of somebody else, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		found[pid] = string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
	}
	return found
}

// kill ends the processes of the session whose command line has this word.
func (s *session) kill(t *testing.T, word string) {
	t.Helper()
	killed := 0
	for pid, line := range s.processes(t) {
		if pid != s.cmd.Process.Pid && strings.Contains(line, word) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	if killed == 0 {
		t.Fatalf("no process with %q in %v", word, s.processes(t))
	}
}

const longScenario = `name: long
rooms:
  - count: 2
    members: 4
warmup: 500ms
duration: 1h
goals:
  - {metric: loss_percent, at_most: 0.1}
  - {metric: latency_p99_ms, at_most: 1000}
`

// TestInterrupted ends runs in the middle, as Ctrl-C in a terminal does, which goes to
// the group of the program: what was measured is reported and marked, and nothing is
// left running. Its children are in groups of their own, so none dies before it knows.
func TestInterrupted(t *testing.T) {
	t.Parallel() // it mostly waits
	voicebench, voicefleet := build(t)
	for _, c := range []struct {
		name, when string
		args       []string
	}{
		{"scenario", "s left", []string{"scenario", "run", scenarioFile(t, longScenario)}},
		{"arriving", "users in", []string{"scenario", "run", scenarioFile(t, strings.Replace(longScenario, "warmup", "join: {arrival: ramp, over: 1h}\nwarmup", 1))}},
		{"call", "s left", []string{"call", "--length", "1h", "--bots", "3"}},
		{"join", "of 10000 joins", []string{"join", "--joins", "10000", "--accounts", "1"}},
		{"forward", "round 1 edge", []string{"forward", "--cases", "2x2", "--window", "1s"}},
		{"memory", "warm up", []string{"memory", "--sessions", "20"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := begin(t, voicebench, append(c.args, "--program", voicefleet)...)
			s.until(t, c.when)
			if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			r, said := s.end(t)
			if !strings.Contains(r.Partial, "interrupt") || !strings.Contains(r.Command, c.args[0]) {
				t.Errorf("partial %q, command %q\n%s", r.Partial, r.Command, said)
			}
			for _, g := range r.Goals {
				if g.Void == "" && g.Met && r.Metrics == nil && len(r.Tables) == 0 {
					t.Errorf("goal %s is met by nothing", g.Name)
				}
			}
		})
	}
}

// TestServerDies ends the server in the middle of a run: the report tells so, keeps
// what was measured, and nothing is left running.
func TestServerDies(t *testing.T) {
	t.Parallel() // it mostly waits
	voicebench, voicefleet := build(t)
	for _, c := range []struct {
		name, when, victim string
		args               []string
	}{
		{"node", "s left", " edge ", []string{"scenario", "run", scenarioFile(t, longScenario)}},
		{"server", "s left", " up ", []string{"call", "--length", "1h", "--bots", "3"}},
		{"generator", "s left", " generator ", []string{"scenario", "run", scenarioFile(t, longScenario)}},
		{"server of joins", "of 10000 joins", " up ", []string{"join", "--joins", "10000", "--accounts", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := begin(t, voicebench, append(c.args, "--program", voicefleet)...)
			s.until(t, c.when)
			s.kill(t, c.victim)
			r, said := s.end(t)
			if !strings.Contains(r.Partial, "ended") && !strings.Contains(r.Partial, "gone") {
				t.Errorf("partial %q\n%s", r.Partial, said)
			}
		})
	}
}
