package chatserver

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"voicefleet/internal/bus/bustest"
	"voicefleet/textchat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, bustest.Left()...) }

func TestLoginToVoice(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	bo := w.enter(boss)
	ann := w.guest("Ann")
	if got := bo.event("GUILD_MEMBER_ADD")["user"].(map[string]any)["global_name"]; got != "Ann" {
		t.Fatalf("member is %v", got)
	}
	a := w.enter(ann)
	lobby := w.channelID(ann, "Lobby")

	a.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place "+ann.id+" speak=true mute=false deaf=false echo=false")
	state := a.event("VOICE_STATE_UPDATE")
	if state["channel_id"] != lobby || state["session_id"] != a.session || state["member"].(map[string]any)["joined_at"] == nil {
		t.Fatalf("voice state: %v", state)
	}
	server := a.event("VOICE_SERVER_UPDATE")
	if server["token"] != "grant1" || server["endpoint"] != "127.0.0.1:8443" {
		t.Fatalf("voice server: %v", server)
	}
	if got := bo.event("VOICE_STATE_UPDATE"); got["user_id"] != ann.id || got["channel_id"] != lobby {
		t.Fatalf("boss saw %v", got)
	}

	// Only the flags change: no new server.
	a.joinVoice(w.guildID(), lobby, true)
	if got := a.event("VOICE_STATE_UPDATE"); got["self_mute"] != true {
		t.Fatalf("flags: %v", got)
	}
	bo.event("VOICE_STATE_UPDATE")

	// A newcomer sees who is there.
	late := w.dial("?v=9&encoding=json")
	late.next()
	late.send(2, identify(boss.token, allIntents))
	if v := late.event("READY")["v"]; v != 9.0 {
		t.Fatalf("v is %v", v)
	}
	g := late.event("GUILD_CREATE")
	if states := g["voice_states"].([]any); len(states) != 1 || states[0].(map[string]any)["user_id"] != ann.id {
		t.Fatalf("voice states: %v", g["voice_states"])
	}

	a.joinVoice(w.guildID(), nil, false)
	if got := a.event("VOICE_STATE_UPDATE"); got["channel_id"] != nil {
		t.Fatalf("after leaving: %v", got)
	}
	if got := bo.event("VOICE_STATE_UPDATE"); got["channel_id"] != nil {
		t.Fatalf("after leaving, boss: %v", got)
	}
	w.voice.expect(t, "remove "+ann.id+" left")
}

func TestCloseCodes(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	before := w.enter(w.guest("Witness"))
	id := func(change func(map[string]any)) string {
		m := identify(ann.token, allIntents)
		change(m)
		b, _ := json.Marshal(map[string]any{"op": 2, "d": m})
		return string(b)
	}
	for _, c := range []struct {
		name, query string
		frames      []string
		want        uint16
	}{
		{"not JSON", "?v=10", []string{"hello"}, 4002},
		{"4,097 bytes", "?v=10", []string{`{"op":1,"d":"` + strings.Repeat("x", 4097-15) + `"}`}, 4002},
		{"1 MiB", "?v=10", []string{`{"op":1,"d":"` + strings.Repeat("x", 1<<20) + `"}`}, 4002},
		{"deep", "?v=10", []string{`{"op":1,"d":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`}, 4002},
		{"not UTF-8", "?v=10", []string{"\x83h\x02"}, 1007},
		{"a list", "?v=10", []string{`[{"op":1}]`}, 4002},
		{"a key twice", "?v=10", []string{`{"op":1,"op":2}`}, 4002},
		{"no op", "?v=10", []string{`{"d":1}`}, 4002},
		{"a dispatch", "?v=10", []string{`{"op":0,"t":"READY","d":{}}`}, 4001},
		{"presence too early", "?v=10", []string{`{"op":3,"d":{}}`}, 4003},
		{"members too early", "?v=10", []string{`{"op":8,"d":{}}`}, 4003},
		{"sounds too early", "?v=10", []string{`{"op":31,"d":{}}`}, 4003},
		{"no token", "?v=10", []string{`{"op":2,"d":{"intents":0}}`}, 4004},
		{"no intents", "?v=10", []string{id(func(m map[string]any) { delete(m, "intents") })}, 4013},
		{"resume after identify", "?v=10", []string{id(func(map[string]any) {}), `{"op":6,"d":{"token":"x","session_id":"y","seq":1}}`}, 4005},
		{"shard of none", "?v=10", []string{id(func(m map[string]any) { m["shard"] = []int{0, 0} })}, 4010},
		{"version of no number", "?v=x", nil, 4012},
		{"unknown op", "?v=10", []string{`{"op":77,"d":null}`}, 4001},
		{"too early", "?v=10", []string{`{"op":4,"d":{}}`}, 4003},
		{"wrong token", "?v=10", []string{id(func(m map[string]any) { m["token"] = "nonsense" })}, 4004},
		{"wrong token, no intents, a shard of none", "?v=10", []string{`{"op":2,"d":{"token":"nonsense","intents":null,"shard":[0,0]}}`}, 4004},
		{"token of nobody", "?v=10", []string{id(func(m map[string]any) { m["token"] = ann.token[:len(ann.token)-4] + "AAAA" })}, 4004},
		{"resume with a wrong token", "?v=10", []string{`{"op":6,"d":{"token":"x","session_id":"y","seq":1}}`}, 4004},
		{"identify twice", "?v=10", []string{id(func(map[string]any) {}), id(func(map[string]any) {})}, 4005},
		{"shard", "?v=10", []string{id(func(m map[string]any) { m["shard"] = []int{3, 2} })}, 4010},
		{"version", "?v=8", nil, 4012},
		{"intents", "?v=10", []string{id(func(m map[string]any) { m["intents"] = 1 << 30 })}, 4013},
		{"121 frames", "?v=10", slices.Repeat([]string{`{"op":1,"d":null}`}, 121), 4008},
	} {
		s := w.dial(c.query)
		for _, f := range c.frames {
			s.raw(f)
		}
		if got := s.closeCode(); got != c.want {
			t.Errorf("%s: closed with %d, want %d", c.name, got, c.want)
		}
	}
	// Nothing of this reached anybody else.
	before.send(1, nil)
	if f := before.next(); f.Op != 11 {
		t.Errorf("the witness got op %d %s", f.Op, f.T)
	}
	if a := w.try("GET", "/gateway?x", "", nil); a.status != 200 {
		t.Errorf("REST: %d", a.status)
	}
	resp, err := w.http.Client().Get(w.http.URL + "/gateway")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain GET /gateway: %d", resp.StatusCode)
	}
}

func TestIdentifyTimeout(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.identifyTimeout, s.heartbeatLimit = 100*time.Millisecond, time.Second })
	s := w.dial("?v=10")
	if got := s.closeCode(); got != 4009 {
		t.Errorf("silent from the start: %d", got)
	}
	// Silent afterwards: closed, and resumable.
	ann := w.guest("Ann")
	a := w.enter(ann)
	if got := a.closeCode(); got != 4009 {
		t.Errorf("no heartbeat: %d", got)
	}
	b := w.dial("?v=10")
	b.next()
	b.last = a.last
	b.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": a.last})
	b.event("RESUMED")
}

func TestHeartbeat(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	s := w.dial("?v=10&encoding=json")
	hello := s.next()
	if hello.Op != 10 || hello.data()["heartbeat_interval"] != 41250.0 {
		t.Fatalf("hello: %d %s", hello.Op, hello.D)
	}
	for _, d := range []any{nil, 0, 7} {
		s.send(1, d)
		if f := s.next(); f.Op != 11 {
			t.Fatalf("ack of %v: op %d", d, f.Op)
		}
	}
}

// TestResume: whatever happened between a break and the resume arrives, in
// order and once, for every place at which the connection may break.
func TestResume(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	ann := w.guest("Ann")
	general := w.channelID(boss, "general")
	a := w.enter(ann)
	want := 0
	say := func() {
		want++
		w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": fmt.Sprint(want)})
	}
	got := 0
	hear := func(n int) {
		t.Helper()
		for range n {
			got++
			if c := a.event("MESSAGE_CREATE")["content"]; c != fmt.Sprint(got) {
				t.Fatalf("heard %v, want %d", c, got)
			}
		}
	}
	for round := range 6 {
		say()
		say()
		if round%2 == 0 {
			hear(1) // the other is on the way when the connection breaks
		} else {
			hear(2)
		}
		a.breakOff()
		for range round {
			say()
		}
		b := w.dial("?v=10")
		b.next()
		b.last, b.session = a.last, a.session
		b.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": a.last})
		a = b
		hear(want - got)
		if d := a.event("RESUMED"); d == nil {
			t.Fatal("RESUMED has no object")
		}
	}

	// A second connection takes the session over from a first that still stands.
	c := w.dial("?v=10")
	c.next()
	c.last, c.session = a.last, a.session
	c.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": a.last})
	c.event("RESUMED")
	if code := a.closeCode(); code != 4000 {
		t.Errorf("the replaced connection: %d", code)
	}

	// Sequences of the future, sessions of others and unknown ones.
	f := w.dial("?v=10")
	f.next()
	f.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": 1 << 40})
	if code := f.closeCode(); code != 4007 {
		t.Errorf("future: %d", code)
	}
	for _, r := range []map[string]any{
		{"token": boss.token, "session_id": a.session, "seq": 1},
		{"token": ann.token, "session_id": "unknown", "seq": 1},
	} {
		x := w.dial("?v=10")
		x.next()
		x.send(6, r)
		if fr := x.next(); fr.Op != 9 || string(fr.D) != "false" {
			t.Errorf("resume %v: op %d %s", r, fr.Op, fr.D)
		}
		// The socket stays open for an Identify.
		x.send(2, identify(ann.token, allIntents))
		x.event("READY")
	}

	// Good-bye ends the session; its voice state tells when the server knows.
	bo := w.enter(boss)
	c.joinVoice(w.guildID(), w.channelID(ann, "Lobby"), false)
	bo.event("VOICE_STATE_UPDATE")
	c.ws.WriteClose(1000, nil)
	bo.event("VOICE_STATE_UPDATE")
	x := w.dial("?v=10")
	x.next()
	x.send(6, map[string]any{"token": ann.token, "session_id": c.session, "seq": c.last})
	if fr := x.next(); fr.Op != 9 {
		t.Errorf("resume after good-bye: op %d %s", fr.Op, fr.T)
	}
}

// TestReplayTooOld: events that are gone cannot be resumed from.
func TestReplayTooOld(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	a := w.enter(ann)
	a.breakOff()
	s := w.srv.hub.session(a.session)
	for range textchat.ReplayEvents + 1 {
		s.deliver(gatewayEvent("X", []byte(`{}`)))
	}
	b := w.dial("?v=10")
	b.next()
	b.send(6, map[string]any{"token": ann.token, "session_id": a.session, "seq": a.last})
	if f := b.next(); f.Op != 9 || string(f.D) != "false" {
		t.Fatalf("op %d %s", f.Op, f.D)
	}
}

// TestLaggard: a client that does not read is dropped, not waited for, and the
// others get everything meanwhile.
func TestLaggard(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann, bob := w.guest("Ann"), w.guest("Bob")
	general := w.channelID(bob, "general")
	b := w.enter(bob)
	// Ann reads until her session begins, and then no more.
	raw, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.(*net.TCPConn).SetReadBuffer(4096)
	begun := make(chan string, 1)
	h := &stubborn{begun: begun, stop: make(chan struct{})}
	ws, _, err := gws.NewClientFromConn(h, &gws.ClientOption{Addr: "ws" + strings.TrimPrefix(w.http.URL, "http") + "/gateway?v=10"}, raw)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); ws.ReadLoop() }()
	t.Cleanup(func() { close(h.stop); raw.Close(); <-done })
	j, _ := json.Marshal(map[string]any{"op": 2, "d": identify(ann.token, allIntents)})
	if err := ws.WriteMessage(gws.OpcodeText, j); err != nil {
		t.Fatal(err)
	}
	s := w.srv.hub.session(<-begun)
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		t.Fatal("not attached")
	}
	filler := gatewayEvent("FILLER", []byte(`"`+strings.Repeat("x", 16<<10)+`"`))
	for range textchat.ReplayEvents {
		s.deliver(filler)
	}
	s.mu.Lock()
	attached := s.conn != nil
	s.mu.Unlock()
	if attached || !c.dead.Load() {
		t.Fatal("the laggard is still waited for")
	}
	w.do("POST", "/channels/"+general+"/messages", bob.token, map[string]any{"content": "x"})
	b.event("MESSAGE_CREATE")
}

// stubborn reads frames up to READY and then holds the reader.
type stubborn struct {
	gws.BuiltinEventHandler
	begun chan string
	stop  chan struct{}
}

func (h *stubborn) OnMessage(_ *gws.Conn, m *gws.Message) {
	var f frame
	_ = json.Unmarshal(m.Bytes(), &f)
	if f.T == "READY" {
		h.begun <- f.data()["session_id"].(string)
		<-h.stop
	}
}

// reading inflates a stream event by event: what has come must be enough for each.
func reading(t *testing.T, open func(io.Reader) (io.Reader, error)) func([]byte) []byte {
	in, feed := io.Pipe()
	t.Cleanup(func() { feed.Close() })
	var z io.Reader
	return func(b []byte) []byte {
		go feed.Write(b)
		if z == nil {
			var err error
			if z, err = open(in); err != nil {
				t.Error(err)
				return nil
			}
		}
		var v json.RawMessage
		if err := json.NewDecoder(z).Decode(&v); err != nil {
			t.Error(err)
		}
		return v
	}
}

// TestCompression: each of the ways to compress, read by stock readers, with and
// without a compressor of the connection's own, across a resume.
func TestCompression(t *testing.T) {
	zlibs := func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }
	zstds := func(r io.Reader) (io.Reader, error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err == nil {
			t.Cleanup(z.Close)
		}
		return z, err
	}
	long := strings.Repeat("Some words that come again and again. ", 40)
	for _, streams := range []int{-1, 8} {
		w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.gate.streams.Allow(max(streams, 0)) })
		boss, ann := w.boss(), w.guest("Ann")
		general := w.channelID(boss, "general")
		for _, c := range []struct {
			mode string
			open func(io.Reader) (io.Reader, error)
		}{{"zlib-stream", zlibs}, {"zstd-stream", zstds}} {
			t.Run(fmt.Sprintf("%s with %d streams", c.mode, max(streams, 0)), func(t *testing.T) {
				query := "?encoding=json&v=10&compress=" + c.mode
				s := w.dialWith(query, reading(t, c.open))
				s.next()
				m := identify(ann.token, allIntents)
				m["compress"] = true // the URL wins
				s.send(2, m)
				s.session = s.event("READY")["session_id"].(string)
				s.event("GUILD_CREATE")
				for i := range 5 {
					w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": long + fmt.Sprint(i)})
					if got := s.event("MESSAGE_CREATE")["content"]; got != long+fmt.Sprint(i) {
						t.Fatalf("message %d came as %.60v", i, got)
					}
					s.send(1, nil)
					if f := s.next(); f.Op != 11 {
						t.Fatalf("op %d", f.Op)
					}
				}
				s.breakOff()
				w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": long})
				// A new connection is a new stream.
				r := w.dialWith(query, reading(t, c.open))
				r.next()
				r.last = s.last
				r.send(6, map[string]any{"token": ann.token, "session_id": s.session, "seq": s.last})
				if got := r.event("MESSAGE_CREATE")["content"]; got != long {
					t.Fatalf("replayed as %.60v", got)
				}
				r.event("RESUMED")
				r.breakOff()
			})
		}
	}
	t.Run("payload", func(t *testing.T) {
		w := newWorld(t, t.TempDir(), nil, nil)
		ann := w.guest("Ann")
		binary := 0
		s := w.dialWith("?v=10&encoding=json", func(b []byte) []byte {
			binary++
			r, err := zlib.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Error(err)
				return nil
			}
			out, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			return out
		})
		s.next()
		m := identify(ann.token, allIntents)
		m["compress"] = true
		s.send(2, m)
		s.event("READY")
		s.event("GUILD_CREATE")
		if binary == 0 {
			t.Error("nothing was compressed")
		}
	})
}

func TestIntents(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss, ann := w.boss(), w.guest("Ann")
	general, lobby := w.channelID(boss, "general"), w.channelID(boss, "Lobby")
	s := w.dial("?v=10")
	s.next()
	s.send(2, identify(ann.token, int(textchat.IntentGuilds))) // no messages, no voice states
	s.session = s.event("READY")["session_id"].(string)
	s.event("GUILD_CREATE")
	bo := w.enter(boss)
	w.do("POST", "/channels/"+general+"/messages", boss.token, map[string]any{"content": "x"})
	bo.event("MESSAGE_CREATE")
	bo.joinVoice(w.guildID(), lobby, false)
	bo.event("VOICE_STATE_UPDATE")
	w.do("PATCH", "/channels/"+general, boss.token, map[string]any{"topic": "t"})
	s.event("CHANNEL_UPDATE") // and nothing before it
	// Its own voice state comes whatever it asked for.
	s.joinVoice(w.guildID(), lobby, false)
	s.event("VOICE_STATE_UPDATE")
	s.event("VOICE_SERVER_UPDATE")
}

func TestRequestMembers(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	w.guest("Bob")
	s := w.enter(ann)
	s.send(8, map[string]any{"guild_id": []string{w.guildID()}, "query": "", "limit": 0, "nonce": "n1"})
	c := s.event("GUILD_MEMBERS_CHUNK")
	if len(c["members"].([]any)) != 2 || c["nonce"] != "n1" || c["chunk_count"] != 1.0 {
		t.Fatalf("all: %v", c)
	}
	s.send(8, map[string]any{"guild_id": w.guildID(), "query": "", "limit": 0, "nonce": "n2"})
	if r := s.event("RATE_LIMITED"); r["opcode"] != 8.0 || r["meta"].(map[string]any)["nonce"] != "n2" {
		t.Fatalf("again: %v", r)
	}
	s.send(8, map[string]any{"guild_id": w.guildID(), "query": "bo", "limit": 10})
	if c := s.event("GUILD_MEMBERS_CHUNK"); len(c["members"].([]any)) != 1 {
		t.Fatalf("query: %v", c)
	}
	s.send(8, map[string]any{"guild_id": w.guildID(), "user_ids": []string{ann.id, "5"}})
	if c := s.event("GUILD_MEMBERS_CHUNK"); len(c["members"].([]any)) != 1 || len(c["not_found"].([]any)) != 1 {
		t.Fatalf("ids: %v", c)
	}
}

func TestShards(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	mine := uint64(w.first.Guild>>22) % 2
	for shard := range uint64(2) {
		s := w.dial("?v=10")
		s.next()
		m := identify(ann.token, allIntents)
		m["shard"] = []uint64{shard, 2}
		s.send(2, m)
		if n := len(s.event("READY")["guilds"].([]any)); (n == 1) != (shard == mine) {
			t.Errorf("shard %d has %d guilds, the guild is on %d", shard, n, mine)
		}
	}
}
