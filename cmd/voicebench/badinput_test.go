package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// running is a server for the tests, as somebody has it: voicefleet up in a folder.
type running struct{ data, http, https string }

func startServer(t *testing.T, voicefleet string) running {
	t.Helper()
	media, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = media.Close()
	port, dir := freeTCP(t), t.TempDir()
	cmd := exec.Command(voicefleet, "up", "--data", dir, "--port", port, "--advertise", "127.0.0.1", "--workers", "1", "--log-level", "warn",
		"--media-port", strconv.Itoa(media.LocalAddr().(*net.UDPAddr).Port))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("server:\n%s", log.String())
		}
	})
	s := running{data: dir, http: "http://127.0.0.1:" + port, https: "https://127.0.0.1:" + port}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		// With the admin token it also has its first guild.
		token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		if err == nil && strings.Contains(fetch(ctx, s.http+"/api/admin/guilds", string(bytes.TrimSpace(token))), `"id"`) && fetch(ctx, s.http+"/readyz", "") != "" {
			return s
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("the server is not ready:\n%s", log.String())
		}
	}
}

// fetch is the body of a successful answer; empty: there was none.
func fetch(ctx context.Context, url, token string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// execute runs the program to its end.
func execute(t *testing.T, program string, args ...string) (status int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	exit := (*exec.ExitError)(nil)
	switch {
	case err == nil:
		return 0, string(b)
	case errors.As(err, &exit):
		return exit.ExitCode(), string(b)
	}
	t.Fatalf("%v: %v", args, err)
	return 0, ""
}

const brokenScenario = `name: broken
rooms:
  - count: 2
    membrs: 4
    talkers: three
duration: 10
goals:
  - {metric: latency_p98_ms, at_most: 20}
`

// TestBadInput holds that what is wrong is told with its place and the next step,
// with status 1, by the program that people start.
func TestBadInput(t *testing.T) {
	t.Parallel() // it mostly waits
	voicebench, voicefleet := build(t)
	server := startServer(t, voicefleet)
	broken := scenarioFile(t, brokenScenario)
	killing := scenarioFile(t, strings.Replace(smallScenario, "goals:", "faults:\n  - {at: 1s, do: kill}\ngoals:", 1))
	draining := scenarioFile(t, strings.Replace(smallScenario, "goals:", "faults:\n  - {at: 1s, do: drain}\ngoals:", 1))
	certificates := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificates, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	away := "http://127.0.0.1:" + freeTCP(t)
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"broken scenario", []string{"scenario", "run", broken}, []string{
			broken + ":4:5: rooms[0].membrs: no such field, did you mean members?", broken + ":5:14: rooms[0].talkers: ", broken + ":6:11: duration: ", broken + ":8:6: goals[0].metric: ",
		}},
		{"broken scenario, shown", []string{"scenario", "show", broken}, []string{":4:5: rooms[0].membrs"}},
		{"broken scenario, searched", []string{"capacity", broken}, []string{":4:5: rooms[0].membrs"}},
		{"unknown scenario", []string{"scenario", "run", "smal-rooms"}, []string{`no scenario "smal-rooms"`, "did you mean small-rooms?"}},
		{"no file", []string{"scenario", "run", "./no-such-file.yaml"}, []string{"no-such-file.yaml: no such file"}},
		{"broken prices", []string{"scenario", "run", "ci-smoke", "--prices", broken}, []string{broken}},
		{"no server there", []string{"scenario", "run", "two-of-you", "--server", away, "--invite", "x"}, []string{"the server cannot be reached", "does it run"}},
		{"wrong token", []string{"call", "--server", server.http, "--token", "x", "--guild", "1"}, []string{"refuses the login", "is the token"}},
		{"wrong token, joins", []string{"join", "--server", server.http, "--token", "x", "--guild", "1"}, []string{"refuses the login", "is the token"}},
		{"wrong invite", []string{"scenario", "run", "two-of-you", "--server", server.http, "--invite", "no-such-code"}, []string{"the invite is not known there", "is it of this server"}},
		{"certificate", []string{"call", "--server", server.https, "--invite", "x"}, []string{"certificate is not trusted", "--ca FILE", "--insecure"}},
		{"no certificates", []string{"call", "--server", server.https, "--data", server.data, "--ca", certificates}, []string{"holds none"}},
		{"no such channel", []string{"call", "--data", server.data, "--channel", "Nowhere"}, []string{`no voice channel "Nowhere"`}},
		{"kill without permission", []string{"scenario", "run", killing, "--data", server.data}, []string{"fault kill", "not started by this run"}},
		{"drain without permission", []string{"scenario", "run", draining, "--data", server.data}, []string{"fault drain", "not started by this run"}},
		{"no bus", []string{"scenario", "run", "ci-smoke", "--bus", "nats://127.0.0.1:1"}, []string{"NATS server"}},
		{"report where none can be", []string{"scenario", "run", scenarioFile(t, smallScenario), "--program", voicefleet, "--json", "no-such-folder/x.json"}, []string{"write report", "no-such-folder"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := execute(t, voicebench, c.args...)
			if status != 1 {
				t.Errorf("status %d\n%s", status, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, "Usage:") || strings.Contains(out, "goroutine ") {
				t.Errorf("more than what is wrong:\n%s", out)
			}
		})
	}
}

// TestMissedGoals holds that goals that are missed are told one by one, with status 2.
func TestMissedGoals(t *testing.T) {
	voicebench, voicefleet := build(t)
	file := scenarioFile(t, smallScenario+"  - {metric: latency_p50_ms, at_most: 0.000001}\n  - {metric: users, at_least: 100}\n")
	status, out := execute(t, voicebench, "scenario", "run", file, "--program", voicefleet)
	if status != 2 || !strings.Contains(out, "MISSED  latency_p50_ms") || !strings.Contains(out, "MISSED  users") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// TestOwnServer runs against a server that the program did not start, over TLS with
// its own certificate.
func TestOwnServer(t *testing.T) {
	voicebench, voicefleet := build(t)
	server := startServer(t, voicefleet)
	certificates := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificates, []byte(fetch(t.Context(), server.http+"/ca.pem", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runBench(t, voicebench, "call", "--server", server.https, "--data", server.data, "--ca", certificates, "--bots", "3", "--length", "1s", "--pauses=false")
	r.judged(t, "faithful", 3)
}
