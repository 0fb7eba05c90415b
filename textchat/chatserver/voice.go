package chatserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

const (
	// laneLen bounds the orders that wait for one user; the oldest goes. More
	// than a handful only a client makes that changes its mind faster than the
	// voice side answers, and then only the last ones count.
	laneLen = 32
	// orderTries is how often a rights change or a removal is tried.
	orderTries = 3
	orderPause = 250 * time.Millisecond
	// Whoever was sent away must not hear on when the node of the call is found again: its
	// removal goes on being tried, removePause apart, for longer than a node is held.
	removePause = 2 * time.Second
	removeFor   = 2 * time.Minute
	// movesAtOnce bounds the placements of moved calls that are under way: of one
	// of a thousand members some 2 ms each, 32 at once take 60 ms and leave the
	// allocator room for those who join.
	movesAtOnce = 32
)

// lanes carry out the effects of guilds: those of one user in one guild in
// order, those of different users side by side. A removal that names a session goes
// beside all others: an allocator that dies with it must not keep a user waiting who
// comes again, and it ends nothing newer.
type lanes struct {
	srv *Server

	mu sync.Mutex
	// Guarded by mu.
	lanes map[laneKey]*lane

	moving chan struct{} // holds one token for each placement of a moved call
}

type laneKey struct {
	guild, user textchat.ID
	aside       bool // for removals of named sessions
}

type lane struct {
	queue  []guild.Effect
	placed context.CancelFunc // ends the placement, or late removal, under way; nil when none is
}

func (l *lanes) init(s *Server) {
	l.srv, l.lanes, l.moving = s, make(map[laneKey]*lane), make(chan struct{}, movesAtOnce)
}

// begin queues effects. A placement makes older ones of its user void.
func (l *lanes) begin(o *owner, effects []guild.Effect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range effects {
		key := laneKey{o.id, e.User, e.Remove != nil && e.Remove.Session != ""}
		ln := l.lanes[key]
		if ln == nil {
			ln = &lane{}
			if !l.srv.task(func() { l.run(o, key, ln) }) {
				return
			}
			l.lanes[key] = ln
		}
		if e.Place != nil {
			if ln.placed != nil {
				ln.placed()
			}
			kept := ln.queue[:0]
			for _, old := range ln.queue {
				if old.Place == nil {
					kept = append(kept, old)
				}
			}
			ln.queue = kept
		}
		if len(ln.queue) >= laneLen {
			ln.queue = ln.queue[1:]
			l.srv.metrics.effectDropped.Inc()
		}
		ln.queue = append(ln.queue, e)
	}
}

func (l *lanes) run(o *owner, key laneKey, ln *lane) {
	for {
		l.mu.Lock()
		if len(ln.queue) == 0 || l.srv.life.Err() != nil {
			delete(l.lanes, key)
			l.mu.Unlock()
			return
		}
		e := ln.queue[0]
		ln.queue = ln.queue[1:]
		ctx, cancel := context.WithCancel(l.srv.life)
		ln.placed = nil
		if e.Place != nil {
			ln.placed = cancel
		}
		l.mu.Unlock()
		if !l.carryOut(ctx, o, e) && l.yields(ln, cancel) {
			l.removeLate(ctx, *e.Remove)
		}
		cancel()
	}
}

// yields has a removal be given up when its user is to be seated anew; it is false when
// that is so already.
func (l *lanes) yields(ln *lane, cancel context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.placed = cancel
	return !slices.ContainsFunc(ln.queue, func(e guild.Effect) bool { return e.Place != nil })
}

// removeLate goes on with a removal that nobody answered.
func (l *lanes) removeLate(ctx context.Context, r allocator.RemoveRequest) {
	ctx, cancel := context.WithTimeout(ctx, removeFor)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(removePause):
		}
		if err := l.removed(ctx, r); answered(err) {
			l.srv.metrics.effects.WithLabelValues("remove", "late").Inc()
			return
		}
	}
}

func (l *lanes) removed(ctx context.Context, r allocator.RemoveRequest) error {
	ctx, cancel := context.WithTimeout(ctx, textchat.PlaceTimeout)
	defer cancel()
	return l.srv.cfg.Placer.Remove(ctx, r)
}

// carryOut is false for a removal that nobody answered, of who was sent away.
func (l *lanes) carryOut(ctx context.Context, o *owner, e guild.Effect) (done bool) {
	defer l.srv.recovered("voice_order")
	done = true
	if e.Place != nil && e.Place.Move {
		select {
		case l.moving <- struct{}{}:
			defer func() { <-l.moving }()
		case <-ctx.Done():
			return done // void: a newer order is there, or the server ends
		}
	}
	p := l.srv.cfg.Placer
	if e.Place != nil {
		l.place(ctx, o, e)
		return done
	}
	ctx, cancel := context.WithTimeout(ctx, textchat.PlaceTimeout)
	defer cancel()
	switch {
	case p == nil:
	case e.Update != nil:
		l.try(ctx, "update", func() error {
			err := p.Update(ctx, *e.Update)
			held := e.Update.Session
			switch refusal := (*allocator.Error)(nil); {
			case held == "":
			case err == nil:
				o.post(guild.CallOpened{Channel: e.Update.Call.ID, User: e.User, Session: held})
			case errors.As(err, &refusal) && refusal.Code == allocator.CodeNoCall:
				o.post(guild.CallLeft{Channel: e.Update.Call.ID, User: e.User, Session: held, Reason: edgeagent.EngineLost})
			}
			return err
		})
	case e.Remove != nil:
		done = l.try(ctx, "remove", func() error { return p.Remove(ctx, *e.Remove) }) || guild.OfOwnWill(e.Remove.Reason)
	}
	return done
}

// answered says whether an order was carried out or refused: a call that is not live needs
// neither new rights nor a removal.
func answered(err error) bool {
	refusal := (*allocator.Error)(nil)
	return err == nil || errors.As(err, &refusal) && refusal.Code != allocator.CodeUnavailable
}

// try repeats an order that failed for want of an answer, and says whether there was one.
func (l *lanes) try(ctx context.Context, kind string, order func() error) bool {
	var err error
	for range orderTries {
		if err = order(); answered(err) {
			l.srv.metrics.effects.WithLabelValues(kind, "done").Inc()
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(orderPause):
			continue
		}
		break
	}
	l.srv.metrics.effects.WithLabelValues(kind, "failed").Inc()
	l.srv.cfg.Log.Warn("voice order failed", "kind", kind, "err", err)
	return false
}

// place asks for a seat. Once ctx has ended the answer is nobody's: a newer order is
// there, or the server ends and whoever leads the guild next asks again.
func (l *lanes) place(ctx context.Context, o *owner, e guild.Effect) {
	if l.srv.cfg.Placer == nil {
		o.post(guild.PlaceFailed{User: e.User, Attempt: e.Place.Attempt, Code: string(allocator.CodeUnavailable), Message: "This server has no voice."})
		return
	}
	bounded, cancel := context.WithTimeout(ctx, textchat.PlaceTimeout)
	defer cancel()
	a, err := l.srv.cfg.Placer.Place(bounded, e.Place.Request)
	if err == nil {
		l.srv.metrics.effects.WithLabelValues("place", "done").Inc()
		o.post(guild.Placed{User: e.User, Attempt: e.Place.Attempt, Assignment: a})
		return
	}
	if ctx.Err() != nil {
		return
	}
	code, message := string(allocator.CodeUnavailable), "Voice does not answer right now. Try again."
	var full *allocator.Full
	if refusal := (*allocator.Error)(nil); errors.As(err, &refusal) {
		code, message, full = string(refusal.Code), refusal.Message, refusal.Full
	}
	l.srv.metrics.effects.WithLabelValues("place", "failed").Inc()
	o.post(guild.PlaceFailed{User: e.User, Attempt: e.Place.Attempt, Code: code, Message: message, Full: full})
}
