package chatserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// Most sessions of a large guild do not look at it. Those whose client can do with it
// (textchat.CapabilityPassive) are passive there until they say that they opened it
// (op 14): they get the guild itself, its roles and channels, messages that call their
// user, their own voice state, and every now and then which channels have new messages.
// When they open it they are told what they missed. Open or not, who is a member and who
// is online they are told by lists, see gateway_lists.go.

const (
	// unreadEvery is how soon passive sessions are told of new messages.
	unreadEvery = 2 * time.Second
	// watcherCost is what it may take to tell a session: with more of them they are told
	// less often, so that this takes a twentieth of a processor at most.
	watcherCost = 20 * 10 * time.Microsecond
)

// sub is a session that listens to a guild.
type sub struct {
	lazy   bool                  // it was given the guild as a large one, of which it wants to be told what it looks at
	closed bool                  // it has not opened the guild
	asked  map[textchat.ID][]int // by channel: pages of lists of members that it wants to look at
	pages  []watched             // those that it does
	looked time.Time             // when it said what it looks at
}

// marks are the channels with messages of which passive sessions were not told.
type marks struct {
	channels map[textchat.ID]struct{}
	at       time.Time // when to tell them; zero: there is nothing
}

// lazy says whether a session that is given the guild now is told of it what it looks
// at. It stays so for the session, however many come and go.
func (o *owner) lazy(s *session) bool { return s.passive && o.core.MemberCount() > o.srv.cfg.Large }

// passive says whether the session gets but what it must.
func (b *sub) passive() bool { return b.lazy && b.closed }

// stirs says whether passive sessions get an event, too.
func (o *owner) stirs(s *session, e *guild.Event) bool {
	switch {
	case e.Session != "" || e.User != 0 || e.Own == s.user:
		return true
	case e.Name == textchat.EventMessageCreate:
		m, ok := e.Data.(guild.MessageEvent)
		return ok && (m.Author.ID == s.user || o.calls(s.user, &m.Message))
	}
	switch e.Name {
	case textchat.EventGuildUpdate, textchat.EventGuildDelete, textchat.EventRoleCreate, textchat.EventRoleUpdate, textchat.EventRoleDelete,
		textchat.EventChannelCreate, textchat.EventChannelUpdate, textchat.EventChannelDelete:
		return true
	}
	return false
}

// calls says whether a message mentions a user.
func (o *owner) calls(user textchat.ID, m *textchat.Message) bool {
	if m.MentionEveryone || slices.ContainsFunc(m.Mentions, func(u textchat.User) bool { return u.ID == user }) {
		return true
	}
	if len(m.MentionRoles) == 0 {
		return false
	}
	member := o.core.Member(user)
	return member != nil && slices.ContainsFunc(m.MentionRoles, func(r textchat.ID) bool { return slices.Contains(member.Roles, r) })
}

// ofMembers says whether an event tells of members, as lists do.
func ofMembers(name string) bool {
	return name == textchat.EventMemberAdd || name == textchat.EventMemberUpdate || name == textchat.EventMemberRemove
}

// mark notes that a channel has a new message.
func (o *owner) mark(channel textchat.ID) {
	if o.unread.channels == nil {
		o.unread.channels = make(map[textchat.ID]struct{})
	}
	o.unread.channels[channel] = struct{}{}
	if o.unread.at.IsZero() {
		o.unread.at = time.Now().Add(max(unreadEvery, time.Duration(o.subs.len())*watcherCost))
	}
}

// passiveUpdate is the body of PASSIVE_UPDATE_V1: the newest messages of channels, and
// when a guild is opened who is in voice.
type passiveUpdate struct {
	Guild    textchat.ID           `json:"guild_id"`
	Channels []newestMessage       `json:"channels"`
	Voice    []textchat.VoiceState `json:"voice_states,omitzero"`
	Members  []textchat.Member     `json:"members,omitzero"`
}

type newestMessage struct {
	ID   textchat.ID `json:"id"`
	Last textchat.ID `json:"last_message_id"`
}

// newest are those of channels that a user sees; of all when which is nil.
func (o *owner) newest(user textchat.ID, which map[textchat.ID]struct{}) []newestMessage {
	list := []newestMessage{}
	for _, id := range o.sights[user] {
		if _, ok := which[id]; !ok && which != nil {
			continue
		}
		if c := o.core.Channel(id); c != nil && c.LastMessage != nil {
			list = append(list, newestMessage{id, *c.LastMessage})
		}
	}
	return list
}

// toldAt is when sessions are to be told what they look at; zero: there is nothing.
func (o *owner) toldAt() time.Time {
	if o.core == nil {
		return time.Time{} // whoever loads it again has all told
	}
	return earliest(earliest(o.unread.at, o.lists.at), o.lists.lateAt)
}

// news is an event for some sessions.
type news struct {
	event *gatewaysession.Event
	to    []*session
}

// tellWatchers tells them. What there is to tell is made before it takes its turn among
// the guilds of the instance, which wait meanwhile.
func (o *owner) tellWatchers(now time.Time) {
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	var list []news
	if due(o.unread.at) {
		list = o.unreadNews()
	}
	if due(o.lists.at) {
		list = append(list, o.listNews(now)...)
	}
	if len(list) > 0 {
		o.ordered(func() {
			for _, n := range list {
				o.place(n.event)
				for _, s := range n.to {
					s.deliver(n.event)
				}
			}
		})
	}
	if due(o.lists.lateAt) {
		o.lookLate(now)
	}
}

// unreadNews is what passive sessions are told of new messages. Those who see the same
// channels get the same event.
func (o *owner) unreadNews() []news {
	which := o.unread.channels
	o.unread = marks{}
	events := make(map[string]int)       // by what is new: where in list
	sights := make(map[*textchat.ID]int) // by the channels that a user sees, which Sight shares; -1: nothing is new
	var list []news
	for s, b := range o.subs.all() {
		if !b.passive() || s.intents&textchat.IntentGuildMessages == 0 || len(o.sights[s.user]) == 0 {
			continue
		}
		sight := &o.sights[s.user][0]
		at, ok := sights[sight]
		if !ok {
			at = o.unreadEvent(o.newest(s.user, which), events, &list)
			sights[sight] = at
		}
		if at >= 0 {
			list[at].to = append(list[at].to, s)
		}
	}
	return list
}

// unreadEvent is where in list the event of these messages is; it is made when it is not.
func (o *owner) unreadEvent(messages []newestMessage, events map[string]int, list *[]news) int {
	if len(messages) == 0 {
		return -1
	}
	var key strings.Builder
	for _, c := range messages {
		fmt.Fprintf(&key, "%x ", uint64(c.ID))
	}
	at, ok := events[key.String()]
	if !ok {
		at = len(*list)
		events[key.String()] = at
		*list = append(*list, news{event: &gatewaysession.Event{Name: textchat.EventPassiveUpdate, Body: encode(passiveUpdate{Guild: o.id, Channels: messages})}})
	}
	return at
}

// openFor tells a session that opened the guild what it was not told.
func (o *owner) openFor(s *session) {
	u := passiveUpdate{Guild: o.id, Channels: o.newest(s.user, nil), Voice: []textchat.VoiceState{}, Members: []textchat.Member{}}
	if s.intents&textchat.IntentVoiceStates != 0 {
		for _, id := range o.sights[s.user] {
			for _, v := range o.core.VoiceIn(id) {
				if m := o.core.Member(v.User); m != nil {
					u.Members = append(u.Members, *m)
				}
				v.Guild, v.Member = 0, nil
				u.Voice = append(u.Voice, v)
			}
		}
	} else {
		u.Voice, u.Members = nil, nil
	}
	o.ordered(func() {
		s.deliver(o.place(&gatewaysession.Event{Name: textchat.EventPassiveUpdate, Body: encode(u)}))
		if s.intents&textchat.IntentGuilds != 0 {
			sync := threadSync{Guild: o.id, Channels: o.sights[s.user], Threads: o.core.Threads(s.user, 0), Members: []textchat.ThreadMember{}}
			s.deliver(o.place(&gatewaysession.Event{Name: textchat.EventThreadListSync, Body: encode(sync)}))
		}
	})
}

// looks is op 14, or 37. Bots get everything, and need not ask.
func (c *conn) looks(list []gatewaysession.Look) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if !s.passive {
		return
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	for _, in := range list {
		o := s.guild(in.Guild)
		if o == nil {
			continue
		}
		_ = o.ask(ctx, func() error {
			if b := o.subs.of(s); b != nil {
				o.looksAt(s, b, in, time.Now())
			}
			return nil
		})
	}
}

// looksAt has a session look as it says. What it says soon after is done a little later;
// of more only the last counts.
func (o *owner) looksAt(s *session, b *sub, in gatewaysession.Look, now time.Time) {
	late := o.lists.late[s]
	if in.Open == nil {
		in.Open = late.Open
	}
	if in.Pages == nil {
		in.Pages = late.Pages
	}
	if due := b.looked.Add(lookEvery); now.Before(due) {
		if o.lists.late == nil {
			o.lists.late = make(map[*session]gatewaysession.Look)
		}
		o.lists.late[s] = in
		o.lists.lateAt = earliest(o.lists.lateAt, due)
		return
	}
	b.looked = now
	delete(o.lists.late, s)
	if in.Open != nil {
		opens := b.lazy && b.closed && *in.Open
		if b.closed = !*in.Open; opens {
			o.openFor(s)
		}
	}
	if in.Pages != nil && !o.look(s, b, in.Pages) {
		o.lookAgain(s, b)
	}
}

// lookLate does what was said too soon.
func (o *owner) lookLate(now time.Time) {
	late := o.lists.late
	o.lists.late, o.lists.lateAt = nil, time.Time{}
	for s, in := range late {
		if b := o.subs.of(s); b != nil {
			o.looksAt(s, b, in, now)
		}
	}
}
