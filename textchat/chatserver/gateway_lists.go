package chatserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/memberlist"
)

// Beside a channel a client shows who sees it. Of a large guild it asks for the part
// that it looks at, in pages, and is told what changes there: all sessions with a page
// get the same event. A list is kept while somebody looks at it, and a little longer.

const (
	// listEvery is how soon changes of lists are told.
	listEvery = 250 * time.Millisecond
	// lookEvery is how often a session may look elsewhere in a guild.
	lookEvery = 250 * time.Millisecond
	// listKept is how long a list is kept that nobody looks at: to make one takes 10 ms
	// of the guild's goroutine for each 10,000 members online.
	listKept = 30 * time.Second
)

// everyone is the list that has all members.
const everyone = "everyone"

// refillFrom is from how many changed members on a list is made anew.
const refillFrom = 2000

// lists are the lists of members that sessions look at.
type lists struct {
	of      map[string]*listing
	dirty   map[textchat.ID]struct{} // members to look at anew
	anew    bool                     // all of it: roles or channels changed
	changed bool                     // one of both
	at      time.Time                // when to tell of it, or to forget lists; zero: there is nothing

	late   map[*session]gatewaysession.Look // that came too soon after another
	lateAt time.Time                        // when the first of them is due
}

// listing is one list, and who looks at it.
type listing struct {
	id       string
	channel  textchat.ID // one of those beside which it stands
	list     *memberlist.List
	groups   map[textchat.ID]int // of hoisted roles
	offline  bool                // those who are, too
	sessions map[int]map[*session]struct{}
	left     time.Time // when the last one looked away
}

// watched is a page that a session looks at.
type watched struct {
	of   *listing
	page int
}

// shownMember is a member as lists show it.
type shownMember struct {
	member   *textchat.Member
	presence gatewaysession.PresenceUpdate
}

// MarshalJSON writes it only when somebody looks at it.
func (l *shownMember) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		*textchat.Member
		Presence presenceBody `json:"presence"`
	}{l.member, bodyOf(l.member.User.ID, 0, l.presence)})
}

// soon has lists told before long.
func (l *lists) soon(now time.Time) {
	if l.changed {
		return
	}
	l.changed = true
	watchers := 0
	for _, x := range l.of {
		for _, s := range x.sessions {
			watchers += len(s)
		}
	}
	l.at = earliest(l.at, now.Add(max(listEvery, time.Duration(watchers)*watcherCost)))
}

// stale has all lists made anew.
func (l *lists) stale(now time.Time) {
	if len(l.of) > 0 {
		l.anew = true
		l.soon(now)
	}
}

// relook has lists look at a member anew.
func (o *owner) relook(user textchat.ID) {
	if len(o.lists.of) == 0 {
		return
	}
	if o.lists.dirty == nil {
		o.lists.dirty = make(map[textchat.ID]struct{})
	}
	o.lists.dirty[user] = struct{}{}
	o.lists.soon(time.Now())
}

// relookAfter is relook for what these changes change.
func (o *owner) relookAfter(changes []textchat.Change) {
	for _, c := range changes {
		switch {
		case c.PutMember != nil:
			o.relook(c.PutMember.User.ID)
		case c.DropMember != 0:
			o.relook(c.DropMember)
		case c.PutGuild != nil, c.PutRole != nil, c.DropRole != 0, c.DropChannel != 0, c.PutChannel != nil && !c.PutChannel.Type.Thread():
			o.lists.stale(time.Now())
		}
	}
}

// listID names the list beside a channel: channels that the same members see have the
// same one.
func (o *owner) listID(channel textchat.ID) string {
	c := o.core.Channel(channel)
	var who []string
	for _, w := range c.Overwrites {
		switch {
		case w.Allow.Has(textchat.ViewChannel):
			who = append(who, fmt.Sprintf("allow:%v", w.ID))
		case w.Deny.Has(textchat.ViewChannel):
			who = append(who, fmt.Sprintf("deny:%v", w.ID))
		}
	}
	if all := o.core.Role(o.id); all != nil && all.Permissions.Has(textchat.ViewChannel) && !slices.ContainsFunc(who, func(s string) bool { return s[0] == 'd' }) {
		return everyone
	}
	slices.Sort(who)
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(who, ",")))
	return strconv.FormatUint(h.Sum64(), 10)
}

// listing is the list beside a channel; nil when there are too many.
func (o *owner) listing(channel textchat.ID) *listing {
	id := o.listID(channel)
	if l := o.lists.of[id]; l != nil {
		return l
	}
	if len(o.lists.of) == textchat.MaxLists && !o.lists.forget() {
		return nil
	}
	l := &listing{id: id, channel: channel, groups: make(map[textchat.ID]int), sessions: make(map[int]map[*session]struct{}),
		offline: o.core.MemberCount() <= textchat.MaxListOffline}
	var hoisted []textchat.Role
	for _, r := range o.core.Roles() {
		if r.Hoist && r.ID != o.id {
			hoisted = append(hoisted, r)
		}
	}
	slices.SortStableFunc(hoisted, func(a, b textchat.Role) int {
		return cmp.Or(cmp.Compare(b.Position, a.Position), cmp.Compare(a.ID, b.ID))
	})
	var names []string
	for i, r := range hoisted {
		l.groups[r.ID] = i
		names = append(names, r.ID.String())
	}
	l.list = memberlist.New(append(names, "online", "offline")...)
	if o.lists.of == nil {
		o.lists.of = make(map[string]*listing)
	}
	o.lists.of[id] = l
	o.fill(l)
	return l
}

// fill looks at all members.
func (o *owner) fill(l *listing) {
	var rows []*memberlist.Row
	if l.offline {
		for _, m := range o.core.Members(0, textchat.MaxListOffline) {
			if r := o.row(l, m.User.ID); r != nil {
				rows = append(rows, r)
			}
		}
	} else {
		for user := range o.seen {
			if r := o.row(l, user); r != nil {
				rows = append(rows, r)
			}
		}
	}
	l.list.Fill(rows)
}

// row is how a member stands in a list, nil when it does not.
func (o *owner) row(l *listing, user textchat.ID) *memberlist.Row {
	m := o.core.Member(user)
	if m == nil || l.id != everyone && !o.core.Permissions(user, l.channel).Has(textchat.ViewChannel) {
		return nil
	}
	body := &shownMember{m, gatewaysession.PresenceUpdate{Status: gatewaysession.Offline}}
	if sh := o.seen[user]; sh != nil {
		body.presence = sh.presence
	}
	r := &memberlist.Row{User: user, Name: strings.ToLower(cmp.Or(value(m.Nick), value(m.User.GlobalName), m.User.Username)), Body: body, Group: len(l.groups)}
	if body.presence.Status == gatewaysession.Offline {
		if !l.offline {
			return nil
		}
		r.Group++
		return r
	}
	for _, id := range m.Roles {
		if at, ok := l.groups[id]; ok {
			r.Group = min(r.Group, at)
		}
	}
	return r
}

// sameRow says whether two rows of a member are the same to who looks at them.
func sameRow(a, b *memberlist.Row) bool {
	if b == nil || a.Group != b.Group {
		return false
	}
	x, y := a.Body.(*shownMember), b.Body.(*shownMember)
	return x.member == y.member && looksLike(x.presence, y.presence)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// look has a session look at these pages beside channels that it sees, and at no others.
// What it has looked at so far and does no more is INVALIDATEd. It says whether there was
// anything to tell.
func (o *owner) look(s *session, b *sub, pages map[textchat.ID][]int) bool {
	lists := make(map[textchat.ID]string)
	for channel, list := range pages {
		if len(list) > 0 && o.knows(s.user, channel) {
			lists[channel] = o.listID(channel)
		}
	}
	still := func(w watched) bool {
		for channel, id := range lists {
			if o.lists.of[id] == w.of && slices.Contains(pages[channel], w.page) {
				return true
			}
		}
		return false
	}
	var keep []watched
	gone := make(map[*listing][]memberlist.Op)
	for _, w := range b.pages {
		if still(w) {
			keep = append(keep, w)
			continue
		}
		o.unlook(s, w)
		gone[w.of] = append(gone[w.of], memberlist.Op{Op: memberlist.Invalidate, Range: memberlist.Span(w.page)})
	}
	b.asked, b.pages = pages, keep
	if pages == nil {
		return false
	}
	var events []*gatewaysession.Event
	for l, ops := range gone {
		events = append(events, o.listEvent(l, ops, o.knows(s.user, l.channel)))
	}
	for _, channel := range slices.Sorted(maps.Keys(lists)) {
		l := o.listing(channel)
		if l == nil {
			continue
		}
		var ops []memberlist.Op
		for _, p := range pages[channel] {
			if w := (watched{l, p}); w.by(s, b) {
				ops = append(ops, l.list.Open(p))
			}
		}
		if len(ops) > 0 {
			events = append(events, o.listEvent(l, ops, true))
		}
	}
	o.sendLists(s, events)
	return len(events) > 0
}

// by has a session look at the page; false: it does.
func (w watched) by(s *session, b *sub) bool {
	if slices.Contains(b.pages, w) {
		return false
	}
	b.pages = append(b.pages, w)
	if w.of.sessions[w.page] == nil {
		w.of.sessions[w.page] = make(map[*session]struct{})
	}
	w.of.sessions[w.page][s] = struct{}{}
	return true
}

// lookAgain tells a session all that it looks at: it may have forgotten it.
func (o *owner) lookAgain(s *session, b *sub) {
	ops := make(map[*listing][]memberlist.Op)
	for _, w := range b.pages {
		ops[w.of] = append(ops[w.of], w.of.list.Open(w.page))
	}
	var events []*gatewaysession.Event
	for l, list := range ops {
		events = append(events, o.listEvent(l, list, true))
	}
	o.sendLists(s, events)
}

// lookOn has a user who may see more or less than before look at what it sees.
func (o *owner) lookOn(user textchat.ID) {
	sh := o.seen[user]
	if sh == nil {
		return
	}
	for _, s := range sh.sessions {
		if b := o.subs.of(s); b != nil && len(b.asked) > 0 {
			o.look(s, b, b.asked)
		}
	}
}

// sendLists gives a session events that are for it alone.
func (o *owner) sendLists(s *session, events []*gatewaysession.Event) {
	if len(events) == 0 {
		return
	}
	o.ordered(func() {
		for _, e := range events {
			s.deliver(o.place(e))
		}
	})
}

// unlook ends that a session looks at a page, and the page with the last.
func (o *owner) unlook(s *session, w watched) {
	delete(w.of.sessions[w.page], s)
	if len(w.of.sessions[w.page]) > 0 {
		return
	}
	delete(w.of.sessions, w.page)
	w.of.list.Close(w.page)
	if len(w.of.sessions) == 0 {
		w.of.left = time.Now()
		o.lists.at = earliest(o.lists.at, w.of.left.Add(listKept))
	}
}

// forget makes room for a list: the one goes that nobody has looked at for the longest.
// False: all are looked at.
func (l *lists) forget() bool {
	var oldest *listing
	for _, x := range l.of {
		if len(x.sessions) == 0 && (oldest == nil || x.left.Before(oldest.left)) {
			oldest = x
		}
	}
	if oldest == nil {
		return false
	}
	delete(l.of, oldest.id)
	return true
}

// expire forgets lists that nobody has looked at for long.
func (l *lists) expire(now time.Time) {
	for _, x := range l.of {
		switch at := x.left.Add(listKept); {
		case len(x.sessions) > 0:
		case now.Before(at):
			l.at = earliest(l.at, at)
		default:
			delete(l.of, x.id)
		}
	}
}

// listEvent is a GUILD_MEMBER_LIST_UPDATE; how many stand in the list is for who sees it.
func (o *owner) listEvent(l *listing, ops []memberlist.Op, seen bool) *gatewaysession.Event {
	online, groups := 0, []memberlist.Group{}
	if seen {
		groups = l.list.Groups()
	}
	for _, g := range groups {
		if g.ID != "offline" {
			online += g.Count
		}
	}
	return &gatewaysession.Event{Name: textchat.EventMemberList, Body: encode(struct {
		Guild  textchat.ID        `json:"guild_id"`
		ID     string             `json:"id"`
		Count  int                `json:"member_count"`
		Online int                `json:"online_count"`
		Groups []memberlist.Group `json:"groups"`
		Ops    []memberlist.Op    `json:"ops"`
	}{o.id, l.id, o.core.MemberCount(), online, groups, ops})}
}

// listNews is what changed on the pages that sessions look at.
func (o *owner) listNews(now time.Time) (list []news) {
	dirty, anew := o.lists.dirty, o.lists.anew
	o.lists.dirty, o.lists.anew, o.lists.changed, o.lists.at = nil, false, false, time.Time{}
	o.lists.expire(now)
	if anew {
		return o.relistAll()
	}
	for user := range dirty {
		o.lookOn(user) // before more is told to who sees less than before
	}
	for _, l := range o.lists.of {
		if len(dirty) > refillFrom {
			if len(l.sessions) == 0 {
				delete(o.lists.of, l.id)
				continue
			}
			o.fill(l)
		} else {
			for user := range dirty {
				if r := o.row(l, user); r != nil {
					if !sameRow(r, l.list.Row(user)) {
						l.list.Put(r)
					}
				} else {
					l.list.Drop(user)
				}
			}
		}
		for _, t := range l.list.Turn() {
			list = append(list, news{o.listEvent(l, t.Ops, true), slices.Collect(maps.Keys(l.sessions[t.Page]))})
		}
	}
	return list
}

// relistAll makes all lists anew, with who sees what as it is now. All who look at a page
// are told it by one event.
func (o *owner) relistAll() (list []news) {
	clear(o.lists.of)
	lists := make(map[textchat.ID]*listing)
	gone, come := make(map[watched][]*session), make(map[watched][]*session)
	for s, b := range o.subs.all() {
		was := b.pages
		b.pages = nil
		for _, channel := range slices.Sorted(maps.Keys(b.asked)) {
			if len(b.asked[channel]) == 0 || !o.knows(s.user, channel) {
				continue
			}
			l, ok := lists[channel]
			if !ok {
				l = o.listing(channel)
				lists[channel] = l
			}
			if l == nil {
				continue
			}
			for _, p := range b.asked[channel] {
				if w := (watched{l, p}); w.by(s, b) {
					come[w] = append(come[w], s)
				}
			}
		}
		for _, w := range was {
			if !slices.ContainsFunc(b.pages, func(x watched) bool { return x.of.id == w.of.id && x.page == w.page }) {
				gone[w] = append(gone[w], s)
			}
		}
	}
	for w, to := range gone { // before what comes: a client may keep one list only
		list = append(list, news{o.listEvent(w.of, []memberlist.Op{{Op: memberlist.Invalidate, Range: memberlist.Span(w.page)}}, false), to})
	}
	for w, to := range come {
		list = append(list, news{o.listEvent(w.of, []memberlist.Op{w.of.list.Open(w.page)}, true), to})
	}
	return list
}

// earliest is the earlier one of two times that may be zero: none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
