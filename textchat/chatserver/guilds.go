package chatserver

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/allocator"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

func gatewayEvent(name string, body []byte) *gatewaysession.Event {
	return &gatewaysession.Event{Name: name, Body: body}
}

func (c *call) gatewayInfo() (int, any, error) {
	return http.StatusOK, map[string]any{"url": c.srv.gatewayURL(c.r)}, nil
}

func (c *call) gatewayBot() (int, any, error) {
	a, reset := c.srv.starts(c.now, c.user.ID, 0), int64(0)
	if a.Remaining < a.Limit {
		reset = a.Reset.Sub(c.now).Milliseconds()
	}
	guilds, err := c.srv.store.GuildIDs(c.ctx, c.user.ID)
	if err != nil {
		return 0, nil, err
	}
	shards := max(1, (len(guilds)+textchat.RoomyShardGuilds-1)/textchat.RoomyShardGuilds)
	return http.StatusOK, map[string]any{"url": c.srv.gatewayURL(c.r), "shards": shards,
		"session_start_limit": map[string]any{"total": a.Limit, "remaining": a.Remaining, "reset_after": reset, "max_concurrency": textchat.MaxConcurrency}}, nil
}

func (c *call) usersMe() (int, any, error) { return http.StatusOK, selfUser(c.user), nil }

func (c *call) usersPatchMe() (int, any, error) {
	var in struct {
		GlobalName *string `json:"global_name"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	u := c.user
	if in.GlobalName != nil {
		n, err := nameField("global_name", *in.GlobalName, textchat.MaxNickname)
		if err != nil {
			return 0, nil, err
		}
		u.GlobalName = &n
		if err := c.updateUser(u, ""); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusOK, selfUser(u), nil
}

// usersGet shows a user; whoever has no account or shares nothing with it sees
// the same: names are no secret to who knows the id.
func (c *call) usersGet() (int, any, error) {
	id, err := c.id("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	u, err := c.srv.store.User(c.ctx, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownUser
	}
	return http.StatusOK, u, err
}

func (c *call) usersGuilds() (int, any, error) {
	ids, err := c.srv.store.GuildIDs(c.ctx, c.user.ID)
	if err != nil {
		return 0, nil, err
	}
	type row struct {
		ID          textchat.ID          `json:"id"`
		Name        string               `json:"name"`
		Icon        *string              `json:"icon"`
		Banner      *string              `json:"banner"`
		Owner       bool                 `json:"owner"`
		Permissions textchat.Permissions `json:"permissions"`
		Features    []string             `json:"features"`
		Members     *int                 `json:"approximate_member_count,omitempty"`
		Online      *int                 `json:"approximate_presence_count,omitempty"`
	}
	counts := c.r.URL.Query().Get("with_counts") == "true"
	limit, err := c.queryInt("limit", 200, 1, 200)
	if err != nil {
		return 0, nil, err
	}
	before, err := c.queryID("before")
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	ids = slices.DeleteFunc(ids, func(id textchat.ID) bool { return id <= after || before != 0 && id >= before })
	if before != 0 && after == 0 {
		ids = ids[max(0, len(ids)-limit):]
	}
	ids = ids[:min(limit, len(ids))]
	list := []row{}
	for _, id := range ids {
		o, err := c.srv.owner(id)
		if err != nil {
			return 0, nil, err
		}
		r, err := read(c.ctx, o, func(g *guild.Guild) (row, error) {
			s := g.Self()
			r := row{ID: s.ID, Name: s.Name, Icon: s.Icon, Owner: s.Owner == c.user.ID, Permissions: g.Base(c.user.ID), Features: []string{}}
			if counts {
				r.Members, r.Online = new(g.MemberCount()), new(len(o.seen))
			}
			return r, nil
		})
		if err != nil {
			return 0, nil, err
		}
		list = append(list, r)
	}
	return http.StatusOK, list, nil
}

func (c *call) application() (int, any, error) {
	name := c.user.Username
	if c.user.GlobalName != nil {
		name = *c.user.GlobalName
	}
	return http.StatusOK, map[string]any{"id": c.user.ID, "name": name, "description": "", "icon": nil, "bot_public": false,
		"bot_require_code_grant": false, "verify_key": "", "owner": c.user, "flags": 0, "rpc_origins": []string{}, "team": nil, "summary": "",
		"terms_of_service_url": nil, "privacy_policy_url": nil}, nil
}

func (c *call) guildCreate() (int, any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	name, err := nameField("name", in.Name, textchat.MaxName)
	if err != nil {
		return 0, nil, err
	}
	if c.user.Guest {
		return 0, nil, textchat.Refuse(http.StatusForbidden, textchat.CodeMissingAccess, "Guests cannot make guilds: claim an account first.")
	}
	ids, err := c.srv.store.GuildIDs(c.ctx, c.user.ID)
	if err != nil {
		return 0, nil, err
	}
	owned := 0
	for _, id := range ids {
		o, err := c.srv.owner(id)
		if err != nil {
			return 0, nil, err
		}
		mine, err := read(c.ctx, o, func(g *guild.Guild) (bool, error) { return g.Self().Owner == c.user.ID, nil })
		if err != nil {
			return 0, nil, err
		}
		if mine {
			owned++
		}
	}
	if owned >= textchat.MaxOwned || len(ids) >= textchat.MaxGuilds {
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeMaxGuilds, "Maximum number of guilds reached")
	}
	r, err := c.srv.makeGuild(c.ctx, name, c.user, true)
	if err != nil {
		return 0, nil, err
	}
	o, err := c.srv.owner(r.Guild.ID)
	if err != nil {
		return 0, nil, err
	}
	full, err := read(c.ctx, o, func(g *guild.Guild) (guild.Full, error) { return g.Full(), nil })
	if err == nil {
		err = c.srv.tellUsers(c.ctx, usersEntry{Enter: &usersMove{c.user.ID, r.Guild.ID}})
	}
	return http.StatusCreated, full, err
}

func (c *call) guildGet() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	counts := c.r.URL.Query().Get("with_counts") == "true"
	full, err := read(c.ctx, o, func(g *guild.Guild) (guild.Full, error) {
		f := g.Full()
		if counts {
			f.ApproximateCount, f.ApproximatePres = g.MemberCount(), len(o.seen)
		}
		return f, nil
	})
	return http.StatusOK, full, err
}

func (c *call) guildPatch() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Name        *string            `json:"name"`
		Description *string            `json:"description"`
		System      given[textchat.ID] `json:"system_channel_id"`
		Owner       textchat.ID        `json:"owner_id"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	p := guild.PatchGuild{Actor: c.user.ID}
	if in.System.set {
		p.System = &in.System.value
	}
	if in.Owner != 0 {
		p.Owner = &in.Owner
	}
	if in.Name != nil {
		n, err := nameField("name", *in.Name, textchat.MaxName)
		if err != nil {
			return 0, nil, err
		}
		p.Name = &n
	}
	if in.Description != nil {
		d, err := textField("description", *in.Description, 300)
		if err != nil {
			return 0, nil, err
		}
		p.Description = &d
	}
	if _, err := c.do(o, p); err != nil {
		return 0, nil, err
	}
	full, err := read(c.ctx, o, func(g *guild.Guild) (guild.Full, error) { return g.Full(), nil })
	return http.StatusOK, full, err
}

func textField(field, v string, most int) (string, error) {
	if n := len([]rune(v)); n > most {
		return "", textchat.InvalidField(field, "BASE_TYPE_MAX_LENGTH", "Too long.")
	}
	return v, nil
}

func (c *call) guildLeave() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	_, err = o.do(c.ctx, guild.Leave{User: c.user.ID})
	return http.StatusNoContent, nil, err
}

// Channels.

func (c *call) channelList() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Channel, error) { return g.Channels(c.user.ID), nil })
	return http.StatusOK, list, err
}

func (c *call) channelGet() (int, any, error) {
	p, err := c.place(textchat.ViewChannel)
	switch {
	case err != nil:
		return 0, nil, err
	case p.owner == nil:
		d, err := c.dmSeen(p.dm, c.user.ID)
		return http.StatusOK, d, err
	}
	_, ch, _, err := c.channel(textchat.ViewChannel) // with its newest message
	return http.StatusOK, ch.Shown(c.user.ID), err
}

// channelTypes are those that can be made.
var channelTypes = []textchat.ChannelType{textchat.ChannelText, textchat.ChannelVoice, textchat.ChannelCategory, textchat.ChannelAnnouncement,
	textchat.ChannelStage}

// channelForm is what may be set of a channel; what is nil stays.
type channelForm struct {
	Name       *string               `json:"name"`
	Type       *textchat.ChannelType `json:"type"`
	Position   *int                  `json:"position"`
	Topic      *string               `json:"topic"`
	NSFW       *bool                 `json:"nsfw"`
	RateLimit  *int                  `json:"rate_limit_per_user"`
	Bitrate    *int                  `json:"bitrate"`
	UserLimit  *int                  `json:"user_limit"`
	RTCRegion  *string               `json:"rtc_region"`
	Echo       *bool                 `json:"echo"`
	Parent     given[textchat.ID]    `json:"parent_id"`
	Overwrites *[]textchat.Overwrite `json:"permission_overwrites"`
}

// apply sets what the form has.
func (f channelForm) apply(ch *textchat.Channel) error {
	if f.Name != nil {
		n, err := nameField("name", *f.Name, textchat.MaxName)
		if err != nil {
			return err
		}
		if ch.Type == textchat.ChannelText || ch.Type == textchat.ChannelAnnouncement {
			n = strings.ReplaceAll(strings.ToLower(n), " ", "-")
		}
		ch.Name = n
	}
	if f.Topic != nil {
		t, err := textField("topic", *f.Topic, textchat.MaxTopic)
		if err != nil {
			return err
		}
		ch.Topic = &t
	}
	for _, n := range []struct {
		field       string
		from        *int
		to          *int
		least, most int
	}{
		{"position", f.Position, &ch.Position, 0, 1 << 20},
		{"rate_limit_per_user", f.RateLimit, &ch.RateLimitPerUser, 0, 21600},
		{"user_limit", f.UserLimit, &ch.UserLimit, 0, textchat.MaxUserLimit},
		{"bitrate", f.Bitrate, &ch.Bitrate, 8000, 384000},
	} {
		if n.from == nil {
			continue
		}
		if *n.from < n.least || *n.from > n.most {
			return textchat.InvalidField(n.field, "NUMBER_TYPE_RANGE", "This number is out of range.")
		}
		*n.to = *n.from
	}
	if f.NSFW != nil {
		ch.NSFW = *f.NSFW
	}
	if f.RTCRegion != nil {
		r, err := nameField("rtc_region", *f.RTCRegion, 64)
		if err != nil {
			return err
		}
		ch.RTCRegion = &r
	}
	if f.Echo != nil {
		if *f.Echo && ch.Type != textchat.ChannelVoice {
			return textchat.InvalidField("echo", "BASE_TYPE_CHOICES", "Only a voice channel can echo.")
		}
		ch.Echo = *f.Echo
	}
	if f.Parent.set {
		ch.Parent = nil
		if f.Parent.value != 0 {
			ch.Parent = &f.Parent.value
		}
	}
	if !ch.Type.Voice() {
		ch.Bitrate, ch.UserLimit, ch.RTCRegion = 0, 0, nil
	}
	if f.Overwrites != nil {
		ch.Overwrites = nil
		for _, o := range *f.Overwrites {
			if o.Type != textchat.OverwriteRole && o.Type != textchat.OverwriteMember || o.ID == 0 {
				return textchat.InvalidField("permission_overwrites", "BASE_TYPE_CHOICES", "An overwrite is for a role (0) or a member (1).")
			}
			o.Allow, o.Deny = o.Allow&textchat.AllPermissions, o.Deny&textchat.AllPermissions
			if slices.ContainsFunc(ch.Overwrites, func(x textchat.Overwrite) bool { return x.ID == o.ID && x.Type == o.Type }) {
				return textchat.InvalidField("permission_overwrites", "BASE_TYPE_DUPLICATE", "Two overwrites are for the same role or member.")
			}
			ch.Overwrites = append(ch.Overwrites, o)
		}
	}
	return nil
}

func (c *call) channelCreate() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	var in channelForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	ch := textchat.Channel{ID: c.srv.newID(), Guild: o.id, Overwrites: []textchat.Overwrite{}}
	if in.Type != nil {
		ch.Type = *in.Type
	}
	switch {
	case !slices.Contains(channelTypes, ch.Type):
		return 0, nil, textchat.InvalidField("type", "BASE_TYPE_CHOICES", "Must be 0 (text), 2 (voice), 4 (category), 5 (announcement) or 13 (stage).")
	case in.Name == nil:
		return 0, nil, textchat.InvalidField("name", "BASE_TYPE_REQUIRED", "This field is required")
	case ch.Type.Voice():
		ch.Bitrate = 64000
	}
	if err := in.apply(&ch); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, guild.PutChannel{Actor: c.user.ID, New: true, Channel: ch, Overwrites: in.Overwrites != nil})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, out.Channel, nil
}

func (c *call) channelPatch() (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	if ch.Type.Thread() {
		return c.threadPatch(o, ch)
	}
	was := ch
	var in channelForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Type != nil && *in.Type != ch.Type {
		plain := func(t textchat.ChannelType) bool {
			return t == textchat.ChannelText || t == textchat.ChannelAnnouncement
		}
		if !plain(*in.Type) || !plain(ch.Type) {
			return 0, nil, textchat.InvalidField("type", "BASE_TYPE_CHOICES", "Only text and announcement channels turn into each other.")
		}
		ch.Type = *in.Type
	}
	if err := in.apply(&ch); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, guild.PutChannel{Actor: c.user.ID, Channel: ch, Was: &was, Overwrites: in.Overwrites != nil})
	if err != nil {
		return 0, nil, err
	}
	if now := regionOf(ch); now != regionOf(was) && now != "" {
		c.relocate(ch.ID, now)
	}
	return http.StatusOK, out.Channel, nil
}

// regionOf is where the calls of a channel are to be; empty: near their members.
func regionOf(ch textchat.Channel) string {
	if ch.RTCRegion == nil {
		return ""
	}
	return *ch.RTCRegion
}

// relocateTime bounds how long a change of region waits for the fleet. Without an
// answer the call stays, and the next one goes there.
const relocateTime = 2 * time.Second

// relocate moves the live call of a channel, if there is one, to a region.
func (c *call) relocate(channel textchat.ID, region string) {
	m := c.srv.cfg.Moves
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, relocateTime)
	defer cancel()
	_, err := m.Move(ctx, allocator.MoveRequest{Call: sfu.CallID{ID: channel}, By: "user " + c.user.ID.String(), Cause: allocator.CauseRegion, Region: region})
	refused := (*allocator.Error)(nil)
	if err != nil && !(errors.As(err, &refused) && refused.Code == allocator.CodeNoCall) {
		c.srv.cfg.Log.Warn("call stays in its old region", "channel", channel, "err", err)
	}
}

func (c *call) channelDelete() (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	var drop guild.Input = guild.DropChannel{Actor: c.user.ID, Channel: ch.ID}
	if ch.Type.Thread() {
		drop = guild.DropThread{Actor: c.user.ID, Thread: ch.ID}
	}
	out, err := c.do(o, drop)
	if err != nil {
		return 0, nil, err
	}
	for _, x := range out.Changes { // its threads go with it
		if x.DropChannel != 0 {
			c.srv.dropFiles(x.DropChannel.String())
		}
	}
	return http.StatusOK, out.Channel.Shown(c.user.ID), nil
}

func (c *call) overwritePut() (int, any, error) {
	var in textchat.Overwrite
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	return c.overwrite(&in)
}

func (c *call) overwriteDelete() (int, any, error) { return c.overwrite(nil) }

// overwrite sets one overwrite of a channel, or takes it away.
func (c *call) overwrite(set *textchat.Overwrite) (int, any, error) {
	id, err := c.id("overwrite", textchat.ErrUnknownOver)
	if err != nil {
		return 0, nil, err
	}
	o, ch, _, err := c.channel(textchat.ViewChannel)
	if err == nil && ch.Type.Thread() {
		err = textchat.ErrChannelType // it has those of its channel
	}
	if err != nil {
		return 0, nil, err
	}
	if set != nil {
		set.Allow, set.Deny = set.Allow&textchat.AllPermissions, set.Deny&textchat.AllPermissions
		if set.Type != textchat.OverwriteRole && set.Type != textchat.OverwriteMember {
			return 0, nil, textchat.InvalidField("type", "BASE_TYPE_CHOICES", "Must be 0 (role) or 1 (member).")
		}
		set.ID = id
	}
	_, err = c.do(o, guild.PutOverwrite{Actor: c.user.ID, Channel: ch.ID, ID: id, Set: set})
	return http.StatusNoContent, nil, err
}

// Roles.

type roleForm struct {
	Name        *string               `json:"name"`
	Permissions *textchat.Permissions `json:"permissions"`
	Color       *int                  `json:"color"`
	Hoist       *bool                 `json:"hoist"`
	Mentionable *bool                 `json:"mentionable"`
	Position    *int                  `json:"position"`
}

func (f roleForm) apply(r *textchat.Role, everyone bool) error {
	if f.Name != nil && !everyone {
		n, err := nameField("name", *f.Name, textchat.MaxName)
		if err != nil {
			return err
		}
		r.Name = n
	}
	if f.Permissions != nil {
		r.Permissions = *f.Permissions & textchat.AllPermissions
	}
	if f.Color != nil {
		if *f.Color < 0 || *f.Color > 0xffffff {
			return textchat.InvalidField("color", "NUMBER_TYPE_RANGE", "Must be between 0 and 16777215.")
		}
		r.Color = *f.Color
	}
	if f.Hoist != nil {
		r.Hoist = *f.Hoist
	}
	if f.Mentionable != nil {
		r.Mentionable = *f.Mentionable
	}
	if f.Position != nil && !everyone {
		if *f.Position < 1 || *f.Position > textchat.MaxRoles {
			return textchat.InvalidField("position", "NUMBER_TYPE_RANGE", "Must be between 1 and 250.")
		}
		r.Position = *f.Position
	}
	return nil
}

func (c *call) roleList() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Role, error) { return g.Roles(), nil })
	return http.StatusOK, list, err
}

func (c *call) roleCreate() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	var in roleForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	base, err := read(c.ctx, o, func(g *guild.Guild) (textchat.Permissions, error) {
		return g.Role(g.Self().ID).Permissions & g.Base(c.user.ID), nil
	})
	if err != nil {
		return 0, nil, err
	}
	r := textchat.Role{ID: c.srv.newID(), Name: "new role", Permissions: base, Position: 1}
	if err := in.apply(&r, false); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, guild.PutRole{Actor: c.user.ID, New: true, Role: r})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, out.Role, nil
}

func (c *call) rolePatch() (int, any, error) {
	o, id, err := c.inGuild("role", textchat.ErrUnknownRole)
	if err != nil {
		return 0, nil, err
	}
	var in roleForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	r, err := read(c.ctx, o, func(g *guild.Guild) (textchat.Role, error) {
		if r := g.Role(id); r != nil {
			return *r, nil
		}
		return textchat.Role{}, textchat.ErrUnknownRole
	})
	if err != nil {
		return 0, nil, err
	}
	if err := in.apply(&r, id == o.id); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, guild.PutRole{Actor: c.user.ID, Role: r})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, out.Role, nil
}

func (c *call) roleDelete() (int, any, error) {
	o, id, err := c.inGuild("role", textchat.ErrUnknownRole)
	if err != nil {
		return 0, nil, err
	}
	_, err = c.do(o, guild.DropRole{Actor: c.user.ID, Role: id})
	return http.StatusNoContent, nil, err
}

// Invites.

// invitePublic is an invite as anybody who has its code may see it.
func (c *call) invitePublic(i textchat.Invite) (map[string]any, error) {
	o, err := c.srv.owner(i.Guild)
	if err != nil {
		return nil, err
	}
	inviter, err := c.srv.store.User(c.ctx, i.Inviter)
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		return nil, err
	}
	return read(c.ctx, o, func(g *guild.Guild) (map[string]any, error) {
		ch := g.Channel(i.Channel)
		if ch == nil {
			return nil, textchat.ErrUnknownInvite
		}
		s := g.Self()
		return map[string]any{
			"code": i.Code, "type": 0, "expires_at": i.Expires(), "inviter": inviter,
			"guild": map[string]any{"id": s.ID, "name": s.Name, "icon": s.Icon, "description": s.Description, "splash": nil, "banner": nil,
				"features": []string{}, "verification_level": 0, "vanity_url_code": nil, "nsfw_level": 0, "premium_subscription_count": 0},
			"guild_id":                 s.ID,
			"channel":                  map[string]any{"id": ch.ID, "name": ch.Name, "type": ch.Type},
			"approximate_member_count": g.MemberCount(), "approximate_presence_count": len(o.seen),
		}, nil
	})
}

// inviteFull adds what members may see.
func inviteFull(pub map[string]any, i textchat.Invite) map[string]any {
	pub["uses"], pub["max_uses"], pub["max_age"], pub["temporary"], pub["created_at"] = i.Uses, i.MaxUses, i.MaxAge, i.Temporary, i.CreatedAt
	return pub
}

func (c *call) inviteGet() (int, any, error) {
	if err := c.guess(); err != nil {
		return 0, nil, err
	}
	i, err := c.liveInvite(c.r.PathValue("code"))
	if err != nil {
		return 0, nil, err
	}
	pub, err := c.invitePublic(i)
	return http.StatusOK, pub, err
}

func (c *call) inviteUse() (int, any, error) {
	if err := c.guess(); err != nil {
		return 0, nil, err
	}
	i, err := c.liveInvite(c.r.PathValue("code"))
	if err != nil {
		return 0, nil, err
	}
	if err := c.join(c.user, i); err != nil {
		return 0, nil, err
	}
	pub, err := c.invitePublic(i)
	return http.StatusOK, pub, err
}

func (c *call) inviteDelete() (int, any, error) {
	i, err := c.liveInvite(c.r.PathValue("code"))
	if err != nil {
		return 0, nil, err
	}
	o, err := c.srv.owner(i.Guild)
	if err != nil {
		return 0, nil, err
	}
	pub, err := c.invitePublic(i)
	if err != nil {
		return 0, nil, err
	}
	_, err = c.do(o, guild.DropInvite{Actor: c.user.ID, Invite: i})
	return http.StatusOK, pub, err
}

// deadInvites bounds the dead ones that go with each that is made.
const deadInvites = 25

func (c *call) inviteCreate() (int, any, error) {
	o, ch, _, err := c.channel(textchat.CreateInvite)
	if err == nil && ch.Type.Thread() {
		err = textchat.ErrChannelType
	}
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		MaxAge    *int `json:"max_age"`
		MaxUses   int  `json:"max_uses"`
		Temporary bool `json:"temporary"`
		Unique    bool `json:"unique"`
	}{}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	age := 86400
	if in.MaxAge != nil {
		age = *in.MaxAge
	}
	if age < 0 || age > 604800 {
		return 0, nil, textchat.InvalidField("max_age", "NUMBER_TYPE_RANGE", "Must be between 0 and 604800.")
	}
	if in.MaxUses < 0 || in.MaxUses > 100 {
		return 0, nil, textchat.InvalidField("max_uses", "NUMBER_TYPE_RANGE", "Must be between 0 and 100.")
	}
	list, err := c.srv.store.Invites(c.ctx, o.id)
	if err != nil {
		return 0, nil, err
	}
	// Unless it must be unique, a like one of the same maker does.
	live, dead := 0, []string(nil)
	for _, i := range list {
		switch {
		case i.Live(c.now):
			live++
		case len(dead) < deadInvites:
			dead = append(dead, i.Code)
		}
		if !in.Unique && i.Channel == ch.ID && i.Inviter == c.user.ID && i.MaxAge == age && i.MaxUses == in.MaxUses && i.Temporary == in.Temporary &&
			i.Uses == 0 && i.Live(c.now.Add(time.Duration(age/2)*time.Second)) {
			pub, err := c.invitePublic(i)
			return http.StatusOK, inviteFull(pub, i), err
		}
	}
	i := textchat.Invite{Code: randomCode(10), Guild: o.id, Channel: ch.ID, Inviter: c.user.ID, MaxAge: age, MaxUses: in.MaxUses,
		Temporary: in.Temporary, CreatedAt: textchat.Time{Time: c.now}}
	if _, err := c.do(o, guild.PutInvite{Actor: c.user.ID, Invite: i, Count: live, Dead: dead}); err != nil {
		return 0, nil, err
	}
	pub, err := c.invitePublic(i)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, inviteFull(pub, i), nil
}

// inviteList lists the invites of a guild or of one channel.
func (c *call) inviteList() (int, any, error) {
	var o *owner
	var only textchat.ID
	var err error
	if c.r.PathValue("channel") != "" {
		var ch textchat.Channel
		if o, ch, _, err = c.channel(textchat.ManageChannels); err != nil {
			return 0, nil, err
		}
		only = ch.ID
	} else {
		if o, err = c.guild(); err != nil {
			return 0, nil, err
		}
		if err := o.ask(c.ctx, func() error {
			if !o.core.Base(c.user.ID).Has(textchat.ManageGuild) {
				return textchat.ErrMissingPerms
			}
			return nil
		}); err != nil {
			return 0, nil, err
		}
	}
	list, err := c.srv.store.Invites(c.ctx, o.id)
	if err != nil {
		return 0, nil, err
	}
	shown := []map[string]any{}
	for _, i := range list {
		if only != 0 && i.Channel != only || !i.Live(c.now) {
			continue
		}
		pub, err := c.invitePublic(i)
		if errors.Is(err, textchat.ErrUnknownInvite) {
			continue
		} else if err != nil {
			return 0, nil, err
		}
		shown = append(shown, inviteFull(pub, i))
	}
	return http.StatusOK, shown, nil
}

// Members.

func (c *call) memberList() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 1, 1, 1000)
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Member, error) { return g.Members(after, limit), nil })
	return http.StatusOK, list, err
}

func (c *call) memberSearch() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 1, 1, 1000)
	if err != nil {
		return 0, nil, err
	}
	q := c.r.URL.Query().Get("query")
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Member, error) { return g.Search(q, limit), nil })
	return http.StatusOK, append([]textchat.Member{}, list...), err
}

func (c *call) memberGet() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownMember)
	if err != nil {
		return 0, nil, err
	}
	m, err := read(c.ctx, o, func(g *guild.Guild) (textchat.Member, error) {
		if m := g.Member(id); m != nil {
			return *m, nil
		}
		return textchat.Member{}, textchat.ErrUnknownMember
	})
	return http.StatusOK, m, err
}

// given tells an absent field from a null one.
type given[T any] struct {
	set   bool
	null  bool
	value T
}

func (g *given[T]) UnmarshalJSON(b []byte) error {
	g.set = true
	if string(b) == "null" {
		g.null = true
		return nil
	}
	return jsonUnmarshal(b, &g.value)
}

// holds is for wrongField, which looks into what is given.
func (given[T]) holds() reflect.Type { return reflect.TypeFor[T]() }

func (c *call) memberPatch() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownMember)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Nick    given[string]        `json:"nick"`
		Roles   *[]snowflake.ID      `json:"roles"`
		Mute    *bool                `json:"mute"`
		Deaf    *bool                `json:"deaf"`
		Channel given[snowflake.ID]  `json:"channel_id"`
		Timeout given[textchat.Time] `json:"communication_disabled_until"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	p := guild.PatchMember{Actor: c.user.ID, User: id, Roles: in.Roles, Mute: in.Mute, Deaf: in.Deaf}
	if p.Nick, err = newNick(in.Nick); err != nil {
		return 0, nil, err
	}
	if in.Channel.set {
		p.Channel = &in.Channel.value
	}
	if in.Timeout.set {
		if in.Timeout.value.Sub(c.now) > textchat.MaxTimeout {
			return 0, nil, textchat.InvalidField("communication_disabled_until", "BASE_TYPE_BAD_TIME", "A time-out ends after 28 days at most.")
		}
		p.Timeout = &in.Timeout.value.Time
	}
	if c.r.PathValue("user") == "@me" && (in.Timeout.set || in.Roles != nil || in.Mute != nil || in.Deaf != nil || in.Channel.set) {
		return 0, nil, textchat.InvalidField("nick", "BASE_TYPE_CHOICES", "Only the nickname can be changed here.")
	}
	out, err := c.do(o, p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, out.Member, nil
}

// newNick is what a nickname is to be: empty for none, nil as it was.
func newNick(in given[string]) (*string, error) {
	switch {
	case !in.set:
		return nil, nil
	case clean(in.value) == "":
		return new(""), nil
	}
	nick, err := nameField("nick", in.value, textchat.MaxNickname)
	return &nick, err
}

// nickPatch is the older way to change one's own nickname; discordgo knows no other.
func (c *call) nickPatch() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Nick given[string] `json:"nick"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	p := guild.PatchMember{Actor: c.user.ID, User: c.user.ID}
	if p.Nick, err = newNick(in.Nick); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"nick": out.Member.Nick}, nil
}

func (c *call) memberKick() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownMember)
	if err != nil {
		return 0, nil, err
	}
	_, err = c.do(o, guild.Leave{User: id, Actor: c.user.ID})
	return http.StatusNoContent, nil, err
}

// memberRole gives a role (PUT) or takes it (DELETE).
func (c *call) memberRole() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownMember)
	if err != nil {
		return 0, nil, err
	}
	role, err := c.id("role", textchat.ErrUnknownRole)
	if err != nil {
		return 0, nil, err
	}
	change, err := c.audited(guild.PatchMember{})
	if err != nil {
		return 0, nil, err
	}
	// Read and write in one step, or two at once would undo each other.
	err = o.ask(c.ctx, func() error {
		m := o.core.Member(id)
		if m == nil {
			return textchat.ErrUnknownMember
		}
		if o.core.Role(role) == nil {
			return textchat.ErrUnknownRole
		}
		roles := slices.DeleteFunc(slices.Clone(m.Roles), func(r textchat.ID) bool { return r == role })
		if c.r.Method == http.MethodPut {
			roles = append(roles, role)
		}
		in := change.(guild.Audited)
		in.Input = guild.PatchMember{Actor: c.user.ID, User: id, Roles: &roles}
		return o.handle(in, nil)
	})
	return http.StatusNoContent, nil, err
}

func (c *call) voiceState() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	v, err := read(c.ctx, o, func(g *guild.Guild) (textchat.VoiceState, error) {
		v, ok := g.VoiceState(id)
		if !ok || id != c.user.ID && !g.Permissions(c.user.ID, *v.Channel).Has(textchat.ViewChannel) {
			return v, textchat.ErrUnknownVoice
		}
		return v, nil
	})
	return http.StatusOK, v, err
}

// voicePatch lets a user on a stage speak, or ends that, or has the caller ask to speak.
func (c *call) voicePatch() (int, any, error) {
	o, id, err := c.inGuild("user", textchat.ErrUnknownUser)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Channel  textchat.ID          `json:"channel_id"`
		Suppress *bool                `json:"suppress"`
		Request  given[textchat.Time] `json:"request_to_speak_timestamp"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	p := guild.PatchVoice{Actor: c.user.ID, User: id, Channel: in.Channel, Suppress: in.Suppress}
	if in.Request.set && id == c.user.ID { // no field of another's state
		p.Request = &in.Request.value.Time
	}
	_, err = o.do(c.ctx, p)
	return http.StatusNoContent, nil, err
}

func (c *call) typing() (int, any, error) {
	p, err := c.place(textchat.SendMessages)
	if err != nil {
		return 0, nil, err
	}
	_ = c.told(func(later *call) bool { return p.tell(later.srv, guild.Typing{User: c.user.ID, Channel: p.channel.ID}) })
	return http.StatusNoContent, nil, nil
}

func (c *call) roleGet() (int, any, error) {
	o, id, err := c.inGuild("role", textchat.ErrUnknownRole)
	if err != nil {
		return 0, nil, err
	}
	r, err := read(c.ctx, o, func(g *guild.Guild) (textchat.Role, error) {
		if r := g.Role(id); r != nil {
			return *r, nil
		}
		return textchat.Role{}, textchat.ErrUnknownRole
	})
	return http.StatusOK, r, err
}

// placementForm is one row of a list of new positions.
type placementForm struct {
	ID       textchat.ID        `json:"id"`
	Position *int               `json:"position"`
	Parent   given[textchat.ID] `json:"parent_id"`
	Lock     *bool              `json:"lock_permissions"`
}

// placements reads a list of at most most new positions, from least on.
func (c *call) placements(most, least int) ([]guild.Placement, error) {
	var in struct {
		List []placementForm `json:"list"`
	}
	if err := c.list(&in); err != nil {
		return nil, err
	}
	if len(in.List) > most {
		return nil, textchat.InvalidField("_", "BASE_TYPE_MAX_LENGTH", "This list is too long.")
	}
	var list []guild.Placement
	for i, f := range in.List {
		at := strconv.Itoa(i)
		if slices.ContainsFunc(list, func(p guild.Placement) bool { return p.ID == f.ID }) {
			return nil, textchat.InvalidField(at+".id", "BASE_TYPE_DUPLICATE", "This id is named twice.")
		}
		if f.Position != nil && (*f.Position < least || *f.Position > 1<<20) {
			return nil, textchat.InvalidField(at+".position", "NUMBER_TYPE_RANGE", "This number is out of range.")
		}
		p := guild.Placement{ID: f.ID, Position: f.Position, Lock: f.Lock != nil && *f.Lock}
		if f.Parent.set {
			p.Parent = &in.List[i].Parent.value
		}
		list = append(list, p)
	}
	return list, nil
}

func (c *call) channelsArrange() (int, any, error) {
	o, err := c.may(textchat.ManageChannels)
	if err != nil {
		return 0, nil, err
	}
	list, err := c.placements(textchat.MaxChannels, 0)
	if err == nil && len(list) > 0 {
		_, err = c.do(o, guild.Arrange{Actor: c.user.ID, Channels: list})
	}
	return http.StatusNoContent, nil, err
}

func (c *call) rolesArrange() (int, any, error) {
	o, err := c.may(textchat.ManageRoles)
	if err != nil {
		return 0, nil, err
	}
	list, err := c.placements(textchat.MaxRoles, 0)
	if err != nil {
		return 0, nil, err
	}
	if len(list) > 0 {
		if _, err := c.do(o, guild.Arrange{Actor: c.user.ID, Roles: list}); err != nil {
			return 0, nil, err
		}
	}
	return c.roleList()
}
