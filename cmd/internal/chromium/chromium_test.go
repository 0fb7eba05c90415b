package chromium

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"voicefleet/cmd/internal/ears"
)

// TestControls finds and presses controls by role and name, and hears a tone
// that the page sends to itself.
func TestControls(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not installed")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<!doctype html><label>Nickname <input></label><button onclick="go()">Join</button><button style="position:relative" onclick="this.textContent='Caught'" onpointerdown="this.style.top=this.style.top||'200px'">Jumpy</button><p role=status id=s></p><script>
async function go() {
  document.getElementById('s').setAttribute('aria-label', 'hello ' + document.querySelector('input').value);
  const c = new AudioContext(), o = c.createOscillator(), d = c.createMediaStreamDestination();
  o.frequency.value = 700; o.connect(d); o.start();
  const a = new RTCPeerConnection(), b = new RTCPeerConnection();
  a.onicecandidate = e => b.addIceCandidate(e.candidate); b.onicecandidate = e => a.addIceCandidate(e.candidate);
  b.ontrack = e => { const el = new Audio(); el.muted = true; el.srcObject = e.streams[0]; el.play(); };
  a.addTrack(d.stream.getAudioTracks()[0], d.stream);
  await a.setLocalDescription(); await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(); await a.setRemoteDescription(b.localDescription);
}</script>`))
	}))
	defer srv.Close()
	p, err := Start(context.Background(), Options{Dir: t.TempDir(), Script: ears.Script})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, err := range []error{
		p.Open(srv.URL),
		p.Type("textbox", "Nickname", "Ada", 5*time.Second),
		p.Click("button", "Jumpy", 5*time.Second), // it is missed at first
		p.Wait("button", "Caught", 5*time.Second),
		p.Click("button", "Join", 5*time.Second),
		p.Wait("status", "hello Ada", 5*time.Second),
		ears.Listen(p, 700, 1100),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(15 * time.Second)
	for {
		hs, err := ears.Take(p)
		if err != nil {
			t.Fatal(err)
		}
		at700, ok := ears.Mean(hs, 0, -30)
		if at1100, _ := ears.Mean(hs, 1, -30); ok && at700 > at1100+20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no tone of 700 Hz was heard: %v", hs)
		}
	}
	if err := p.Wait("button", "Nowhere", 100*time.Millisecond); !errors.Is(err, ErrAbsent) {
		t.Errorf("an absent control gave %v", err)
	}
}
