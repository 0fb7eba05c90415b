package chatserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/textchattest"
)

// moods are how the store of a schedule does.
type mood int

const (
	fine   mood = iota
	slow        // up to a second for each
	busy        // half of all is refused
	unsure      // half of all is not answered: some of it is done, some is done later, some never
)

// shelf is the store of a schedule, for all instances.
type shelf struct {
	*textchattest.Model
	mu sync.Mutex
	// Guarded by mu.
	rnd  *rand.Rand
	mood mood
}

func (s *shelf) set(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

func (s *shelf) draw(n int) (mood, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mood, s.rnd.IntN(n)
}

// desk is the store as one instance has it.
type desk struct {
	*shelf
	house *house
}

var errKilled = errors.New("the process is gone")

// at does something with the store, as it feels.
func at[T any](d *desk, ctx context.Context, write bool, do func() (T, error)) (T, error) {
	var none T
	d.house.still.wait()
	if d.house.killed() {
		return none, errKilled
	}
	m, n := d.draw(1000)
	wait := time.Duration(n) * time.Microsecond
	if m == slow {
		wait = time.Duration(n) * time.Millisecond
	}
	time.Sleep(wait)
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if d.house.killed() {
		return none, errKilled
	}
	_, n = d.draw(8)
	switch {
	case m == busy && n < 4:
		return none, textchat.ErrBusy
	case m == unsure && n < 4 && !write:
		time.Sleep(time.Second)
		return none, textchat.ErrUnsure
	case m == unsure && n < 2:
		_, _ = do()
		time.Sleep(time.Second)
		return none, textchat.ErrUnsure
	case m == unsure && n == 2:
		time.AfterFunc(3*time.Second, func() { _, _ = do() })
		time.Sleep(time.Second)
		return none, textchat.ErrUnsure
	case m == unsure && n == 3:
		time.Sleep(time.Second)
		return none, textchat.ErrUnsure
	}
	v, err := do()
	d.house.still.wait()
	if d.house.killed() {
		return none, errKilled
	}
	return v, err
}

// The calls of a log-in, a message, its marks and a guild's settings; the rest is always
// fine.

func (d *desk) AddMessage(ctx context.Context, m textchat.Message, nonce string) (textchat.Message, bool, error) {
	type added struct {
		m        textchat.Message
		repeated bool
	}
	a, err := at(d, ctx, true, func() (a added, err error) {
		a.m, a.repeated, err = d.Model.AddMessage(ctx, m, nonce)
		return a, err
	})
	return a.m, a.repeated, err
}

// EditMessage is not done late where another edit was done meanwhile: stores tell old
// from new.
func (d *desk) EditMessage(ctx context.Context, m textchat.Message) error {
	_, err := at(d, ctx, true, func() (struct{}, error) {
		is, err := d.Model.Message(ctx, m.Channel, m.ID)
		if err == nil && is.EditedTimestamp != nil && is.EditedTimestamp.After(m.EditedTimestamp.Time) {
			return struct{}{}, nil
		}
		return struct{}{}, d.Model.EditMessage(ctx, m)
	})
	return err
}

func (d *desk) DeleteMessage(ctx context.Context, channel, id textchat.ID) error {
	_, err := at(d, ctx, true, func() (struct{}, error) { return struct{}{}, d.Model.DeleteMessage(ctx, channel, id) })
	return err
}

func (d *desk) DeleteMessages(ctx context.Context, channel textchat.ID, ids []textchat.ID) ([]textchat.ID, error) {
	return at(d, ctx, true, func() ([]textchat.ID, error) { return d.Model.DeleteMessages(ctx, channel, ids) })
}

func (d *desk) React(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID, most int) (bool, error) {
	return at(d, ctx, true, func() (bool, error) { return d.Model.React(ctx, channel, message, emoji, user, most) })
}

func (d *desk) Unreact(ctx context.Context, channel, message textchat.ID, emoji string, user textchat.ID) (int, error) {
	return at(d, ctx, true, func() (int, error) { return d.Model.Unreact(ctx, channel, message, emoji, user) })
}

func (d *desk) Pin(ctx context.Context, channel, message textchat.ID, when time.Time, most int) (bool, error) {
	return at(d, ctx, true, func() (bool, error) { return d.Model.Pin(ctx, channel, message, when, most) })
}

func (d *desk) Unpin(ctx context.Context, channel, message textchat.ID) (bool, error) {
	return at(d, ctx, true, func() (bool, error) { return d.Model.Unpin(ctx, channel, message) })
}

func (d *desk) Message(ctx context.Context, channel, id textchat.ID) (textchat.Message, error) {
	return at(d, ctx, false, func() (textchat.Message, error) { return d.Model.Message(ctx, channel, id) })
}

func (d *desk) Save(ctx context.Context, guild textchat.ID, changes []textchat.Change) error {
	_, err := at(d, ctx, true, func() (struct{}, error) { return struct{}{}, d.Model.Save(ctx, guild, changes) })
	return err
}

func (d *desk) TokenUser(ctx context.Context, t textchat.TokenHash) (textchat.User, error) {
	return at(d, ctx, false, func() (textchat.User, error) { return d.Model.TokenUser(ctx, t) })
}

func (d *desk) GuildIDs(ctx context.Context, user textchat.ID) ([]textchat.ID, error) {
	return at(d, ctx, false, func() ([]textchat.ID, error) { return d.Model.GuildIDs(ctx, user) })
}

func (d *desk) Guild(ctx context.Context, id textchat.ID) (textchat.GuildRecord, error) {
	return at(d, ctx, false, func() (textchat.GuildRecord, error) { return d.Model.Guild(ctx, id) })
}

func (d *desk) ChannelGuild(ctx context.Context, channel textchat.ID) (textchat.ID, error) {
	return at(d, ctx, false, func() (textchat.ID, error) { return d.Model.ChannelGuild(ctx, channel) })
}

func (d *desk) Marks(ctx context.Context, channel textchat.ID, ids []textchat.ID, viewer textchat.ID) (map[textchat.ID]textchat.Marks, error) {
	return at(d, ctx, false, func() (map[textchat.ID]textchat.Marks, error) { return d.Model.Marks(ctx, channel, ids, viewer) })
}

func (d *desk) Page(ctx context.Context, channel textchat.ID, q textchat.PageQuery) ([]textchat.Message, error) {
	return at(d, ctx, false, func() ([]textchat.Message, error) { return d.Model.Page(ctx, channel, q) })
}
