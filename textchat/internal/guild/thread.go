package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
)

// A thread is a channel that hangs on another (Parent): it has that one's
// permissions, members of its own, and is archived when nothing happens in it.

// threads are the threads of a channel (0: of all), sorted by id.
func (g *Guild) threads(parent textchat.ID) []*textchat.Channel {
	var list []*textchat.Channel
	for _, c := range g.channels {
		if c.Type.Thread() && (parent == 0 || parentOf(c) == parent) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *textchat.Channel) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Threads are the active threads of a channel (0: of all) that user sees, as they
// are shown to it, by id. User 0 stands for whoever sees the channel: it sees the
// public ones.
func (g *Guild) Threads(user, parent textchat.ID) []textchat.Channel {
	list := []textchat.Channel{}
	for _, c := range g.threads(parent) {
		if c.Thread.Archived {
			continue
		}
		if user == 0 && c.Type != textchat.ChannelPrivateThread || user != 0 && g.Permissions(user, c.ID).Has(textchat.ViewChannel) {
			list = append(list, c.Shown(user))
		}
	}
	return list
}

// ArchivedThreads are up to limit archived threads of a channel that were archived
// before a time (zero: whenever), the last first, and whether there are more:
// private ones or the others, and of private ones all or only those that user is
// in.
func (g *Guild) ArchivedThreads(user, parent textchat.ID, private, joined bool, before time.Time, limit int) (list []textchat.Channel, more bool) {
	list = []textchat.Channel{}
	all := g.threads(parent)
	slices.SortStableFunc(all, func(a, b *textchat.Channel) int { return b.Thread.ArchivedAt.Compare(a.Thread.ArchivedAt.Time) })
	for _, c := range all {
		_, in := c.ThreadMember(user)
		switch {
		case !c.Thread.Archived, private != (c.Type == textchat.ChannelPrivateThread), joined && !in, !before.IsZero() && !c.Thread.ArchivedAt.Before(before):
		case len(list) == limit:
			return list, true
		default:
			list = append(list, c.Shown(user))
		}
	}
	return list, false
}

// WrittenSince are the channels and threads, by id, in which somebody may have written
// since a time: not threads that were archived before it, as writing opens a thread again.
func (g *Guild) WrittenSince(at time.Time) []textchat.Channel {
	var list []textchat.Channel
	for _, id := range slices.Sorted(maps.Keys(g.channels)) {
		c := g.channels[id]
		if c.Type == textchat.ChannelCategory || c.Type.Thread() && c.Thread.Archived && c.Thread.ArchivedAt.Before(at) {
			continue
		}
		list = append(list, *c)
	}
	return list
}

func (g *Guild) channelCount() int {
	n := 0
	for _, c := range g.channels {
		if !c.Type.Thread() {
			n++
		}
	}
	return n
}

// noteArchive takes care that Tick comes when a thread is to be archived.
func (g *Guild) noteArchive(c *textchat.Channel) {
	if at := c.ArchivesAt(); !at.IsZero() && (g.archives.IsZero() || at.Before(g.archives)) {
		g.setArchives(at)
	}
}

func (g *Guild) setArchives(at time.Time) {
	old := g.archives
	g.undo = append(g.undo, func() { g.archives = old })
	g.archives = at
}

// putThread replaces a thread; the store has it, too.
func (g *Guild) putThread(out *Out, c *textchat.Channel) {
	put(g, g.channels, c.ID, c)
	g.noteArchive(c)
	out.Channel = c
	out.change(textchat.Change{PutChannel: c})
}

func (g *Guild) threadUpdated(out *Out, c *textchat.Channel) {
	out.event(Event{Name: textchat.EventThreadUpdate, Intent: textchat.IntentGuilds, Channel: c.ID, Data: c.Shown(0)})
}

// PutThread makes a thread (New) or replaces one by its changed copy. A thread of a
// message has its id.
type PutThread struct {
	Actor  textchat.ID
	New    bool
	Thread textchat.Channel
}

func (in PutThread) handle(g *Guild, now time.Time, out *Out) {
	if in.New {
		in.make(g, now, out)
		return
	}
	c := in.Thread
	old := g.channels[c.ID]
	perms := g.Permissions(in.Actor, c.ID)
	if old == nil || !old.Type.Thread() || !perms.Has(textchat.ViewChannel) {
		out.refuse(textchat.ErrUnknownChannel)
		return
	}
	manages := perms.Has(textchat.ManageThreads)
	owns := old.Owner != nil && *old.Owner == in.Actor
	reopens := old.Thread.Archived && !c.Thread.Archived
	rest := c
	meta := *c.Thread
	meta.Archived = old.Thread.Archived
	rest.Thread = &meta
	switch {
	case old.Thread.Locked && reopens && !manages:
		out.refuse(textchat.ErrThreadLocked)
		return
	case old.Thread.Archived && !reopens:
		out.refuse(textchat.ErrThreadArchived)
		return
	case c.Thread.Locked != old.Thread.Locked && !manages, c.RateLimitPerUser != old.RateLimitPerUser && !manages:
		out.refuse(textchat.ErrMissingPerms)
		return
	case reopens && !sameThread(*old, rest) && !manages && !owns, reopens && !perms.Has(textchat.SendMessages) && !manages:
		out.refuse(textchat.ErrMissingPerms)
		return
	case !reopens && !manages && !owns:
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	if reopens && g.activeThreads() >= textchat.MaxThreads {
		out.refuse(textchat.Refuse(400, textchat.CodeMaxThreads, "Maximum number of active threads reached (1000)"))
		return
	}
	keepWritten(&c, old)
	meta = *c.Thread
	if meta.Archived != old.Thread.Archived {
		meta.ArchivedAt = textchat.Time{Time: now}
	}
	c.Thread = &meta
	g.putThread(out, &c)
	g.threadUpdated(out, &c)
}

// sameThread says whether two states of a thread have the same name and settings.
func sameThread(a, b textchat.Channel) bool {
	return a.Name == b.Name && a.RateLimitPerUser == b.RateLimitPerUser && a.Thread.AutoArchive == b.Thread.AutoArchive && same(a.Thread.Invitable, b.Thread.Invitable)
}

func (g *Guild) activeThreads() int {
	n := 0
	for _, c := range g.channels {
		if c.Type.Thread() && !c.Thread.Archived {
			n++
		}
	}
	return n
}

func (in PutThread) make(g *Guild, now time.Time, out *Out) {
	c := in.Thread
	parent := g.channels[parentOf(&c)]
	perms := g.Permissions(in.Actor, parentOf(&c))
	need := textchat.CreatePublicThreads
	if c.Type == textchat.ChannelPrivateThread {
		need = textchat.CreatePrivateThreads
	}
	switch {
	case parent == nil || !perms.Has(textchat.ViewChannel):
		out.refuse(textchat.ErrUnknownChannel)
		return
	case parent.Type != textchat.ChannelText && parent.Type != textchat.ChannelAnnouncement,
		(c.Type == textchat.ChannelAnnouncementThread) != (parent.Type == textchat.ChannelAnnouncement):
		out.refuse(textchat.ErrChannelType)
		return
	case !perms.Has(need):
		out.refuse(textchat.ErrMissingPerms)
		return
	case g.channels[c.ID] != nil:
		out.refuse(textchat.ErrThreadExists)
		return
	case g.activeThreads() >= textchat.MaxThreads:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxThreads, "Maximum number of active threads reached (1000)"))
		return
	}
	at := textchat.Time{Time: now}
	meta := *c.Thread
	meta.CreatedAt, meta.ArchivedAt = at, at
	c.Guild, c.Owner, c.Thread, c.NSFW, c.Overwrites = g.self.ID, &in.Actor, &meta, parent.NSFW, []textchat.Overwrite{}
	c.ThreadMembers = []textchat.ThreadMember{{Thread: c.ID, User: in.Actor, JoinedAt: at}}
	g.putThread(out, &c)
	out.event(Event{Name: textchat.EventThreadCreate, Intent: textchat.IntentGuilds, Channel: c.ID, Data: NewThread{c.Shown(0), true}})
}

// NewThread is the body of THREAD_CREATE.
type NewThread struct {
	textchat.Channel
	New bool `json:"newly_created,omitempty"`
}

// DropThread deletes a thread.
type DropThread struct{ Actor, Thread textchat.ID }

func (in DropThread) handle(g *Guild, _ time.Time, out *Out) {
	c := g.channels[in.Thread]
	perms := g.Permissions(in.Actor, in.Thread)
	switch {
	case c == nil || !c.Type.Thread() || !perms.Has(textchat.ViewChannel):
		out.refuse(textchat.ErrUnknownChannel)
		return
	case !perms.Has(textchat.ManageThreads):
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	out.Channel = c
	out.change(textchat.Change{DropChannel: c.ID})
	out.event(Event{Name: textchat.EventThreadDelete, Intent: textchat.IntentGuilds, Channel: c.ID,
		Data: ThreadGone{ID: c.ID, Guild: g.self.ID, Parent: parentOf(c), Type: c.Type}})
}

// ThreadGone is the body of THREAD_DELETE.
type ThreadGone struct {
	ID     textchat.ID          `json:"id"`
	Guild  textchat.ID          `json:"guild_id"`
	Parent textchat.ID          `json:"parent_id"`
	Type   textchat.ChannelType `json:"type"`
}

// FollowThread makes User a member of a thread, or (Leaves) takes it out of the
// members. Actor is who does it: the user itself or another.
type FollowThread struct {
	Actor, User, Thread textchat.ID
	Leaves              bool
}

func (in FollowThread) handle(g *Guild, now time.Time, out *Out) {
	c := g.channels[in.Thread]
	perms := g.Permissions(in.Actor, in.Thread)
	if c == nil || !c.Type.Thread() || !perms.Has(textchat.ViewChannel) {
		out.refuse(textchat.ErrUnknownChannel)
		return
	}
	_, member := c.ThreadMember(in.User)
	private := c.Type == textchat.ChannelPrivateThread
	owns := c.Owner != nil && *c.Owner == in.Actor
	invitable := !private || owns || c.Thread.Invitable == nil || *c.Thread.Invitable
	other := in.Actor != in.User
	switch {
	case c.Thread.Archived:
		out.refuse(textchat.ErrThreadArchived)
	case in.Leaves && !member:
		out.refuse(textchat.ErrThreadMember)
	case in.Leaves && other && !perms.Has(textchat.ManageThreads) && !(private && owns):
		out.refuse(textchat.ErrMissingPerms)
	case in.Leaves:
		g.follow(out, c, in.User, now, true)
	case member:
	case g.members[in.User] == nil:
		out.refuse(textchat.ErrUnknownMember)
	case !g.Permissions(in.User, parentOf(c)).Has(textchat.ViewChannel):
		out.refuse(textchat.ErrMissingAccess)
	case other && (!perms.Has(textchat.SendMessages) || !invitable && !perms.Has(textchat.ManageThreads)):
		out.refuse(textchat.ErrMissingPerms)
	case len(c.ThreadMembers) >= textchat.MaxThreadMembers:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxThreads, "Maximum number of thread participants reached (1000)"))
	default:
		g.follow(out, c, in.User, now, false)
	}
}

// follow adds or removes one member of a thread, and tells.
func (g *Guild) follow(out *Out, old *textchat.Channel, user textchat.ID, now time.Time, leaves bool) {
	c := *old
	e := ThreadMembers{ID: c.ID, Guild: g.self.ID}
	if leaves {
		c.ThreadMembers = slices.DeleteFunc(slices.Clone(c.ThreadMembers), func(m textchat.ThreadMember) bool { return m.User == user })
		e.Removed = []textchat.ID{user}
	} else {
		m := textchat.ThreadMember{Thread: c.ID, User: user, JoinedAt: textchat.Time{Time: now}}
		c.ThreadMembers = append(slices.Clip(c.ThreadMembers), m)
		e.Added = []ThreadMemberEvent{{m, g.members[user]}}
	}
	e.Count = min(len(c.ThreadMembers), 50)
	g.putThread(out, &c)
	if !leaves { // to whom a private one is new
		out.event(Event{Name: textchat.EventThreadCreate, User: user, Data: NewThread{Channel: c.Shown(user)}})
	}
	// Who has left a private one may not see it any more, but hears of that.
	out.event(Event{Name: textchat.EventThreadMembers, Intent: textchat.IntentGuildMembers, Own: user, Channel: c.ID, Data: e})
}

// ThreadMembers is the body of THREAD_MEMBERS_UPDATE.
type ThreadMembers struct {
	ID      textchat.ID         `json:"id"`
	Guild   textchat.ID         `json:"guild_id"`
	Count   int                 `json:"member_count"`
	Added   []ThreadMemberEvent `json:"added_members,omitempty"`
	Removed []textchat.ID       `json:"removed_member_ids,omitempty"`
}

// ThreadMemberEvent is a member of a thread with its member of the guild.
type ThreadMemberEvent struct {
	textchat.ThreadMember
	Member *textchat.Member `json:"member,omitempty"`
}

// leaveThreads takes a user who leaves the guild out of all threads.
func (g *Guild) leaveThreads(out *Out, user textchat.ID) {
	for _, c := range g.threads(0) {
		if _, in := c.ThreadMember(user); in {
			g.follow(out, c, user, time.Time{}, true)
		}
	}
}

// countInThread counts a message; an archived thread is opened again by it.
func (g *Guild) countInThread(now time.Time, thread textchat.ID, out *Out) {
	c := *g.channels[thread]
	n := 1
	if c.MessageCount != nil {
		n += *c.MessageCount
	}
	c.MessageCount = &n
	if !c.Thread.Archived {
		put(g, g.channels, c.ID, &c)
		return
	}
	meta := *c.Thread
	meta.Archived, meta.ArchivedAt = false, textchat.Time{Time: now}
	c.Thread = &meta
	g.putThread(out, &c)
	g.threadUpdated(out, &c)
}

// followWriter makes who wrote in a thread a member of it.
func (g *Guild) followWriter(now time.Time, thread, user textchat.ID, out *Out) {
	c := g.channels[thread]
	if _, in := c.ThreadMember(user); !in && g.members[user] != nil && len(c.ThreadMembers) < textchat.MaxThreadMembers {
		g.follow(out, c, user, now, false)
	}
}

// archiveOld archives the threads in which nothing has happened for long.
func (g *Guild) archiveOld(now time.Time, out *Out) {
	if g.archives.IsZero() || g.archives.After(now) {
		return
	}
	g.setArchives(time.Time{})
	for _, id := range slices.Sorted(maps.Keys(g.channels)) {
		c := g.channels[id]
		if at := c.ArchivesAt(); at.IsZero() || at.After(now) {
			g.noteArchive(c)
			continue
		}
		n, meta := *c, *c.Thread
		meta.Archived, meta.ArchivedAt = true, textchat.Time{Time: now}
		n.Thread = &meta
		g.putThread(out, &n)
		g.threadUpdated(out, &n)
	}
}
