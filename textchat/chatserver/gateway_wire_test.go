package chatserver

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lxzan/gws"

	"voicefleet/textchat"
)

// TestOverTLS: what the kernel cannot be asked about is read by a goroutine.
func TestOverTLS(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	general := w.channelID(ann, "general")
	secure := httptest.NewTLSServer(w.srv.Handler())
	t.Cleanup(secure.Close)
	s := &socket{t: t, frames: make(chan frame, 100), closed: make(chan uint16, 1)}
	ws, _, err := gws.NewClient(s, &gws.ClientOption{Addr: "wss" + strings.TrimPrefix(secure.URL, "https") + "/gateway?v=10", TlsConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	s.ws = ws
	go ws.ReadLoop()
	t.Cleanup(func() { ws.NetConn().Close() })
	if f := s.next(); f.Op != 10 {
		t.Fatalf("op %d", f.Op)
	}
	s.send(2, identify(ann.token, allIntents))
	s.event("READY")
	s.event("GUILD_CREATE")
	w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "x"})
	s.event("MESSAGE_CREATE")
	s.send(1, 2)
	if f := s.next(); f.Op != 11 {
		t.Fatalf("op %d", f.Op)
	}
	s.raw("}{")
	if code := s.closeCode(); code != uint16(textchat.CloseDecode) {
		t.Errorf("closed with %d", code)
	}
}

// TestStall: a client that does not read for a while gets everything when it does.
func TestStall(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	ann := w.guest("Ann")
	c := w.bare()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	c.say(fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":513,"properties":{}}}`, ann.token))
	c.hear(t, "GUILD_CREATE")
	var s *session
	w.srv.hub.mu.Lock()
	for _, x := range w.srv.hub.sessions {
		s = x
	}
	w.srv.hub.mu.Unlock()
	body := strings.Repeat("x", 16<<10)
	const n = 400 // 6.5 MiB: more than both sockets hold, less than makes a laggard
	for i := range n {
		s.deliver(gatewayEvent("FILLER", fmt.Appendf(nil, `"%d %s"`, i, body)))
	}
	for i := range n {
		c.hear(t, fmt.Sprintf(`"%d x`, i))
	}
}
