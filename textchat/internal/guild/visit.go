package guild

import (
	"slices"
	"time"

	"voicefleet/textchat"
)

// comeBack is how long after the guild was loaded those have to come back who were there
// before: a session may be resumed within ResumeWindow, and whose server was started again
// begins a new one within seconds.
const comeBack = textchat.ResumeWindow + time.Minute

// visit are the gateway sessions of a temporary member, at all instances, from the first
// one on. With the last one that ends for good the member goes. A guild that is loaded knows
// of none yet: who was there before it waits for a while.
type visit struct{ Sessions []string }

// SessionCame tells that a gateway session of a temporary member has the guild. It may come
// more than once.
type SessionCame struct {
	User    textchat.ID
	Session string
}

func (in SessionCame) handle(g *Guild, _ time.Time, out *Out) {
	m, v := g.members[in.User], g.visits[in.User]
	if m == nil || !m.Temporary || v != nil && slices.Contains(v.Sessions, in.Session) {
		return
	}
	var now visit
	if v != nil {
		now.Sessions = slices.Clone(v.Sessions)
	}
	now.Sessions = append(now.Sessions, in.Session)
	put(g, g.visits, in.User, &now)
	if !m.Visited {
		c := *m
		c.Visited = true
		g.enrol(&c)
		out.change(textchat.Change{PutMember: &c})
	}
}

// endSession takes a session from a visit, which may end with it.
func (g *Guild) endSession(now time.Time, out *Out, user textchat.ID, session string) {
	v := g.visits[user]
	if v == nil || !slices.Contains(v.Sessions, session) {
		return
	}
	rest := visit{slices.DeleteFunc(slices.Clone(v.Sessions), func(s string) bool { return s == session })}
	put(g, g.visits, user, &rest)
	if len(rest.Sessions) == 0 {
		g.endVisit(now, out, user)
	}
}

// endVisit removes a member who is temporary still. The owner stays.
func (g *Guild) endVisit(now time.Time, out *Out, user textchat.ID) {
	drop(g, g.visits, user)
	if m := g.members[user]; m != nil && m.Temporary && user != g.self.Owner {
		g.part(now, out, user, "visit_ended")
	}
}

// endVisits does so with those who did not come back.
func (g *Guild) endVisits(now time.Time, out *Out) {
	if now.Before(g.since.Add(comeBack)) {
		return
	}
	var away []textchat.ID
	for user, v := range g.visits {
		if len(v.Sessions) == 0 {
			away = append(away, user)
		}
	}
	slices.Sort(away)
	for _, user := range away {
		g.endVisit(now, out, user)
	}
}

// visitsEnd is when endVisits has something to do, or zero. The time to come back counts
// from the first input: until then it is in the past, and a Tick is the first.
func (g *Guild) visitsEnd() time.Time {
	for _, v := range g.visits {
		if len(v.Sessions) == 0 {
			return g.since.Add(comeBack)
		}
	}
	return time.Time{}
}

// keepOn makes a temporary member a lasting one.
func (g *Guild) keepOn(m *textchat.Member) {
	m.Temporary, m.Visited = false, false
	drop(g, g.visits, m.User.ID)
}
