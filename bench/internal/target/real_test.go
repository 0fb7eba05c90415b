package target

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu/sfutest"
	"voicefleet/signaling/voiceclient"
)

// patience is how long a test waits for a real server.
const patience = 30 * time.Second

// TestServers holds what the servers do against the real program.
func TestServers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a program")
	}
	program := filepath.Join(t.TempDir(), "voicefleet")
	cmd := exec.Command("go", "build", "-o", program, "voicefleet/cmd/voicefleet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Run("node", func(t *testing.T) { testNode(t, program) })
	t.Run("faults", func(t *testing.T) { testFaults(t, program) })
	t.Run("up", func(t *testing.T) { testUp(t, program) })
}

// metricsUntil reads metrics until they are as they should be: the engine reports
// once a second.
func metricsUntil(t *testing.T, p Process, enough func(Metrics) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		m, err := p.Metrics(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if enough(m) {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("metrics stay %+v", m)
		}
	}
}

// killed ends a server's process and waits until that is known.
func killed(t *testing.T, p Process) {
	t.Helper()
	pid, err := p.Agent()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("it lives")
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("ended: %v", err)
	}
	if _, err := p.PIDs(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("pids: %v", err)
	}
	if _, err := p.Agent(); err == nil {
		t.Error("a process that has ended is named")
	}
	if _, err := p.Metrics(t.Context()); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("metrics: %v", err)
	}
}

func testNode(t *testing.T, program string) {
	n, err := StartNode(t.Context(), NodeConfig{Program: program, NoSilenceGate: true, MaxSessions: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	offer := sfutest.Offer(t, 2)
	var seats []Session
	for _, room := range []int{0, 0, 1} {
		s, err := n.Open(t.Context(), room, offer)
		if err != nil {
			t.Fatal(err)
		}
		if s.Room != room || s.Stages.Open <= 0 || s.Stages.Negotiate <= 0 || !strings.Contains(s.Answer, "a=ice-lite") {
			t.Errorf("%+v", s)
		}
		seats = append(seats, s)
	}
	if _, err := n.Open(t.Context(), 1, offer); err == nil {
		t.Error("a fourth session where three may be")
	}
	metricsUntil(t, n, func(m Metrics) bool { return m.Media && m.Sessions == 3 })
	if err := n.Close(t.Context(), seats[0]); err != nil {
		t.Error(err)
	}
	if err := n.Close(t.Context(), seats[0]); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := n.CloseRoom(t.Context(), 0); err != nil {
		t.Error(err)
	}
	metricsUntil(t, n, func(m Metrics) bool { return m.Sessions == 1 })

	m, err := n.Memory(t.Context())
	if err != nil || m.AgentRSS < 1<<20 || m.EngineRSS < 1<<20 || m.AgentGoroutines < 5 {
		t.Errorf("%+v, %v", m, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Drain(over); !errors.Is(err, context.Canceled) {
		t.Errorf("drain called off: %v", err)
	}
	for range 2 { // again is no error
		if err := n.Drain(t.Context()); err != nil {
			t.Errorf("drain: %v", err)
		}
	}
	if _, err := n.Open(t.Context(), 2, offer); edgeagent.CodeOf(err) != edgeagent.CodeDraining {
		t.Errorf("a new room on a draining node: %v", err)
	}
	if _, err := n.Open(t.Context(), 1, offer); err != nil {
		t.Errorf("into the room it has: %v", err)
	}

	// The engine ends with its stacks; the next one is another process.
	before, err := n.PIDs()
	if err != nil {
		t.Fatal(err)
	}
	if engine, err := n.Engine(); err != nil || len(before) != 2 || engine != before[1] {
		t.Errorf("engine %d of %v, %v", engine, before, err)
	}
	if goroutines, err := n.EngineGoroutines(t.Context()); err != nil || goroutines < 2 {
		t.Errorf("%d goroutines, %v", goroutines, err)
	}
	if pids, err := n.PIDs(); err == nil {
		t.Errorf("processes %v, as if the engine were the same", pids)
	}
	if err := n.NextEngine(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := n.PIDs()
	if err != nil || len(after) != 2 || after[0] != before[0] || after[1] == before[1] {
		t.Errorf("processes %v, before %v, %v", after, before, err)
	}

	killed(t, n)
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.Open(soon, 0, offer); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("open: %v", err)
	}
	if err := n.NextEngine(t.Context()); err == nil {
		t.Error("a node that has ended has a next engine")
	}
	if err := n.Drain(t.Context()); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("drain: %v", err)
	}
}

// testFaults kills the engine of a node that was told to expect it: nobody has to
// tell the node again, and no CPU time is lost.
func testFaults(t *testing.T, program string) {
	n, err := StartNode(t.Context(), NodeConfig{Program: program, Faults: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	first, err := n.Engine()
	if err != nil {
		t.Fatal(err)
	}
	before, err := n.CPU()
	if err != nil || before.Total() <= 0 {
		t.Fatalf("%v, %v", before, err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	look, deadline := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer look.Stop()
	last := before
	for {
		pids, err := n.PIDs()
		if err != nil {
			t.Fatalf("processes %v, %v", pids, err)
		}
		now, err := n.CPU()
		if err != nil || now.User < last.User || now.System < last.System {
			t.Fatalf("CPU %+v, was %+v, %v", now, last, err)
		}
		last = now
		if engine, err := n.Engine(); err == nil && engine != first {
			if pids, err := n.PIDs(); err != nil || len(pids) != 2 || pids[1] != engine {
				t.Errorf("processes %v, engine %d, %v", pids, engine, err)
			}
			return
		} else if err != nil && !strings.Contains(err.Error(), "no engine just now") {
			t.Fatal(err)
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("no next engine")
		}
	}
}

func testUp(t *testing.T, program string) {
	u, err := StartUp(t.Context(), UpConfig{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(u.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("data folder stays: %v", err)
		}
	}()
	if _, err := u.Engine(); err == nil {
		t.Error("up has an engine of its own")
	}
	r, err := u.Remote(t.Context(), Shape{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	rooms, err := r.Rooms(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	seats := slices.Repeat(rooms, 2)
	accounts, err := r.Accounts(t.Context(), seats)
	if err != nil {
		t.Fatal(err)
	}
	// Two in each room.
	var calls []*voiceclient.Call
	for i, a := range accounts {
		c, err := r.Join(t.Context(), seats[i], a, voiceclient.Options{Slots: 1})
		if err != nil {
			t.Fatalf("join %v: %v", seats[i], err)
		}
		calls = append(calls, c)
		if c.User().ID != a.User {
			t.Errorf("user %v, want %v", c.User(), a.User)
		}
	}
	metricsUntil(t, u, func(m Metrics) bool { return m.Connected == 6 })
	if m, err := r.Metrics(t.Context()); err != nil || !m.Media {
		t.Errorf("%+v, %v", m, err)
	}
	if pids, err := u.PIDs(); err != nil || len(pids) != 1 {
		t.Errorf("%v, %v", pids, err)
	}
	if spent, err := u.CPU(); err != nil || spent.Total() <= 0 {
		t.Errorf("%v, %v", spent, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Drain(over); !errors.Is(err, context.Canceled) {
		t.Errorf("drain called off: %v", err)
	}
	for range 2 {
		if err := u.Drain(t.Context()); err != nil {
			t.Errorf("drain: %v", err)
		}
	}
	var nodes []edgeagent.Heartbeat
	if err := r.rest(t.Context(), http.MethodGet, "/api/admin/fleet/nodes", "Bearer "+r.admin, nil, &nodes); err != nil || len(nodes) != 1 || nodes[0].State != edgeagent.Draining || nodes[0].Load.Sessions != 6 {
		t.Errorf("%+v, %v", nodes, err)
	}
	for _, c := range calls {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	// A second view that stays tidy, as on a server of somebody else.
	other, err := OpenRemote(t.Context(), RemoteConfig{Data: u.Data})
	if err != nil {
		t.Fatal(err)
	}
	made, err := other.Rooms(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	owner := other.made[0].token
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := other.voiceChannels(t.Context(), made[1].Guild, owner); err != nil || slices.ContainsFunc(left, func(c channel) bool { return c.ID == made[1].Channel }) {
		t.Errorf("left %v, %v", left, err)
	}
	other.http.CloseIdleConnections()
	killed(t, u)
	if err := u.Drain(t.Context()); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("drain: %v", err)
	}
}
