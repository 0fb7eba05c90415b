package gatewaysession

import (
	"slices"

	"voicefleet/internal/snowflake"
)

// Lane holds what waits until nothing more important does: presences and
// typing. A newer event replaces the older of its key, in the older's place.
// When the lane is full typing is dropped, and the presences of a guild make
// way for one list of all of them: the guild is stale until that is asked for.
// The zero Lane holds nothing; set Most first.
type Lane struct {
	// Immutable.
	Most int // events

	// Owned by the caller.
	queue []*Event
	stale []snowflake.ID // guilds
}

// Put adds an event and says how many events will never come for it.
func (l *Lane) Put(e *Event) (shed int) {
	if e.Late.Kind == Presence && slices.Contains(l.stale, e.Late.Place) {
		return 1
	}
	// From the end: what changes again has often just changed.
	for i := len(l.queue) - 1; i >= 0; i-- {
		if l.queue[i].Late == e.Late {
			l.queue[i] = e
			return 1
		}
	}
	if len(l.queue) < l.Most {
		l.queue = append(l.queue, e)
		return 0
	}
	if e.Late.Kind != Presence {
		return 1
	}
	return 1 + l.Stale(e.Late.Place)
}

// Stale makes the presences of a guild give way to one list of all of them.
func (l *Lane) Stale(guild snowflake.ID) (shed int) {
	before := len(l.queue)
	l.queue = slices.DeleteFunc(l.queue, func(x *Event) bool { return x.Late.Kind == Presence && x.Late.Place == guild })
	if !slices.Contains(l.stale, guild) {
		l.stale = append(l.stale, guild)
	}
	return before - len(l.queue)
}

// Idle says that nothing waits.
func (l *Lane) Idle() bool { return len(l.queue) == 0 }

// Pop is the oldest event, or nil.
func (l *Lane) Pop() *Event {
	if len(l.queue) == 0 {
		l.queue = nil
		return nil
	}
	e := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return e
}

// TakeStale are the guilds whose presences must be listed anew. From now on
// single ones count again.
func (l *Lane) TakeStale() []snowflake.ID {
	s := l.stale
	l.stale = nil
	return s
}

// Forget drops typing: nobody is there to see it in time.
func (l *Lane) Forget() (shed int) {
	before := len(l.queue)
	l.queue = slices.DeleteFunc(l.queue, func(x *Event) bool { return x.Late.Kind == Typing })
	return before - len(l.queue)
}

// Empty says whether there is nothing to come.
func (l *Lane) Empty() bool { return len(l.queue) == 0 && len(l.stale) == 0 }
