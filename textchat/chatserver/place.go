package chatserver

import (
	"errors"
	"hash/maphash"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// place is where messages are: a channel of a guild, or the private channel of
// two users.
type place struct {
	owner   *owner // nil: private
	channel textchat.Channel
	perms   textchat.Permissions
	dm      textchat.DM // when private
}

// dmPermissions are what both may do in their private channel.
const dmPermissions = textchat.ViewChannel | textchat.SendMessages | textchat.SendTTS | textchat.EmbedLinks | textchat.AttachFiles |
	textchat.ReadMessageHistory | textchat.AddReactions | textchat.PinMessages | textchat.UseExternalEmojis

// place finds the channel of the path, of a guild or private.
func (c *call) place(need textchat.Permissions) (place, error) {
	o, ch, perms, err := c.viewed(need)
	if err == nil {
		return place{owner: o, channel: ch, perms: perms}, nil
	}
	if !errors.Is(err, textchat.ErrUnknownChannel) {
		return place{}, err
	}
	id, err := c.id("channel", textchat.ErrUnknownChannel)
	if err != nil {
		return place{}, err
	}
	d, err := c.srv.store.DM(c.ctx, id)
	switch {
	case errors.Is(err, textchat.ErrNoRecord) || err == nil && d.Other(c.user.ID) == 0:
		return place{}, textchat.ErrUnknownChannel
	case err != nil:
		return place{}, err
	case !dmPermissions.Has(need):
		return place{}, textchat.ErrNotOnDM
	}
	return place{channel: textchat.Channel{ID: d.ID, Type: textchat.ChannelDM}, perms: dmPermissions, dm: d}, nil
}

// tell has the events of what was done go out, in the order of the channel; see
// owner.tell.
func (p place) tell(s *Server, in guild.Input) (told bool) {
	if p.owner != nil {
		return p.owner.tell(in)
	}
	return s.private.tell(s, p.dm, in)
}

// told has a task tell of what is stored, and waits until it has. It goes on when the
// request is over, which then is answered that nobody was told yet.
func (c *call) told(tell func(later *call) (told bool)) error {
	later, done := c.lasting(), make(chan bool, 1)
	started := c.srv.task(func() {
		told := false
		defer func() { done <- told }()
		defer c.srv.recovered("tell")
		told = tell(later)
	})
	if !started {
		return errUntold
	}
	select {
	case told := <-done:
		if told {
			return nil
		}
	case <-c.ctx.Done():
	}
	return errUntold
}

// toldSo is told of what the store had as it was wanted: who wrote that may not have told
// it yet, and would not be heard of by who reads now. Nobody gets an event.
func (c *call) toldSo(p place) error {
	return c.told(func(later *call) bool { return p.tell(later.srv, guild.Touched{Channel: p.channel.ID}) })
}

// toldAgain is toldSo where others may have written it: the instance that did may have
// ended before it told of it, so it is told again.
func (c *call) toldAgain(p place, again func(later *call) (told bool)) error {
	if c.srv.ensemble == nil {
		return c.toldSo(p)
	}
	return c.told(again)
}

// errUntold is the answer to who wrote what is stored, and told to nobody so far. Who
// tries again waits until it is.
var errUntold error = textchat.Unavailable("This is stored, but cannot be shown to others now. Try again.", time.Second)

// private keeps the order of events in private channels: those that fall on one
// of its locks wait for each other.
type private struct {
	seed  maphash.Seed
	locks [64]turn
}

func (p *private) init() {
	p.seed = maphash.MakeSeed()
	for i := range p.locks {
		p.locks[i] = newTurn()
	}
}

// tell gives the events of an input to the sessions of the two users.
func (p *private) tell(s *Server, d textchat.DM, in guild.Input) (told bool) {
	l := p.locks[maphash.Comparable(p.seed, d.ID)%uint64(len(p.locks))]
	l.Lock()
	defer l.Unlock()
	// A guild without members makes the same events as any, less the member.
	var out guild.Out
	guild.New(textchat.GuildRecord{}, 0).Handle(time.Now(), in, &out)
	id := onceID(in)
	told = true
	for _, e := range out.Events {
		told = s.tellUsers(s.life, usersEntry{ID: id, Event: &usersEvent{d.Users[:], e.Name, privateIntent(e.Intent), encode(e.Data)}}) == nil && told
	}
	return told
}

// privateIntent is the intent that a private channel's events have in place of a
// guild's.
func privateIntent(i textchat.Intents) textchat.Intents {
	if i == textchat.IntentGuilds {
		return textchat.IntentDirectMessages
	}
	return i << 3
}

// toUsers gives an event that belongs to no guild to all sessions of users that
// want it, on their first shard.
func (s *Server) toUsers(users []textchat.ID, name string, intent textchat.Intents, body []byte) {
	_ = s.tellUsers(s.life, usersEntry{Event: &usersEvent{users, name, intent, body}}) // the failure is in the log
}
