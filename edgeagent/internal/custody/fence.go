package custody

import (
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Check asks where calls are now, for an engine that stood still: Confirmed
// answers. There is one at a time.
type Check struct {
	Number uint64 // of the fence
	Stood  time.Duration
	Calls  []edgeagent.CallOnANode
}

// fenced notes that a part of the engine forwards nothing until its calls are
// confirmed.
func (c *Core) fenced(f *sfu.Fenced, out []Out) []Out {
	c.fence = max(c.fence, f.Number)
	if c.checking {
		return out // the next look is for this one
	}
	return c.check(f.Stood, out)
}

func (c *Core) check(stood time.Duration, out []Out) []Out {
	c.checking = true
	return append(out, Out{Check: &Check{Number: c.fence, Stood: stood, Calls: c.Report().Calls}})
}

// Confirmed answers a Check: these calls have another node now, the rest may go
// on.
func (c *Core) Confirmed(now time.Time, number uint64, moved []sfu.CallID, out []Out) []Out {
	out = c.EndMoved(now, moved, out)
	c.checking = false
	if c.engine != engineUp {
		c.fence = 0 // it went with its engine
		return out
	}
	out = c.send(pending{kind: kindConfirm, asked: now}, sfu.Command{Confirm: &sfu.Confirm{Number: number}}, out)
	if c.fence > number {
		out = c.check(0, out)
	}
	return out
}

// EndMoved ends the sessions of calls that have another node now.
func (c *Core) EndMoved(now time.Time, moved []sfu.CallID, out []Out) []Out {
	for _, id := range moved {
		k := c.calls[id]
		if k == nil {
			continue
		}
		for len(k.members) > 0 {
			out = c.end(now, k.members[0], edgeagent.Moved, 0, out)
		}
	}
	return out
}
