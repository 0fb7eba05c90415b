package custody

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// usedKept is how long a used grant is remembered. After it, the grant has
// expired by every clock that may differ by ClockLeeway.
const usedKept = edgeagent.GrantLife + 2*edgeagent.ClockLeeway

// used remembers the grants that were used, for usedKept each. One that may still
// be fresh is never forgotten: when there is no room, the next is refused.
type used struct {
	room  int
	ids   map[sfu.SessionID]struct{}
	order []usedGrant // oldest first; order[:head] are forgotten
	head  int
}

type usedGrant struct {
	id    sfu.SessionID
	until time.Time
}

func newUsed(room int) *used {
	return &used{room: room, ids: make(map[sfu.SessionID]struct{})}
}

func (u *used) has(id sfu.SessionID) bool {
	_, ok := u.ids[id]
	return ok
}

// add says false when there is no room.
func (u *used) add(now time.Time, id sfu.SessionID) bool {
	u.expire(now)
	if len(u.ids) >= u.room {
		return false
	}
	u.ids[id] = struct{}{}
	u.order = append(u.order, usedGrant{id, now.Add(usedKept)})
	return true
}

func (u *used) expire(now time.Time) {
	for u.head < len(u.order) && now.After(u.order[u.head].until) {
		delete(u.ids, u.order[u.head].id)
		u.head++
	}
	if u.head > len(u.order)/2 {
		u.order = append(u.order[:0], u.order[u.head:]...)
		u.head = 0
	}
}
