package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roles are all roles of a fleet as processes of their own, with one edge.
type roles struct {
	t       *testing.T
	edge    *process
	args    []string // of the edge
	text    *running
	trust   *tls.Config
	control int // port of central
	side    int // port of the edge's metrics
	program string
}

func launchRoles(t *testing.T) *roles { return launchRolesWith(t, "") }

// launchRolesWith has the edge be of another build.
func launchRolesWith(t *testing.T, program string) *roles {
	t.Helper()
	ports := freePorts(t, 4)
	dir := t.TempDir()
	r := &roles{t: t, control: ports[1], side: ports[2], program: program}
	address := launch(t, "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[0])).says(`bus is up: --bus (\S+)`)
	central := launch(t, "central", "--bus", address, "--port", fmt.Sprint(r.control), "--data", filepath.Join(dir, "central"),
		"--advertise-endpoint", fmt.Sprintf("127.0.0.1:%d", r.control))
	r.args = []string{"edge", "--bus", address, "--node", "edge1", "--workers", "2", "--media-port", fmt.Sprint(freeMedia(t, 2)),
		"--http", fmt.Sprintf("127.0.0.1:%d", r.side), "--capacity-pps", "100000", "--advertise", "127.0.0.1"}
	r.text = &running{port: ports[3], data: filepath.Join(dir, "text")}
	r.text.process = launch(t, "text", "--bus", address, "--store", "sqlite:"+r.text.data, "--port", fmt.Sprint(ports[3]))
	r.text.invite = r.text.says(`/invite/([A-Za-z0-9_-]+)`)
	central.says(`central is up`)
	r.launchEdge()
	pool := x509.NewCertPool()
	for _, port := range []int{ports[1], ports[3]} {
		pool.AppendCertsFromPEM([]byte(get(t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/ca.pem", port))))
	}
	r.trust = &tls.Config{RootCAs: pool}
	awaitNode(t, r.text)
	return r
}

func (r *roles) launchEdge() {
	r.t.Helper()
	if r.program == "" {
		r.program = binary()
	}
	r.edge = launchProgram(r.t, r.program, r.args...)
	r.edge.says(`edge edge1 is up`)
}

// TestAgentDiesAlone kills the agent of a node while two talk. The engine lives on,
// the next agent adopts it, and nobody misses a packet or is moved. Then it is
// the adopted engine's turn to be killed: its sessions go on as well.
func TestAgentDiesAlone(t *testing.T) {
	r := launchRoles(t)
	ada := r.text.join(http.DefaultClient, r.text.http, "Ada")
	bob := r.text.join(http.DefaultClient, r.text.http, "Bob")
	channel := r.text.voiceChannel(http.DefaultClient, r.text.http, ada)
	a := enter(t, r.text.https(""), r.trust, ada, channel)
	b := enter(t, r.text.https(""), r.trust, bob, channel)
	talk(t, a)
	talk(t, b)
	more := func(what string, n int) {
		t.Helper()
		for _, l := range []*listener{a, b} {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, what, func(now int) bool { return now >= already+n })
		}
	}
	more("before", 50)
	engine := child(t, r.edge.cmd.Process.Pid, 0)

	for range 2 {
		if err := r.edge.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-r.edge.done
		more("without an agent", 25)
		r.launchEdge()
		r.edge.says(`found a media engine at work`)
		more("with the next agent", 50)
	}
	if err := syscall.Kill(engine, 0); err != nil {
		t.Fatalf("engine: %v", err)
	}
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		l.mu.Lock()
		if l.missed != 0 {
			t.Errorf("%s missed %d packets", name, l.missed)
		}
		l.mu.Unlock()
		if s := l.Stats(); s.Moves != 0 || s.Voice.Resumes != 0 {
			t.Errorf("%s was moved: %+v", name, s)
		}
	}

	// The agent knows the call and its members: a third one may come in, is heard
	// and hears.
	eve := r.text.join(http.DefaultClient, r.text.http, "Eve")
	c := enter(t, r.text.https(""), r.trust, eve, channel)
	talk(t, c)
	c.until(t, "Eve hears the others", func(n int) bool { return n > 50 })

	if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if next := child(t, r.edge.cmd.Process.Pid, engine); next == engine {
		t.Fatal("no new engine")
	}
	more("from the next engine", 100)
	for name, l := range map[string]*listener{"Ada": a, "Bob": b, "Eve": c} {
		if s := l.Stats(); s.Moves != 0 || s.Voice.Resumes != 0 {
			t.Errorf("%s was moved: %+v", name, s)
		}
		if gap := l.silence(); gap > heardGap {
			t.Errorf("%s heard a gap of %v", name, gap)
		} else {
			t.Logf("%s: silence of at most %v", name, gap)
		}
	}
}

// TestCrashLoopDrains kills the engine three times: the node takes itself out.
func TestCrashLoopDrains(t *testing.T) {
	r := launchRoles(t)
	engine := 0
	for range 3 {
		engine = child(t, r.edge.cmd.Process.Pid, engine)
		if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.edge.says(`(node drains itself)`)
	child(t, r.edge.cmd.Process.Pid, engine) // it tries again all the same
	ctlSays(t, r.text.data, "undrain", "edge1")
	r.edge.says(`(node takes calls again)`)
}

// TestFrozenNodeGoesOn stops the engine of a node for more than a second, then
// engine and agent together. What they forward waits until the calls were looked
// up; they have not moved, so everybody goes on with what they had.
func TestFrozenNodeGoesOn(t *testing.T) {
	r := launchRoles(t)
	ada := r.text.join(http.DefaultClient, r.text.http, "Ada")
	bob := r.text.join(http.DefaultClient, r.text.http, "Bob")
	channel := r.text.voiceChannel(http.DefaultClient, r.text.http, ada)
	a := enter(t, r.text.https(""), r.trust, ada, channel)
	b := enter(t, r.text.https(""), r.trust, bob, channel)
	talk(t, a)
	talk(t, b)
	b.until(t, "Bob hears Ada", func(n int) bool { return n > 50 })
	agent := r.edge.cmd.Process.Pid
	engine := child(t, agent, 0)
	for i, pids := range [][]int{{engine}, {engine, agent}} {
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(1200 * time.Millisecond) // so long it stands still; a node is missed after 1.5 s
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			r.edge.says(`stood still, and its calls were looked up.* calls=(1 moved=0 unknown=0)`)
		}
		for _, l := range []*listener{a, b} {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, "hears on", func(now int) bool { return now >= already+100 })
		}
	}
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		if s := l.Stats(); s.Moves != 0 || s.Voice.Resumes != 0 {
			t.Errorf("%s was moved: %+v", name, s)
		}
	}
}

// build makes the program with a version of its own.
func build(t *testing.T, path, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", "-s -X main.built="+version, "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

// restamp makes a program of another version: to link it again would take longer than what
// is tested of it.
func restamp(t *testing.T, path string, program []byte, was, version string) {
	t.Helper()
	if len(was) != len(version) || !bytes.Contains(program, []byte(was)) {
		t.Fatalf("a program of version %q is not made one of %q", was, version)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(program, []byte(was), []byte(version)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestUpgrade replaces the program of a node under a call, several times. Engine
// and agent go on as the new version; nobody is moved or resumes, and a node that
// was drained stays so. What does not start is refused, and the node goes on.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	program, next := filepath.Join(dir, "voicefleet"), filepath.Join(dir, "next")
	const first = "upgraded-v1"
	build(t, program, first)
	built, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	r := launchRolesWith(t, program)
	ada := r.text.join(http.DefaultClient, r.text.http, "Ada")
	bob := r.text.join(http.DefaultClient, r.text.http, "Bob")
	channel := r.text.voiceChannel(http.DefaultClient, r.text.http, ada)
	a := enter(t, r.text.https(""), r.trust, ada, channel)
	b := enter(t, r.text.https(""), r.trust, bob, channel)
	talk(t, a)
	talk(t, b)
	more := func(what string) {
		t.Helper()
		for _, l := range []*listener{a, b} {
			l.mu.Lock()
			already := l.packets
			l.mu.Unlock()
			l.until(t, what, func(now int) bool { return now >= already+50 })
		}
	}
	more("before")
	refused := func(why string) {
		t.Helper()
		out, err := exec.Command(binary(), "ctl", "--data", r.text.data, "upgrade", "edge1").CombinedOutput()
		if err == nil || !strings.Contains(string(out), why) {
			t.Errorf("upgrade to what does not start (%v): %s", err, out)
		}
		more("after a refused upgrade")
	}
	replace := func(script string) {
		t.Helper()
		if err := os.WriteFile(next, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, program); err != nil {
			t.Fatal(err)
		}
	}
	replace("this is no program")
	refused("the program on disk is of no use")
	replace("#!/bin/sh\nexit 3\n")
	refused("the program on disk is of no use")
	engine := child(t, r.edge.cmd.Process.Pid, 0)
	replace("#!/bin/sh\n[ \"$1\" = version ] && echo v9 && exit\nexit 3\n")
	refused("runs no media engine")
	engine = child(t, r.edge.cmd.Process.Pid, engine)

	ctlSays(t, r.text.data, "cordon", "edge1", "--reason", "new program")
	for _, version := range []string{"upgraded-v2", "upgraded-v3"} {
		restamp(t, next, built, first, version)
		if err := os.Rename(next, program); err != nil {
			t.Fatal(err)
		}
		out := ctlSays(t, r.text.data, "upgrade", "edge1", "--reason", version)
		t.Logf("%s", out)
		if !strings.Contains(out, "engine is version "+version) || !strings.Contains(out, "agent is version "+version) || !strings.Contains(out, "2 sessions go on") {
			t.Errorf("upgrade says %s", out)
		}
		more("after an upgrade to " + version)
		engine = child(t, r.edge.cmd.Process.Pid, engine)
		if nodes := ctlSays(t, r.text.data, "nodes"); !strings.Contains(nodes, "cordoned") {
			t.Errorf("the node forgot that it is cordoned: %s", nodes)
		}
	}
	for name, l := range map[string]*listener{"Ada": a, "Bob": b} {
		if s := l.Stats(); s.Moves != 0 || s.Voice.Resumes != 0 {
			t.Errorf("%s was moved: %+v", name, s)
		}
		t.Logf("%s: silence of at most %v", name, l.silence())
	}
}
