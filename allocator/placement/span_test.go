package placement

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// spanRig is three nodes with links and a call on "home".
type spanRig struct {
	core Core
	now  time.Time
	draw *rand.Rand
}

var spanCall = sfu.CallID{ID: 7}

func newSpanRig() *spanRig {
	r := &spanRig{now: time.Unix(1_700_000_000, 0), draw: rand.New(rand.NewPCG(1, 1))}
	for _, n := range []edgeagent.NodeID{"home", "far", "near"} {
		r.beat(n, func(*edgeagent.Heartbeat) {})
	}
	r.core.ObserveCall(allocator.CallEntry{Call: spanCall, Node: "home", Epoch: 5, Created: r.now, Touched: r.now})
	return r
}

func (r *spanRig) beat(node edgeagent.NodeID, change func(*edgeagent.Heartbeat)) {
	hb := edgeagent.Heartbeat{
		Node: node, State: edgeagent.Ready, Region: string(node), Started: r.now.Add(-time.Hour), At: r.now,
		Capacity: edgeagent.Capacity{PPS: 100_000, BPS: 1e9, Sessions: 1000}, Link: &edgeagent.LinkAddr{Port: 1},
	}
	change(&hb)
	r.core.Observe(r.now, hb)
}

func (r *spanRig) decide(rtt map[string]float64) allocator.Explanation {
	ex, _ := r.core.Decide(r.now, allocator.PlaceRequest{Call: spanCall, User: sfu.UserID{ID: snowflake.ID(3)}, Session: "s", RTT: rtt}, r.draw)
	return ex
}

func (r *spanRig) spans(change func(*allocator.CallEntry)) {
	e, _ := r.core.Call(spanCall)
	change(&e)
	r.core.ObserveCall(e)
}

func TestSpan(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*spanRig)
		rtt    map[string]float64
		want   edgeagent.NodeID
		span   bool
	}{
		{"much nearer", nil, map[string]float64{"home": 150, "near": 20, "far": 140}, "near", true},
		{"39 ms nearer", nil, map[string]float64{"home": 60, "near": 21}, "home", false},
		{"40 ms, but a third of the way", nil, map[string]float64{"home": 120, "near": 80}, "home", false},
		{"just enough", nil, map[string]float64{"home": 100, "near": 60}, "near", true},
		{"the home not measured", nil, map[string]float64{"near": 20}, "home", false},
		{"nothing measured", nil, nil, "home", false},
		{"without a link there", func(r *spanRig) { r.beat("near", func(hb *edgeagent.Heartbeat) { hb.Link = nil }) }, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"without a link here", func(r *spanRig) { r.beat("home", func(hb *edgeagent.Heartbeat) { hb.Link = nil }) }, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"draining there", func(r *spanRig) { r.beat("near", func(hb *edgeagent.Heartbeat) { hb.State = edgeagent.Draining }) }, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"full there", func(r *spanRig) { r.beat("near", func(hb *edgeagent.Heartbeat) { hb.Load.Sessions = 1000 }) }, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"the link was lost", func(r *spanRig) { r.core.Cut(r.now, "near", "home") }, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"the link was lost long ago", func(r *spanRig) { r.core.Cut(r.now.Add(-2*time.Minute), "near", "home") }, map[string]float64{"home": 150, "near": 20}, "near", true},
		{"the call lost a link", func(r *spanRig) {
			r.spans(func(e *allocator.CallEntry) {
				e.Move = &allocator.CallMove{From: "far", Cause: allocator.CauseLinkLost, At: r.now.Add(-time.Second)}
			})
		}, map[string]float64{"home": 150, "near": 20}, "home", false},
		{"on it already, a little nearer", func(r *spanRig) { r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"near"} }) },
			map[string]float64{"home": 60, "near": 35}, "near", true},
		{"on it already, as far", func(r *spanRig) { r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"near"} }) },
			map[string]float64{"home": 60, "near": 50}, "home", false},
		{"a third, nearer than the two", func(r *spanRig) { r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"far"} }) },
			map[string]float64{"home": 200, "far": 150, "near": 20}, "near", true},
		{"a third, not much nearer than the second", func(r *spanRig) { r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"far"} }) },
			map[string]float64{"home": 200, "far": 50, "near": 20}, "far", true},
		{"as many as there may be", func(r *spanRig) {
			r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"x", "y", "z"} })
		},
			map[string]float64{"home": 150, "near": 20}, "home", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newSpanRig()
			if c.change != nil {
				c.change(r)
			}
			if ex := r.decide(c.rtt); ex.Chosen != c.want || ex.Span != c.span || ex.Reason == "" {
				t.Errorf("%s (span %v): %s; want %s", ex.Chosen, ex.Span, ex.Reason, c.want)
			}
		})
	}
}

// TestEchoDoesNotSpan: a call where each hears only itself has nothing to relay.
func TestEchoDoesNotSpan(t *testing.T) {
	r := newSpanRig()
	ex, _ := r.core.Decide(r.now, allocator.PlaceRequest{Call: spanCall, Echo: true, RTT: map[string]float64{"home": 150, "near": 20}}, r.draw)
	if ex.Chosen != "home" {
		t.Errorf("%+v", ex)
	}
}

// TestSpanIndex: which calls span to a node follows their entries.
func TestSpanIndex(t *testing.T) {
	r := newSpanRig()
	r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"near", "far"} })
	r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"near"} })
	if got := r.core.SpanNodes(); !slices.Equal(got, []edgeagent.NodeID{"near"}) || !slices.Equal(r.core.SpanCalls("near"), []sfu.CallID{spanCall}) {
		t.Errorf("%v", got)
	}
	r.core.LoseCall(spanCall)
	if len(r.core.SpanNodes()) != 0 {
		t.Error("a lost call spans on")
	}
}

// TestGuestsAreReserved: a seat on a further node counts there until a heartbeat
// had the time to show it, and not at home.
func TestGuestsAreReserved(t *testing.T) {
	r := newSpanRig()
	r.core.Guest(r.now, "near")
	if got := r.core.Reserved(r.now); got["near"].Sessions != 1 || got["home"].Sessions != 0 {
		t.Errorf("%+v", got)
	}
	if got := r.core.Reserved(r.now.Add(seatKept)); got["near"].Sessions != 0 {
		t.Errorf("later: %+v", got)
	}
}

// TestSpannedCallEndsWithItsLast: an entry stays as long as anyone is on any node.
func TestSpannedCallEndsWithItsLast(t *testing.T) {
	r := newSpanRig()
	r.spans(func(e *allocator.CallEntry) { e.Spans = []edgeagent.NodeID{"near"} })
	r.beat("near", func(hb *edgeagent.Heartbeat) {
		hb.Calls = []edgeagent.CallOnANode{{Call: spanCall, Epoch: 5, Sessions: 1}}
	})
	later := r.now.Add(allocator.CallIdle + time.Second)
	if got := r.core.Ended(later); len(got) != 0 || r.core.Size(spanCall) != 1 {
		t.Errorf("ended %v, size %d", got, r.core.Size(spanCall))
	}
	r.beat("near", func(*edgeagent.Heartbeat) {})
	if got := r.core.Ended(later); len(got) != 1 {
		t.Errorf("ended %v", got)
	}
}
