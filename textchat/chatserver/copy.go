package chatserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/sqlite"
)

// settingCopy is there while a store is being filled by Copy; it says from what, and how
// far it is.
const settingCopy = "copy"

const (
	// copyStretch is how many messages are read at once; the place is noted after every
	// copyNoted of them, as a note costs a cluster as much as 20 messages.
	copyStretch = 512
	copyNoted   = 8 * copyStretch
	// copyChanges and copyBytes bound one write to a guild: what a node of a cluster
	// takes without a word.
	copyChanges = 100
	copyBytes   = 64 << 10
	// copyWidth is how many messages get their reactions at once, below what one channel
	// may have under way.
	copyWidth = 16
	// copyPatience is how long a busy store is asked again: a node that restarts is back.
	copyPatience = 2 * time.Minute
)

// errHalfCopied is what a server says that is started on half a copy.
var errHalfCopied = errors.New("the store is being filled by voicefleet copy; if that was interrupted, run it again")

// Copied counts what a copy has brought so far. It does not count what was brought
// before an interruption, but for accounts.
type Copied struct {
	Users, Guilds, Messages, Reactions, Pins, DMs int
}

// copyNote is the value of settingCopy.
type copyNote struct {
	From string    // the state of the embedded store
	At   sqlite.At // of the last message of which it is known that it is there
}

// copier is one run of Copy.
type copier struct {
	from  *sqlite.Dump
	to    textchat.Store
	now   time.Time
	note  copyNote
	done  Copied
	shown func(Copied)
}

// Copy brings all that the embedded store in dir holds to another store, which must be
// empty, and on neither of which a server may run. Interrupted, it goes on when it is
// repeated from the same state of dir. shown hears now and then how far it is. Entries
// of audit logs that are too old to be kept are left out.
func Copy(ctx context.Context, dir string, to textchat.Store, now time.Time, shown func(Copied)) (done Copied, err error) {
	from, err := sqlite.OpenDump(ctx, dir)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	c := &copier{from: from, to: to, now: now, shown: shown}
	for _, step := range []func(context.Context) error{c.begin, c.users, c.tokens, c.guilds, c.dms, c.messages, c.settings, c.end} {
		if err := step(ctx); err != nil {
			return c.done, fmt.Errorf("copy store: %w", err)
		}
	}
	return c.done, nil
}

// begin notes that the store is half full, or finds where to go on.
func (c *copier) begin(ctx context.Context) error {
	state, err := c.from.State(ctx)
	if err != nil {
		return err
	}
	var kept string
	err = whileBusy(ctx, copyPatience, func() (err error) {
		kept, err = c.to.Setting(ctx, settingCopy)
		return err
	})
	if err == nil {
		if err := json.Unmarshal([]byte(kept), &c.note); err != nil {
			return err
		}
		if c.note.From != state {
			return errors.New("the store has half of a copy of something else, or of an earlier state: begin anew with an empty one")
		}
		return nil
	}
	if !errors.Is(err, textchat.ErrNoRecord) {
		return err
	}
	var users []textchat.User
	err = whileBusy(ctx, copyPatience, func() (err error) {
		users, err = c.to.Users(ctx, 0, 1)
		return err
	})
	if err == nil && len(users) > 0 {
		err = errors.New("the store is in use: it has accounts already; copy into an empty one")
	}
	if err != nil {
		return err
	}
	c.note.From = state
	return c.write(ctx)
}

// write writes the note.
func (c *copier) write(ctx context.Context) error {
	return whileBusy(ctx, copyPatience, func() error { return c.to.SetSetting(ctx, settingCopy, string(encode(c.note))) })
}

func (c *copier) users(ctx context.Context) error {
	return c.from.Users(ctx, func(u textchat.Credential, created time.Time) error {
		c.done.Users++
		defer c.shown(c.done)
		return whileBusy(ctx, copyPatience, func() error {
			_, err := c.to.User(ctx, u.User.ID)
			if errors.Is(err, textchat.ErrNoRecord) {
				err = c.to.CreateUser(ctx, u, nil, created)
			}
			return err
		})
	})
}

func (c *copier) tokens(ctx context.Context) error {
	return c.from.Tokens(ctx, func(user textchat.ID, token textchat.TokenHash, created time.Time) error {
		return whileBusy(ctx, copyPatience, func() error {
			_, err := c.to.TokenUser(ctx, token)
			if errors.Is(err, textchat.ErrNoRecord) {
				err = c.to.AddToken(ctx, user, token, created)
			}
			return err
		})
	})
}

func (c *copier) guilds(ctx context.Context) error {
	var guild textchat.ID
	var list []textchat.Change
	size := 0
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		err := whileBusy(ctx, copyPatience, func() error { return c.to.Save(ctx, guild, list) })
		list, size = list[:0], 0
		c.shown(c.done)
		return err
	}
	err := c.from.Changes(ctx, func(g textchat.ID, bytes int, ch textchat.Change) error {
		if ch.PutAudit != nil && c.now.Sub(ch.PutAudit.ID.Time()) > textchat.AuditLife {
			return nil
		}
		if g != guild || len(list) == copyChanges || size+bytes > copyBytes {
			if err := flush(); err != nil {
				return err
			}
			guild = g
		}
		if ch.PutGuild != nil {
			c.done.Guilds++
		}
		list, size = append(list, ch), size+bytes
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (c *copier) dms(ctx context.Context) error {
	return c.from.DMs(ctx, func(d textchat.DM) error {
		c.done.DMs++
		return whileBusy(ctx, copyPatience, func() error {
			made, err := c.to.OpenDM(ctx, d)
			if err == nil && made.ID != d.ID {
				err = errors.New("two people have another private channel there already")
			}
			return err
		})
	})
}

func (c *copier) messages(ctx context.Context) error {
	at := c.note.At
	for noted := 0; ; {
		s, err := c.from.Messages(ctx, at, copyStretch)
		if err != nil || len(s.Messages) == 0 {
			return err
		}
		for rest := s.Messages; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Channel == rest[0].Channel {
				n++
			}
			if err := whileBusy(ctx, copyPatience, func() error { return c.to.AddMessages(ctx, rest[0].Channel, rest[:n]) }); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if err := c.marks(ctx, s); err != nil {
			return err
		}
		last := s.Messages[len(s.Messages)-1]
		at = sqlite.At{Channel: last.Channel, ID: last.ID}
		c.done.Messages += len(s.Messages)
		c.done.Reactions += len(s.Reactions)
		c.done.Pins += len(s.Pins)
		if noted += len(s.Messages); noted >= copyNoted {
			noted, c.note.At = 0, at
			if err := c.write(ctx); err != nil {
				return err
			}
		}
		c.shown(c.done)
	}
}

// marks brings reactions and pins. The reactions of a message go one after the other:
// so they keep their order.
func (c *copier) marks(ctx context.Context, s sqlite.Stretch) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(copyWidth)
	for rest := s.Reactions; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].At == rest[0].At {
			n++
		}
		of := rest[:n]
		group.Go(func() error {
			for _, r := range of {
				err := whileBusy(inner, copyPatience, func() error {
					_, err := c.to.React(inner, r.At.Channel, r.At.ID, r.Emoji, r.User, math.MaxInt)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		rest = rest[n:]
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, p := range s.Pins {
		err := whileBusy(ctx, copyPatience, func() error {
			_, err := c.to.Pin(ctx, p.At.Channel, p.At.ID, p.Time, math.MaxInt)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settings come last: that of the first guild says that there is one.
func (c *copier) settings(ctx context.Context) error {
	return c.from.Settings(ctx, func(key, value string) error {
		return whileBusy(ctx, copyPatience, func() error { return c.to.SetSetting(ctx, key, value) })
	})
}

// end takes the note away: the store may be used.
func (c *copier) end(ctx context.Context) error {
	return whileBusy(ctx, copyPatience, func() error {
		err := c.to.TakeSetting(ctx, settingCopy, string(encode(c.note)))
		if errors.Is(err, textchat.ErrNoRecord) {
			// It was taken, by a try of which the answer was lost.
			err = nil
		}
		return err
	})
}

// whileBusy does something again while the store is busy, for a time.
func whileBusy(ctx context.Context, patience time.Duration, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		if err == nil || !errors.Is(err, textchat.ErrBusy) || time.Since(began) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}
