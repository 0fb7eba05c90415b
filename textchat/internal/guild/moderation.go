package guild

import (
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
)

// Ban keeps a user out, member or not. One that is banned already stays so.
type Ban struct {
	Actor  textchat.ID
	User   textchat.User
	Reason *string
}

func (in Ban) handle(g *Guild, now time.Time, out *Out) {
	id := in.User.ID
	switch {
	case !g.Base(in.Actor).Has(textchat.BanMembers), g.members[id] != nil && !g.rank(in.Actor).above(g.rank(id)), id == g.self.Owner:
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	if g.banned[id] {
		return
	}
	if g.members[id] != nil {
		g.part(now, out, id, "banned")
	}
	put(g, g.banned, id, true)
	out.change(textchat.Change{PutBan: &textchat.Ban{User: in.User, Reason: in.Reason}})
	out.event(Event{Name: textchat.EventBanAdd, Intent: textchat.IntentModeration, NeedAny: textchat.BanMembers | textchat.ViewAuditLog,
		Data: MemberGone{Guild: g.self.ID, User: in.User}})
}

// Unban lets a user in again.
type Unban struct {
	Actor textchat.ID
	User  textchat.User
}

func (in Unban) handle(g *Guild, _ time.Time, out *Out) {
	switch {
	case !g.Base(in.Actor).Has(textchat.BanMembers):
		out.refuse(textchat.ErrMissingPerms)
		return
	case !g.banned[in.User.ID]:
		out.refuse(textchat.ErrUnknownBan)
		return
	}
	drop(g, g.banned, in.User.ID)
	out.change(textchat.Change{DropBan: in.User.ID})
	out.event(Event{Name: textchat.EventBanRemove, Intent: textchat.IntentModeration, NeedAny: textchat.BanMembers | textchat.ViewAuditLog,
		Data: MemberGone{Guild: g.self.ID, User: in.User}})
}

// part ends a membership: out of voice, off the list, its sessions told.
func (g *Guild) part(now time.Time, out *Out, user textchat.ID, reason string) {
	m := g.members[user]
	g.cancel(out, user)
	if g.voice[user] != nil {
		g.leave(now, out, user, reason)
	}
	g.leaveThreads(out, user)
	g.strike(user)
	drop(g, g.timedOut, user)
	drop(g, g.visits, user)
	out.change(textchat.Change{DropMember: user})
	out.Parted = append(out.Parted, user)
	out.event(Event{Name: textchat.EventMemberRemove, Intent: textchat.IntentGuildMembers, Except: user,
		Data: MemberGone{Guild: g.self.ID, User: m.User}})
	out.event(Event{Name: textchat.EventGuildDelete, User: user, Data: Gone{ID: g.self.ID}})
}

// noteTimeout brings the table of time-outs in line with a member.
func (g *Guild) noteTimeout(now time.Time, m *textchat.Member) {
	if until := m.TimeoutUntil; until != nil && until.After(now) {
		put(g, g.timedOut, m.User.ID, until.Time)
	} else {
		drop(g, g.timedOut, m.User.ID)
	}
}

// endTimeouts gives back what a time-out took, when it is over. The member's
// record still says until when it was, as clients expect.
func (g *Guild) endTimeouts(now time.Time, out *Out) {
	for _, user := range slices.Sorted(maps.Keys(g.timedOut)) {
		if g.timedOut[user].After(now) {
			continue
		}
		drop(g, g.timedOut, user)
		if g.refreshRights(out, user) {
			g.tell(out, user, g.voice[user].Channel, "")
		}
	}
}

// Timed out members by when that ends; the earliest end, or zero.
func (g *Guild) firstTimeout() time.Time {
	var first time.Time
	for _, at := range g.timedOut {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// mayTimeOut says why an actor may not time a member out.
func (g *Guild) mayTimeOut(actor, user textchat.ID) *textchat.Error {
	s, _ := g.subject(user)
	s.TimedOut = false
	if !g.Base(actor).Has(textchat.ModerateMembers) || !g.rank(actor).above(g.rank(user)) ||
		textchat.Base(s, g.rolePermissions).Has(textchat.Administrator) {
		return textchat.ErrMissingPerms
	}
	return nil
}

// Arrange sets positions, and parents of channels. What is not named stays.
type Arrange struct {
	Actor    textchat.ID
	Channels []Placement
	Roles    []Placement
}

// Placement is the new place of a channel or role; what is nil stays. Parent
// zero takes a channel out of its category; Lock gives it the category's
// overwrites.
type Placement struct {
	ID       textchat.ID
	Position *int
	Parent   *textchat.ID
	Lock     bool
}

func (in Arrange) handle(g *Guild, _ time.Time, out *Out) {
	base := g.Base(in.Actor)
	if len(in.Channels) > 0 && !base.Has(textchat.ManageChannels) || len(in.Roles) > 0 && !base.Has(textchat.ManageRoles) {
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	channels := make([]*textchat.Channel, 0, len(in.Channels))
	for _, p := range in.Channels {
		c, err := g.arranged(in.Actor, p)
		if err != nil {
			out.refuse(err)
			return
		}
		channels = append(channels, c)
	}
	top := g.rank(in.Actor)
	roles := make([]*textchat.Role, 0, len(in.Roles))
	for _, p := range in.Roles {
		old := g.roles[p.ID]
		switch {
		case old == nil:
			out.refuse(textchat.ErrUnknownRole)
			return
		case p.ID == g.self.ID || p.Position == nil:
			continue
		case !top.above(standingOf(old)) || !top.above(standing{*p.Position, p.ID}):
			out.refuse(textchat.ErrMissingPerms)
			return
		}
		r := *old
		r.Position = *p.Position
		roles = append(roles, &r)
	}
	for _, c := range channels {
		put(g, g.channels, c.ID, c)
		out.change(textchat.Change{PutChannel: c})
		out.event(Event{Name: textchat.EventChannelUpdate, Intent: textchat.IntentGuilds, Channel: c.ID, Data: *c})
	}
	for _, r := range roles {
		put(g, g.roles, r.ID, r)
		out.change(textchat.Change{PutRole: r})
		out.event(Event{Name: textchat.EventRoleUpdate, Intent: textchat.IntentGuilds, Data: RoleEvent{Guild: g.self.ID, Role: *r}})
	}
	g.refreshAll(out)
}

// arranged is a channel at its new place.
func (g *Guild) arranged(actor textchat.ID, p Placement) (*textchat.Channel, *textchat.Error) {
	old := g.channels[p.ID]
	perms := g.Permissions(actor, p.ID)
	switch {
	case old == nil || !perms.Has(textchat.ViewChannel):
		return nil, textchat.ErrUnknownChannel
	case old.Type.Thread():
		return nil, textchat.ErrChannelType
	case !perms.Has(textchat.ManageChannels):
		return nil, textchat.ErrMissingPerms
	}
	c := *old
	if p.Position != nil {
		c.Position = *p.Position
	}
	if p.Parent != nil {
		c.Parent = nil
		if *p.Parent != 0 {
			c.Parent = p.Parent
		}
	}
	if err := g.checkParent(&c); err != nil {
		return nil, err
	}
	if p.Lock && c.Parent != nil {
		c.Overwrites = g.channels[*c.Parent].Overwrites
		if !perms.Has(textchat.ManageRoles) || overwriteBits(old.Overwrites, c.Overwrites)&^perms != 0 {
			return nil, textchat.ErrMissingPerms
		}
	}
	return &c, nil
}

// checkParent refuses a parent that is no category, or has too many channels.
func (g *Guild) checkParent(c *textchat.Channel) *textchat.Error {
	if c.Parent == nil {
		return nil
	}
	p := g.channels[*c.Parent]
	if p == nil || p.Type != textchat.ChannelCategory || c.Type == textchat.ChannelCategory {
		return textchat.InvalidField("parent_id", "CHANNEL_PARENT_INVALID_TYPE", "Not a category")
	}
	n := 0
	for _, x := range g.channels {
		if x.Parent != nil && *x.Parent == *c.Parent && x.ID != c.ID {
			n++
		}
	}
	if n >= textchat.MaxInCategory {
		return textchat.InvalidField("parent_id", "CHANNEL_PARENT_MAX_CHANNELS", "Maximum number of channels in category reached (50)")
	}
	return nil
}

// PutWebhook makes a webhook (Before nil) or replaces Before by its changed copy;
// Count is how many its channel has. By is zero when it is changed by its token.
type PutWebhook struct {
	By      textchat.ID
	Before  *textchat.Webhook
	Webhook textchat.Webhook
	Count   int
}

func (in PutWebhook) handle(g *Guild, _ time.Time, out *Out) {
	w := in.Webhook
	c := g.channels[w.Channel]
	moved := in.Before == nil || in.Before.Channel != w.Channel
	switch {
	case in.By != 0 && !g.Permissions(in.By, w.Channel).Has(textchat.ViewChannel), c == nil:
		out.refuse(textchat.ErrUnknownChannel)
		return
	case in.By != 0 && !g.Permissions(in.By, w.Channel).Has(textchat.ManageWebhooks),
		in.By != 0 && in.Before != nil && !g.Permissions(in.By, in.Before.Channel).Has(textchat.ManageWebhooks):
		out.refuse(textchat.ErrMissingPerms)
		return
	case !c.Type.Text():
		out.refuse(textchat.ErrChannelType)
		return
	case moved && in.Count >= textchat.MaxWebhooks:
		out.refuse(textchat.Refuse(400, textchat.CodeMaxWebhooks, "Maximum number of webhooks reached (15)"))
		return
	}
	out.change(textchat.Change{PutWebhook: &w})
	if in.Before != nil && moved {
		g.webhooksMoved(out, in.Before.Channel)
	}
	g.webhooksMoved(out, w.Channel)
}

// DropWebhook deletes a webhook; By is zero when by its token.
type DropWebhook struct {
	By      textchat.ID
	Webhook textchat.Webhook
}

func (in DropWebhook) handle(g *Guild, _ time.Time, out *Out) {
	if in.By != 0 && !g.Permissions(in.By, in.Webhook.Channel).Has(textchat.ManageWebhooks) {
		out.refuse(textchat.ErrMissingPerms)
		return
	}
	out.change(textchat.Change{DropWebhook: in.Webhook.ID})
	g.webhooksMoved(out, in.Webhook.Channel)
}

func (g *Guild) webhooksMoved(out *Out, channel textchat.ID) {
	out.event(Event{Name: textchat.EventWebhooksUpdate, Intent: textchat.IntentWebhooks, Channel: channel,
		Data: WebhooksEvent{Guild: g.self.ID, Channel: channel}})
}

// WebhooksEvent tells that the webhooks of a channel changed.
type WebhooksEvent struct {
	Guild   textchat.ID `json:"guild_id"`
	Channel textchat.ID `json:"channel_id"`
}
