package guild

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"voicefleet/textchat"
)

// Delta is what inputs changed in the state of a guild: the objects as they are
// now, nil where there is none any more. What a guild is at one instance becomes
// the same at another that applies its deltas in order. As JSON it travels.
type Delta struct {
	Self     *textchat.Guild                   `json:",omitempty"`
	Roles    map[textchat.ID]*textchat.Role    `json:",omitempty"`
	Channels map[textchat.ID]*textchat.Channel `json:",omitempty"`
	Members  map[textchat.ID]*textchat.Member  `json:",omitempty"`
	Banned   map[textchat.ID]bool              `json:",omitempty"`
	TimedOut map[textchat.ID]*time.Time        `json:",omitempty"`
	Voice    map[textchat.ID]*voice            `json:",omitempty"`
	Pending  map[textchat.ID]*pending          `json:",omitempty"`
	Queues   map[textchat.ID]*queue            `json:",omitempty"`
	Sizes    map[textchat.ID]*size             `json:",omitempty"`
	Visits   map[textchat.ID]*visit            `json:",omitempty"`
	Attempt  uint64                            `json:",omitempty"`
	Archives *time.Time                        `json:",omitempty"`
}

// touched names an entry of one of the maps of a guild.
type touched struct {
	table any
	id    textchat.ID
}

// Delta is what the last input changed. The objects belong to the guild.
func (g *Guild) Delta() *Delta {
	d := &Delta{Attempt: g.attempt, Archives: &g.archives}
	if g.renamed {
		d.Self = &g.self
	}
	for _, t := range g.touched {
		switch m := t.table.(type) {
		case map[textchat.ID]*textchat.Role:
			note(&d.Roles, m, t.id)
		case map[textchat.ID]*textchat.Channel:
			note(&d.Channels, m, t.id)
		case map[textchat.ID]*textchat.Member:
			note(&d.Members, m, t.id)
		case map[textchat.ID]*voice:
			note(&d.Voice, m, t.id)
		case map[textchat.ID]*pending:
			note(&d.Pending, m, t.id)
		case map[textchat.ID]*queue:
			note(&d.Queues, m, t.id)
		case map[textchat.ID]*size:
			note(&d.Sizes, m, t.id)
		case map[textchat.ID]*visit:
			note(&d.Visits, m, t.id)
		case map[textchat.ID]bool:
			note(&d.Banned, m, t.id)
		case map[textchat.ID]time.Time:
			var until *time.Time
			if at, ok := m[t.id]; ok {
				until = &at
			}
			note(&d.TimedOut, map[textchat.ID]*time.Time{t.id: until}, t.id)
		default:
			panic(fmt.Sprintf("guild: nobody tells of %T", t.table))
		}
	}
	return d
}

// note keeps the entry of a map as it stands.
func note[V any](to *map[textchat.ID]V, from map[textchat.ID]V, id textchat.ID) {
	if *to == nil {
		*to = make(map[textchat.ID]V)
	}
	(*to)[id] = from[id]
}

// Live is all that the store does not have: who is in voice, on the way there, or
// in line, which sessions temporary members have, and how large calls get. The objects
// belong to the guild.
func (g *Guild) Live() *Delta {
	return &Delta{Voice: g.voice, Pending: g.pending, Queues: g.queues, Sizes: g.sizes, Visits: g.visits, Attempt: g.attempt}
}

// Quiet says that nobody is: but for habits, and for sessions that others know of or that
// come again, the store has all of the guild.
func (g *Guild) Quiet() bool { return len(g.voice)+len(g.pending)+len(g.queues) == 0 }

// Apply makes the changes that another instance tells of. They can not be taken
// back.
func (g *Guild) Apply(d *Delta) {
	g.begin()
	if d.Self != nil {
		g.self = *d.Self
	}
	for id, c := range d.Channels {
		g.turned = g.turned || !sameSettings(g.channels[id], c)
	}
	g.turned = g.turned || d.Self != nil || len(d.Roles)+len(d.Members)+len(d.TimedOut) > 0
	assign(g.roles, d.Roles)
	assign(g.channels, d.Channels)
	for id, m := range d.Members {
		g.roll.change(g.members[id], m)
	}
	assign(g.members, d.Members)
	assign(g.voice, d.Voice)
	assign(g.pending, d.Pending)
	assign(g.queues, d.Queues)
	assign(g.sizes, d.Sizes)
	assign(g.visits, d.Visits)
	if len(d.Sizes) > 0 { // a channel may have been deleted since they were kept
		maps.DeleteFunc(g.sizes, func(id textchat.ID, _ *size) bool { return g.channels[id] == nil })
	}
	for id, is := range d.Banned {
		if is {
			g.banned[id] = true
		} else {
			delete(g.banned, id)
		}
	}
	for id, until := range d.TimedOut {
		if until != nil {
			g.timedOut[id] = *until
		} else {
			delete(g.timedOut, id)
		}
	}
	g.attempt = max(g.attempt, d.Attempt)
	if d.Archives != nil {
		g.archives = *d.Archives
	}
}

// sameSettings says whether two channels differ at most in what messages change.
func sameSettings(a, b *textchat.Channel) bool {
	if a == nil || b == nil {
		return a == b
	}
	return reflect.DeepEqual(unwritten(a), unwritten(b))
}

// unwritten is a channel without what messages change.
func unwritten(c *textchat.Channel) textchat.Channel {
	s := *c
	s.LastMessage, s.MessageCount = nil, nil
	return s
}

func assign[V any](to, from map[textchat.ID]*V) {
	for id, v := range from {
		if v != nil {
			to[id] = v
		} else {
			delete(to, id)
		}
	}
}

// Empty says that nothing changed.
func (d *Delta) Empty() bool {
	return d.Self == nil && len(d.Roles)+len(d.Channels)+len(d.Members)+len(d.Banned)+len(d.TimedOut)+len(d.Voice)+len(d.Pending)+len(d.Queues)+len(d.Sizes)+len(d.Visits) == 0
}

// Present are the changes that bring the store to what the guild is now, where
// changes touch it.
func (g *Guild) Present(changes []textchat.Change) []textchat.Change {
	var list []textchat.Change
	for _, c := range changes {
		switch {
		case c.PutGuild != nil:
			self := g.self
			list = append(list, textchat.Change{PutGuild: &self})
		case c.PutRole != nil || c.DropRole != 0:
			id := c.DropRole
			if c.PutRole != nil {
				id = c.PutRole.ID
			}
			list = append(list, textchat.Change{PutRole: g.roles[id]})
			if g.roles[id] == nil {
				list[len(list)-1].DropRole = id
			}
		case c.PutChannel != nil:
			list = append(list, textchat.Change{PutChannel: g.channels[c.PutChannel.ID]})
			if g.channels[c.PutChannel.ID] == nil {
				list[len(list)-1].DropChannel = c.PutChannel.ID
			}
		case c.PutMember != nil || c.DropMember != 0:
			id := c.DropMember
			if c.PutMember != nil {
				id = c.PutMember.User.ID
			}
			list = append(list, textchat.Change{PutMember: g.members[id]})
			if g.members[id] == nil {
				list[len(list)-1].DropMember = id
			}
		}
	}
	return list
}

// From is the guild as the store has it, with what another instance has besides.
func (g *Guild) From(r textchat.GuildRecord, live *Delta) *Guild {
	n := New(r, g.openTimeout)
	n.Apply(live)
	return n
}

// With is a guild as the store has it, with who is in voice here.
func (g *Guild) With(r textchat.GuildRecord) *Guild {
	n := New(r, g.openTimeout)
	n.Apply(g.Live())
	return n
}

// Differs says whether the store has the guild otherwise. What it works out anew for
// each reader is not looked at.
func (g *Guild) Differs(r textchat.GuildRecord) bool {
	s := New(r, 0)
	return !alike(&g.self, &s.self) || !maps.EqualFunc(g.roles, s.roles, alike) || !maps.EqualFunc(g.members, s.members, alike) || !maps.Equal(g.banned, s.banned) ||
		!maps.EqualFunc(g.channels, s.channels, func(a, b *textchat.Channel) bool { x, y := unwritten(a), unwritten(b); return alike(&x, &y) })
}

// alike says whether two objects are the same to who reads them.
func alike[T any](a, b *T) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Holds says whether a session is in voice, on the way there, or in line, or is of a
// temporary member.
func (g *Guild) Holds(user textchat.ID, session string) bool {
	if v := g.voice[user]; v != nil && v.Session == session {
		return true
	}
	if p := g.pending[user]; p != nil && p.Session == session {
		return true
	}
	if v := g.visits[user]; v != nil && slices.Contains(v.Sessions, session) {
		return true
	}
	channel, i, ok := g.waits(user)
	return ok && g.queues[channel].List[i].Session == session
}

// Sessions are all sessions that Holds is true of, and whose they are.
func (g *Guild) Sessions() map[string]textchat.ID {
	list := make(map[string]textchat.ID)
	for user, v := range g.voice {
		list[v.Session] = user
	}
	for user, p := range g.pending {
		list[p.Session] = user
	}
	for _, q := range g.queues {
		for _, w := range q.List {
			list[w.Session] = w.User
		}
	}
	for user, v := range g.visits {
		for _, s := range v.Sessions {
			list[s] = user
		}
	}
	return list
}

// Seats is what of the delta tells who is in voice, on the way there, or in line, and which
// sessions temporary members have.
func (d *Delta) Seats() *Delta {
	return &Delta{Voice: d.Voice, Pending: d.Pending, Queues: d.Queues, Visits: d.Visits, Attempt: d.Attempt}
}

const (
	// doubtAfter is when the first of those is asked for of whom it is not known whether
	// they are in the call still, doubtEvery when the next, and doubtWithin bounds when the
	// last: after an outage all come back, who must not be kept waiting by questions.
	doubtAfter  = time.Second
	doubtEvery  = 100 * time.Millisecond
	doubtWithin = 30 * time.Second
)

// Doubt has the nodes asked for the sessions of all in voice: who told of their ends was
// not listened to for a while.
func (g *Guild) Doubt(now time.Time) {
	g.begin()
	at := now.Add(doubtAfter)
	every := min(doubtEvery, doubtWithin/time.Duration(max(len(g.voice), 1)))
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		edit(g, g.voice, user).Check = at
		at = at.Add(every)
	}
	g.begin()
}
