package chatserver

import (
	"encoding/json"
	"iter"
	"slices"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// publish gives an event to everybody it is for, encoded once.
func (o *owner) publish(e guild.Event) {
	missed := false
	o.publishTo(e, func(yield func(*session) bool) {
		for s, b := range o.subs.all() {
			switch {
			case b.passive() && !o.stirs(s, &e):
				missed = true
			case b.lazy && ofMembers(e.Name) && e.Own != s.user: // lists tell of members
			case !yield(s):
				return
			}
		}
	})
	if missed && e.Name == textchat.EventMessageCreate {
		o.mark(e.Channel)
	}
}

// publishTo is publish for some sessions. All forms of an event have its position.
func (o *owner) publishTo(e guild.Event, to iter.Seq[*session]) {
	var at uint64
	late := lateness(e)
	if o.spreading && late.Kind == 0 {
		at = o.srv.ensemble.order.take()
	}
	if v, ok := e.Data.(guild.VoiceServer); ok {
		for s := range to {
			if s.id == e.Session {
				v.Endpoint = s.endpoint(v.Endpoints)
				s.deliver(&gatewaysession.Event{Name: e.Name, Body: encode(v), At: at})
			}
		}
		return
	}
	var open, hidden, bare *gatewaysession.Event
	files := filedEvent(e.Name, late, at, e.Data)
	if c := o.core.Channel(e.Channel); c != nil && c.Type.Voice() && e.Intent&ofMessages != 0 {
		e.Need |= textchat.Connect
	}
	public := e.Need == 0 && o.core.Public(e.Channel)
	for s := range to {
		show, isOpen := o.wants(s, e, public)
		switch {
		case !show:
		case isOpen && !mayRead(s, e):
			if bare == nil {
				bare = &gatewaysession.Event{Name: e.Name, Body: withoutContent(encode(e.Data)), At: at}
			}
			s.deliver(bare)
		case isOpen && files != nil:
			s.deliver(files.of(s))
		case isOpen:
			if open == nil {
				open = &gatewaysession.Event{Name: e.Name, Body: encode(e.Data), Late: late, At: at}
			}
			s.deliver(open)
		case e.Hidden != nil:
			if hidden == nil {
				hidden = &gatewaysession.Event{Name: e.Name, Body: encode(e.Hidden), At: at}
			}
			s.deliver(hidden)
		}
	}
}

// ofMessages are the intents of what is written: in a voice channel it is for those who
// may connect.
const ofMessages = textchat.IntentGuildMessages | textchat.IntentGuildReactions | textchat.IntentGuildTyping

// lateness tells which events may wait for others.
func lateness(e guild.Event) gatewaysession.Key {
	if t, ok := e.Data.(guild.TypingEvent); ok {
		return gatewaysession.Key{Kind: gatewaysession.Typing, Place: t.Channel, User: t.User}
	}
	return gatewaysession.Key{}
}

// mayRead says whether a session sees what a message says: with the intent for
// it, or in its own messages and those that mention it.
func mayRead(s *session, e guild.Event) bool {
	if s.intents&textchat.IntentMessageContent != 0 {
		return true
	}
	m, ok := e.Data.(guild.MessageEvent)
	return !ok || m.Author.ID == s.user || slices.ContainsFunc(m.Mentions, func(u textchat.User) bool { return u.ID == s.user })
}

// withoutContent empties what a message says, also in the message that it
// answers, whatever other fields there are.
func withoutContent(body []byte) []byte {
	var m map[string]json.RawMessage
	if json.Unmarshal(body, &m) != nil || m == nil {
		return body // not a message: null
	}
	m["content"] = json.RawMessage(`""`)
	for _, f := range []string{"embeds", "attachments", "components"} {
		m[f] = json.RawMessage(`[]`)
	}
	delete(m, "poll")
	if r, ok := m["referenced_message"]; ok {
		m["referenced_message"] = withoutContent(r)
	}
	return encode(m)
}
