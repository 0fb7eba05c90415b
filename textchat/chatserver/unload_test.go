package chatserver

import (
	"fmt"
	"testing"
	"time"
)

// asleep waits until an instance has unloaded the first guild.
func (w *world) asleep(t *testing.T) {
	t.Helper()
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guild is unloaded", o.asleep.Load)
}

// TestHabitsOutliveUnloading holds that a guild that was unloaded expects calls as large as
// those it had.
func TestHabitsOutliveUnloading(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.idleTime, s.resumeWindow = 20*time.Millisecond, 10*time.Millisecond })
	ann, bob := w.guest("ann"), w.guest("bob")
	lobby := w.channelID(ann, "Lobby")
	expected := func(who person) (*socket, int) {
		t.Helper()
		s := w.enter(who)
		s.joinVoice(w.guildID(), lobby, false)
		w.voice.expect(t, "place "+who.id)
		s.until("VOICE_SERVER_UPDATE")
		w.voice.mu.Lock()
		defer w.voice.mu.Unlock()
		return s, w.voice.last.Expected
	}
	a, first := expected(ann)
	b, second := expected(bob)
	if first != 1 || second != 2 {
		t.Fatalf("a first call is expected to have %d, then %d members", first, second)
	}
	for _, s := range []*socket{a, b} {
		s.ws.WriteClose(1000, nil)
		w.voice.expect(t, "remove")
	}
	w.asleep(t)
	if _, again := expected(ann); again != 2 {
		t.Errorf("after one of two, a call of %d is expected", again)
	}
}

// TestIdleGuildIsUnloaded holds that a guild that nobody uses is unloaded, that one with
// a session or with somebody in voice is not, and that it is as it was when it is loaded
// again.
func TestIdleGuildIsUnloaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), nil, func(s *Server) { s.idleTime = 20 * time.Millisecond })
	ann := w.guest("ann")
	general, lobby := w.channelID(ann, "general"), w.channelID(ann, "Lobby")
	w.asleep(t)
	m := w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "hello"}).body["id"]
	w.asleep(t)
	if c := w.do("GET", "/channels/"+general, ann.token, nil).body; c["last_message_id"] != m {
		t.Errorf("the channel is %v, the message was %v", c, m)
	}

	s := w.enter(ann)
	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	look := func(want bool) {
		t.Helper()
		if err := o.ask(t.Context(), func() error {
			if at := o.idleAt(); at.IsZero() == want {
				t.Errorf("idle at %v, may be unloaded: %v", at, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	look(false)
	s.joinVoice(w.guildID(), lobby, false)
	w.voice.expect(t, "place "+ann.id)
	s.until("VOICE_SERVER_UPDATE")
	s.breakOff()
	if err := o.ask(t.Context(), func() error {
		for x := range o.subs.all() {
			o.part(x) // its session may stand for minutes
		}
		o.unload(time.Now())
		if o.core == nil {
			t.Error("a guild with somebody in voice was unloaded")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	look(true)
}

// TestIdleInstanceForgetsGuild holds that an instance that has no use for a guild
// forgets it while another one goes on, whichever of them leads it, and has all of it
// when somebody comes.
func TestIdleInstanceForgetsGuild(t *testing.T) {
	t.Parallel()
	all := newTweaked(t, 2, func(s *Server) { s.idleTime = 200 * time.Millisecond })
	for i, w := range all.worlds {
		other := all.worlds[1-i]
		ann, bob := w.guest(fmt.Sprint("ann", i)), w.guest(fmt.Sprint("bob", i))
		s := w.enter(ann)
		general := w.channelID(ann, "general")
		other.channelID(bob, "general")
		if all.leader() == i {
			other.asleep(t)
		}
		var last any
		for n := range 5 {
			last = w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": fmt.Sprint(n)}).body["id"]
			if got := s.until("MESSAGE_CREATE")["id"]; got != last {
				t.Fatalf("came %v, want %v", got, last)
			}
		}
		other.asleep(t)
		b := other.enter(bob)
		for _, c := range b.guildChannels {
			if c := c.(map[string]any); c["id"] == general && c["last_message_id"] != last {
				t.Errorf("bob is given %v, the last message is %v", c, last)
			}
		}
		w.do("POST", "/channels/"+general+"/messages", ann.token, map[string]any{"content": "hello"})
		if got := b.until("MESSAGE_CREATE")["content"]; got != "hello" {
			t.Errorf("bob reads %v", got)
		}
		for _, x := range []*socket{s, b} {
			_ = x.ws.WriteClose(1000, nil)
			x.closeCode()
		}
	}
}
