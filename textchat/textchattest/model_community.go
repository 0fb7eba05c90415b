package textchattest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
)

// modelMarks are the marks of one message.
type modelMarks struct {
	reactions []modelReaction // in the order in which they came
	pinned    *time.Time
}

type modelReaction struct {
	emoji string
	user  textchat.ID
}

// marksLocked are those of a message that exists (ErrNoRecord).
func (m *Model) marksLocked(channel, message textchat.ID) (*modelMarks, error) {
	if _, ok := m.messages[channel][message]; !ok {
		return nil, textchat.ErrNoRecord
	}
	if m.marks[channel] == nil {
		m.marks[channel] = map[textchat.ID]*modelMarks{}
	}
	if m.marks[channel][message] == nil {
		m.marks[channel][message] = &modelMarks{}
	}
	return m.marks[channel][message], nil
}

// React adds a reaction.
func (m *Model) React(_ context.Context, channel, message textchat.ID, emoji string, user textchat.ID, most int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	marks, err := m.marksLocked(channel, message)
	if err != nil {
		return false, err
	}
	others := map[string]bool{}
	for _, r := range marks.reactions {
		if r.emoji != emoji {
			others[r.emoji] = true
		}
	}
	if len(others) >= most {
		return false, textchat.ErrTooMany
	}
	if slices.Contains(marks.reactions, modelReaction{emoji, user}) {
		return false, nil
	}
	marks.reactions = append(marks.reactions, modelReaction{emoji, user})
	return true, nil
}

// Unreact takes reactions away.
func (m *Model) Unreact(_ context.Context, channel, message textchat.ID, emoji string, user textchat.ID) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	marks, err := m.marksLocked(channel, message)
	if err != nil {
		return 0, nil // what does not exist has none
	}
	before := len(marks.reactions)
	marks.reactions = slices.DeleteFunc(marks.reactions, func(r modelReaction) bool {
		return (emoji == "" || r.emoji == emoji) && (user == 0 || r.user == user)
	})
	return before - len(marks.reactions), nil
}

// Reactors lists who reacted.
func (m *Model) Reactors(_ context.Context, channel, message textchat.ID, emoji string, after textchat.ID, limit int) ([]textchat.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []textchat.ID
	if marks := m.marks[channel][message]; marks != nil {
		for _, r := range marks.reactions {
			if r.emoji == emoji && r.user > after {
				list = append(list, r.user)
			}
		}
	}
	slices.Sort(list)
	return list[:min(limit, len(list))], nil
}

// Marks finds the marks of messages.
func (m *Model) Marks(_ context.Context, channel textchat.ID, messages []textchat.ID, viewer textchat.ID) (map[textchat.ID]textchat.Marks, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[textchat.ID]textchat.Marks{}
	for _, id := range messages {
		marks := m.marks[channel][id]
		if marks == nil {
			continue
		}
		shown := textchat.Marks{Pinned: marks.pinned != nil}
		for _, r := range marks.reactions {
			at := slices.IndexFunc(shown.Reactions, func(s textchat.Reaction) bool { return s.Emoji.Name == r.emoji })
			if at < 0 {
				at = len(shown.Reactions)
				shown.Reactions = append(shown.Reactions, textchat.Reaction{Emoji: textchat.Emoji{Name: r.emoji}, Colors: []string{}})
			}
			s := &shown.Reactions[at]
			s.Count++
			s.Details.Normal++
			s.Me = s.Me || r.user == viewer
		}
		out[id] = shown
	}
	return out, nil
}

// Pin pins a message.
func (m *Model) Pin(_ context.Context, channel, message textchat.ID, at time.Time, most int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	marks, err := m.marksLocked(channel, message)
	if err != nil {
		return false, err
	}
	others := 0
	for id, o := range m.marks[channel] {
		if id != message && o.pinned != nil {
			others++
		}
	}
	switch {
	case others >= most:
		return false, textchat.ErrTooMany
	case marks.pinned != nil:
		return false, nil
	}
	marks.pinned = &at
	return true, nil
}

// Unpin takes a pin away.
func (m *Model) Unpin(_ context.Context, channel, message textchat.ID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	marks := m.marks[channel][message]
	if marks == nil || marks.pinned == nil {
		return false, nil
	}
	marks.pinned = nil
	return true, nil
}

// Pins lists pinned messages.
func (m *Model) Pins(_ context.Context, channel textchat.ID, before time.Time, limit int) ([]textchat.Pin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []textchat.Pin
	for id, marks := range m.marks[channel] {
		if marks.pinned != nil && marks.pinned.Before(before) {
			p := textchat.Pin{At: textchat.Time{Time: *marks.pinned}, Message: copied(m.messages[channel][id])}
			p.Message.Pinned = true
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b textchat.Pin) int {
		return cmp.Or(b.At.Compare(a.At.Time), cmp.Compare(b.Message.ID, a.Message.ID))
	})
	return list[:min(limit, len(list))], nil
}

// DeleteMessages removes messages.
func (m *Model) DeleteMessages(ctx context.Context, channel textchat.ID, ids []textchat.ID) ([]textchat.ID, error) {
	var gone []textchat.ID
	for _, id := range ids {
		if m.DeleteMessage(ctx, channel, id) == nil {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	return gone, nil
}

// Ban finds a ban.
func (m *Model) Ban(_ context.Context, guild, user textchat.ID) (textchat.Ban, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guilds[guild]; g != nil {
		if b, ok := g.bans[user]; ok {
			return copied(b), nil
		}
	}
	return textchat.Ban{}, textchat.ErrNoRecord
}

// Bans lists the bans of a guild.
func (m *Model) Bans(_ context.Context, guild, before, after textchat.ID, limit int) ([]textchat.Ban, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guilds[guild]
	if g == nil {
		return nil, nil
	}
	list := slices.DeleteFunc(sorted(g.bans), func(b textchat.Ban) bool {
		return before != 0 && b.User.ID >= before || before == 0 && b.User.ID <= after
	})
	if before != 0 {
		return list[max(0, len(list)-limit):], nil
	}
	return list[:min(limit, len(list))], nil
}

// Webhook finds a webhook.
func (m *Model) Webhook(_ context.Context, id textchat.ID) (textchat.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.guilds {
		if w, ok := g.webhooks[id]; ok {
			return copied(w), nil
		}
	}
	return textchat.Webhook{}, textchat.ErrNoRecord
}

// Webhooks lists the webhooks of a guild.
func (m *Model) Webhooks(_ context.Context, guild textchat.ID) ([]textchat.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guilds[guild]; g != nil {
		return sorted(g.webhooks), nil
	}
	return nil, nil
}

// Audit lists entries of the audit log; none is ever too old.
func (m *Model) Audit(_ context.Context, guild textchat.ID, q textchat.AuditQuery) ([]textchat.AuditEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guilds[guild]
	if g == nil {
		return nil, nil
	}
	list := slices.DeleteFunc(sorted(g.audit), func(e textchat.AuditEntry) bool {
		return q.User != 0 && e.User != q.User || q.Action != 0 && e.Action != q.Action ||
			q.After != 0 && e.ID <= q.After || q.After == 0 && q.Before != 0 && e.ID >= q.Before
	})
	if q.After == 0 {
		slices.Reverse(list)
	}
	return list[:min(q.Limit, len(list))], nil
}

func (m *Model) dmLocked(pair [2]textchat.ID) textchat.DM {
	d := textchat.DM{ID: m.dms[pair], Users: pair}
	if list := m.messages[d.ID]; len(list) > 0 {
		last := slices.Max(slices.Collect(maps.Keys(list)))
		d.LastMessage = &last
	}
	return d
}

// OpenDM finds or makes the channel of two users.
func (m *Model) OpenDM(_ context.Context, d textchat.DM) (textchat.DM, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pair := [2]textchat.ID{min(d.Users[0], d.Users[1]), max(d.Users[0], d.Users[1])}
	if _, ok := m.dms[pair]; !ok {
		m.dms[pair] = d.ID
	}
	return m.dmLocked(pair), nil
}

// DM finds one by its channel.
func (m *Model) DM(_ context.Context, channel textchat.ID) (textchat.DM, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for pair, id := range m.dms {
		if id == channel {
			return m.dmLocked(pair), nil
		}
	}
	return textchat.DM{}, textchat.ErrNoRecord
}

// DMs lists those of a user that have messages.
func (m *Model) DMs(_ context.Context, user textchat.ID, limit int) ([]textchat.DM, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []textchat.DM
	for pair := range m.dms {
		if d := m.dmLocked(pair); d.Other(user) != 0 && d.LastMessage != nil {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b textchat.DM) int { return cmp.Compare(*b.LastMessage, *a.LastMessage) })
	return list[:min(limit, len(list))], nil
}
