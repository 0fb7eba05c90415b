package chatserver

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// How often a session may change its presence; of more only the last one counts,
// when the window has ended.
const (
	presenceBudget = 5
	presenceWindow = 20 * time.Second
)

// listMost bounds the presences of one list.
const listMost = 5000

// presencePace counts the changes of a session.
type presencePace struct {
	window  time.Time
	n       int
	pending bool // one waits for the window to end
}

// take counts one change and says whether it may be shown now.
func (p *presencePace) take(now time.Time) bool {
	if now.Sub(p.window) >= presenceWindow {
		p.window, p.n = now, 0
	}
	p.n++
	p.pending = p.n > presenceBudget
	return !p.pending
}

// due says, once, that what waits may be shown.
func (p *presencePace) due(now time.Time) bool {
	if !p.pending || now.Sub(p.window) < presenceWindow {
		return false
	}
	return p.take(now)
}

// shown is how a member is seen by the others of a guild.
type shown struct {
	sessions []*session // of the member, that listen to the guild
	presence gatewaysession.PresenceUpdate
	// local is by the sessions here, others by those of other instances.
	local  gatewaysession.PresenceUpdate
	others map[string]gatewaysession.PresenceUpdate
}

// newShown is a member whom nobody has seen yet: offline here, too, or each instance
// would tell all others that it is so of whoever comes to one of them.
func newShown() *shown {
	offline := gatewaysession.PresenceUpdate{Status: gatewaysession.Offline}
	return &shown{presence: offline, local: offline}
}

// presenceBody is a presence as clients see it. Guild is left out inside
// GUILD_CREATE.
type presenceBody struct {
	User struct {
		ID textchat.ID `json:"id"`
	} `json:"user"`
	Guild      textchat.ID                      `json:"guild_id,omitzero"`
	Status     gatewaysession.Status            `json:"status"`
	Activities []gatewaysession.Activity        `json:"activities"`
	Clients    map[string]gatewaysession.Status `json:"client_status"`
}

func bodyOf(user, guild textchat.ID, p gatewaysession.PresenceUpdate) presenceBody {
	b := presenceBody{Guild: guild, Status: p.Status, Activities: p.Activities, Clients: map[string]gatewaysession.Status{}}
	b.User.ID = user
	if p.Status != gatewaysession.Offline {
		b.Clients["web"] = p.Status
	}
	if b.Activities == nil {
		b.Activities = []gatewaysession.Activity{}
	}
	return b
}

// merged is the presence of all sessions of a member together: who wants not to
// be disturbed anywhere is busy; who hides everywhere is offline.
func merged(list []gatewaysession.PresenceUpdate) gatewaysession.PresenceUpdate {
	order := []gatewaysession.Status{gatewaysession.Offline, gatewaysession.Idle, gatewaysession.Online, gatewaysession.Busy}
	m := gatewaysession.PresenceUpdate{Status: gatewaysession.Offline}
	for _, p := range list {
		if p.Status == gatewaysession.Invisible {
			continue
		}
		if slices.Index(order, p.Status) > slices.Index(order, m.Status) {
			m.Status = p.Status
		}
		m.Activities = append(m.Activities, p.Activities...)
	}
	return m
}

// greet gives a session the guild.
func (o *owner) greet(s *session) {
	o.see(s.user)
	if b := o.subs.of(s); b != nil {
		b.lazy = o.lazy(s)
	}
	snap := o.core.Snapshot(s.user, s.large)
	var body any = snap
	if s.intents&textchat.IntentPresences != 0 {
		body = struct {
			guild.Snapshot
			Presences []presenceBody `json:"presences"`
		}{snap, o.presences(0, snap.Members)}
	}
	s.deliver(o.place(&gatewaysession.Event{Name: textchat.EventGuildCreate, Body: encode(body)}))
}

// presences are those of the listed members who are online.
func (o *owner) presences(guild textchat.ID, of []textchat.Member) []presenceBody {
	list := []presenceBody{}
	for i := range of {
		id := of[i].User.ID
		if sh := o.seen[id]; sh != nil && sh.presence.Status != gatewaysession.Offline {
			list = append(list, bodyOf(id, guild, sh.presence))
		}
	}
	return list
}

// arrive counts a session that listens from now on, leave one that does no more.
func (o *owner) arrive(s *session) {
	sh := o.seen[s.user]
	if sh == nil {
		sh = newShown()
		o.seen[s.user] = sh
	}
	sh.sessions = append(sh.sessions, s)
	o.show(s.user)
	o.visit(s)
}

// visit has the core know of a session of a temporary member, which it may do already. It is
// not waited for: this may be in the middle of an input.
func (o *owner) visit(s *session) {
	if m := o.core.Member(s.user); m == nil || !m.Temporary {
		return
	}
	known := make(chan struct{})
	o.visits[s] = known
	if !o.srv.task(func() {
		defer close(known)
		o.tell(guild.SessionCame{User: s.user, Session: s.id})
	}) {
		close(known)
	}
}

// visiting are those sessions of a user of which the core is being told: that one of them
// has ended comes after that the others are there.
func (o *owner) visiting(user textchat.ID) (list []chan struct{}) {
	if sh := o.seen[user]; sh != nil && len(o.visits) > 0 {
		for _, s := range sh.sessions {
			if known := o.visits[s]; known != nil {
				list = append(list, known)
			}
		}
	}
	return list
}

func (o *owner) leave(s *session) {
	sh := o.seen[s.user]
	if sh == nil {
		return
	}
	sh.sessions = slices.DeleteFunc(sh.sessions, func(x *session) bool { return x == s })
	o.show(s.user)
	if len(sh.sessions) == 0 {
		delete(o.sights, s.user)
	}
	o.unsee(s.user)
}

// unsee forgets a member who is online nowhere.
func (o *owner) unsee(user textchat.ID) {
	if sh := o.seen[user]; sh != nil && len(sh.sessions) == 0 && len(sh.others) == 0 {
		delete(o.seen, user)
		if o.core != nil && o.core.Member(user) != nil {
			o.absence.went[user] = time.Now()
		}
	}
}

// looksLike says whether two presences are the same to others.
func looksLike(a, b gatewaysession.PresenceUpdate) bool {
	return a.Status == b.Status && slices.Equal(a.Activities, b.Activities)
}

// show tells the others how a member is seen now, if that changed.
func (o *owner) show(user textchat.ID) {
	sh := o.seen[user]
	if sh == nil {
		return
	}
	var list []gatewaysession.PresenceUpdate
	for _, s := range sh.sessions {
		s.mu.Lock()
		list = append(list, s.presence)
		s.mu.Unlock()
	}
	now := merged(list)
	if o.srv.ensemble != nil {
		if !looksLike(now, sh.local) {
			sh.local = now
			o.note(onlineNote{User: user, Presence: &now})
		}
		list = []gatewaysession.PresenceUpdate{now}
		for _, from := range slices.Sorted(maps.Keys(sh.others)) {
			list = append(list, sh.others[from])
		}
		now = merged(list)
	}
	if looksLike(now, sh.presence) {
		return
	}
	sh.presence = now
	o.relook(user)
	var e *gatewaysession.Event
	for s, b := range o.hear { // a crowd that comes is not looked through for each of its members
		if s.user == user || b.lazy {
			continue
		}
		if e == nil {
			e = &gatewaysession.Event{Name: textchat.EventPresenceUpdate, Body: encode(bodyOf(user, o.id, now)),
				Late: gatewaysession.Key{Kind: gatewaysession.Presence, Place: o.id, User: user}}
		}
		s.deliver(e)
	}
}

// relist gives a session that lagged all presences at once; who is not in the
// list is offline.
func (o *owner) relist(s *session) {
	if b := o.subs.of(s); b == nil || b.lazy {
		return
	}
	list := []presenceBody{}
	for _, id := range slices.SortedFunc(maps.Keys(o.seen), cmp.Compare[textchat.ID]) {
		if p := o.seen[id].presence; p.Status != gatewaysession.Offline && len(list) < listMost {
			list = append(list, bodyOf(id, o.id, p))
		}
	}
	s.deliver(&gatewaysession.Event{Name: textchat.EventPresencesReplace, Body: encode(list)})
}

// relistLocked asks the owners of these guilds to do so.
func (s *session) relistLocked(guilds []textchat.ID) {
	for _, o := range s.guilds {
		if slices.Contains(guilds, o.id) {
			s.srv.task(func() { o.later(func() { o.relist(s) }) })
		}
	}
}

// later has something done on the owner's goroutine; nobody waits for it, but
// for room in the queue.
func (o *owner) later(do func()) {
	select {
	case o.inbox <- request{do: func() error { do(); return nil }}:
	case <-o.gone:
	case <-o.srv.life.Done():
	}
}

// soon is later for those who must not wait.
func (o *owner) soon(do func()) { o.srv.task(func() { o.later(do) }) }

// presence is op 3.
func (c *conn) presence(now time.Time, in gatewaysession.PresenceUpdate) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	s.mu.Lock()
	s.presence = in
	ok := s.pace.take(now)
	s.mu.Unlock()
	if ok {
		s.showPresence()
	}
}

// showPresence has all guilds look at the session's presence.
func (s *session) showPresence() {
	s.mu.Lock()
	guilds := slices.Clone(s.guilds)
	s.mu.Unlock()
	for _, o := range guilds {
		o.later(func() { o.show(s.user) })
	}
}
