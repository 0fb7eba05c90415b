package guild

import (
	"slices"
	"time"

	"voicefleet/textchat"
)

// Input is one of the input structs of this package.
type Input interface{ handle(*Guild, time.Time, *Out) }

// Handle takes one input.
func (g *Guild) Handle(now time.Time, in Input, out *Out) {
	g.begin()
	if g.since.IsZero() {
		g.since = now
	}
	in.handle(g, now, out)
	g.notice(in, out)
}

func (in VoiceUpdate) handle(g *Guild, now time.Time, out *Out) { g.handleVoiceUpdate(now, in, out) }
func (in Placed) handle(g *Guild, now time.Time, out *Out)      { g.handlePlaced(now, in, out) }
func (in PlaceFailed) handle(g *Guild, now time.Time, out *Out) { g.handlePlaceFailed(now, in, out) }
func (in CallOpened) handle(g *Guild, _ time.Time, out *Out)    { g.handleCallOpened(in, out) }
func (in CallLeft) handle(g *Guild, now time.Time, out *Out)    { g.handleCallLeft(now, in, out) }
func (in Moved) handle(g *Guild, now time.Time, out *Out)       { g.handleMoved(now, in, out) }
func (in Mend) handle(g *Guild, now time.Time, out *Out)        { g.handleMend(now, in, out) }
func (in SessionGone) handle(g *Guild, now time.Time, out *Out) { g.handleSessionGone(now, in, out) }
func (TakeOver) handle(g *Guild, _ time.Time, out *Out)         { g.handleTakeOver(out) }
func (Tick) handle(g *Guild, now time.Time, out *Out)           { g.handleTick(now, out) }

// Join makes a user a member; Nick may be nil. A member already is answered as
// such. Temporary: it stays while it is online, unless it is given a role.
type Join struct {
	User      textchat.User
	Nick      *string
	Temporary bool
}

func (in Join) handle(g *Guild, now time.Time, out *Out) {
	if m := g.members[in.User.ID]; m != nil {
		out.Member = m
		return
	}
	if err := g.MayJoin(in.User.ID); err != nil {
		out.refuse(err)
		return
	}
	m := &textchat.Member{User: in.User, Nick: in.Nick, Roles: []textchat.ID{}, JoinedAt: textchat.Time{Time: now}, Temporary: in.Temporary}
	g.enrol(m)
	out.Member = m
	out.change(textchat.Change{PutMember: m})
	out.Joined = append(out.Joined, in.User.ID)
	out.event(Event{Name: textchat.EventMemberAdd, Intent: textchat.IntentGuildMembers, Except: in.User.ID,
		Data: MemberEvent{Member: *m, Guild: g.self.ID}})
}

// MayJoin is why somebody who is no member cannot become one, or nil.
func (g *Guild) MayJoin(user textchat.ID) *textchat.Error {
	switch {
	case g.banned[user]:
		return textchat.ErrBanned
	case len(g.members) >= textchat.MaxMembers:
		return textchat.Refuse(400, textchat.CodeMaxGuilds, "This guild is full.")
	}
	return nil
}

// Leave ends the membership of User, at its own wish or (Actor set) kicked.
type Leave struct {
	User  textchat.ID
	Actor textchat.ID
}

func (in Leave) handle(g *Guild, now time.Time, out *Out) {
	m := g.members[in.User]
	switch {
	case m == nil:
		out.refuse(textchat.ErrUnknownMember)
		return
	case in.Actor != 0 && (!g.Base(in.Actor).Has(textchat.KickMembers) || !g.rank(in.Actor).above(g.rank(in.User))):
		out.refuse(textchat.ErrMissingPerms)
		return
	case in.User == g.self.Owner:
		out.refuse(textchat.Refuse(400, textchat.CodeMissingPerms, "The owner cannot leave its guild."))
		return
	}
	g.part(now, out, in.User, "left_guild")
}

// UserChanged brings a new record of a member's account.
type UserChanged struct{ User textchat.User }

func (in UserChanged) handle(g *Guild, _ time.Time, out *Out) {
	m := g.members[in.User.ID]
	if m == nil {
		return
	}
	c := *m
	c.User = in.User
	g.putMember(out, &c, false)
}

// putMember replaces a member and tells of it.
func (g *Guild) putMember(out *Out, m *textchat.Member, store bool) {
	g.enrol(m)
	out.Member = m
	if store {
		out.change(textchat.Change{PutMember: m})
	}
	out.event(Event{Name: textchat.EventMemberUpdate, Intent: textchat.IntentGuildMembers, Own: m.User.ID,
		Data: MemberEvent{Member: *m, Guild: g.self.ID}})
}

// PatchMember changes a member; what is nil stays. Nick "" takes the nickname
// away. Channel moves between voice channels, zero disconnects.
type PatchMember struct {
	Actor, User textchat.ID
	Nick        *string
	Roles       *[]textchat.ID
	Mute, Deaf  *bool
	Channel     *textchat.ID
	// Timeout is until when the member may only look and read; zero ends that.
	Timeout *time.Time
}

func (in PatchMember) handle(g *Guild, now time.Time, out *Out) {
	m := g.members[in.User]
	if m == nil {
		out.refuse(textchat.ErrUnknownMember)
		return
	}
	if err := g.mayPatch(in, m); err != nil {
		out.refuse(err)
		return
	}
	c := *m
	out.Member = m
	if in.Nick != nil {
		c.Nick = in.Nick
		if *in.Nick == "" {
			c.Nick = nil
		}
	}
	if in.Roles != nil {
		c.Roles = slices.Compact(slices.Sorted(slices.Values(*in.Roles)))
		if c.Roles == nil {
			c.Roles = []textchat.ID{}
		}
		if len(c.Roles) > 0 {
			g.keepOn(&c)
		}
	}
	if in.Mute != nil {
		c.Mute = *in.Mute
	}
	if in.Deaf != nil {
		c.Deaf = *in.Deaf
	}
	if in.Timeout != nil {
		c.TimeoutUntil = nil
		if !in.Timeout.IsZero() {
			c.TimeoutUntil = &textchat.Time{Time: *in.Timeout}
		}
		g.noteTimeout(now, &c)
	}
	if in.Nick != nil || in.Roles != nil || in.Timeout != nil || c.Mute != m.Mute || c.Deaf != m.Deaf {
		g.putMember(out, &c, true)
		if _, silent := g.timedOut[in.User]; silent && in.Timeout != nil {
			g.cancel(out, in.User)
			if g.voice[in.User] != nil {
				g.leave(now, out, in.User, "timed_out")
			}
		}
		if g.refreshRights(out, in.User) || in.Nick != nil && g.voice[in.User] != nil {
			g.tell(out, in.User, g.voice[in.User].Channel, "")
		}
	}
	if in.Channel == nil {
		return
	}
	v := g.voice[in.User]
	switch {
	case v == nil: // the time-out has ended it
	case *in.Channel == 0:
		g.cancel(out, in.User)
		g.leave(now, out, in.User, "disconnected")
	case *in.Channel != v.Channel:
		g.place(out, VoiceUpdate{User: in.User, Session: v.Session, Channel: *in.Channel, Wishes: v.Wishes})
	}
}

func (g *Guild) mayPatch(in PatchMember, m *textchat.Member) *textchat.Error {
	base := g.Base(in.Actor)
	outranks := g.rank(in.Actor).above(g.rank(in.User))
	if in.Nick != nil {
		ok := base.Has(textchat.ManageNicknames) && outranks
		if in.Actor == in.User {
			ok = base.Has(textchat.ChangeNickname) || base.Has(textchat.ManageNicknames)
		}
		if !ok {
			return textchat.ErrMissingPerms
		}
	}
	if in.Roles != nil {
		if !base.Has(textchat.ManageRoles) {
			return textchat.ErrMissingPerms
		}
		for _, id := range *in.Roles {
			if r := g.roles[id]; r == nil || id == g.self.ID {
				return textchat.InvalidField("roles", "INVALID_ROLE", "There is no such role.")
			}
		}
		// What is given or taken must stand below the actor.
		for _, list := range [][]textchat.ID{*in.Roles, m.Roles} {
			for _, id := range list {
				moved := slices.Contains(*in.Roles, id) != slices.Contains(m.Roles, id)
				if r := g.roles[id]; moved && r != nil && !g.rank(in.Actor).above(standingOf(r)) {
					return textchat.ErrMissingPerms
				}
			}
		}
	}
	if in.Timeout != nil {
		if err := g.mayTimeOut(in.Actor, in.User); err != nil {
			return err
		}
	}
	if in.Mute == nil && in.Deaf == nil && in.Channel == nil {
		return nil
	}
	v := g.voice[in.User]
	here := base
	if v != nil {
		here = g.Permissions(in.Actor, v.Channel)
	}
	switch {
	case in.Mute != nil && !here.Has(textchat.MuteMembers),
		in.Deaf != nil && !here.Has(textchat.DeafenMembers),
		in.Channel != nil && !here.Has(textchat.MoveMembers):
		return textchat.ErrMissingPerms
	case v == nil:
		return textchat.ErrNotInVoice
	case in.Channel == nil || *in.Channel == 0:
		return nil
	}
	c := g.channels[*in.Channel]
	switch there := g.Permissions(in.Actor, *in.Channel); {
	case c == nil || !there.Has(textchat.ViewChannel):
		return textchat.ErrUnknownChannel
	case !c.Type.Voice():
		return textchat.ErrChannelType
	case !there.Has(textchat.Connect):
		return textchat.ErrMissingPerms
	}
	return nil
}

// PatchGuild changes the guild's own record; what is nil stays.
type PatchGuild struct {
	Actor       textchat.ID
	Name        *string
	Description *string
	System      *textchat.ID // channel for the server's own messages; zero: none
	Owner       *textchat.ID // only the owner gives its guild away
}

func (in PatchGuild) handle(g *Guild, _ time.Time, out *Out) {
	if !g.Base(in.Actor).Has(textchat.ManageGuild) {
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	c := g.self
	if in.Name != nil {
		c.Name = *in.Name
	}
	if in.Description != nil {
		c.Description = in.Description
	}
	if in.System != nil {
		c.SystemChannel = nil
		if *in.System != 0 {
			if ch := g.channels[*in.System]; ch == nil || ch.Type != textchat.ChannelText {
				out.refuse(textchat.InvalidField("system_channel_id", "CHANNEL_INVALID_TYPE", "There is no such text channel."))
				return
			}
			c.SystemChannel = in.System
		}
	}
	if in.Owner != nil && *in.Owner != c.Owner {
		switch m := g.members[*in.Owner]; {
		case c.Owner != in.Actor:
			out.refuse(textchat.ErrMissingPerms)
			return
		case m == nil || m.User.Bot || m.User.Guest:
			out.refuse(textchat.InvalidField("owner_id", "USER_INVALID", "The new owner must be a member with an account."))
			return
		}
		c.Owner = *in.Owner
	}
	g.putGuild(out, c)
	g.refreshAll(out)
}

// SetOwner gives the guild to a member. Only the server itself asks for it.
type SetOwner struct{ User textchat.ID }

func (in SetOwner) handle(g *Guild, _ time.Time, out *Out) {
	if g.members[in.User] == nil {
		out.refuse(textchat.ErrUnknownMember)
		return
	}
	c := g.self
	c.Owner = in.User
	g.putGuild(out, c)
	g.refreshAll(out)
}

func (g *Guild) putGuild(out *Out, c textchat.Guild) {
	old := g.self
	g.undo = append(g.undo, func() { g.self = old })
	g.self, g.renamed = c, true
	out.Guild = &c
	out.change(textchat.Change{PutGuild: &c})
	out.event(Event{Name: textchat.EventGuildUpdate, Intent: textchat.IntentGuilds, Data: g.Full()})
}

// PutRole makes a role (New) or replaces one by its changed copy.
type PutRole struct {
	Actor textchat.ID
	New   bool
	Role  textchat.Role
}

func (in PutRole) handle(g *Guild, _ time.Time, out *Out) {
	old, base := g.roles[in.Role.ID], g.Base(in.Actor)
	r := in.Role
	before := textchat.Permissions(0)
	switch {
	case !in.New && old == nil:
		out.refuse(textchat.ErrUnknownRole)
		return
	case !base.Has(textchat.ManageRoles):
		out.refuse(textchat.ErrMissingPerms)
		return
	case in.New && len(g.roles) >= textchat.MaxRoles:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxRoles, "Maximum number of guild roles reached (250)"))
		return
	}
	if in.New {
		// New roles come right above @everyone.
		r.Position = 1
	} else {
		before = old.Permissions
		if top := g.rank(in.Actor); !top.above(standingOf(old)) || !top.above(standingOf(&r)) {
			out.refuse(textchat.ErrMissingPerms)
			return
		}
	}
	if (r.Permissions^before)&^base != 0 {
		out.refuse(textchat.ErrMissingPerms) // nobody gives or takes what it has not
		return
	}
	put(g, g.roles, r.ID, &r)
	out.Role = &r
	out.change(textchat.Change{PutRole: &r})
	name := textchat.EventRoleUpdate
	if in.New {
		name = textchat.EventRoleCreate
	}
	out.event(Event{Name: name, Intent: textchat.IntentGuilds, Data: RoleEvent{Guild: g.self.ID, Role: r}})
	g.refreshAll(out)
}

// DropRole deletes a role and takes it from its members.
type DropRole struct{ Actor, Role textchat.ID }

func (in DropRole) handle(g *Guild, _ time.Time, out *Out) {
	r := g.roles[in.Role]
	switch {
	case r == nil:
		out.refuse(textchat.ErrUnknownRole)
		return
	case !g.Base(in.Actor).Has(textchat.ManageRoles) || !g.rank(in.Actor).above(standingOf(r)):
		out.refuse(textchat.ErrMissingPerms)
		return
	case r.ID == g.self.ID:
		out.refuse(textchat.Refuse(400, 50028, "Invalid role"))
		return
	}
	drop(g, g.roles, in.Role)
	out.change(textchat.Change{DropRole: in.Role})
	for _, m := range g.members {
		if slices.Contains(m.Roles, in.Role) {
			c := *m
			c.Roles = slices.DeleteFunc(slices.Clone(m.Roles), func(r textchat.ID) bool { return r == in.Role })
			g.enrol(&c)
			out.change(textchat.Change{PutMember: &c})
		}
	}
	out.event(Event{Name: textchat.EventRoleDelete, Intent: textchat.IntentGuilds, Data: RoleGone{Guild: g.self.ID, Role: in.Role}})
	g.refreshAll(out)
}

// PutChannel makes a channel (New) or changes one.
type PutChannel struct {
	Actor   textchat.ID
	New     bool
	Channel textchat.Channel
	// Was is the channel as the actor read it: what Channel has otherwise is changed.
	Was *textchat.Channel
	// Overwrites: its overwrites are those of Channel; else they stay. A new channel
	// without any has those of its category.
	Overwrites bool
}

func (in PutChannel) handle(g *Guild, _ time.Time, out *Out) {
	c := in.Channel
	old := g.channels[c.ID]
	var perms textchat.Permissions
	need := textchat.ManageChannels
	switch {
	case in.New:
		perms = g.Base(in.Actor)
		if p := g.channels[parentOf(&c)]; len(c.Overwrites) == 0 && p != nil {
			c.Overwrites, in.Overwrites = p.Overwrites, false
		}
	default:
		perms = g.Permissions(in.Actor, c.ID)
		if old != nil {
			c = since(*old, in.Was, c)
			if !in.Overwrites {
				c.Overwrites = old.Overwrites
			}
		}
		switch {
		case in.Overwrites && old != nil && sameButOverwrites(*old, c):
			need = textchat.ManageRoles
		case in.Overwrites:
			need |= textchat.ManageRoles
		}
	}
	switch {
	case !in.New && (old == nil || !perms.Has(textchat.ViewChannel)):
		out.refuse(textchat.ErrUnknownChannel)
		return
	case !perms.Has(need):
		out.refuse(textchat.ErrMissingPerms)
		return
	case in.New && g.channelCount() >= textchat.MaxChannels:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxChannels, "Maximum number of guild channels reached (500)"))
		return
	case len(c.Overwrites) > textchat.MaxOverwrites:
		out.refuse(textchat.InvalidField("permission_overwrites", "BASE_TYPE_MAX_LENGTH", "Too many overwrites."))
		return
	}
	if old == nil || parentOf(old) != parentOf(&c) {
		if err := g.checkParent(&c); err != nil {
			out.refuse(err)
			return
		}
	}
	if in.Overwrites {
		var before []textchat.Overwrite
		if old != nil {
			before = old.Overwrites
		}
		bits := overwriteBits(before, c.Overwrites)
		if bits&^perms != 0 || bits.Has(textchat.ManageRoles) && !g.mayHandOn(in.Actor, before) {
			out.refuse(textchat.ErrMissingPerms)
			return
		}
	}
	if old != nil {
		keepWritten(&c, old)
	}
	c.Guild = g.self.ID
	if c.Overwrites == nil {
		c.Overwrites = []textchat.Overwrite{}
	}
	put(g, g.channels, c.ID, &c)
	out.Channel = &c
	out.change(textchat.Change{PutChannel: &c})
	name := textchat.EventChannelUpdate
	if in.New {
		name = textchat.EventChannelCreate
	}
	out.event(Event{Name: name, Intent: textchat.IntentGuilds, Channel: c.ID, Data: c})
	g.refreshAll(out)
}

// since is a channel as it is now with what was changed since somebody read it.
func since(now textchat.Channel, was *textchat.Channel, changed textchat.Channel) textchat.Channel {
	if was == nil {
		return changed
	}
	c := now
	replace(&c.Type, was.Type, changed.Type)
	replace(&c.Name, was.Name, changed.Name)
	replace(&c.Position, was.Position, changed.Position)
	replace(&c.NSFW, was.NSFW, changed.NSFW)
	replace(&c.RateLimitPerUser, was.RateLimitPerUser, changed.RateLimitPerUser)
	replace(&c.Flags, was.Flags, changed.Flags)
	replace(&c.Bitrate, was.Bitrate, changed.Bitrate)
	replace(&c.UserLimit, was.UserLimit, changed.UserLimit)
	replace(&c.Echo, was.Echo, changed.Echo)
	if !same(was.Parent, changed.Parent) {
		c.Parent = changed.Parent
	}
	if !same(was.Topic, changed.Topic) {
		c.Topic = changed.Topic
	}
	if !same(was.RTCRegion, changed.RTCRegion) {
		c.RTCRegion = changed.RTCRegion
	}
	c.Overwrites = changed.Overwrites
	return c
}

func replace[T comparable](now *T, was, changed T) {
	if was != changed {
		*now = changed
	}
}

// mayHandOn says whether somebody may have others manage the overwrites of a channel
// whose overwrites are list: administrators may, and who may manage them by one of the
// list.
func (g *Guild) mayHandOn(user textchat.ID, list []textchat.Overwrite) bool {
	m := g.members[user]
	if m == nil || g.Base(user).Has(textchat.Administrator) {
		return m != nil
	}
	return slices.ContainsFunc(list, func(o textchat.Overwrite) bool {
		own := o.Type == textchat.OverwriteMember && o.ID == user || o.Type == textchat.OverwriteRole && slices.Contains(m.Roles, o.ID)
		return own && o.Allow.Has(textchat.ManageRoles)
	})
}

// PutOverwrite sets one overwrite of a channel or, without Set, takes it away.
type PutOverwrite struct {
	Actor, Channel, ID textchat.ID
	Set                *textchat.Overwrite
}

func (in PutOverwrite) handle(g *Guild, now time.Time, out *Out) {
	old := g.channels[in.Channel]
	if old == nil || !g.Permissions(in.Actor, in.Channel).Has(textchat.ViewChannel) {
		out.refuse(textchat.ErrUnknownChannel)
		return
	}
	c := *old
	c.Overwrites = slices.DeleteFunc(slices.Clone(old.Overwrites), func(x textchat.Overwrite) bool { return x.ID == in.ID })
	switch {
	case in.Set != nil:
		c.Overwrites = append(c.Overwrites, *in.Set)
	case len(c.Overwrites) == len(old.Overwrites):
		out.refuse(textchat.ErrUnknownOver)
		return
	}
	PutChannel{Actor: in.Actor, Channel: c, Overwrites: true}.handle(g, now, out)
}

// keepWritten has a channel keep what messages, and who follows it, made of it: who
// changes its settings may have read it before the last one was written.
func keepWritten(c, now *textchat.Channel) {
	c.LastMessage, c.MessageCount, c.ThreadMembers = now.LastMessage, now.MessageCount, now.ThreadMembers
}

func parentOf(c *textchat.Channel) textchat.ID {
	if c.Parent == nil {
		return 0
	}
	return *c.Parent
}

func sameButOverwrites(a, b textchat.Channel) bool {
	return parentOf(&a) == parentOf(&b) && a.Type == b.Type && a.Name == b.Name && a.Position == b.Position && a.UserLimit == b.UserLimit && a.Bitrate == b.Bitrate && a.NSFW == b.NSFW &&
		a.RateLimitPerUser == b.RateLimitPerUser && a.Echo == b.Echo && same(a.Topic, b.Topic) && same(a.RTCRegion, b.RTCRegion)
}

// same says whether two optional values are alike.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// overwriteBits are the bits in which two sets of overwrites differ.
func overwriteBits(a, b []textchat.Overwrite) textchat.Permissions {
	type key struct {
		id   textchat.ID
		kind textchat.OverwriteType
	}
	diff := make(map[key]textchat.Overwrite, len(a))
	for _, o := range a {
		diff[key{o.ID, o.Type}] = o
	}
	var bits textchat.Permissions
	for _, o := range b {
		k := key{o.ID, o.Type}
		bits |= o.Allow ^ diff[k].Allow | o.Deny ^ diff[k].Deny
		delete(diff, k)
	}
	for _, o := range diff {
		bits |= o.Allow | o.Deny
	}
	return bits
}

// DropChannel deletes a channel and ends the call in it.
type DropChannel struct{ Actor, Channel textchat.ID }

func (in DropChannel) handle(g *Guild, now time.Time, out *Out) {
	c := g.channels[in.Channel]
	perms := g.Permissions(in.Actor, in.Channel)
	switch {
	case c == nil || !perms.Has(textchat.ViewChannel):
		out.refuse(textchat.ErrUnknownChannel)
		return
	case !perms.Has(textchat.ManageChannels):
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	for user, p := range g.pending {
		if p.Channel == c.ID {
			g.cancel(out, user)
		}
	}
	for user, v := range g.voice {
		if v.Channel == c.ID {
			g.leave(now, out, user, "channel_deleted")
		}
	}
	drop(g, g.sizes, c.ID)
	for _, x := range g.channels {
		if parentOf(x) != c.ID {
			continue
		}
		if x.Type.Thread() { // goes with its channel, and needs no event of its own
			out.change(textchat.Change{DropChannel: x.ID})
			continue
		}
		n := *x
		n.Parent = nil
		put(g, g.channels, n.ID, &n)
		out.change(textchat.Change{PutChannel: &n})
		out.event(Event{Name: textchat.EventChannelUpdate, Intent: textchat.IntentGuilds, Channel: n.ID, Data: n})
	}
	out.Channel = c
	out.change(textchat.Change{DropChannel: c.ID})
	// The event is addressed while the channel still says who may view it.
	out.event(Event{Name: textchat.EventChannelDelete, Intent: textchat.IntentGuilds, Channel: c.ID, Data: *c})
}

// Forget ends the life of a deleted channel, after its last event went out.
func (g *Guild) Forget(channel textchat.ID) { delete(g.channels, channel) }

// PutInvite makes an invite; Count is how many the guild has that let people in, Dead
// are some of those that do not any more, which go.
type PutInvite struct {
	Actor  textchat.ID
	Invite textchat.Invite
	Count  int
	Dead   []string
}

func (in PutInvite) handle(g *Guild, _ time.Time, out *Out) {
	perms := g.Permissions(in.Actor, in.Invite.Channel)
	switch {
	case !perms.Has(textchat.ViewChannel):
		out.refuse(textchat.ErrUnknownChannel)
		return
	case !perms.Has(textchat.CreateInvite):
		out.refuse(textchat.ErrMissingPerms)
		return
	case in.Count >= textchat.MaxInvites:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxInvites, "Maximum number of invites reached (1000)"))
		return
	}
	for _, code := range in.Dead {
		out.change(textchat.Change{DropInvite: code})
	}
	i := in.Invite
	out.change(textchat.Change{PutInvite: &i})
	e := InviteEvent{Code: i.Code, Guild: g.self.ID, Channel: i.Channel, MaxAge: i.MaxAge, MaxUses: i.MaxUses, Temporary: i.Temporary, CreatedAt: i.CreatedAt}
	if m := g.members[in.Actor]; m != nil {
		e.Inviter = m.User
	}
	out.event(Event{Name: textchat.EventInviteCreate, Intent: textchat.IntentGuildInvites, Channel: i.Channel, Need: textchat.ManageChannels, Data: e})
}

// DropInvite deletes an invite.
type DropInvite struct {
	Actor  textchat.ID
	Invite textchat.Invite
}

func (in DropInvite) handle(g *Guild, _ time.Time, out *Out) {
	i := in.Invite
	if !g.Base(in.Actor).Has(textchat.ManageGuild) && !g.Permissions(in.Actor, i.Channel).Has(textchat.ManageChannels) {
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	out.change(textchat.Change{DropInvite: i.Code})
	out.event(Event{Name: textchat.EventInviteDelete, Intent: textchat.IntentGuildInvites, Channel: i.Channel, Need: textchat.ManageChannels,
		Data: InviteGone{Code: i.Code, Guild: g.self.ID, Channel: i.Channel}})
}

// Posted tells of a message that the store has: created, or edited.
type Posted struct {
	Message textchat.Message
	Edited  bool
}

func (in Posted) handle(g *Guild, now time.Time, out *Out) {
	name := textchat.EventMessageCreate
	if in.Edited {
		name = textchat.EventMessageUpdate
	} else if c := g.channels[in.Message.Channel]; c != nil && (c.LastMessage == nil || *c.LastMessage < in.Message.ID) {
		n := *c
		id := in.Message.ID
		n.LastMessage = &id
		put(g, g.channels, c.ID, &n)
		if n.Type.Thread() {
			g.countInThread(now, n.ID, out)
		}
	}
	out.event(Event{Name: name, Intent: textchat.IntentGuildMessages, Channel: in.Message.Channel,
		Data: MessageEvent{Message: in.Message, Guild: g.self.ID, Member: g.Partial(in.Message.Author.ID)}})
	if c := g.channels[in.Message.Channel]; c != nil && c.Type.Thread() && !in.Edited {
		g.followWriter(now, c.ID, in.Message.Author.ID, out)
	}
}

// Erased tells of a message, of Author, that the store has no more.
type Erased struct{ Channel, Message, Author textchat.ID }

func (in Erased) handle(g *Guild, _ time.Time, out *Out) {
	out.event(Event{Name: textchat.EventMessageDelete, Intent: textchat.IntentGuildMessages, Channel: in.Channel,
		Data: Gone{ID: in.Message, Channel: in.Channel, Guild: g.self.ID}})
}

// Typing tells that a member writes.
type Typing struct{ User, Channel textchat.ID }

func (in Typing) handle(g *Guild, now time.Time, out *Out) {
	out.event(Event{Name: textchat.EventTypingStart, Intent: textchat.IntentGuildTyping, Channel: in.Channel,
		Data: TypingEvent{Channel: in.Channel, Guild: g.self.ID, User: in.User, Timestamp: now.Unix(), Member: g.members[in.User]}})
}
