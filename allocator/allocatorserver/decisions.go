package allocatorserver

import (
	"slices"

	"voicefleet/allocator"
	"voicefleet/sfu"
)

// Bounds of what is remembered: about 2 KiB a decision.
const (
	decisionsPerCall = 4
	decisionCalls    = 1024
)

// decisions remembers the last decisions of the last calls.
type decisions struct {
	calls map[sfu.CallID][]allocator.Explanation // newest first
	order []sfu.CallID                           // in which they came first; the oldest makes room
}

func newDecisions() *decisions {
	return &decisions{calls: map[sfu.CallID][]allocator.Explanation{}}
}

func (d *decisions) add(ex allocator.Explanation) {
	ex.Candidates = slices.Clone(ex.Candidates[:min(len(ex.Candidates), allocator.MaxWhy)])
	old, known := d.calls[ex.Call]
	if !known {
		if len(d.order) == decisionCalls {
			delete(d.calls, d.order[0])
			d.order = slices.Delete(d.order, 0, 1)
		}
		d.order = append(d.order, ex.Call)
	}
	d.calls[ex.Call] = slices.Insert(old[:min(len(old), decisionsPerCall-1)], 0, ex)
}

// of are the decisions about a call.
func (d *decisions) of(id sfu.CallID) []allocator.Explanation { return slices.Clone(d.calls[id]) }
