package custody

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

const (
	// deathsToQuarantine and panicsToQuarantine are how many engines may die over
	// a call, and how many panics may happen in it, until it is kept away. The
	// second death is early enough for the node not to count as a crash loop.
	deathsToQuarantine = 2
	panicsToQuarantine = 3
	// quarantine is how long a call is kept away, and how long blame is held.
	quarantine = 10 * time.Minute
)

// Quarantine tells of a call that is kept away from this node.
type Quarantine struct {
	Call           sfu.CallID
	Deaths, Panics int // blamed on it
	For            time.Duration
}

// suspects are the calls in whose work the engine failed.
type suspects map[sfu.CallID]*suspicion

type suspicion struct {
	deaths, panics int
	last           time.Time // when it was blamed last
	until          time.Time // of its quarantine; zero: none
}

// quarantined is how long a call is still kept away.
func (s suspects) quarantined(now time.Time, call sfu.CallID) time.Duration {
	if known := s[call]; known != nil {
		return max(0, known.until.Sub(now))
	}
	return 0
}

func (s suspects) expire(now time.Time) {
	for call, known := range s {
		if now.Sub(known.last) > quarantine {
			delete(s, call)
		}
	}
}

// blame notes a failure in the work for a call. With too many of them its
// sessions end, so that the others live.
func (c *Core) blame(now time.Time, id sfu.CallID, what suspicion, out []Out) []Out {
	known := c.suspects[id]
	if known == nil {
		known = &suspicion{}
		c.suspects[id] = known
	}
	known.deaths, known.panics, known.last = known.deaths+what.deaths, known.panics+what.panics, now
	if known.deaths < deathsToQuarantine && known.panics < panicsToQuarantine {
		return out
	}
	known.until = now.Add(quarantine)
	out = append(out, Out{Quarantined: &Quarantine{Call: id, Deaths: known.deaths, Panics: known.panics, For: quarantine}})
	for _, s := range c.inOrder() {
		if s.record.Call == id {
			out = c.end(now, s, edgeagent.Quarantined, 0, out)
		}
	}
	return out
}
