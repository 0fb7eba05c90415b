package voiceclient

import (
	"hash/maphash"
	"sync"
	"time"

	"voicefleet/sfu"
)

const (
	// sameFrames is how many frames of a user are remembered of each path while
	// two are open: 640 ms, more than the delays of two paths differ by.
	sameFrames = 32
	// crossWithin is how long after the first packet on the new path those of the
	// old one still count, if the two cannot be laid side by side.
	crossWithin = 200 * time.Millisecond
	// plainFrame is the longest payload that says nothing of its own: TOC and at
	// most two bytes, as of silence. Such frames are not told apart.
	plainFrame = 3
	// audibleFor is how long after a packet its user counts as audible.
	audibleFor = 500 * time.Millisecond
)

// crossing decides, while the old and the new path of a moving call are both
// open, which packet of which is heard: those of a user come from the new path
// from the first one there on. As everybody speaks on both paths, frames are
// known again by their content, so that none is heard twice, nor lost because one
// path is quicker.
type crossing struct {
	seed maphash.Seed

	mu sync.Mutex
	// Guarded by mu.
	path, old int // path is the newest; old is zero when it is the only one
	users     map[sfu.UserID]*crosser
}

// crosser is one user on the way.
type crosser struct {
	byOld, byNew frames
	lastOld      time.Time
	first        time.Time // packet on the new path
	matched      bool      // the new path has repeated a frame of the old one
	done         bool      // the old path does not count any more
}

// frames are the latest of a path.
type frames struct {
	sums [sameFrames]uint64
	next int
}

func (f *frames) add(sum uint64) {
	f.sums[f.next%sameFrames] = sum
	f.next++
}

func (f *frames) has(sum uint64) bool {
	for _, s := range f.sums[:min(f.next, sameFrames)] {
		if s == sum {
			return true
		}
	}
	return false
}

func newCrossing() *crossing { return &crossing{seed: maphash.MakeSeed()} }

// begin makes path the newest; what was that before is the old one.
func (c *crossing) begin(path int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old, c.path = c.path, path
	c.users = make(map[sfu.UserID]*crosser)
}

// abandon goes back to the old path: the newest did not open.
func (c *crossing) abandon(path int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path == path {
		c.path, c.old, c.users = c.old, 0, nil
	}
}

// end closes the old path, if it is still path.
func (c *crossing) end(path int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.old == path {
		c.old, c.users = 0, nil
	}
}

// settled says whether every user audible on the old path is heard on the new.
func (c *crossing) settled(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.users {
		if now.Sub(u.lastOld) < audibleFor && u.first.IsZero() {
			return false
		}
	}
	return true
}

// admit says whether a packet of user is to be heard. User zero is one whose name
// is not known yet.
func (c *crossing) admit(path int, user sfu.UserID, payload []byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.old == 0 || path != c.path && path != c.old {
		return path == c.path
	}
	if user.ID == 0 {
		return path == c.old
	}
	u := c.users[user]
	if u == nil {
		u = &crosser{}
		c.users[user] = u
	}
	plain := len(payload) <= plainFrame
	var sum uint64
	if !plain {
		sum = maphash.Bytes(c.seed, payload)
	}
	if path == c.old {
		return u.onOld(sum, plain, now)
	}
	return u.onNew(sum, plain, now)
}

func (u *crosser) onOld(sum uint64, plain bool, now time.Time) bool {
	u.lastOld = now
	switch {
	case u.done:
		return false
	case plain:
		return u.first.IsZero()
	case u.byNew.has(sum): // the old path comes to where the new one is
		u.done = true
		return false
	case !u.first.IsZero() && (u.matched || now.Sub(u.first) > crossWithin):
		u.done = true
		return false
	}
	u.byOld.add(sum)
	return true
}

func (u *crosser) onNew(sum uint64, plain bool, now time.Time) bool {
	if u.done && u.byOld.next == 0 {
		return true
	}
	if plain {
		// While the user is heard on the old path its pauses are, too.
		return !u.first.IsZero() || now.Sub(u.lastOld) > crossWithin
	}
	if u.first.IsZero() {
		u.first = now
	}
	switch {
	case u.byOld.has(sum): // the new path is behind, and has been heard so far
		u.matched = true
		return false
	case u.done || u.matched || now.Sub(u.first) > crossWithin:
		u.done = true
		u.byOld.next = 0 // the new path is where the old one was
		return true
	}
	u.byNew.add(sum)
	return true
}
