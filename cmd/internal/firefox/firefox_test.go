package firefox

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"
)

// TestControls finds and presses controls by role and name.
func TestControls(t *testing.T) {
	if _, err := exec.LookPath("firefox-esr"); err != nil {
		t.Skip("firefox-esr is not installed")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<!doctype html><label>Nickname <input></label><button onclick="s.textContent = 'hello ' + document.querySelector('input').value + window.before">Join</button><p id=s></p>`))
	}))
	defer srv.Close()
	p, err := Start(context.Background(), t.TempDir(), 700, "window.before = '!';")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, err := range []error{
		p.Open(srv.URL),
		p.Type("textbox", "Nickname", "Ada", 5*time.Second),
		p.Click("button", "Join", 5*time.Second),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var text string
	if err := p.Eval("document.getElementById('s').textContent", &text); err != nil || text != "hello Ada!" {
		t.Errorf("the page says %q, %v", text, err)
	}
}
