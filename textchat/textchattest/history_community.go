package textchattest

import (
	"context"
	"encoding/json"
	"fmt"

	"voicefleet/textchat"
)

// The limits of a history, small enough to be met.
const (
	historyEmoji = 3 // under a message
	historyPins  = 3 // of a channel
)

func (h *history) stepMarks(ctx context.Context) {
	channel, id := h.channel(h.guild()), h.oldID()
	user, emoji := h.user(), h.emoji()
	switch h.rng.IntN(10) {
	case 0, 1, 2:
		h.both(fmt.Sprintf("react %s to %d of %d by %d", emoji, id, channel, user), func(s textchat.Store) (any, error) {
			return s.React(ctx, channel, id, emoji, user, historyEmoji)
		})
	case 3:
		if h.rng.IntN(3) == 0 {
			user = 0
		}
		if h.rng.IntN(3) == 0 {
			emoji = ""
		}
		h.both(fmt.Sprintf("unreact %s of %d of %d by %d", emoji, id, channel, user), func(s textchat.Store) (any, error) {
			return s.Unreact(ctx, channel, id, emoji, user)
		})
	case 4:
		after, limit := h.user()-1, 1+h.rng.IntN(3)
		h.both(fmt.Sprintf("reactors %s of %d of %d", emoji, id, channel), func(s textchat.Store) (any, error) {
			list, err := s.Reactors(ctx, channel, id, emoji, after, limit)
			return append([]textchat.ID{}, list...), err
		})
	case 5, 6:
		list := []textchat.ID{id, h.oldID(), h.oldID(), h.oldID()}
		h.both(fmt.Sprintf("marks of %v of %d for %d", list, channel, user), func(s textchat.Store) (any, error) {
			marks, err := s.Marks(ctx, channel, list, user)
			shown := map[textchat.ID]textchat.Marks{}
			for id, m := range marks {
				if m.Pinned || len(m.Reactions) > 0 {
					shown[id] = m
				}
			}
			return shown, err
		})
	case 7:
		at := h.now
		h.both(fmt.Sprintf("pin %d of %d", id, channel), func(s textchat.Store) (any, error) { return s.Pin(ctx, channel, id, at, historyPins) })
	case 8:
		h.both(fmt.Sprintf("unpin %d of %d", id, channel), func(s textchat.Store) (any, error) { return s.Unpin(ctx, channel, id) })
	case 9:
		before, limit := h.now, 1+h.rng.IntN(3)
		h.both(fmt.Sprintf("pins of %d", channel), func(s textchat.Store) (any, error) {
			list, err := s.Pins(ctx, channel, before, limit)
			return append([]textchat.Pin{}, list...), err
		})
	}
}

func (h *history) stepCommunity(ctx context.Context) {
	guild, user := h.guild(), h.user()
	switch h.rng.IntN(9) {
	case 0:
		h.both(fmt.Sprintf("ban of %d in %d", user, guild), func(s textchat.Store) (any, error) { return s.Ban(ctx, guild, user) })
	case 1:
		var before, after textchat.ID
		if h.rng.IntN(2) == 0 {
			before = user
		} else {
			after = user - 1
		}
		h.both(fmt.Sprintf("bans of %d before %d after %d", guild, before, after), func(s textchat.Store) (any, error) {
			list, err := s.Bans(ctx, guild, before, after, 2)
			return append([]textchat.Ban{}, list...), err
		})
	case 2:
		id := h.webhook(guild)
		h.both(fmt.Sprintf("webhook %d", id), func(s textchat.Store) (any, error) { return s.Webhook(ctx, id) })
	case 3:
		h.both(fmt.Sprintf("webhooks of %d", guild), func(s textchat.Store) (any, error) {
			list, err := s.Webhooks(ctx, guild)
			return append([]textchat.Webhook{}, list...), err
		})
	case 4:
		q := textchat.AuditQuery{Limit: 1 + h.rng.IntN(4)}
		switch edge := h.id(kindAudit, 0)<<20 + textchat.ID(h.rng.IntN(int(h.seq)+1)); h.rng.IntN(3) {
		case 0:
			q.Before = edge
		case 1:
			q.After = edge
		}
		if h.rng.IntN(3) == 0 {
			q.User = user
		}
		if h.rng.IntN(3) == 0 {
			q.Action = h.action()
		}
		h.both(fmt.Sprintf("audit of %d %+v", guild, q), func(s textchat.Store) (any, error) {
			list, err := s.Audit(ctx, guild, q)
			return append([]textchat.AuditEntry{}, list...), err
		})
	case 5:
		channel := h.channel(guild)
		list := []textchat.ID{h.oldID(), h.oldID(), h.oldID()}
		h.both(fmt.Sprintf("delete %v of %d", list, channel), func(s textchat.Store) (any, error) {
			gone, err := s.DeleteMessages(ctx, channel, list)
			return append([]textchat.ID{}, gone...), err
		})
	case 6:
		other := h.user()
		if other == user {
			return
		}
		h.seq++
		d := textchat.DM{ID: h.id(kindDM, int(h.seq)), Users: [2]textchat.ID{user, other}}
		h.both(fmt.Sprintf("open dm %+v", d), func(s textchat.Store) (any, error) { return s.OpenDM(ctx, d) })
		if h.rng.IntN(2) == 0 {
			return
		}
		if d, err := h.model.OpenDM(ctx, d); err == nil {
			m := h.message(d.ID, h.freshID())
			m.Nonce = json.RawMessage("null")
			h.both(fmt.Sprintf("write to dm %d", d.ID), func(s textchat.Store) (any, error) {
				_, _, err := s.AddMessage(ctx, m, "")
				return nil, err
			})
		}
	case 7:
		h.both(fmt.Sprintf("dms of %d", user), func(s textchat.Store) (any, error) {
			list, err := s.DMs(ctx, user, 3)
			return append([]textchat.DM{}, list...), err
		})
	case 8:
		id := h.id(kindDM, h.rng.IntN(int(h.seq)+1))
		h.both(fmt.Sprintf("dm %d", id), func(s textchat.Store) (any, error) { return s.DM(ctx, id) })
	}
}
