package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// ask is a request of the API as its client makes it.
func (h *house) ask(t *testing.T, token, method, path string, body, answer any) {
	t.Helper()
	b, err := json.Marshal(body)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, h.page("/api/v10"+path), bytes.NewReader(b))
	must(t, err)
	req.Header.Set("Authorization", token)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err = io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s", method, path, res.Status, b)
	}
	if answer != nil {
		must(t, json.Unmarshal(b, answer))
	}
}

// own makes somebody the owner and gives its token.
func (h *house) own(t *testing.T) string {
	t.Helper()
	var owner struct{ Token string }
	h.ask(t, "", "POST", "/auth/owner", map[string]any{"code": h.await(`/owner/([A-Za-z0-9_-]+)`), "username": "marina", "password": "very long secret"}, &owner)
	return owner.Token
}

// TestStageIsHeard: of a guest who hums on a stage nothing is heard until the owner lets
// it speak, and nothing after that is ended.
func TestStageIsHeard(t *testing.T) {
	h := startUp(t, "")
	owner := h.own(t)

	var heard atomic.Int64 // packets of the speaker
	var speaker sfu.UserID
	listening := guest(t, h, h.page(""), "", "Lisa", func(p voiceclient.Packet) {
		if p.User == speaker {
			heard.Add(1)
		}
	})
	speaking := guest(t, h, h.page(""), "", "Humming", nil)
	var me struct{ ID snowflake.ID }
	h.ask(t, speaking.Token, "GET", "/users/@me", nil, &me)
	speaker.ID = me.ID
	var stage struct{ ID snowflake.ID }
	guild := fmt.Sprintf("/guilds/%v", speaking.Guild)
	h.ask(t, owner, "POST", guild+"/channels", map[string]any{"name": "Talk", "type": 13}, &stage)
	listening.Channel, speaking.Channel = stage.ID, stage.ID
	enter := func(cfg voiceclient.Config) *voiceclient.Call {
		t.Helper()
		call, err := voiceclient.Join(t.Context(), cfg)
		must(t, err)
		t.Cleanup(func() { _ = call.Close() })
		return call
	}
	enter(listening)
	call := enter(speaking)
	frame, err := hex.DecodeString(hum)
	must(t, err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	// hums sends frames until enough were heard, and says how many that took; most at most.
	hums := func(most int, enough int64) (sent int) {
		t.Helper()
		for sent = 0; sent < most && heard.Load() < enough; sent++ {
			<-tick.C
			must(t, call.WriteOpus(frame, 20*time.Millisecond, 20))
		}
		return sent
	}
	suppress := func(yes bool) {
		t.Helper()
		h.ask(t, owner, "PATCH", fmt.Sprintf("%s/voice-states/%v", guild, me.ID), map[string]any{"channel_id": stage.ID.String(), "suppress": yes}, nil)
	}

	if hums(100, 1); heard.Load() > 0 {
		t.Fatal("a listener is heard")
	}
	suppress(false)
	if sent := hums(500, 50); heard.Load() < 50 {
		t.Fatalf("of %d frames of a speaker %d are heard", sent, heard.Load())
	}
	suppress(true)
	// What was on its way is heard still.
	for last, end := int64(-1), time.Now().Add(10*time.Second); heard.Load() != last; {
		if time.Now().After(end) {
			t.Fatal("who is silenced is heard for 10 s")
		}
		last = heard.Load()
		hums(25, 1<<60)
	}
	before := heard.Load()
	if hums(100, 1<<60); heard.Load() > before {
		t.Errorf("%d packets of who was silenced are heard", heard.Load()-before)
	}
}
