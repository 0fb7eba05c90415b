package chatserver

import (
	"context"
	"errors"
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
	// movesAtOnce bounds the placements of moved calls that are under way: of one
	// of a thousand members some 2 ms each, 32 at once take 60 ms and leave the
	// allocator room for those who join.
	movesAtOnce = 32
)

// lanes carry out the effects of guilds: those of one user in one guild in
// order, those of different users side by side.
type lanes struct {
	srv *Server

	mu sync.Mutex
	// Guarded by mu.
	lanes map[laneKey]*lane

	moving chan struct{} // holds one token for each placement of a moved call
}

type laneKey struct{ guild, user textchat.ID }

type lane struct {
	queue  []guild.Effect
	placed context.CancelFunc // ends the placement under way; nil when none is
}

func (l *lanes) init(s *Server) {
	l.srv, l.lanes, l.moving = s, make(map[laneKey]*lane), make(chan struct{}, movesAtOnce)
}

// begin queues effects. A placement makes older ones of its user void.
func (l *lanes) begin(o *owner, effects []guild.Effect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range effects {
		key := laneKey{o.id, e.User}
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
		l.carryOut(ctx, o, e)
		cancel()
	}
}

func (l *lanes) carryOut(ctx context.Context, o *owner, e guild.Effect) {
	defer l.srv.recovered("voice_order")
	if e.Place != nil && e.Place.Move {
		select {
		case l.moving <- struct{}{}:
			defer func() { <-l.moving }()
		case <-ctx.Done():
			return // void: a newer order is there, or the server ends
		}
	}
	p := l.srv.cfg.Placer
	if e.Place != nil {
		l.place(ctx, o, e)
		return
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
		l.try(ctx, "remove", func() error { return p.Remove(ctx, *e.Remove) })
	}
}

// try repeats an order that failed for want of an answer.
func (l *lanes) try(ctx context.Context, kind string, order func() error) {
	var err error
	for range orderTries {
		err = order()
		refusal := (*allocator.Error)(nil)
		if err == nil || errors.As(err, &refusal) && refusal.Code != allocator.CodeUnavailable {
			// A call that is not live needs neither new rights nor a removal.
			l.srv.metrics.effects.WithLabelValues(kind, "done").Inc()
			return
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
