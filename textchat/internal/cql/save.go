package cql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gocql/gocql"

	"voicefleet/textchat"
)

// A Save goes in three stages, so that a crash between them is harmless:
//
//  1. what leads to the guild is written (by channel, user, webhook, invite), and
//     which channels are about to lose their messages;
//  2. the guild's partition is written in one batch: now it is done;
//  3. what leads to things that are gone is cleaned up.
//
// saving is the plan of one Save.
type saving struct {
	guild textchat.ID
	batch []statement
	// What the guild has after the steps so far, as far as it is known; read
	// beforehand when something is dropped with what belongs to it.
	channels, members, webhooks map[textchat.ID]bool
	webhookChannel              map[textchat.ID]textchat.ID
	inviteChannel               map[string]textchat.ID // of those that are there
	invites                     map[string]*textchat.Invite
	// renewed invites were dropped and put again: their uses begin anew.
	renewed map[string]bool
	// emptied channels lose their messages.
	emptied map[textchat.ID]bool
	// list says that the guild is to be found among all guilds.
	list bool
}

type statement struct {
	stmt string // "USING TIMESTAMP ?" is its first variable, or the last of an INSERT
	args []any
}

const (
	putPart  = "INSERT INTO guild_parts (guild_id, kind, id, code, data) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
	putOwned = "INSERT INTO guild_parts (guild_id, kind, id, code, channel_id, data) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
	dropPart = "DELETE FROM guild_parts USING TIMESTAMP ? WHERE guild_id = ? AND kind = ? AND id = ? AND code = ?"
	dropAll  = "DELETE FROM guild_parts USING TIMESTAMP ? WHERE guild_id = ?"
)

// putAudit keeps an entry of the audit log until it is old: its id says since when.
const putAudit = "INSERT INTO guild_parts (guild_id, kind, id, code, data) VALUES (?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?"

// auditLeft is how long an entry is kept from now on, in seconds: one that is rewritten no
// longer than it would have been. One that should be gone comes from elsewhere.
func auditLeft(id textchat.ID, now time.Time) int {
	left := id.Time().Add(textchat.AuditLife).Sub(now)
	if left < time.Second || left > textchat.AuditLife {
		left = textchat.AuditLife
	}
	return int(left.Seconds())
}

// Save does all changes or none.
func (s *Store) Save(ctx context.Context, guild textchat.ID, changes []textchat.Change) error {
	timeout := s.timeout
	for _, c := range changes {
		if c == (textchat.Change{}) {
			return errors.New("save guild: empty change")
		}
		if c.DropGuild || c.DropChannel != 0 {
			timeout = longTimeout
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return s.doFor(ctx, timeout, "save guild", 0, func(ctx context.Context) error {
		p, err := s.plan(ctx, guild, changes)
		if err != nil {
			return err
		}
		if err := s.lead(ctx, p); err != nil {
			return err
		}
		if err := s.commit(ctx, p); err != nil {
			return err
		}
		s.cleanUp(ctx, p)
		return nil
	})
}

// plan goes through the changes in order.
func (s *Store) plan(ctx context.Context, guild textchat.ID, changes []textchat.Change) (*saving, error) {
	p := &saving{
		guild: guild, channels: map[textchat.ID]bool{}, members: map[textchat.ID]bool{}, webhooks: map[textchat.ID]bool{},
		webhookChannel: map[textchat.ID]textchat.ID{}, inviteChannel: map[string]textchat.ID{}, invites: map[string]*textchat.Invite{},
		renewed: map[string]bool{}, emptied: map[textchat.ID]bool{},
	}
	for _, c := range changes {
		var err error
		switch {
		case c.DropGuild:
			err = s.read(ctx, p, "kind >= ? AND kind < ?", kindGuild, kindBan)
			if err == nil {
				err = s.read(ctx, p, "kind = ?", kindWebhook)
			}
		case c.DropChannel != 0:
			if err = s.read(ctx, p, "kind = ?", kindInvite); err == nil {
				err = s.read(ctx, p, "kind = ?", kindWebhook)
			}
		}
		if err != nil {
			return nil, err
		}
		if c.DropGuild {
			break // all of it has been read
		}
	}
	for _, c := range changes {
		p.step(c)
	}
	return p, nil
}

// read notes what the guild has.
func (s *Store) read(ctx context.Context, p *saving, where string, args ...any) error {
	parts, err := s.parts(ctx, p.guild, where, args...)
	for _, r := range parts {
		switch r.kind {
		case kindChannel:
			p.channels[r.id] = true
		case kindMember:
			p.members[r.id] = true
		case kindInvite:
			p.inviteChannel[r.code] = r.channel
		case kindWebhook:
			p.webhookChannel[r.id] = r.channel
		}
	}
	return err
}

func (p *saving) put(kind int8, id textchat.ID, data any) {
	p.batch = append(p.batch, statement{putPart, []any{int64(p.guild), kind, int64(id), "", encode(data)}})
}

func (p *saving) putOwned(kind int8, id textchat.ID, code string, channel textchat.ID, data any) {
	p.batch = append(p.batch, statement{putOwned, []any{int64(p.guild), kind, int64(id), code, int64(channel), encode(data)}})
}

func (p *saving) drop(kind int8, id textchat.ID, code string) {
	p.batch = append(p.batch, statement{dropPart, []any{int64(p.guild), kind, int64(id), code}})
}

func (p *saving) dropInvite(code string) {
	p.drop(kindInvite, 0, code)
	delete(p.inviteChannel, code)
	p.invites[code] = nil
	p.renewed[code] = true
}

func (p *saving) dropWebhook(id textchat.ID) {
	p.drop(kindWebhook, id, "")
	delete(p.webhookChannel, id)
	p.webhooks[id] = false
}

// step puts one change into the plan.
func (p *saving) step(c textchat.Change) {
	switch {
	case c.PutGuild != nil:
		p.put(kindGuild, p.guild, c.PutGuild)
		p.list = true
	case c.DropGuild:
		p.batch = append(p.batch, statement{dropAll, []any{int64(p.guild)}})
		for id := range p.channels {
			p.channels[id], p.emptied[id] = false, true
		}
		for id := range p.members {
			p.members[id] = false
		}
		for id := range p.webhookChannel {
			p.webhooks[id] = false
		}
		for code := range p.inviteChannel {
			p.invites[code], p.renewed[code] = nil, true
		}
		clear(p.webhookChannel)
		clear(p.inviteChannel)
		p.list = false
	case c.PutRole != nil:
		p.put(kindRole, c.PutRole.ID, c.PutRole)
	case c.DropRole != 0:
		p.drop(kindRole, c.DropRole, "")
	case c.PutChannel != nil:
		p.put(kindChannel, c.PutChannel.ID, c.PutChannel)
		p.channels[c.PutChannel.ID] = true
	case c.DropChannel != 0:
		p.drop(kindChannel, c.DropChannel, "")
		p.channels[c.DropChannel], p.emptied[c.DropChannel] = false, true
		for code, channel := range p.inviteChannel {
			if channel == c.DropChannel {
				p.dropInvite(code)
			}
		}
		for id, channel := range p.webhookChannel {
			if channel == c.DropChannel {
				p.dropWebhook(id)
			}
		}
	case c.PutMember != nil:
		p.put(kindMember, c.PutMember.User.ID, c.PutMember)
		p.members[c.PutMember.User.ID] = true
	case c.DropMember != 0:
		p.drop(kindMember, c.DropMember, "")
		p.members[c.DropMember] = false
	case c.PutInvite != nil:
		i := c.PutInvite
		p.putOwned(kindInvite, 0, i.Code, i.Channel, i)
		p.inviteChannel[i.Code], p.invites[i.Code] = i.Channel, i
	case c.DropInvite != "":
		p.dropInvite(c.DropInvite)
	case c.PutBan != nil:
		p.put(kindBan, c.PutBan.User.ID, c.PutBan)
	case c.DropBan != 0:
		p.drop(kindBan, c.DropBan, "")
	case c.PutWebhook != nil:
		w := c.PutWebhook
		p.putOwned(kindWebhook, w.ID, "", w.Channel, w)
		p.webhookChannel[w.ID], p.webhooks[w.ID] = w.Channel, true
	case c.DropWebhook != 0:
		p.dropWebhook(c.DropWebhook)
	case c.PutAudit != nil:
		p.batch = append(p.batch, statement{putAudit, []any{int64(p.guild), kindAudit, int64(c.PutAudit.ID), "", encode(c.PutAudit), auditLeft(c.PutAudit.ID, time.Now())}})
	}
}

// lead is the first stage.
func (s *Store) lead(ctx context.Context, p *saving) error {
	var writes []statement
	if p.list {
		writes = append(writes, statement{"INSERT INTO guild_list (shard, id) VALUES (?, ?)", []any{int(p.guild % listShards), int64(p.guild)}})
	}
	for id, has := range p.channels {
		if has {
			writes = append(writes, statement{"INSERT INTO channel_guilds (channel_id, guild_id) VALUES (?, ?)", []any{int64(id), int64(p.guild)}})
		}
	}
	for id, has := range p.members {
		if has {
			writes = append(writes, statement{"INSERT INTO user_guilds (user_id, guild_id) VALUES (?, ?)", []any{int64(id), int64(p.guild)}})
		}
	}
	for id, has := range p.webhooks {
		if has {
			writes = append(writes, statement{"INSERT INTO webhook_guilds (id, guild_id) VALUES (?, ?)", []any{int64(id), int64(p.guild)}})
		}
	}
	for id := range p.emptied {
		writes = append(writes, statement{"INSERT INTO dropped_channels (shard, channel_id) VALUES (0, ?)", []any{int64(id)}})
	}
	if err := each(ctx, len(writes), func(ctx context.Context, i int) error { return s.write(ctx, writes[i].stmt, writes[i].args...) }); err != nil {
		return err
	}
	for code, i := range p.invites {
		if i == nil {
			continue
		}
		if err := s.leadInvite(ctx, p.guild, code, i.Uses); err != nil {
			return err
		}
	}
	return nil
}

// leadInvite makes a code lead to the guild, unless another one has it.
func (s *Store) leadInvite(ctx context.Context, guild textchat.ID, code string, uses int) error {
	for range casTries {
		applied, row, err := s.cas(ctx, "INSERT INTO lwt.invites (code, guild_id, uses) VALUES (?, ?, ?) IF NOT EXISTS", code, int64(guild), uses)
		if err != nil || applied || row["guild_id"] == int64(guild) {
			return err
		}
		other, _ := row["guild_id"].(int64)
		if _, err := s.part(ctx, textchat.ID(other), kindInvite, 0, code); !errors.Is(err, gocql.ErrNotFound) {
			if err == nil {
				err = textchat.ErrNameTaken
			}
			return err
		}
		applied, _, err = s.cas(ctx, "UPDATE lwt.invites SET guild_id = ?, uses = ? WHERE code = ? IF guild_id = ?", int64(guild), uses, code, other)
		if err != nil || applied {
			return err
		}
	}
	return textchat.ErrBusy
}

// commit is the second stage. Each statement has its own time stamp: in one batch
// with one of them a deletion would win over a later put.
func (s *Store) commit(ctx context.Context, p *saving) error {
	defer func() {
		for id := range p.channels {
			s.changed(id)
		}
	}()
	at := s.stamp(len(p.batch))
	b := s.batch(ctx)
	b.DefaultTimestamp(false)
	for i, st := range p.batch {
		args := st.args
		if st.stmt == dropPart || st.stmt == dropAll {
			args = append([]any{at + int64(i)}, args...)
		} else {
			args = append(args, at+int64(i))
		}
		b.Query(st.stmt, args...)
		b.Entries[i].Idempotent = true
	}
	return s.session.ExecuteBatch(b)
}

// cleanUp is the third stage. The save is done: what fails here is left over.
func (s *Store) cleanUp(ctx context.Context, p *saving) {
	for id, has := range p.channels {
		if !has {
			s.leftOver("forget channel", s.write(ctx, "DELETE FROM channel_guilds WHERE channel_id = ?", int64(id)))
		}
	}
	for id, has := range p.members {
		if !has {
			s.leftOver("forget member", s.write(ctx, "DELETE FROM user_guilds WHERE user_id = ? AND guild_id = ?", int64(id), int64(p.guild)))
		}
	}
	for id, has := range p.webhooks {
		if !has {
			s.leftOver("forget webhook", s.write(ctx, "DELETE FROM webhook_guilds WHERE id = ?", int64(id)))
		}
	}
	for code := range p.renewed {
		_, _, err := s.cas(ctx, "DELETE FROM lwt.invites WHERE code = ? IF guild_id = ?", code, int64(p.guild))
		if i := p.invites[code]; i != nil && err == nil {
			err = s.leadInvite(ctx, p.guild, code, i.Uses)
		}
		s.leftOver("forget invite", err)
	}
	for id := range p.emptied {
		s.leftOver("drop messages", s.finishDrop(ctx, id))
	}
}

func (s *Store) finishDrop(ctx context.Context, channel textchat.ID) error {
	if err := s.dropMessages(ctx, channel); err != nil {
		return err
	}
	return s.write(ctx, "DELETE FROM dropped_channels WHERE shard = 0 AND channel_id = ?", int64(channel))
}

// sweep finishes dropping the messages of channels, where a crash came between.
func (s *Store) sweep(ctx context.Context) error {
	iter := s.query(ctx, "SELECT channel_id FROM dropped_channels WHERE shard = 0").Iter()
	var list []textchat.ID
	var id int64
	for iter.Scan(&id) {
		list = append(list, textchat.ID(id))
	}
	if err := iter.Close(); err != nil {
		return fmt.Errorf("find dropped channels: %w", err)
	}
	for _, channel := range list {
		_, err := s.ChannelGuild(ctx, channel)
		switch {
		case errors.Is(err, textchat.ErrNoRecord):
			err = s.finishDrop(ctx, channel)
		case err == nil: // it was not dropped after all
			err = s.write(ctx, "DELETE FROM dropped_channels WHERE shard = 0 AND channel_id = ?", int64(channel))
		}
		if err != nil {
			return fmt.Errorf("drop the messages of a channel: %w", err)
		}
	}
	return nil
}
