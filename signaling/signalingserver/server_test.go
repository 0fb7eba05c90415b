package signalingserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
	"voicefleet/signaling/signalingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// count is the value of a counter.
func count(t testing.TB, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

const patience = 20 * time.Second

// instance is one signaling server behind a real listener.
type instance struct {
	*Server
	url  string // ws:// or wss://
	stop func() error
}

func serve(t testing.TB, cfg Config, secure bool) *instance {
	t.Helper()
	if secure {
		return serveBy(t, cfg, (*httptest.Server).StartTLS)
	}
	return serveBy(t, cfg, (*httptest.Server).Start)
}

func serveBy(t testing.TB, cfg Config, start func(*httptest.Server)) *instance {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(s)
	start(h)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	i := &instance{Server: s, url: "ws" + strings.TrimPrefix(h.URL, "http")}
	var err2 error
	stopped := false
	i.stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			err2 = <-ended
			h.Close()
		}
		return err2
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// client is a scripted WebSocket client.
type client struct {
	t    testing.TB
	ws   *gws.Conn
	got  chan string
	pong chan string
	code chan uint16
	gws.BuiltinEventHandler
}

func (c *client) OnMessage(_ *gws.Conn, m *gws.Message) { c.got <- string(m.Bytes()) }
func (c *client) OnPong(_ *gws.Conn, p []byte)          { c.pong <- string(p) }
func (c *client) OnClose(_ *gws.Conn, err error) {
	code := uint16(0)
	if e := (*gws.CloseError)(nil); !errors.As(err, &e) {
		c.t.Logf("connection ended: %v", err)
	} else {
		code = e.Code
	}
	c.code <- code
	close(c.got)
}

func dial(t testing.TB, url string) *client {
	t.Helper()
	c := &client{t: t, got: make(chan string, 4096), pong: make(chan string, 1), code: make(chan uint16, 1)}
	ws, _, err := gws.NewClient(c, &gws.ClientOption{Addr: url, TlsConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	c.ws = ws
	done := make(chan struct{})
	go func() { defer close(done); ws.ReadLoop() }()
	t.Cleanup(func() { ws.NetConn().Close(); <-done })
	return c
}

func (c *client) send(op signaling.Op, v any) {
	c.t.Helper()
	b, err := signaling.AppendMessage(nil, op, 0, v)
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(string(b))
}

func (c *client) raw(s string) {
	c.t.Helper()
	if err := c.ws.WriteString(s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) next() signaling.Message {
	c.t.Helper()
	select {
	case s, ok := <-c.got:
		if !ok {
			c.t.Fatalf("closed with %d instead of a message", <-c.code)
		}
		m, err := signaling.ReadMessage([]byte(s))
		if err != nil {
			c.t.Fatalf("%s: %v", s, err)
		}
		return m
	case <-time.After(patience):
		c.t.Fatal("no message")
		panic("unreachable")
	}
}

// want skips to a message of the op and decodes it.
func (c *client) want(op signaling.Op, v any) signaling.Message {
	c.t.Helper()
	for {
		m := c.next()
		if m.Op != op {
			continue
		}
		if v != nil {
			if err := m.Payload(v); err != nil {
				c.t.Fatal(err)
			}
		}
		return m
	}
}

func (c *client) closed(want signaling.CloseCode) {
	c.t.Helper()
	select {
	case code := <-c.code:
		if code != uint16(want) {
			c.t.Fatalf("closed with %d, want %v", code, want)
		}
	case <-time.After(patience):
		c.t.Fatalf("not closed, want %v", want)
	}
}

func uid(n int) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

var call = sfu.CallID{ID: 20}

func grantOf(user int, session string) edgeagent.Grant {
	return edgeagent.Grant{
		ID: sfu.SessionID(session), Node: "n1", Guild: "10", Call: call, User: uid(user), Session: fmt.Sprint("gw", user), Rights: sfu.Rights{Speak: true},
	}
}

func identify(g edgeagent.Grant, token string) signaling.Identify {
	return signaling.Identify{Server: 10, User: g.User, Session: g.Session, Token: token}
}

type fixture struct {
	issuer *signalingtest.Issuer
	node   *signalingtest.Node
	cfg    Config
}

func newFixture() *fixture {
	issuer := signalingtest.NewIssuer(1)
	node := signalingtest.NewNode("n1", issuer)
	return &fixture{issuer, node, Config{Nodes: node, Keys: issuer.Keys}}
}

// join goes as far as the state of the call.
func (f *fixture) join(t testing.TB, i *instance, user int, session string) (*client, string) {
	t.Helper()
	g := grantOf(user, session)
	token := f.issuer.Token(g)
	c := dial(t, i.url+"/?v=8")
	c.send(signaling.OpIdentify, identify(g, token))
	c.want(signaling.OpReady, nil)
	c.send(signaling.OpSelectProtocol, signaling.Select{Protocol: "webrtc", Offer: "v=0"})
	c.want(signaling.OpClientsConnect, nil)
	return c, token
}

func TestCallOfTwo(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			f := newFixture()
			i := serve(t, f.cfg, secure)
			a, _ := f.join(t, i, 1, "a")
			g := grantOf(2, "b")
			b := dial(t, i.url+"?v=8")
			b.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
			if m := b.next(); m.Op != signaling.OpHello {
				t.Fatalf("op %d comes first", m.Op)
			}
			var ready signaling.Ready
			if m := b.want(signaling.OpReady, &ready); m.Seq != 1 || ready.IP != "127.0.0.1" || ready.Port != 50000 || ready.SSRC != 1002 || ready.Node != "n1" {
				t.Errorf("%+v, %+v", m, ready)
			}
			b.send(signaling.OpSelectProtocol, signaling.Select{Protocol: "webrtc", Offer: "v=0"})
			var d signaling.Description
			if m := b.next(); m.Op != signaling.OpDescription || m.Payload(&d) != nil || d.Type != "answer" {
				t.Errorf("%d, %+v", m.Op, d)
			}
			var all signaling.ClientsConnect
			if m := b.next(); m.Op != signaling.OpClientsConnect || m.Payload(&all) != nil || !all.All || len(all.Users) != 1 || all.Users[0] != uid(1) {
				t.Errorf("%d, %+v", m.Op, all)
			}
			var sp signaling.Speaking
			if m := b.next(); m.Op != signaling.OpSpeaking || m.Payload(&sp) != nil || sp != (signaling.Speaking{User: uid(1), SSRC: 1001}) {
				t.Errorf("%d, %+v", m.Op, sp)
			}
			all = signaling.ClientsConnect{}
			a.want(signaling.OpClientsConnect, &all)
			if all.All || len(all.Users) != 1 || all.Users[0] != uid(2) {
				t.Errorf("%+v", all)
			}
			a.want(signaling.OpSpeaking, nil)
			b.send(signaling.OpSpeaking, signaling.Speaking{Flags: 1})
			if a.want(signaling.OpSpeaking, &sp); sp.User != uid(2) || sp.SSRC != 1002 || sp.Flags != 1 {
				t.Errorf("%+v", sp)
			}
			f.node.Seat("a", edgeagent.Seat{Slot: 3, MID: "4", User: uid(2), SSRC: 1002})
			var slots signaling.Slots
			if a.want(signaling.OpSlots, &slots); len(slots.Slots) != 1 || slots.Slots[0] != (signaling.Seat{Slot: 3, MID: "4", User: uid(2), SSRC: 1002}) {
				t.Errorf("%+v", slots)
			}
			b.raw(`{"op":3,"d":{"t":9007199254740993,"seq_ack":2}}`)
			if m := b.want(signaling.OpHeartbeatAck, nil); string(m.Data) != `{"t":9007199254740993}` {
				t.Errorf("%s", m.Data)
			}
			if err := b.ws.WritePing([]byte("hi")); err != nil || <-b.pong != "hi" {
				t.Error("a ping is not echoed")
			}
			// A clean close ends the session and tells the other one.
			_ = b.ws.WriteClose(1000, nil)
			var left signaling.Disconnect
			if a.want(signaling.OpDisconnect, &left); left.User != uid(2) {
				t.Errorf("%+v", left)
			}
			if s := f.node.Sessions(); len(s) != 1 {
				t.Errorf("sessions %v", s)
			}
		})
	}
}

func TestCloseCodes(t *testing.T) {
	f := newFixture()
	reg := prometheus.NewRegistry()
	f.cfg.Metrics = reg
	i := serve(t, f.cfg, false)
	n := 0
	joined := func(t *testing.T) *client {
		n++
		c, _ := f.join(t, i, 100+n, fmt.Sprint("s", n))
		return c
	}
	ready := func(t *testing.T) *client {
		n++
		g := grantOf(100+n, fmt.Sprint("s", n))
		c := dial(t, i.url+"/?v=8")
		c.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
		c.want(signaling.OpReady, nil)
		return c
	}
	fresh := func(t *testing.T) *client { return dial(t, i.url+"/?v=8") }
	identified := func(change func(*edgeagent.Grant, *signaling.Identify)) func(t *testing.T) *client {
		return func(t *testing.T) *client {
			n++
			g := grantOf(100+n, fmt.Sprint("s", n))
			id := identify(g, "")
			change(&g, &id)
			if id.Token == "" {
				id.Token = f.issuer.Token(g)
			}
			c := fresh(t)
			c.send(signaling.OpIdentify, id)
			return c
		}
	}
	last := func() sfu.SessionID { return sfu.SessionID(fmt.Sprint("s", n)) }
	for _, c := range []struct {
		name string
		with func(*testing.T) *client
		do   func(*client)
		want signaling.CloseCode
	}{
		{"unknown op", fresh, func(c *client) { c.raw(`{"op":99,"d":{}}`) }, signaling.CloseUnknownOp},
		{"op of the server", joined, func(c *client) { c.raw(`{"op":2,"d":{}}`) }, signaling.CloseUnknownOp},
		{"not JSON", fresh, func(c *client) { c.raw(`hello`) }, signaling.CloseDecode},
		{"not UTF-8", fresh, func(c *client) { c.raw("\xff\xfe") }, signaling.CloseDecode},
		{"no d", fresh, func(c *client) { c.raw(`{"op":3}`) }, signaling.CloseDecode},
		{"binary", joined, func(c *client) { c.ws.WriteMessage(gws.OpcodeBinary, []byte{26, 1}) }, signaling.CloseDecode},
		{"deep JSON", joined, func(c *client) { c.raw(strings.Repeat("[", 60_000)) }, signaling.CloseDecode},
		{"too big", joined, func(c *client) { c.raw(`{"op":5,"d":"` + strings.Repeat("x", signaling.MaxMessage) + `"}`) }, signaling.CloseTooBig},
		{"too big for a stranger", fresh, func(c *client) { c.raw(strings.Repeat("x", signaling.MaxFirstMessage+1)) }, signaling.CloseTooBig},
		{"many bytes of a stranger", fresh, func(c *client) {
			for range 3 {
				c.ws.WriteString(`{"op":3,"d":` + strings.Repeat(" ", 6_000) + `1}`)
			}
		}, signaling.CloseTooBig},
		{"not identified", fresh, func(c *client) { c.raw(`{"op":5,"d":{"speaking":1}}`) }, signaling.CloseNotAuthenticated},
		{"identified twice", ready, func(c *client) { c.raw(`{"op":0,"d":{}}`) }, signaling.CloseAlreadyIdentified},
		{"resume after identify", ready, func(c *client) { c.raw(`{"op":7,"d":{}}`) }, signaling.CloseAlreadyIdentified},
		{"forged", identified(func(g *edgeagent.Grant, id *signaling.Identify) { id.Token = signalingtest.NewIssuer(2).Token(*g) }), nil, signaling.CloseAuthentication},
		{"expired", identified(func(g *edgeagent.Grant, id *signaling.Identify) { g.Expires = time.Now().Add(-time.Minute) }), nil, signaling.CloseAuthentication},
		{"used", identified(func(g *edgeagent.Grant, id *signaling.Identify) { g.ID = "s1" }), nil, signaling.CloseAuthentication},
		{"other guild", identified(func(g *edgeagent.Grant, id *signaling.Identify) { id.Server = 11 }), nil, signaling.CloseAuthentication},
		{"other user", identified(func(g *edgeagent.Grant, id *signaling.Identify) { id.User = uid(7) }), nil, signaling.CloseAuthentication},
		{"other gateway session", identified(func(g *edgeagent.Grant, id *signaling.Identify) { id.Session = "x" }), nil, signaling.CloseAuthentication},
		{"other channel", identified(func(g *edgeagent.Grant, id *signaling.Identify) { id.Channel = sfu.CallID{ID: 21} }), nil, signaling.CloseAuthentication},
		{"no such node", identified(func(g *edgeagent.Grant, id *signaling.Identify) { g.Node = "n2" }), nil, signaling.CloseNotFound},
		{"resume of nothing", fresh, func(c *client) {
			g := grantOf(1, "never")
			c.send(signaling.OpResume, signaling.Resume{Server: 10, Session: g.Session, Token: f.issuer.Token(g)})
		}, signaling.CloseSessionInvalid},
		{"unknown protocol", ready, func(c *client) {
			c.raw(`{"op":1,"d":{"protocol":"udp","data":{"address":"1.2.3.4","port":5,"mode":"x"}}}`)
		}, signaling.CloseUnknownProtocol},
		{"unknown version", func(t *testing.T) *client { return dial(t, i.url+"/?v=10") }, nil, signaling.CloseUnknownProtocol},
		{"second offer", joined, func(c *client) {
			c.send(signaling.OpSelectProtocol, signaling.Select{Protocol: "webrtc", Offer: "v=0"})
		}, signaling.CloseRateLimited},
		{"flood", ready, func(c *client) {
			for range signaling.MaxFrames + 1 {
				c.ws.WriteString(`{"op":3,"d":{"t":1}}`)
			}
		}, signaling.CloseRateLimited},
		{"ping flood", ready, func(c *client) {
			go func() {
				for range c.pong {
				}
			}()
			defer close(c.pong)
			for range signaling.MaxFrames + 1 {
				c.ws.WritePing(nil)
			}
			c.closed(signaling.CloseRateLimited)
			c.code <- uint16(signaling.CloseRateLimited)
		}, signaling.CloseRateLimited},
		{"kicked", joined, func(*client) { f.node.End(last(), "kicked") }, signaling.CloseDisconnected},
		{"joined elsewhere", joined, func(c *client) {
			g := grantOf(100+n, "again")
			d := dial(c.t, i.url+"/?v=8")
			d.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
		}, signaling.CloseDisconnected},
		{"engine died", joined, func(*client) { f.node.End(last(), string(sfu.EndPanic)) }, signaling.CloseCrashed},
		{"media died", joined, func(*client) { f.node.End(last(), string(sfu.EndConsent)) }, signaling.CloseSessionInvalid},
		{"mute of minus one", joined, func(c *client) { c.raw(`{"op":15,"d":{"1":-1}}`) }, signaling.CloseDecode},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := c.with(t)
			if c.do != nil {
				c.do(conn)
			}
			conn.closed(c.want)
		})
	}
	f.node.Answer = func(sfu.SessionID, string) (edgeagent.NegotiateReply, error) {
		return edgeagent.NegotiateReply{}, &edgeagent.Error{Code: edgeagent.CodeBadRequest}
	}
	t.Run("offer that cannot be answered", func(t *testing.T) {
		c := ready(t)
		c.send(signaling.OpSelectProtocol, signaling.Select{Protocol: "webrtc", Offer: "v=0"})
		c.closed(signaling.CloseBadRequest)
	})
	if got := count(t, i.metrics.closes.WithLabelValues("4004")); got != 7 {
		t.Errorf("%v authentication failures counted", got)
	}
}

// Deadlines are short here: the core's own are tested with a clock of its own.
func TestHeartbeatTimeout(t *testing.T) {
	f := newFixture()
	f.cfg.Heartbeat = 20 * time.Millisecond
	i := serve(t, f.cfg, false)
	g := grantOf(1, "a")
	c := dial(t, i.url+"/?v=8")
	c.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
	c.closed(signaling.CloseTimeout)
	if len(f.node.Sessions()) != 1 {
		t.Error("the session ended with its connection")
	}
}

func TestResumeReplaysOnTheSameInstance(t *testing.T) {
	f := newFixture()
	i := serve(t, f.cfg, false)
	a, token := f.join(t, i, 1, "a")
	_ = a.ws.NetConn().Close() // the network is gone
	f.join(t, i, 2, "b")
	again := dial(t, i.url+"/?v=8")
	seen := int64(3)
	again.send(signaling.OpResume, signaling.Resume{Server: 10, Session: "gw1", Token: token, SeqAck: &seen})
	if m := again.next(); m.Op != signaling.OpHello {
		t.Fatalf("op %d", m.Op)
	}
	if m := again.next(); m.Op != signaling.OpResumed || string(m.Data) != "null" {
		t.Fatalf("op %d %s", m.Op, m.Data)
	}
	var who signaling.ClientsConnect
	if m := again.next(); m.Op != signaling.OpClientsConnect || m.Seq != 4 || m.Payload(&who) != nil || who.All || who.Users[0] != uid(2) {
		t.Fatalf("op %d seq %d %+v", m.Op, m.Seq, who)
	}
	again.want(signaling.OpSpeaking, nil)
	// While the first connection still seems to be up, too.
	third := dial(t, i.url+"/?v=8")
	third.send(signaling.OpResume, signaling.Resume{Server: 10, Session: "gw1", Token: token})
	third.want(signaling.OpResumed, nil)
	if third.want(signaling.OpClientsConnect, &who); !who.All {
		t.Errorf("%+v", who)
	}
	again.closed(signaling.CloseTimeout)
	third.raw(`{"op":3,"d":{"t":5}}`)
	third.want(signaling.OpHeartbeatAck, nil)
	if len(f.node.Sessions()) != 2 {
		t.Errorf("sessions %v", f.node.Sessions())
	}
}

func TestResumeOnAnotherInstance(t *testing.T) {
	f := newFixture()
	i, j := serve(t, f.cfg, false), serve(t, f.cfg, true)
	a, token := f.join(t, i, 1, "a")
	b, _ := f.join(t, j, 2, "b")
	a.want(signaling.OpSpeaking, nil)
	f.node.Seat("a", edgeagent.Seat{Slot: 0, MID: "1", User: uid(2), SSRC: 1002})
	seq := a.want(signaling.OpSlots, nil).Seq
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	a.closed(signaling.CloseCrashed)
	again := dial(t, j.url+"/?v=8")
	seen := int64(seq)
	again.send(signaling.OpResume, signaling.Resume{Server: 10, Session: "gw1", Token: token, SeqAck: &seen})
	again.want(signaling.OpResumed, nil)
	var who signaling.ClientsConnect
	if m := again.next(); m.Op != signaling.OpClientsConnect || m.Seq != seq+1 || m.Payload(&who) != nil || !who.All {
		t.Fatalf("op %d seq %d %+v", m.Op, m.Seq, who)
	}
	var slots signaling.Slots
	if again.want(signaling.OpSlots, &slots); !slots.All || len(slots.Slots) != 1 {
		t.Errorf("%+v", slots)
	}
	b.send(signaling.OpSpeaking, signaling.Speaking{Flags: 1})
	again.want(signaling.OpSpeaking, nil)
	_ = again.ws.WriteClose(1000, nil)
	b.want(signaling.OpDisconnect, nil)
	if len(f.node.Sessions()) != 1 {
		t.Errorf("sessions %v", f.node.Sessions())
	}
}

// TestSilence: what clients say about a silent node is counted and passed on.
func TestSilence(t *testing.T) {
	f := newFixture()
	told := make(chan edgeagent.Silence, 16)
	f.cfg.Silent = func(s edgeagent.Silence) { told <- s }
	i := serve(t, f.cfg, false)
	a, _ := f.join(t, i, 1, "a")
	b, _ := f.join(t, i, 2, "b")
	next := func() edgeagent.Silence {
		t.Helper()
		select {
		case s := <-told:
			return s
		case <-time.After(patience):
			t.Fatal("nothing is told")
			panic("unreachable")
		}
	}
	a.send(signaling.OpReceiveReport, signaling.ReceiveReport{Received: 5, Silent: 1500})
	if got := next(); got != (edgeagent.Silence{Node: "n1", Silent: 1, Of: 1}) {
		t.Errorf("%+v", got)
	}
	// Within a quarter of a second of the first it waits, and is not lost.
	b.send(signaling.OpReceiveReport, signaling.ReceiveReport{Silent: 1000})
	if got := next(); got != (edgeagent.Silence{Node: "n1", Silent: 2, Of: 2}) {
		t.Errorf("%+v", got)
	}
}

func TestStrangersAreFew(t *testing.T) {
	d := &door{connections: 5, strangers: 3, perPrefix: 2, prefixes: make(map[netip.Addr]int)}
	enter := func(addr string) *conn {
		c := &conn{addr: prefix(netip.MustParseAddr(addr))}
		if !d.enter(c.addr) {
			return nil
		}
		return c
	}
	a, b := enter("192.0.2.1"), enter("::ffff:192.0.2.1")
	if a == nil || b == nil || enter("192.0.2.1") != nil {
		t.Fatal("not two per address")
	}
	d.proved(a)
	d.proved(a)
	c := enter("2001:db8::1")
	if c == nil || enter("2001:db8::2") == nil || enter("192.0.2.9") != nil {
		t.Fatal("not three strangers")
	}
	d.exit(b)
	d.exit(c)
	first, second, third := enter("127.0.0.1"), enter("127.0.0.1"), enter("127.0.0.1")
	if first == nil || second == nil || third != nil {
		t.Fatal("loopback is bounded by the strangers only")
	}
	d.exit(a)
	if d.total != 3 || d.unproved != 3 || len(d.prefixes) != 1 {
		t.Errorf("%+v", d)
	}
}

func TestStrangersOverTheWire(t *testing.T) {
	f := newFixture()
	f.cfg.Strangers = 2
	i := serve(t, f.cfg, false)
	f.join(t, i, 1, "a") // known: does not count
	one := dial(t, i.url)
	dial(t, i.url).want(signaling.OpHello, nil)
	_, resp, err := gws.NewClient(one, &gws.ClientOption{Addr: i.url})
	if err == nil || resp == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = one.ws.WriteClose(1000, nil)
	for deadline := time.Now().Add(patience); ; {
		ws, _, err := gws.NewClient(gws.BuiltinEventHandler{}, &gws.ClientOption{Addr: i.url})
		if err == nil {
			_ = ws.NetConn().Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestOrdinaryRequests(t *testing.T) {
	f := newFixture()
	i := serve(t, f.cfg, false)
	for path, want := range map[string]int{"/": http.StatusUpgradeRequired, "/other": http.StatusNotFound} {
		resp, err := http.Get("http" + strings.TrimPrefix(i.url, "ws") + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// A client that does not read loses its connection, not its session, and costs
// the others nothing.
func TestSlowReader(t *testing.T) {
	f := newFixture()
	i := serve(t, f.cfg, false)
	a, token := f.join(t, i, 1, "a")
	f.join(t, i, 2, "b")
	a.want(signaling.OpClientsConnect, nil)
	// The connection of a is not read any more: its own buffers and those of
	// the kernel fill up, then the outbox.
	stuck := &client{t: t, got: make(chan string), pong: make(chan string, 1), code: make(chan uint16, 1)}
	ws, _, err := gws.NewClient(stuck, &gws.ClientOption{Addr: i.url + "/?v=8"})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.NetConn().Close()
	stuck.ws = ws
	stuck.send(signaling.OpResume, signaling.Resume{Server: 10, Session: "gw1", Token: token})
	a.closed(signaling.CloseTimeout)
	deadline := time.Now().Add(patience)
	for n := 0; count(t, i.metrics.closes.WithLabelValues("1013")) == 0; n++ {
		f.node.Publish(edgeagent.CallEvent{Call: call, Speaking: &edgeagent.Member{User: uid(2), SSRC: 1002, Flags: 1 + n%2}})
		if time.Now().After(deadline) {
			t.Fatal("a connection that is not read stays")
		}
	}
	again := dial(t, i.url+"/?v=8")
	again.send(signaling.OpResume, signaling.Resume{Server: 10, Session: "gw1", Token: token})
	again.want(signaling.OpResumed, nil)
}

// A leaver is a listener whose connections, once the client has left, fail to write
// before they give what the client said last.
type leaver struct {
	net.Listener
	left   atomic.Bool
	failed chan struct{}
	once   sync.Once
}

func (l *leaver) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &leaving{c, l}, err
}

type leaving struct {
	net.Conn
	of *leaver
}

func (c *leaving) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.of.left.Load() {
		<-c.of.failed
	}
	return n, err
}

func (c *leaving) Write(p []byte) (int, error) {
	if c.of.left.Load() {
		c.of.once.Do(func() { close(c.of.failed) })
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// Whoever leaves and does not wait for the answer has left, though what was just being
// said to it finds nobody.
func TestLeavesWhileWrittenTo(t *testing.T) {
	f := newFixture()
	ended := make(chan sfu.SessionID, 1)
	f.node.Ending = func(id sfu.SessionID) { ended <- id }
	l := &leaver{failed: make(chan struct{})}
	i := serveBy(t, f.cfg, func(h *httptest.Server) {
		l.Listener = h.Listener
		h.Listener = l
		h.Start()
	})
	a, _ := f.join(t, i, 1, "a")
	f.join(t, i, 2, "b")
	a.want(signaling.OpClientsConnect, nil)
	l.left.Store(true)
	if err := a.ws.WriteClose(1000, nil); err != nil {
		t.Fatal(err)
	}
	f.node.Publish(edgeagent.CallEvent{Call: call, Speaking: &edgeagent.Member{User: uid(2), SSRC: 1002, Flags: 1}})
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
}

// faulty panics at each call of one channel.
type faulty struct {
	*signalingtest.Node
	at sfu.CallID
}

func (f *faulty) SubscribeCall(call sfu.CallID, on func(edgeagent.CallEvent)) (func(), error) {
	if call == f.at {
		panic("a fault in the session's goroutine")
	}
	return f.Node.SubscribeCall(call, on)
}

func (f *faulty) Negotiate(ctx context.Context, node edgeagent.NodeID, req edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	if req.Offer == "poison" {
		panic("a fault in a request")
	}
	return f.Node.Negotiate(ctx, node, req)
}

// slow subscribes to one call when it is let.
type slow struct {
	*signalingtest.Node
	at      sfu.CallID
	asked   chan struct{}
	release chan struct{}
}

func (s *slow) SubscribeCall(call sfu.CallID, on func(edgeagent.CallEvent)) (func(), error) {
	if call == s.at {
		s.asked <- struct{}{}
		<-s.release
	}
	return s.Node.SubscribeCall(call, on)
}

// A bus that takes its time for one call keeps nobody from another.
func TestSlowSubscription(t *testing.T) {
	f := newFixture()
	nodes := &slow{f.node, sfu.CallID{ID: 66}, make(chan struct{}, 2), make(chan struct{})}
	f.cfg.Nodes = nodes
	i := serve(t, f.cfg, false)
	g := grantOf(1, "a")
	g.Call = nodes.at
	a := dial(t, i.url+"/?v=8")
	a.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
	<-nodes.asked
	f.join(t, i, 2, "b") // another call
	close(nodes.release)
	a.want(signaling.OpReady, nil)
	if len(nodes.asked) > 0 {
		t.Error("the call was subscribed to twice")
	}
}

// A panic ends one session's serving and nothing else.
func TestPanicEndsOneUnit(t *testing.T) {
	f := newFixture()
	poison := sfu.CallID{ID: 66}
	f.cfg.Nodes = &faulty{f.node, poison}
	i := serve(t, f.cfg, false)
	b, _ := f.join(t, i, 2, "b")
	g := grantOf(1, "a")
	g.Call = poison
	a := dial(t, i.url+"/?v=8")
	a.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
	a.closed(signaling.CloseCrashed)
	g = grantOf(3, "c")
	c := dial(t, i.url+"/?v=8")
	c.send(signaling.OpIdentify, identify(g, f.issuer.Token(g)))
	c.want(signaling.OpReady, nil)
	c.send(signaling.OpSelectProtocol, signaling.Select{Protocol: "webrtc", Offer: "poison"})
	c.closed(signaling.CloseCrashed)
	if got := count(t, i.metrics.panics); got != 2 {
		t.Fatalf("%v panics counted", got)
	}
	b.raw(`{"op":3,"d":{"t":5}}`)
	b.want(signaling.OpHeartbeatAck, nil)
}

func TestLastMemberUnsubscribes(t *testing.T) {
	f := newFixture()
	i := serve(t, f.cfg, false)
	a, _ := f.join(t, i, 1, "a")
	b, _ := f.join(t, i, 2, "b")
	first, last := i.holder("a"), i.holder("b")
	_ = a.ws.WriteClose(1000, nil)
	b.want(signaling.OpDisconnect, nil)
	<-first.done
	if !f.node.Watched(call) {
		t.Error("the other member hears nothing any more")
	}
	_ = b.ws.WriteClose(1000, nil)
	<-last.done
	if f.node.Watched(call) {
		t.Error("nobody is here, and the call is still subscribed to")
	}
}
