package guild

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/sorted"
)

// roll is who the members are, in the orders in which they are asked for: of 200,000 a
// page or the few with a name are found without a look at the others.
type roll struct {
	ids   *sorted.List[textchat.ID]
	names *sorted.List[name] // up to three of each member
	bots  int
}

// name is a name of a member as searches see it: in small letters.
type name struct {
	folded string
	user   textchat.ID
}

func (n name) compare(m name) int {
	if c := strings.Compare(n.folded, m.folded); c != 0 {
		return c
	}
	return cmp.Compare(n.user, m.user)
}

func newRoll(members []textchat.Member) (r roll) {
	ids, names := make([]textchat.ID, len(members)), make([]name, 0, 2*len(members))
	for i := range members {
		m := &members[i]
		ids[i], names = m.User.ID, appendNames(names, m)
		if m.User.Bot {
			r.bots++
		}
	}
	r.ids, r.names = sorted.New(cmp.Compare[textchat.ID], ids), sorted.New(name.compare, names)
	return r
}

// appendNames appends the names of a member; nil has none.
func appendNames(list []name, m *textchat.Member) []name {
	if m == nil {
		return list
	}
	list = append(list, name{strings.ToLower(m.User.Username), m.User.ID})
	for _, n := range []*string{m.Nick, m.User.GlobalName} {
		if n != nil {
			list = append(list, name{strings.ToLower(*n), m.User.ID})
		}
	}
	return list
}

// change puts a member in the place of what it was; either is nil where there is none.
func (r *roll) change(old, now *textchat.Member) {
	var room [6]name
	was, is := appendNames(room[:0:3], old), appendNames(room[3:3], now)
	for _, n := range was {
		if !slices.Contains(is, n) {
			r.names.Drop(n)
		}
	}
	for _, n := range is {
		if !slices.Contains(was, n) {
			r.names.Put(n)
		}
	}
	if old != nil && old.User.Bot {
		r.bots--
	}
	if now != nil && now.User.Bot {
		r.bots++
	}
	switch {
	case old == nil && now != nil:
		r.ids.Put(now.User.ID)
	case old != nil && now == nil:
		r.ids.Drop(old.User.ID)
	}
}

// enrol puts a member on the roll, strike takes one off, so that Revert can take it back.
func (g *Guild) enrol(m *textchat.Member) {
	old := g.members[m.User.ID]
	put(g, g.members, m.User.ID, m)
	g.changeRoll(old, m)
}

func (g *Guild) strike(user textchat.ID) {
	old := g.members[user]
	drop(g, g.members, user)
	g.changeRoll(old, nil)
}

func (g *Guild) changeRoll(old, now *textchat.Member) {
	g.roll.change(old, now)
	g.undo = append(g.undo, func() { g.roll.change(now, old) })
}

// MemberCount is how many members there are, BotCount how many of them are bots.
func (g *Guild) MemberCount() int { return len(g.members) }
func (g *Guild) BotCount() int    { return g.roll.bots }

// CountMembers is how many members are so.
func (g *Guild) CountMembers(so func(*textchat.Member) bool) (n int) {
	for _, m := range g.members {
		if so(m) {
			n++
		}
	}
	return n
}

// MemberIDs are the ids of all members, sorted.
func (g *Guild) MemberIDs() []textchat.ID { return g.roll.ids.All() }

// Members are up to limit members with ids above after, sorted by id.
func (g *Guild) Members(after textchat.ID, limit int) []textchat.Member {
	list := make([]textchat.Member, 0, max(0, min(limit, len(g.members))))
	for id := range g.roll.ids.From(after + 1) {
		if len(list) >= limit {
			break
		}
		list = append(list, *g.members[id])
	}
	return list
}

// Search finds up to limit members of whom a name begins so, in small letters or large
// ones: those whose names come first. With no letter it is those with the lowest ids.
func (g *Guild) Search(beginning string, limit int) []textchat.Member {
	if beginning == "" {
		return g.Members(0, limit)
	}
	beginning = strings.ToLower(beginning)
	ids := having(beginning, limit, g.roll.names.From(name{folded: beginning}))
	list := make([]textchat.Member, len(ids))
	for i, id := range ids {
		list[i] = *g.members[id]
	}
	return list
}

// having are the first limit users, each once, of names that begin so. The names are in
// order, and none that begins so is before them.
func having(beginning string, limit int, names iter.Seq[name]) (users []textchat.ID) {
	found := make(map[textchat.ID]bool)
	for n := range names {
		if len(users) >= limit || !strings.HasPrefix(n.folded, beginning) {
			break
		}
		if !found[n.user] {
			found[n.user] = true
			users = append(users, n.user)
		}
	}
	return users
}
