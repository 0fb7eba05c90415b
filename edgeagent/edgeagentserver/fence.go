package edgeagentserver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

const (
	// fenceLook is how long an engine that stood still may wait for the bus to say
	// where its calls are. Then it goes on: a bus that is away ends no call.
	fenceLook = 500 * time.Millisecond
	// lookPause is the wait before a look that failed is tried again.
	lookPause = 20 * time.Millisecond
	// lookAgain is when calls are looked up again that could not be.
	lookAgain = time.Second
	// lookers bounds the looks under way.
	lookers = 16
)

// home is what a node reads of the calls bucket: which nodes a call is on. (The
// whole value is the allocator's, which this room does not know.)
type home struct {
	Node  edgeagent.NodeID   `json:"node"`
	Epoch uint64             `json:"epoch"`
	Spans []edgeagent.NodeID `json:"spans"`
	Move  *struct {
		Planned bool `json:"planned"`
	} `json:"move"`
}

// Belongs makes it a bus.Keyed: a call that is on no node is none.
func (h *home) Belongs(string) bool { return h.Node.Valid() }

// moved says whether the call is on other nodes only, and not here any more: one
// that is being moved with care is served here until it is ended.
func (h home) moved(self edgeagent.NodeID, here edgeagent.CallOnANode) bool {
	if h.Node == self || h.Epoch <= here.Epoch || h.Move != nil && h.Move.Planned {
		return false
	}
	for _, n := range h.Spans {
		if n == self {
			return false
		}
	}
	return true
}

// confirm answers the checks of the core until ctx ends. Calls that could not be
// looked up went on; they are looked up as soon as that is possible.
func (s *Server) confirm(ctx context.Context) {
	var unknown []edgeagent.CallOnANode
	for {
		var again <-chan time.Time
		if len(unknown) > 0 {
			again = time.After(lookAgain)
		}
		select {
		case <-ctx.Done():
			return
		case c := <-s.checks:
			var moved []sfu.CallID
			moved, unknown = s.look(ctx, c.Calls)
			s.cfg.Log.Warn("the media engine stood still, and its calls were looked up", "for", c.Stood.Round(time.Millisecond),
				"calls", len(c.Calls), "moved", len(moved), "unknown", len(unknown))
			s.metrics.fences.Inc()
			s.do(ctx, func(now time.Time, out []custody.Out) []custody.Out {
				return s.core.Confirmed(now, c.Number, moved, out)
			})
		case <-again:
			var moved []sfu.CallID
			moved, unknown = s.look(ctx, unknown)
			s.do(ctx, func(now time.Time, out []custody.Out) []custody.Out { return s.core.EndMoved(now, moved, out) })
		}
	}
}

// do has run do something that nobody waits for.
func (s *Server) do(ctx context.Context, fn func(now time.Time, out []custody.Out) []custody.Out) {
	_, err := s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return append(fn(now, out), custody.Out{Reply: &custody.Reply{ID: id}})
	})
	if err != nil && ctx.Err() == nil {
		s.log.Log(slog.LevelError, "fence", "the media engine stays fenced for a while", "err", err)
	}
}

// look finds out which of the calls are on other nodes now, and of which it cannot
// be told in time.
func (s *Server) look(ctx context.Context, calls []edgeagent.CallOnANode) (moved []sfu.CallID, unknown []edgeagent.CallOnANode) {
	ctx, cancel := context.WithTimeout(ctx, fenceLook)
	defer cancel()
	bucket, err := bus.OpenBucket[home](ctx, s.cfg.Bus, bus.CallsBucket)
	for err != nil && pause(ctx, lookPause) {
		bucket, err = bus.OpenBucket[home](ctx, s.cfg.Bus, bus.CallsBucket)
	}
	if err != nil {
		return nil, calls
	}
	var mu sync.Mutex
	var looking sync.WaitGroup
	next := make(chan edgeagent.CallOnANode)
	for range min(lookers, len(calls)) {
		looking.Go(func() {
			for call := range next {
				at, err := bucket.Find(ctx, call.Call.String())
				for err != nil && !errors.Is(err, bus.ErrNotFound) && pause(ctx, lookPause) {
					at, err = bucket.Find(ctx, call.Call.String())
				}
				mu.Lock()
				switch {
				case err == nil && at.Value.moved(s.cfg.Node, call):
					moved = append(moved, call.Call)
				case err != nil && !errors.Is(err, bus.ErrNotFound): // one that nobody has is nobody else's
					unknown = append(unknown, call)
				}
				mu.Unlock()
			}
		})
	}
	for _, call := range calls {
		next <- call
	}
	close(next)
	looking.Wait()
	return moved, unknown
}

// pause waits; it is false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
