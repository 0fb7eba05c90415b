package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/signaling/voiceclient"
)

// rude is what a stranger sends on a fresh WebSocket and how it must end.
type rude struct {
	name  string
	send  []string
	close uint16
}

// TestStrangersAreShownTheDoor sends what no client should to every door of a
// running house: whoever misbehaves gets the documented answer, and a call that
// goes on meanwhile loses not one packet.
func TestStrangersAreShownTheDoor(t *testing.T) {
	h := startUp(t, "")
	var mu sync.Mutex
	got, first, last := 0, uint16(0), uint16(0)
	joinLobby(t, h, h.page(""), "", "Listener", func(p voiceclient.Packet) {
		mu.Lock()
		defer mu.Unlock()
		if got == 0 {
			first = p.Seq
		}
		got, last = got+1, p.Seq
	})
	talker := joinLobby(t, h, h.page(""), "", "Talker", nil)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		frame := append([]byte{0xf8}, bytes.Repeat([]byte{0x55}, 79)...) // one CELT frame of 20 ms; nobody decodes it
		for {
			select {
			case <-stop:
				return
			case <-beat.C:
				_ = talker.WriteOpus(frame, 20*time.Millisecond, 20)
			}
		}
	}()
	t.Run("strangers", func(t *testing.T) { shownTheDoor(t, h) })
	close(stop)
	<-done
	mu.Lock()
	defer mu.Unlock()
	if missing := int(last-first) + 1 - got; got < 100 || missing != 0 {
		t.Errorf("the call went on meanwhile: %d packets heard, %d lost", got, missing)
	}
}

func shownTheDoor(t *testing.T, h *house) {
	t.Helper()
	big := strings.Repeat("x", 5000)
	huge := strings.Repeat("x", 70<<10)
	deep := strings.Repeat(`{"d":`, 2000) + "1" + strings.Repeat("}", 2000)
	doors := map[string][]rude{
		"/gateway?v=10&encoding=json": {
			{"not JSON", []string{"}{"}, 4002},
			{"oversized", []string{`{"op":1,"d":"` + big + `"}`}, 4002},
			{"deep JSON", []string{deep[:4000]}, 4002},
			{"unknown opcode", []string{`{"op":99,"d":null}`}, 4001},
			{"before identify", []string{`{"op":4,"d":{"guild_id":"1","channel_id":"2"}}`}, 4003},
			{"wrong token", []string{`{"op":2,"d":{"token":"MQ.x.y","intents":0,"properties":{}}}`}, 4004},
			{"intents of the wrong type", []string{`{"op":2,"d":{"token":"MQ.x.y","intents":-1,"properties":{}}}`}, 4002},
			{"silence", nil, 4009},
		},
		"/?v=8": {
			{"not JSON", []string{"}{"}, 4002},
			{"oversized", []string{`{"op":3,"d":"` + huge + `"}`}, 1009},
			{"unknown opcode", []string{`{"op":99,"d":null}`}, 4001},
			{"before identify", []string{`{"op":1,"d":{"protocol":"webrtc"}}`}, 4003},
			{"forged grant", []string{`{"op":0,"d":{"server_id":"1","user_id":"2","session_id":"x","token":"vf1.AAAAAAAAAAA.e30.` + strings.Repeat("A", 86) + `"}}`}, 4004},
			{"resume of nothing", []string{`{"op":7,"d":{"server_id":"1","session_id":"x","token":"vf1.a.b.c","seq_ack":7}}`}, 4004},
			{"silence", nil, 4009},
		},
	}
	for path, cases := range doors {
		for _, c := range cases {
			t.Run(path+" "+c.name, func(t *testing.T) {
				t.Parallel()
				got, err := knock(fmt.Sprintf("ws://localhost:%d%s", h.port, path), c.send)
				if err != nil {
					t.Fatal(err)
				}
				if got != c.close {
					t.Errorf("closed with %d, want %d", got, c.close)
				}
			})
		}
	}
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
	}{
		{"no such route", "GET", "/api/v10/nowhere", "", "", 404},
		{"no token", "GET", "/api/v10/users/@me", "", "", 401},
		{"bad token", "GET", "/api/v10/users/@me", "MQ.x.y", "", 401},
		{"bad JSON", "POST", "/api/v10/auth/guest", "", "}{", 400},
		{"wrong type", "POST", "/api/v10/auth/guest", "", `{"invite":7,"nickname":[]}`, 400},
		{"unknown invite", "POST", "/api/v10/auth/guest", "", `{"invite":"nope","nickname":"Eve"}`, 404},
		{"huge body", "POST", "/api/v10/auth/guest", "", `{"invite":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		{"admin without token", "GET", "/api/admin/users", "", "", 401},
		{"metrics bomb", "GET", "/debug/pprof/heap", "", "", 401},
	} {
		t.Run("REST "+c.name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest(c.method, h.page(c.path), strings.NewReader(c.body))
			must(t, err)
			if c.token != "" {
				req.Header.Set("Authorization", c.token)
			}
			if c.body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			res, err := http.DefaultClient.Do(req)
			must(t, err)
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
			must(t, err)
			if res.StatusCode != c.status {
				t.Errorf("answered %s: %.200s, want %d", res.Status, b, c.status)
			}
			var form struct {
				Message string
				Code    *int
			}
			if strings.HasPrefix(c.path, "/api/v10") && (json.Unmarshal(b, &form) != nil || form.Message == "" || form.Code == nil) {
				t.Errorf("the error has no {message, code}: %.200s", b)
			}
		})
	}
	t.Run("datagrams of no session", func(t *testing.T) {
		t.Parallel()
		silence(t, h)
	})
}

// knock opens a WebSocket, sends and waits for how it is closed.
func knock(url string, send []string) (uint16, error) {
	door := &doorway{closed: make(chan error, 1)}
	c, _, err := gws.NewClient(door, &gws.ClientOption{Addr: url, HandshakeTimeout: 5 * time.Second})
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", url, err)
	}
	go c.ReadLoop()
	for _, s := range send {
		if err := c.WriteString(s); err != nil {
			break // it may be closed already
		}
	}
	select {
	case err := <-door.closed:
		var ce *gws.CloseError
		if errors.As(err, &ce) {
			return ce.Code, nil
		}
		return 0, fmt.Errorf("%s ended without a close frame: %w", url, err)
	case <-time.After(12 * time.Second):
		_ = c.NetConn().Close()
		return 0, fmt.Errorf("%s was still open after 12 s", url)
	}
}

type doorway struct {
	gws.BuiltinEventHandler
	closed chan error
}

func (d *doorway) OnClose(_ *gws.Conn, err error) { d.closed <- err }

func (d *doorway) OnMessage(_ *gws.Conn, m *gws.Message) { _ = m.Close() }

// silence sends a thousand datagrams of every kind to the media port and checks
// that not one is answered.
func silence(t *testing.T, h *house) {
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", h.media))
	must(t, err)
	defer func() { _ = c.Close() }()
	r := rand.New(rand.NewPCG(1, 2))
	binding := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	hello := append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60}, make([]byte, 60)...)
	rtp := append([]byte{0x80, 111}, make([]byte, 100)...)
	rtcp := append([]byte{0x80, 200, 0, 6}, make([]byte, 40)...)
	for i := range 1000 {
		d := bytes.Clone([][]byte{binding, hello, rtp, rtcp, make([]byte, r.IntN(1400))}[i%5])
		for j := 20; j < len(d); j++ {
			d[j] = byte(r.Uint32())
		}
		_, _ = c.Write(d)
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := c.Read(make([]byte, 2000)); err == nil {
		t.Errorf("the media port answered %d bytes to a stranger", n)
	}
}
