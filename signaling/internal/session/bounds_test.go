package session

import (
	"bytes"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

func TestReplayBounds(t *testing.T) {
	var r replay
	for range 3 * signaling.ReplayMessages {
		r.next()
		r.keep([]byte("x"))
	}
	if len(r.kept) != signaling.ReplayMessages || r.bytes != signaling.ReplayMessages {
		t.Errorf("%d messages, %d bytes", len(r.kept), r.bytes)
	}
	for range 5 {
		r.next()
		r.keep(bytes.Repeat([]byte("x"), signaling.ReplayBytes/2))
	}
	if r.bytes > signaling.ReplayBytes || len(r.kept) != 2 {
		t.Errorf("%d messages, %d bytes", len(r.kept), r.bytes)
	}
	for seq, want := range map[uint64]int{r.last: 0, r.last - 1: 1, r.last - 2: 2, r.last - 3: -1, r.last + 1: -1, 0: -1} {
		frames, all := r.after(seq)
		if all != (want >= 0) || all && len(frames) != want {
			t.Errorf("after %d of %d: %d frames, %t", seq, r.last, len(frames), all)
		}
	}
	r.seen(r.last + 1)
	if len(r.kept) != 2 {
		t.Error("a number never given out dropped messages")
	}
	r.seen(r.last)
	if len(r.kept) != 0 || r.bytes != 0 {
		t.Errorf("%d messages, %d bytes after all were seen", len(r.kept), r.bytes)
	}
}

func TestRateSlides(t *testing.T) {
	var r rate
	now := start
	for i := range signaling.MaxFrames {
		if !r.allow(now) {
			t.Fatalf("frame %d refused", i)
		}
		now = now.Add(time.Millisecond)
	}
	if r.allow(now) {
		t.Error("one more than MaxFrames allowed")
	}
	now = start.Add(signaling.FrameWindow)
	if !r.allow(now) || r.allow(now) {
		t.Error("the window does not slide by one frame")
	}
}

func TestFloodIsClosed(t *testing.T) {
	for _, in := range []In{{Ping: true}, {Frame: []byte(`{"op":3,"d":1}`)}} {
		var out Out
		s := New(start, 8, Settings{Heartbeat: time.Hour}, &out)
		for i := 0; out.Close == 0; i++ {
			if i > signaling.MaxFrames {
				t.Fatal("a flood is not refused")
			}
			s.Handle(start, in, &out)
		}
		if out.Close != signaling.CloseRateLimited {
			t.Errorf("closed with %v", out.Close)
		}
	}
}

// Facts that come while a node is slow to answer are bounded, and what was
// dropped is asked for afterwards.
func TestPendingBound(t *testing.T) {
	p := newPlayer(t)
	var out Out
	p.s = New(p.now, 8, Settings{Heartbeat: time.Minute, Keys: p.keys}, &out)
	p.s.Handle(p.now, p.in("frame", nil, `{"op":0,"d":{"server_id":"10","user_id":"1","session_id":"gw","token":"$TOKEN"}}`), &out)
	for i := range 2 * maxPending {
		ev := edgeagent.CallEvent{Joined: &edgeagent.Member{User: sfu.UserID{ID: snowflake.ID(i + 2)}, SSRC: sfu.SSRC(i)}}
		p.s.Handle(p.now, In{Event: &ev}, &out)
	}
	if len(p.s.pending) != maxPending {
		t.Fatalf("%d events pending", len(p.s.pending))
	}
	out = Out{}
	p.s.Handle(p.now, p.in("opened", nil, ""), &out)
	if len(out.Calls) != 1 || out.Calls[0].Resume == nil {
		t.Errorf("the roster is not asked for: %+v", out.Calls)
	}
}

// Nothing a stranger says may panic, or be answered before a grant is proved
// by anything but a heartbeat or a close.
func FuzzStranger(f *testing.F) {
	f.Add([]byte(`{"op":0,"d":{"server_id":"10","user_id":"1","session_id":"gw","token":"vf1.a.b.c"}}`), []byte(`{"op":3,"d":{"t":1}}`))
	f.Add([]byte(`{"op":7,"d":{"token":""}}`), []byte(`{"op":1,"d":{"protocol":"webrtc"}}`))
	f.Add([]byte(`{"op":100,"d":{}}`), []byte(`{"op":15,"d":{"any":0}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newPlayer(t)
		var out Out
		s := New(start, 8, Settings{Heartbeat: time.Minute, Keys: p.keys}, &out)
		for _, frame := range [][]byte{a, b, a} {
			out = Out{}
			s.Handle(start, In{Frame: append([]byte{}, frame...)}, &out)
			if out.Authenticated || len(out.Calls) > 0 || len(out.Send) > 1 {
				t.Fatalf("%q: %+v", frame, out)
			}
		}
	})
}
