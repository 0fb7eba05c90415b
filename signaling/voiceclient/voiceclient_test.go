package voiceclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
	"voicefleet/signaling/signalingserver"
	"voicefleet/signaling/signalingtest"
	"voicefleet/signaling/voiceclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func uid(n int) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

// ear keeps what was heard.
type ear struct {
	mu     sync.Mutex
	heard  map[string]int // "user text"
	events []string
	wake   chan struct{}
}

func newEar() *ear { return &ear{heard: make(map[string]int), wake: make(chan struct{}, 1)} }

func (e *ear) note(f func()) {
	e.mu.Lock()
	f()
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *ear) options() voiceclient.Options {
	return voiceclient.Options{
		TLS:   &tls.Config{InsecureSkipVerify: true},
		Slots: 4,
		OnAudio: func(p voiceclient.Packet) {
			e.note(func() { e.heard[fmt.Sprintf("%v %s", p.User, p.Opus)]++ })
		},
		OnMember: func(m voiceclient.Member) {
			e.note(func() { e.events = append(e.events, fmt.Sprintf("member %v left=%t", m.User, m.Left)) })
		},
		OnSpeaking: func(s voiceclient.Speaking) {
			e.note(func() { e.events = append(e.events, fmt.Sprintf("speaking %v %d", s.User, s.Flags)) })
		},
	}
}

// until waits for the condition; what happens meanwhile is repeated every few
// milliseconds by do.
func (e *ear) until(t *testing.T, what string, do func(), cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		e.mu.Lock()
		ok := cond()
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-e.wake:
		case <-tick.C:
			if do != nil {
				do()
			}
		case <-deadline:
			e.mu.Lock()
			defer e.mu.Unlock()
			t.Fatalf("not within %v: %s; heard %v, events %v", patience, what, e.heard, e.events)
		}
	}
}

// world is two nodes, two signaling instances and a gateway.
type world struct {
	issuer *signalingtest.Issuer
	nodes  map[edgeagent.NodeID]*signalingtest.Node
	gw     *textGateway
	hosts  [2]string
	stops  [2]func()
	silent chan edgeagent.Silence
}

// both routes requests to two nodes.
type both map[edgeagent.NodeID]*signalingtest.Node

func (b both) of(id edgeagent.NodeID) *signalingtest.Node {
	if n := b[id]; n != nil {
		return n
	}
	return b["n1"] // which refuses
}
func (b both) Open(ctx context.Context, id edgeagent.NodeID, r edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	return b.of(id).Open(ctx, id, r)
}
func (b both) Resume(ctx context.Context, id edgeagent.NodeID, r edgeagent.ResumeRequest) (edgeagent.SessionReply, error) {
	return b.of(id).Resume(ctx, id, r)
}
func (b both) Negotiate(ctx context.Context, id edgeagent.NodeID, r edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	return b.of(id).Negotiate(ctx, id, r)
}
func (b both) Update(ctx context.Context, id edgeagent.NodeID, r edgeagent.UpdateRequest) error {
	return b.of(id).Update(ctx, id, r)
}
func (b both) Close(ctx context.Context, id edgeagent.NodeID, r edgeagent.CloseRequest) error {
	return b.of(id).Close(ctx, id, r)
}
func (b both) SubscribeCall(call sfu.CallID, on func(edgeagent.CallEvent)) (func(), error) {
	var cancels []func()
	for _, n := range b {
		cancel, err := n.SubscribeCall(call, on)
		if err != nil {
			return nil, err
		}
		cancels = append(cancels, cancel)
	}
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
	}, nil
}

func newWorld(t *testing.T) *world {
	w := &world{issuer: signalingtest.NewIssuer(1), nodes: make(map[edgeagent.NodeID]*signalingtest.Node), silent: make(chan edgeagent.Silence, 64)}
	for i, id := range []edgeagent.NodeID{"n1", "n2"} {
		w.nodes[id] = signalingtest.NewNode(id, w.issuer)
		t.Cleanup(newPeers(w.nodes[id], sfu.SSRC(1000*(i+1))).close)
	}
	cfg := signalingserver.Config{Nodes: both(w.nodes), Keys: w.issuer.Keys, Heartbeat: time.Second}
	cfg.Silent = func(s edgeagent.Silence) {
		select {
		case w.silent <- s:
		default:
		}
	}
	for i := range 2 {
		w.hosts[i], w.stops[i] = instance(t, cfg)
	}
	w.gw = newTextGateway(t, w.issuer, "n1", port(w.hosts[0]), w.hosts[1])
	return w
}

func (w *world) join(t *testing.T, user int, e *ear) *voiceclient.Call {
	t.Helper()
	c, err := voiceclient.Join(context.Background(), voiceclient.Config{
		Server: w.gw.url, Token: fmt.Sprint(user), Guild: guild, Channel: channel, Options: e.options(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func speak(t *testing.T, c *voiceclient.Call, text string) func() {
	return func() {
		if err := c.WriteOpus([]byte(text), 20*time.Millisecond, 20); err != nil && !errors.Is(err, voiceclient.ErrNotConnected) {
			t.Error(err)
		}
	}
}

func TestTwoHearEachOther(t *testing.T) {
	w := newWorld(t)
	ea, eb := newEar(), newEar()
	a, b := w.join(t, 1, ea), w.join(t, 2, eb)
	if a.User() != uid(1) {
		t.Errorf("user %v", a.User())
	}
	eb.until(t, "b hears a", speak(t, a, "from a"), func() bool { return eb.heard["1 from a"] > 0 })
	ea.until(t, "a hears b", speak(t, b, "from b"), func() bool { return ea.heard["2 from b"] > 0 })
	ea.until(t, "a knows b", nil, func() bool { return len(ea.events) >= 2 })
	if m := a.Members(); len(m) != 1 || m[0].User != uid(2) || m[0].SSRC != 1002 {
		t.Errorf("%+v", m)
	}
	s := a.Stats()
	if s.Gateway == 0 || s.Placed == 0 || s.Connected == 0 || s.FirstAudio == 0 || s.Voice.Ready == 0 || s.Voice.Description == 0 ||
		s.Voice.ICE == 0 || s.Voice.DTLS == 0 || s.Voice.Sent == 0 || s.Voice.Received == 0 || s.Voice.Node != "n1" || s.Voice.SSRC != 1001 {
		t.Errorf("%+v", s)
	}
	t.Logf("%+v", s)
	b.Close()
	ea.until(t, "a sees b leave", nil, func() bool { return ea.events[len(ea.events)-1] == "member 2 left=true" })
	if !errors.Is(b.Err(), voiceclient.ErrClosed) || a.Err() != nil {
		t.Errorf("%v, %v", b.Err(), a.Err())
	}
}

func TestMuteIsSilent(t *testing.T) {
	w := newWorld(t)
	muted := make(chan []sfu.UserID, 16)
	w.nodes["n1"].Updated = func(u edgeagent.UpdateRequest) error {
		if u.Muted != nil {
			muted <- *u.Muted
		}
		return nil
	}
	ea, eb := newEar(), newEar()
	a, b := w.join(t, 1, ea), w.join(t, 2, eb)
	a.SetMute(true)
	sent := a.Stats().Voice.Sent
	speak(t, a, "nothing")()
	if now := a.Stats().Voice.Sent; now != sent {
		t.Errorf("%d packets sent while muted", now-sent)
	}
	a.SetMute(false)
	eb.until(t, "b hears a", speak(t, a, "again"), func() bool { return eb.heard["1 again"] > 0 })
	b.MuteUser(uid(1), true)
	if list := <-muted; len(list) != 1 || list[0] != uid(1) {
		t.Errorf("muted %v", list)
	}
	b.MuteUser(uid(1), false)
	if list := <-muted; len(list) != 0 {
		t.Errorf("muted %v", list)
	}
}

// The instance that serves the WebSockets dies: media goes on, the session is
// resumed on the other.
func TestResumeWhileMediaGoesOn(t *testing.T) {
	w := newWorld(t)
	ea, eb := newEar(), newEar()
	a, b := w.join(t, 1, ea), w.join(t, 2, eb)
	eb.until(t, "b hears a", speak(t, a, "before"), func() bool { return eb.heard["1 before"] > 0 })
	w.stops[0]()
	eb.until(t, "b hears a meanwhile", speak(t, a, "meanwhile"), func() bool { return eb.heard["1 meanwhile"] > 3 })
	eb.until(t, "both resumed", nil, func() bool { return a.Stats().Voice.Resumes > 0 && b.Stats().Voice.Resumes > 0 })
	before := len(eb.events)
	ec := newEar()
	w.join(t, 3, ec)
	eb.until(t, "b sees c", nil, func() bool { return len(eb.events) > before })
	if a.Stats().Moves != 0 || b.Stats().Moves != 0 {
		t.Error("a resume is no move")
	}
}

func TestFollowsAMove(t *testing.T) {
	w := newWorld(t)
	ea, eb := newEar(), newEar()
	a, b := w.join(t, 1, ea), w.join(t, 2, eb)
	eb.until(t, "b hears a", speak(t, a, "before"), func() bool { return eb.heard["1 before"] > 0 })
	w.gw.place("n2")
	eb.until(t, "both moved", speak(t, a, "meanwhile"), func() bool {
		return a.Stats().Moves == 1 && b.Stats().Moves == 1
	})
	eb.until(t, "b hears a there", speak(t, a, "after"), func() bool { return eb.heard["1 after"] > 0 })
	if n := b.Stats().Voice.Node; n != "n2" {
		t.Errorf("on %s", n)
	}
	ea.until(t, "the old sessions end", nil, func() bool { return len(w.nodes["n1"].Sessions()) == 0 })
	if len(w.nodes["n2"].Sessions()) != 2 {
		t.Errorf("sessions %v", w.nodes["n2"].Sessions())
	}
}

// The node forgets the session: the client is placed again.
func TestPlacedAnew(t *testing.T) {
	w := newWorld(t)
	ea := newEar()
	a := w.join(t, 1, ea)
	w.nodes["n1"].End(w.nodes["n1"].Sessions()[0], string(sfu.EndConsent))
	ea.until(t, "placed anew", nil, func() bool { return a.Stats().Moves == 1 && a.Err() == nil })
	if a.Voice() == nil || len(w.nodes["n1"].Sessions()) != 1 {
		t.Errorf("sessions %v", w.nodes["n1"].Sessions())
	}
}

func TestKicked(t *testing.T) {
	w := newWorld(t)
	a := w.join(t, 1, newEar())
	session := w.nodes["n1"].Sessions()[0]
	w.gw.kick("1")
	w.nodes["n1"].End(session, "kicked") // unless the client was faster
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Fatal("the call goes on")
	}
	if !errors.Is(a.Err(), voiceclient.ErrKicked) {
		t.Error(a.Err())
	}
}

func TestGatewayResumes(t *testing.T) {
	w := newWorld(t)
	ea, eb := newEar(), newEar()
	a := w.join(t, 1, ea)
	w.gw.cut()
	ea.until(t, "resumed", nil, func() bool { return w.gw.resumed() == 1 })
	w.join(t, 2, eb)
	eb.until(t, "the voice session stayed", speak(t, a, "still"), func() bool { return eb.heard["1 still"] > 0 })
	if a.Stats().Moves != 0 {
		t.Error("the call was moved")
	}
	// And a move that came while the gateway was away.
	w.gw.cut()
	w.gw.place("n2")
	ea.until(t, "moved", nil, func() bool { return a.Stats().Moves == 1 && a.Stats().Voice.Node == "n2" })
}

// TestPutOff: whoever finds no room at the gateway comes again when it is told to, be it
// that it joins or that its session was forgotten, and does not wait longer than it may.
func TestPutOff(t *testing.T) {
	w := newWorld(t)
	putOff := func(seconds ...float64) {
		w.gw.mu.Lock()
		defer w.gw.mu.Unlock()
		w.gw.later = seconds
	}
	putOff(0.1, 0.1)
	begun := time.Now()
	e := newEar()
	c := w.join(t, 1, e)
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("joined after %v, told to wait for twice 0.1 s", took)
	}
	putOff(0.1)
	before := c.Stats().Online
	w.gw.forget()
	e.until(t, "back at the gateway", nil, func() bool { return c.Stats().Online.After(before) })
	select {
	case <-c.Done():
		t.Fatalf("the call has ended: %v", c.Err())
	default:
	}
	putOff(50)
	begun = time.Now()
	other, err := voiceclient.Join(context.Background(), voiceclient.Config{Server: w.gw.url, Token: "2", Guild: guild, Channel: channel, Options: newEar().options()})
	if err == nil {
		other.Close()
		t.Fatal("joined though there was no room")
	}
	if errors.Is(err, voiceclient.ErrRefused) || !strings.Contains(err.Error(), "come again in 50s") || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// TestJoinWaits is let in once somebody can take the call, and told at once when nobody
// ever will.
func TestJoinWaits(t *testing.T) {
	w := newWorld(t)
	cfg := voiceclient.Config{Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: newEar().options()}
	w.gw.mu.Lock()
	w.gw.refuse = []string{"unavailable", "no_nodes"}
	w.gw.mu.Unlock()
	c, err := voiceclient.Join(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	w.gw.mu.Lock()
	w.gw.refuse = []string{"channel_full"}
	w.gw.mu.Unlock()
	c, err = voiceclient.Join(context.Background(), cfg)
	if err == nil {
		c.Close()
	}
	var refused *voiceclient.RefusedError
	if !errors.As(err, &refused) || refused.Code != "channel_full" || refused.Message != "not now" {
		t.Errorf("a full channel: %v", err)
	}
}

// TestJoinStandsInLine waits for a seat where there is none, and hears of its place.
func TestJoinStandsInLine(t *testing.T) {
	w := newWorld(t)
	w.gw.mu.Lock()
	w.gw.full = true
	w.gw.mu.Unlock()
	type joined struct {
		call *voiceclient.Call
		err  error
	}
	places := make(map[string]chan int)
	in := make(map[string]chan joined)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	for _, user := range []string{"1", "2"} {
		told, done := make(chan int, 8), make(chan joined, 1)
		places[user], in[user] = told, done
		go func() {
			c, err := voiceclient.Join(ctx, voiceclient.Config{Server: w.gw.url, Token: user, Guild: guild, Channel: channel, Options: newEar().options(),
				Wait: true, OnPlace: func(place int, about time.Duration) {
					if about != time.Duration(5*place)*time.Second {
						t.Errorf("place %d takes %v", place, about)
					}
					told <- place
				}})
			done <- joined{c, err}
		}()
		if place := <-told; place != len(places) {
			t.Fatalf("user %s is number %d", user, place)
		}
	}
	w.gw.seat()
	if place := <-places["2"]; place != 1 {
		t.Errorf("then user 2 is number %d", place)
	}
	first := <-in["1"]
	if first.err != nil {
		t.Fatal(first.err)
	}
	defer first.call.Close()
	leave()
	var refused *voiceclient.RefusedError
	if second := <-in["2"]; !errors.As(second.err, &refused) || refused.Code != "queued" {
		t.Errorf("who leaves the line: %v", second.err)
	}
}

func TestJoinRefused(t *testing.T) {
	w := newWorld(t)
	opts := newEar().options()
	for name, cfg := range map[string]voiceclient.Config{
		"token":   {Server: w.gw.url, Token: "nobody", Guild: guild, Channel: channel, Options: opts},
		"server":  {Server: "ftp://example", Token: "1", Guild: guild, Channel: channel},
		"channel": {Server: w.gw.url, Token: "1", Guild: guild},
		"slots":   {Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: voiceclient.Options{Slots: sfu.MaxSlots + 1}},
		"trust":   {Server: w.gw.url, Token: "1", Guild: guild, Channel: channel},
	} {
		if c, err := voiceclient.Join(context.Background(), cfg); err == nil {
			c.Close()
			t.Errorf("%s: joined", name)
		} else if name == "token" && !errors.Is(err, voiceclient.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := voiceclient.Join(ctx, voiceclient.Config{Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: opts}); err == nil {
		c.Close()
		t.Error("joined after the context had ended")
	}
	// The node takes nobody: the reason is told.
	w.nodes["n1"].Opening = func(edgeagent.Grant) (sfu.SSRC, error) {
		return 0, &edgeagent.Error{Code: edgeagent.CodeFull}
	}
	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	c, err := voiceclient.Join(short, voiceclient.Config{Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: opts})
	if err == nil {
		c.Close()
	}
	var closed *voiceclient.CloseError
	if !errors.As(err, &closed) || closed.Code != signaling.CloseNotFound {
		t.Error(err)
	}
	// A grant for somebody else, at the lower door.
	token := w.issuer.Token(edgeagent.Grant{ID: "x", Node: "n1", Guild: "10", Call: sfu.CallID{ID: 20}, User: uid(7), Session: "gw"})
	_, err = voiceclient.Dial(context.Background(), voiceclient.Endpoint{
		URLs: []string{"wss://" + w.hosts[0]}, Guild: guild, User: uid(1), Session: "gw", Token: token,
	}, opts)
	if !errors.As(err, &closed) || closed.Code != signaling.CloseAuthentication {
		t.Error(err)
	}
}

// dying are nodes whose answers to one kind of request are nobody's any more: whoever
// asked first ends meanwhile.
type dying struct {
	both
	verb string
	die  func()
	once *sync.Once
}

func (d *dying) lose(ctx context.Context, verb string) {
	if verb != d.verb {
		return
	}
	d.once.Do(func() {
		go d.die()
		<-ctx.Done()
	})
}

func (d *dying) Open(ctx context.Context, id edgeagent.NodeID, r edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	d.lose(ctx, "before open")
	if ctx.Err() != nil {
		return edgeagent.SessionReply{}, ctx.Err()
	}
	rep, err := d.both.Open(ctx, id, r)
	d.lose(ctx, "open")
	return rep, err
}

func (d *dying) Negotiate(ctx context.Context, id edgeagent.NodeID, r edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	d.lose(ctx, "before negotiate")
	if ctx.Err() != nil {
		return edgeagent.NegotiateReply{}, ctx.Err()
	}
	rep, err := d.both.Negotiate(ctx, id, r)
	d.lose(ctx, "negotiate")
	return rep, err
}

// TestServerDiesWhileOneJoins ends the voice gateway that a client joins by. It goes on
// by the other one with what there is, and asks for no second grant, which would take its
// time; only an answer to its offer that was lost makes it come anew.
func TestServerDiesWhileOneJoins(t *testing.T) {
	for _, at := range []string{"before open", "open", "before negotiate", "negotiate"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			d := dying{both: both(w.nodes), verb: at, once: new(sync.Once)}
			var first string
			first, d.die = instance(t, signalingserver.Config{Nodes: &d, Keys: w.issuer.Keys})
			w.gw.mu.Lock()
			w.gw.endpoints = []string{first, w.hosts[1]}
			w.gw.mu.Unlock()
			c := w.join(t, 1, newEar())
			if n := w.gw.asked(); n != 0 {
				t.Errorf("another seat was asked for %d times", n)
			}
			w.gw.mu.Lock()
			placed := w.gw.grants - 1 // the first is of the gateway's session
			w.gw.mu.Unlock()
			if want := map[bool]int{false: 1, true: 2}[at == "negotiate"]; placed != want {
				t.Errorf("placed %d times, want %d", placed, want)
			}
			if moves := c.Stats().Moves; moves != 0 {
				t.Errorf("%d moves", moves)
			}
		})
	}
}

// refusing are nodes that open no session.
type refusing struct{ both }

func (refusing) Open(context.Context, edgeagent.NodeID, edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	return edgeagent.SessionReply{}, &edgeagent.Error{Code: edgeagent.CodeUnavailable, Message: "media engine is starting"}
}

// TestRefusedJoinIsNoStorm has every session refused. Each time the join waits longer
// before it asks for another seat.
func TestRefusedJoinIsNoStorm(t *testing.T) {
	w := newWorld(t)
	first, _ := instance(t, signalingserver.Config{Nodes: refusing{both(w.nodes)}, Keys: w.issuer.Keys})
	w.gw.mu.Lock()
	w.gw.endpoints = []string{first}
	w.gw.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_, err := voiceclient.Join(ctx, voiceclient.Config{Server: w.gw.url, Token: "1", Guild: guild, Channel: channel, Options: newEar().options()})
	var closed *voiceclient.CloseError
	if !errors.As(err, &closed) || closed.Code != signaling.CloseNotFound {
		t.Errorf("joined with %v", err)
	}
	w.gw.mu.Lock()
	defer w.gw.mu.Unlock()
	// 0, 0.05, 0.15, 0.35, 0.75, 1.55 and 3.15 s at the soonest.
	if placed := w.gw.grants - 1; placed < 2 || placed > 7 {
		t.Errorf("placed %d times", placed)
	}
}

// TestHoldsItsSeat has the gateway forget everything. A client whose voice session lives
// says so, and opens no other.
func TestHoldsItsSeat(t *testing.T) {
	w := newWorld(t)
	e := newEar()
	c := w.join(t, 1, e)
	w.gw.forget()
	e.until(t, "it says what it holds", nil, func() bool {
		w.gw.mu.Lock()
		defer w.gw.mu.Unlock()
		return len(w.gw.held) > 0
	})
	w.gw.mu.Lock()
	held, placed := w.gw.held[0], w.gw.grants-2 // two gateway sessions
	w.gw.mu.Unlock()
	if placed != 1 || held != "voice2" {
		t.Errorf("placed %d times, holds %q", placed, held)
	}
	if s := c.Stats(); s.Moves != 0 {
		t.Errorf("%d moves", s.Moves)
	}
}

// TestHoldsNoSeatElsewhere has a moderator move a client, and the gateway forget
// everything before it names the voice server there. The client is not in that channel by
// the session that it has still.
func TestHoldsNoSeatElsewhere(t *testing.T) {
	w := newWorld(t)
	e := newEar()
	c := w.join(t, 1, e)
	w.gw.shift(channel + 1)
	e.until(t, "it knows where it is", nil, func() bool {
		c.SetMute(true) // says where it wants to be
		w.gw.mu.Lock()
		defer w.gw.mu.Unlock()
		return w.gw.wanted == channel+1
	})
	w.gw.mu.Lock()
	w.gw.held = nil
	w.gw.mu.Unlock()
	w.gw.forget()
	e.until(t, "it is placed anew", nil, func() bool {
		w.gw.mu.Lock()
		defer w.gw.mu.Unlock()
		return w.gw.grants >= 4 || len(w.gw.held) > 0 // two gateway sessions
	})
	w.gw.mu.Lock()
	defer w.gw.mu.Unlock()
	if len(w.gw.held) > 0 {
		t.Errorf("says that it holds %v", w.gw.held)
	}
}
