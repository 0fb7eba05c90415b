package guild

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"voicefleet/textchat"
)

// Audited is an input that the audit log keeps, when it changed something.
type Audited struct {
	Input
	Actor  textchat.ID
	Reason string
	// IDs are for the entries; no input makes more.
	IDs [3]textchat.ID
}

func (in Audited) handle(g *Guild, now time.Time, out *Out) {
	before := g.auditBefore(in.Input)
	in.Input.handle(g, now, out)
	if out.Err != nil {
		return
	}
	for i, e := range g.auditEntries(in.Input, before, out) {
		e.ID, e.User, e.Reason = in.IDs[i], in.Actor, in.Reason
		out.change(textchat.Change{PutAudit: &e})
		out.event(Event{Name: textchat.EventAuditEntry, Intent: textchat.IntentModeration, NeedAny: textchat.ViewAuditLog,
			Data: AuditEvent{AuditEntry: e, Guild: g.self.ID}})
	}
}

// AuditEvent is an entry with its guild.
type AuditEvent struct {
	textchat.AuditEntry
	Guild textchat.ID `json:"guild_id"`
}

// auditBefore is the object that an input is about to change, or nil.
func (g *Guild) auditBefore(in Input) any {
	switch in := in.(type) {
	case PatchGuild:
		return g.self
	case PutChannel:
		return object(g.channels[in.Channel.ID])
	case PutOverwrite:
		return object(g.channels[in.Channel])
	case DropChannel:
		return object(g.channels[in.Channel])
	case PutThread:
		return object(g.channels[in.Thread.ID])
	case DropThread:
		return object(g.channels[in.Thread])
	case PutRole:
		return object(g.roles[in.Role.ID])
	case DropRole:
		return object(g.roles[in.Role])
	case PatchMember:
		return object(g.members[in.User])
	case PutWebhook:
		return object(in.Before)
	}
	return nil
}

// object is what p points to, or nil.
func object[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// auditEntries are the entries of what an input did.
func (g *Guild) auditEntries(in Input, before any, out *Out) []textchat.AuditEntry {
	entry := func(action textchat.AuditAction, target textchat.ID, old, now any) []textchat.AuditEntry {
		e := textchat.AuditEntry{Action: action, Changes: differ(old, now)}
		if target != 0 {
			e.Target = &target
		}
		if len(e.Changes) == 0 && old != nil && now != nil {
			return nil // nothing was changed
		}
		return []textchat.AuditEntry{e}
	}
	with := func(list []textchat.AuditEntry, options map[string]string) []textchat.AuditEntry {
		for i := range list {
			list[i].Options = options
		}
		return list
	}
	switch in := in.(type) {
	case PatchGuild:
		return entry(textchat.AuditGuildUpdate, g.self.ID, before, g.self)
	case PutChannel:
		old, had := before.(textchat.Channel)
		switch {
		case !had:
			return entry(textchat.AuditChannelCreate, in.Channel.ID, nil, *out.Channel)
		case sameButOverwrites(old, *out.Channel):
			return g.auditOverwrite(old, *out.Channel)
		}
		return entry(textchat.AuditChannelUpdate, in.Channel.ID, before, *out.Channel)
	case PutOverwrite:
		return g.auditOverwrite(before.(textchat.Channel), *out.Channel)
	case DropChannel:
		return entry(textchat.AuditChannelDelete, in.Channel, before, nil)
	case PutThread:
		if before == nil {
			return entry(textchat.AuditThreadCreate, in.Thread.ID, nil, in.Thread.Shown(0))
		}
		return entry(textchat.AuditThreadUpdate, in.Thread.ID, before.(textchat.Channel).Shown(0), out.Channel.Shown(0))
	case DropThread:
		return entry(textchat.AuditThreadDelete, in.Thread, before.(textchat.Channel).Shown(0), nil)
	case PutRole:
		if before == nil {
			return entry(textchat.AuditRoleCreate, in.Role.ID, nil, *out.Role)
		}
		return entry(textchat.AuditRoleUpdate, in.Role.ID, before, *out.Role)
	case DropRole:
		return entry(textchat.AuditRoleDelete, in.Role, before, nil)
	case PatchMember:
		return g.auditMember(in, before.(textchat.Member), out)
	case Leave:
		return entry(textchat.AuditMemberKick, in.User, nil, nil)
	case Ban:
		if len(out.Changes) == 0 {
			return nil
		}
		return entry(textchat.AuditBanAdd, in.User.ID, nil, nil)
	case Unban:
		return entry(textchat.AuditBanRemove, in.User.ID, nil, nil)
	case Join:
		return entry(textchat.AuditBotAdd, in.User.ID, nil, nil)
	case PutInvite:
		return entry(textchat.AuditInviteCreate, 0, nil, in.Invite)
	case DropInvite:
		return entry(textchat.AuditInviteDelete, 0, in.Invite, nil)
	case PutWebhook:
		if before == nil {
			return entry(textchat.AuditWebhookCreate, in.Webhook.ID, nil, public(in.Webhook))
		}
		return entry(textchat.AuditWebhookUpdate, in.Webhook.ID, public(before.(textchat.Webhook)), public(in.Webhook))
	case DropWebhook:
		return entry(textchat.AuditWebhookDelete, in.Webhook.ID, public(in.Webhook), nil)
	case Erased:
		return with(entry(textchat.AuditMessageDelete, in.Author, nil, nil), map[string]string{"channel_id": in.Channel.String(), "count": "1"})
	case ErasedMany:
		return with(entry(textchat.AuditMessageBulkDelete, in.Channel, nil, nil), map[string]string{"count": strconv.Itoa(len(in.Messages))})
	case PinsMoved:
		action := textchat.AuditMessagePin
		if in.Unpinned {
			action = textchat.AuditMessageUnpin
		}
		return with(entry(action, in.Author, nil, nil), map[string]string{"channel_id": in.Channel.String(), "message_id": in.Message.String()})
	}
	return nil
}

// public hides what a log must not show: who reads it could post by the token.
func public(w textchat.Webhook) textchat.Webhook {
	w.Token, w.User = "", nil
	return w
}

// auditMember splits a change of a member into its entries.
func (g *Guild) auditMember(in PatchMember, old textchat.Member, out *Out) []textchat.AuditEntry {
	target := in.User
	var list []textchat.AuditEntry
	now := old
	if m := g.members[in.User]; m != nil {
		now = *m
	}
	bare := old
	bare.Roles, bare.Temporary, bare.Visited = now.Roles, now.Temporary, now.Visited // these go with a role that is given
	if c := differ(bare, now); len(c) > 0 {
		list = append(list, textchat.AuditEntry{Action: textchat.AuditMemberUpdate, Target: &target, Changes: c})
	}
	var roles []textchat.AuditChange
	for _, k := range []struct {
		key      string
		has, not []textchat.ID
	}{{"$add", now.Roles, old.Roles}, {"$remove", old.Roles, now.Roles}} {
		moved := []map[string]any{}
		for _, id := range k.has {
			if r := g.roles[id]; r != nil && !slices.Contains(k.not, id) {
				moved = append(moved, map[string]any{"id": id, "name": r.Name})
			}
		}
		if len(moved) > 0 {
			roles = append(roles, textchat.AuditChange{Key: k.key, New: raw(moved)})
		}
	}
	if len(roles) > 0 {
		list = append(list, textchat.AuditEntry{Action: textchat.AuditMemberRoles, Target: &target, Changes: roles})
	}
	if in.Channel != nil {
		e := textchat.AuditEntry{Action: textchat.AuditMemberDisconnect, Options: map[string]string{"count": "1"}}
		if *in.Channel != 0 {
			e.Action = textchat.AuditMemberMove
			e.Options["channel_id"] = in.Channel.String()
		}
		list = append(list, e)
	}
	return list
}

// auditOverwrite is about the first overwrite in which two states of a channel
// differ: a request that changes no more than overwrites changes one.
func (g *Guild) auditOverwrite(old, now textchat.Channel) []textchat.AuditEntry {
	find := func(list []textchat.Overwrite, o textchat.Overwrite) any {
		for _, x := range list {
			if x.ID == o.ID && x.Type == o.Type {
				return x
			}
		}
		return nil
	}
	for _, o := range append(slices.Clone(now.Overwrites), old.Overwrites...) {
		a, b := find(old.Overwrites, o), find(now.Overwrites, o)
		if a == b {
			continue
		}
		id := now.ID
		e := textchat.AuditEntry{Target: &id, Changes: differ(a, b), Options: map[string]string{"id": o.ID.String(), "type": strconv.Itoa(int(o.Type))}}
		switch {
		case a == nil:
			e.Action = textchat.AuditOverwriteCreate
		case b == nil:
			e.Action = textchat.AuditOverwriteDelete
		default:
			e.Action = textchat.AuditOverwriteUpdate
		}
		if r := g.roles[o.ID]; o.Type == textchat.OverwriteRole && r != nil {
			e.Options["role_name"] = r.Name
		}
		return []textchat.AuditEntry{e}
	}
	return nil
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own plain structs
	}
	return b
}

// differ lists the fields in which the JSON of two objects differs, by name; nil
// has no fields. Ids stand elsewhere.
func differ(old, now any) []textchat.AuditChange {
	fields := func(v any) map[string]json.RawMessage {
		m := map[string]json.RawMessage{}
		if v != nil {
			_ = json.Unmarshal(raw(v), &m) // what was just written as an object
		}
		for _, k := range []string{"id", "guild_id", "last_message_id", "user"} {
			delete(m, k)
		}
		maps.DeleteFunc(m, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
		return m
	}
	a, b := fields(old), fields(now)
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var list []textchat.AuditChange
	for _, k := range keys {
		if !bytes.Equal(a[k], b[k]) {
			list = append(list, textchat.AuditChange{Key: k, Old: a[k], New: b[k]})
		}
	}
	return list
}
