package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	bits "encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
	"voicefleet/textchat"
)

const (
	frameTime = 20 * time.Millisecond
	// heardGap is the longest silence that a listener may be given while one
	// talks without pause: the death of a gateway must not be heard. The slack
	// over frameTime is for a busy test machine.
	heardGap = 500 * time.Millisecond
)

// opusFrame is a frame as an encoder makes one: code 0, 20 ms, and bytes that are
// not silence. Nobody decodes it here.
var opusFrame = append([]byte{0x78}, make([]byte, 59)...)

// voiceChannel finds the channel to talk in.
func (r *running) voiceChannel(c *http.Client, base func(string) string, g guest) textchat.ID {
	r.t.Helper()
	return r.voiceChannels(c, base, g)[0]
}

// voiceChannels lists the channels to talk in, and after them those that echo.
func (r *running) voiceChannels(c *http.Client, base func(string) string, g guest) []textchat.ID {
	r.t.Helper()
	req, err := http.NewRequest("GET", base(fmt.Sprintf("/api/v10/guilds/%s/channels", g.GuildID)), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", g.Token)
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var channels []struct {
		ID   textchat.ID
		Type int
		Echo bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&channels); err != nil {
		r.t.Fatal(err)
	}
	const voice = 2
	var talk, echo []textchat.ID
	for _, ch := range channels {
		switch {
		case ch.Type != voice:
		case ch.Echo:
			echo = append(echo, ch.ID)
		default:
			talk = append(talk, ch.ID)
		}
	}
	if len(talk) == 0 {
		r.t.Fatalf("no voice channel in %+v", channels)
	}
	return append(talk, echo...)
}

// listener notes what it hears.
type listener struct {
	*voiceclient.Call
	heard chan struct{} // a token when something was

	mu      sync.Mutex
	packets int
	last    time.Time
	longest time.Duration  // silence between two packets
	next    map[int]uint16 // sequence number due in a slot
	missed  int            // numbers that did not come
	// frames are the numbers that talkers gave theirs, as far as they came.
	frames map[sfu.UserID]map[uint32]bool
}

// gap is the longest run of a talker's frames that never came.
func (l *listener) gap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := uint32(0)
	for _, came := range l.frames {
		numbers := slices.Sorted(maps.Keys(came))
		for i := 1; i < len(numbers); i++ {
			longest = max(longest, numbers[i]-numbers[i-1]-1)
		}
	}
	return time.Duration(longest) * frameTime
}

func (l *listener) onAudio(p voiceclient.Packet) {
	l.mu.Lock()
	if l.packets > 0 {
		l.longest = max(l.longest, p.Arrived.Sub(l.last))
	}
	l.packets++
	l.last = p.Arrived
	if due, ok := l.next[p.Slot]; ok {
		l.missed += int(int16(p.Seq - due)) // less again if it comes late
	}
	l.next[p.Slot] = p.Seq + 1
	if len(p.Opus) == len(opusFrame) {
		if l.frames[p.User] == nil {
			l.frames[p.User] = make(map[uint32]bool)
		}
		l.frames[p.User][bits.BigEndian.Uint32(p.Opus[1:])] = true
	}
	l.mu.Unlock()
	select {
	case l.heard <- struct{}{}:
	default:
	}
}

// until waits for packets until ok, which is asked after each.
func (l *listener) until(t *testing.T, what string, ok func(packets int) bool) {
	t.Helper()
	deadline := time.After(wait)
	for {
		l.mu.Lock()
		n := l.packets
		l.mu.Unlock()
		if ok(n) {
			return
		}
		select {
		case <-l.heard:
		case <-l.Done():
			t.Fatalf("%s: call ended: %v", what, l.Err())
		case <-deadline:
			t.Fatalf("%s: not after %v and %d packets", what, wait, n)
		}
	}
}

func (l *listener) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longest
}

// enter joins the voice channel.
func enter(t *testing.T, server string, trust *tls.Config, g guest, channel textchat.ID) *listener {
	t.Helper()
	return enterBy(t, server, g, channel, voiceclient.Options{TLS: trust})
}

func enterBy(t *testing.T, server string, g guest, channel textchat.ID, options voiceclient.Options) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	l := &listener{heard: make(chan struct{}, 1), next: make(map[int]uint16), frames: make(map[sfu.UserID]map[uint32]bool)}
	options.OnAudio = l.onAudio
	call, err := voiceclient.Join(ctx, voiceclient.Config{
		Server: server, Token: g.Token, Guild: g.GuildID, Channel: channel,
		Options: options,
	})
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	l.Call = call
	t.Logf("joined: %+v", call.Stats())
	t.Cleanup(func() { call.Close() })
	return l
}

// talk sends speech without pause until the test ends.
func talk(t *testing.T, l *listener) {
	ctx, cancel := context.WithCancel(context.Background())
	var talker sync.WaitGroup
	t.Cleanup(func() { cancel(); talker.Wait() })
	talker.Go(func() {
		pace := time.NewTicker(frameTime)
		defer pace.Stop()
		frame := slices.Clone(opusFrame)
		for n := uint32(0); ; n++ {
			// No two are alike, as of a voice: who hears it on two paths tells by it.
			bits.BigEndian.PutUint32(frame[1:], n)
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
				// Without a voice session just now there is nobody to tell.
				_ = l.WriteOpus(frame, frameTime, 20)
			}
		}
	})
}

func TestTwoTalkThroughUp(t *testing.T) {
	r := launchUp(t)
	ada := r.join(http.DefaultClient, r.http, "Ada")
	bob := r.join(http.DefaultClient, r.http, "Bob")
	channel := r.voiceChannel(http.DefaultClient, r.http, ada)
	secure := r.trusting().Transport.(*http.Transport).TLSClientConfig
	a := enter(t, r.http(""), nil, ada, channel)
	b := enter(t, r.https(""), secure, bob, channel)
	talk(t, a)
	talk(t, b)
	a.until(t, "Ada hears Bob", func(n int) bool { return n > 50 })
	b.until(t, "Bob hears Ada", func(n int) bool { return n > 50 })
	var calls []struct{ Node string }
	if err := json.Unmarshal([]byte(ctlSays(t, r.data, "calls", "--json")), &calls); err != nil || len(calls) != 1 {
		t.Errorf("calls: %+v, %v", calls, err)
	}
	if out := ctlSays(t, r.data, "explain", channel.String()); !regexp.MustCompile(`lives on`).MatchString(out) {
		t.Errorf("explain says %s", out)
	}

	// The node takes no new calls: who talks goes on, and a third is let in.
	node := calls[0].Node
	if out := ctlSays(t, r.data, "cordon", node, "--reason", "new kernel"); !strings.Contains(out, "Those it has stay: 1, with 2 people") {
		t.Errorf("cordon says %s", out)
	}
	r.says(`node takes no new calls.* by=\S+ .*reason="?new kernel`)
	r.nodeIs(node, "draining")
	dot := r.join(http.DefaultClient, r.http, "Dot")
	d := enter(t, r.http(""), nil, dot, channel)
	d.until(t, "Dot hears them", func(n int) bool { return n > 50 })
	before := 0
	a.until(t, "Ada still hears Bob", func(n int) bool {
		if before == 0 {
			before = n
		}
		return n > before+50
	})
	if out, err := exec.Command(binary(), "ctl", "--data", r.data, "drain", "nowhere").CombinedOutput(); err == nil || !strings.Contains(string(out), "voicefleet ctl nodes") {
		t.Errorf("drain of a node that is not there: %v: %s", err, out)
	}
	if out := ctlSays(t, r.data, "undrain", node); out != node+" takes calls.\n" {
		t.Errorf("undrain says %s", out)
	}
	r.nodeIs(node, "ready")
}

// nodeIs waits until the fleet sees a node in a state.
func (r *running) nodeIs(node, state string) {
	r.t.Helper()
	for deadline := time.Now().Add(wait); ; {
		var nodes []struct{ Node, State string }
		if err := json.Unmarshal([]byte(ctlSays(r.t, r.data, "nodes", "--json")), &nodes); err != nil {
			r.t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Node == node && n.State == state {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("nodes: %+v, want %s %s", nodes, node, state)
		}
	}
}

// TestRolesApart runs each role as a process of its own, and kills one of two
// gateways while people talk: nobody hears it, and the client whose gateway it
// was resumes at the other.
func TestRolesApart(t *testing.T) {
	ports := freePorts(t, 5)
	dir := t.TempDir()
	b := launch(t, "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--token", "sesame")
	address := b.says(`bus is up: --bus (\S+)`)
	var central [2]*process
	for i := range central {
		central[i] = launch(t, "central", "--bus", address, "--port", fmt.Sprint(ports[1+i]), "--data", filepath.Join(dir, fmt.Sprint("central", i)),
			"--advertise-endpoint", fmt.Sprintf("127.0.0.1:%d", ports[1+i]))
	}
	edge := launch(t, "edge", "--bus", address, "--node", "edge1", "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
		"--http", fmt.Sprintf("127.0.0.1:%d", ports[3]), "--capacity-pps", "100000", "--advertise", "127.0.0.1")
	text := &running{port: ports[4], data: filepath.Join(dir, "text")}
	text.process = launch(t, "text", "--bus", address, "--store", "sqlite:"+text.data, "--port", fmt.Sprint(ports[4]))
	text.invite = text.says(`/invite/([A-Za-z0-9_-]+)`)
	pool := x509.NewCertPool()
	for i, p := range central {
		p.says(`central is up`)
		pool.AppendCertsFromPEM([]byte(get(t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/ca.pem", ports[1+i]))))
	}
	edge.says(`edge edge1 is up`)
	pool.AppendCertsFromPEM([]byte(get(t, http.DefaultClient, text.http("/ca.pem"))))
	trust := &tls.Config{RootCAs: pool}

	ada := text.join(http.DefaultClient, text.http, "Ada")
	bob := text.join(http.DefaultClient, text.http, "Bob")
	channel := text.voiceChannel(http.DefaultClient, text.http, ada)
	awaitNode(t, text)
	a := enter(t, text.https(""), trust, ada, channel)
	c := enter(t, text.https(""), trust, bob, channel)
	talk(t, a)
	talk(t, c)
	a.until(t, "Ada hears Bob", func(n int) bool { return n > 50 })
	c.until(t, "Bob hears Ada", func(n int) bool { return n > 50 })

	// The gateway of at least one of them dies without a word.
	victim := 0
	if voices(t, ports[1]) == 0 {
		victim = 1
	}
	lost := voices(t, ports[1+victim])
	if lost == 0 {
		t.Fatal("no voice WebSocket at either gateway")
	}
	central[victim].ends(syscall.SIGKILL)
	a.until(t, "somebody resumes", func(int) bool {
		return a.Stats().Voice.Resumes+c.Stats().Voice.Resumes >= lost
	})
	for _, l := range []*listener{a, c} {
		l.mu.Lock()
		already := l.packets
		l.mu.Unlock()
		l.until(t, "audio goes on", func(n int) bool { return n > already+100 })
		if gap := l.silence(); gap > heardGap {
			t.Errorf("heard a gap of %v", gap)
		}
		if moves := l.Stats().Moves; moves != 0 {
			t.Errorf("media was moved %d times", moves)
		}
	}
	if got := voices(t, ports[2-victim]); got != 2 {
		t.Errorf("the living gateway serves %d of 2", got)
	}
}

// awaitNode waits until the allocators know a node that is ready.
func awaitNode(t *testing.T, text *running) {
	t.Helper()
	deadline := time.Now().Add(wait)
	for {
		var st struct {
			Nodes []struct{ State string }
		}
		if err := json.Unmarshal([]byte(ctlSays(t, text.data, "status", "--json")), &st); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(st.Nodes, func(n struct{ State string }) bool { return n.State == "ready" }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no node is ready: %+v", st)
		}
	}
}

// voices is the number of voice WebSockets a gateway serves.
func voices(t *testing.T, port int) int {
	t.Helper()
	metrics := get(t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	m := regexp.MustCompile(`(?m)^voicefleet_signaling_connections (\d+)`).FindStringSubmatch(metrics)
	if m == nil {
		t.Fatal("no voicefleet_signaling_connections")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEngineIsReplaced kills the media engine of an edge: its agent starts another
// on the same ports, and people can talk again.
func TestEngineIsReplaced(t *testing.T) {
	ports := freePorts(t, 2)
	b := launch(t, "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	address := b.says(`bus is up: --bus (\S+)`)
	edge := launch(t, "edge", "--bus", address, "--node", "edge1", "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
		"--http", fmt.Sprintf("127.0.0.1:%d", ports[1]), "--capacity-pps", "100000")
	edge.says(`edge edge1 is up`)
	first := child(t, edge.cmd.Process.Pid, 0)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child(t, edge.cmd.Process.Pid, first)
	if code, took := edge.ends(syscall.SIGTERM); code != 0 || took > 5*time.Second {
		t.Errorf("SIGTERM: exit code %d after %v", code, took)
	}
}

// child waits until the process pid has an engine that is not the one named, and
// gives its id. The Go runtime has a child of its own for a moment, when it tries
// what the kernel can.
func child(t *testing.T, pid, not int) int {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(wait)
	for {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			ids, _ := os.ReadFile(task) // a thread may end while we look
			for _, id := range strings.Fields(string(ids)) {
				n, err := strconv.Atoi(id)
				if err != nil || n == not {
					continue
				}
				if line, _ := os.ReadFile("/proc/" + id + "/cmdline"); strings.Contains(string(line), "\x00sfu\x00") {
					return n
				}
			}
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("process %d has no child but %d", pid, not)
		}
	}
}

// TestNodeJoinsAHouse adds a media node to a running `voicefleet up`, by the line
// its banner gives.
func TestNodeJoinsAHouse(t *testing.T) {
	ports := freePorts(t, 2)
	r := launchUp(t, "--bus-listen", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--node", "house")
	address := r.says(`voicefleet edge --bus (nats://\S+)`)
	stranger := exec.Command(binary(), "edge", "--bus", fmt.Sprintf("nats://guess@127.0.0.1:%d", ports[0]), "--node", "evil", "--workers", "1",
		"--media-port", fmt.Sprint(freeMedia(t, 1)), "--http", "", "--bus-wait", "1s")
	if out, err := stranger.CombinedOutput(); err == nil || !strings.Contains(string(out), "uthorization") {
		t.Errorf("a wrong token: %v: %s", err, out)
	}
	edge := launch(t, "edge", "--bus", address, "--node", "second", "--workers", "1", "--media-port", fmt.Sprint(freeMedia(t, 1)),
		"--http", fmt.Sprintf("127.0.0.1:%d", ports[1]), "--capacity-pps", "100000")
	edge.says(`edge second is up`)
	deadline := time.Now().Add(wait)
	for {
		var nodes []struct{ Node, State string }
		if err := json.Unmarshal([]byte(ctlSays(t, r.data, "nodes", "--json")), &nodes); err != nil {
			t.Fatal(err)
		}
		if len(nodes) == 2 && nodes[0].Node == "house" && nodes[1].Node == "second" && nodes[1].State == "ready" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nodes: %+v", nodes)
		}
	}
}
