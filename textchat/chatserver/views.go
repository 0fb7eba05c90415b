package chatserver

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

const (
	// viewsMost bounds what is remembered of what users may do in channels: 32 bytes
	// each and as much again for the tables, 16 MiB in all.
	viewsMost = 1 << 18
	// viewShards are locked apart.
	viewShards = 64
)

// views remember what users may do in channels, so that who posts does not wait for
// the guild's owner, which may be busy giving an event to thousands. An entry is good
// while the guild has the version that it was found at; the owner takes the next one
// when anything changes on which permissions depend, before anybody hears of it.
//
// The tables hold no pointers, so the collector does not look into them.
type views struct {
	versions     atomic.Uint64 // the last one given: no two guilds share one
	hits, misses prometheus.Counter
	shards       [viewShards]struct {
		mu sync.Mutex
		// Guarded by mu. When full, an arbitrary one is forgotten.
		known map[viewKey]view
	}
}

type viewKey struct{ user, channel textchat.ID }

type view struct {
	perms   textchat.Permissions
	version uint64
}

func (v *views) init(m *metrics) {
	v.hits, v.misses = m.cacheHits.WithLabelValues("permissions"), m.cacheMisses.WithLabelValues("permissions")
	for i := range v.shards {
		v.shards[i].known = make(map[viewKey]view)
	}
}

// next is a version that no guild had.
func (v *views) next() uint64 { return v.versions.Add(1) }

// find looks for what a user may do in a channel, at a version.
func (v *views) find(k viewKey, version uint64) (textchat.Permissions, bool) {
	s := &v.shards[k.shard()]
	s.mu.Lock()
	found, ok := s.known[k]
	s.mu.Unlock()
	return found.perms, ok && found.version == version
}

func (v *views) note(k viewKey, found view) {
	s := &v.shards[k.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[k]; !ok && len(s.known) >= viewsMost/viewShards {
		for old := range s.known {
			delete(s.known, old)
			break
		}
	}
	s.known[k] = found
}

// shard is one of viewShards: snowflakes differ in their upper and lowest bits.
func (k viewKey) shard() int {
	n := uint64(k.user) ^ uint64(k.channel)
	return int((n ^ n>>22 ^ n>>44) % viewShards)
}

// settings are the channels of a guild at a version. Their newest messages may be
// older: that is no setting.
type settings struct {
	version  uint64
	channels map[textchat.ID]*textchat.Channel
}

// turn takes the next version, if anything changed since the last one. Only the
// owner's goroutine does: before it tells anybody of a change.
func (o *owner) turn() {
	if o.core == nil {
		o.settings.Store(nil)
		o.pagesVersion.Store(0)
		return
	}
	if o.core.Turned() || o.settings.Load() == nil {
		o.settings.Store(&settings{version: o.srv.views.next()})
	}
}

// viewed is like channel, for who changes nothing of the channel itself: it may be
// answered from memory, and the newest message of it may be an older one.
func (c *call) viewed(need textchat.Permissions) (*owner, textchat.Channel, textchat.Permissions, error) {
	id, err := c.id("channel", textchat.ErrUnknownChannel)
	if err != nil {
		return nil, textchat.Channel{}, 0, err
	}
	o, err := c.srv.ownerOf(c.ctx, id)
	if err != nil {
		return nil, textchat.Channel{}, 0, err
	}
	ch, p, err := o.view(c.ctx, c.user.ID, id)
	switch {
	case err != nil:
	case !p.Has(textchat.ViewChannel):
		err = textchat.ErrMissingAccess
	case !p.Has(need):
		err = textchat.ErrMissingPerms
	}
	return o, ch, p, err
}

// view is a channel's settings and what a user may do there; to strangers it is
// unknown.
func (o *owner) view(ctx context.Context, user, channel textchat.ID) (textchat.Channel, textchat.Permissions, error) {
	k := viewKey{user, channel}
	if now := o.settings.Load(); now != nil && now.channels[channel] != nil {
		if perms, ok := o.srv.views.find(k, now.version); ok {
			o.srv.views.hits.Inc()
			return *now.channels[channel], perms, nil
		}
	}
	o.srv.views.misses.Inc()
	type seen struct {
		channel textchat.Channel
		perms   textchat.Permissions
	}
	v, err := read(ctx, o, func(*guild.Guild) (seen, error) {
		g, ok := o.knowing(user, channel)
		if !ok {
			return seen{}, textchat.ErrUnknownChannel
		}
		ch := g.Channel(channel)
		o.turn()
		now := o.settings.Load()
		if now.channels == nil {
			now = &settings{now.version, g.ByID()}
			o.settings.Store(now)
		}
		p := g.Permissions(user, channel)
		o.srv.views.note(k, view{p, now.version})
		return seen{*ch, p}, nil
	})
	return v.channel, v.perms, err
}
