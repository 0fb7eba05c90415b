package signalingserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/lxzan/gws"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
	"voicefleet/signaling/internal/session"
)

// requestTimeout is the deadline of a request to a node. A node answers within
// milliseconds; the bus may be electing a leader.
const requestTimeout = 4 * time.Second

// maxReplies is how many requests of one session can be under way: Open or
// Resume, Negotiate, and Update.
const maxReplies = 3

// attachment brings a resumed connection to the owner of its session.
type attachment struct {
	conn *conn
	how  session.Attach
}

// owner runs one session.
type owner struct {
	// Immutable.
	srv     *Server
	attach  chan attachment // unbuffered: received or not, never lost
	replies chan session.In
	done    chan struct{} // closed when the session is over
	ctx     context.Context
	stop    context.CancelFunc // ends requests under way, Close excepted

	// Owned by run.
	core  *session.Session
	conn  *conn // nil: none
	box   *mailbox
	leave func() // the call's events; nil: not subscribed
	held  sfu.SessionID
	timer *time.Timer
	given bool // the connection belongs to another owner now
}

func (o *owner) run(c *conn, version signaling.Version) {
	defer o.end()
	defer func() {
		if r := recover(); r != nil {
			o.panicked("owner", r)
			if o.conn != nil && !o.given {
				o.conn.close(signaling.CloseCrashed)
			}
		}
	}()
	var out session.Out
	o.conn = c
	o.core = session.New(time.Now(), version, o.srv.settings, &out)
	over := o.do(&out)
	for !over {
		over = o.step()
	}
}

// step waits for one thing to happen and does what the core says about it.
func (o *owner) step() bool {
	var in <-chan frame
	var gone <-chan struct{}
	if o.conn != nil {
		in, gone = o.conn.in, o.conn.gone
	}
	var due <-chan time.Time
	if next := o.core.Next(); !next.IsZero() {
		o.timer.Reset(time.Until(next))
		due = o.timer.C
	}
	var out session.Out
	select {
	case f := <-in:
		o.core.Handle(time.Now(), f.input(), &out)
		if out.Pong {
			o.conn.push(gws.OpcodePong, f.data)
		}
	case <-gone:
		// What the client sent before it went counts.
		for len(in) > 0 && o.core.Attached() {
			o.core.Handle(time.Now(), (<-in).input(), &out)
		}
		o.core.Handle(time.Now(), session.In{Gone: &session.Gone{Clean: o.conn.clean}}, &out)
		o.conn = nil
	case a := <-o.attach:
		if o.conn != nil {
			o.conn.close(signaling.CloseTimeout)
		}
		o.conn = a.conn
		o.core.Handle(time.Now(), session.In{Attach: &a.how}, &out)
	case reply := <-o.replies:
		o.core.Handle(time.Now(), reply, &out)
	case <-o.box.wake:
		events, lost := o.box.take()
		for i := range events {
			o.core.Handle(time.Now(), session.In{Event: &events[i]}, &out)
		}
		if lost {
			o.core.Handle(time.Now(), session.In{Lost: true}, &out)
		}
	case <-due:
		o.core.Tick(time.Now(), &out)
	case <-o.srv.stopping:
		o.core.Handle(time.Now(), session.In{Shutdown: true}, &out)
	}
	return o.do(&out)
}

// do does what the core says and tells whether the session is over.
func (o *owner) do(out *session.Out) bool {
	m := o.srv.metrics
	if out.GotOp {
		m.ops.WithLabelValues(out.Op.String()).Inc()
	}
	for _, took := range out.Took {
		m.stages.WithLabelValues(string(took.Stage)).Observe(took.For.Seconds())
	}
	if out.Report != nil {
		o.srv.report(out.Report)
	}
	if out.Authenticated && o.conn != nil {
		o.conn.tcp.proved.Store(true)
		o.srv.door.proved(o.conn)
	}
	if out.Subscribe.ID != 0 && o.leave == nil {
		leave, err := o.srv.feeds.join(out.Subscribe, o.box)
		if err != nil {
			// The call is refused in place of the node's answer.
			out.Calls = nil
			o.replies <- session.In{Session: &session.SessionResult{Err: err}}
		} else {
			o.leave = leave
		}
	}
	if out.Take != "" {
		if o.give(out.Take, out.Attach) {
			return true
		}
		var more session.Out
		o.core.Handle(time.Now(), session.In{NotHeld: true}, &more)
		return o.do(&more)
	}
	if out.Hold != "" {
		o.held = out.Hold
		o.srv.hold(o)
	}
	for _, call := range out.Calls {
		o.call(call)
	}
	if o.conn != nil {
		if !o.conn.push(gws.OpcodeText, out.Send...) && out.Close == 0 {
			o.conn.close(signaling.CloseSlow)
			var more session.Out
			o.core.Handle(time.Now(), session.In{Gone: &session.Gone{}}, &more)
			o.conn = nil
			return o.do(&more)
		}
		if out.Close != 0 {
			o.conn.close(out.Close)
			o.conn = nil
		}
	}
	return out.End
}

// give hands the connection to the owner of a held session.
func (o *owner) give(id sfu.SessionID, how session.Attach) bool {
	other := o.srv.holder(id)
	if other == nil || o.conn == nil {
		return false
	}
	select {
	case other.attach <- attachment{o.conn, how}:
		o.given = true
		return true
	case <-other.done:
		return false
	}
}

// call makes one request. The core never has more than maxReplies of those
// that are answered under way, so that an answer never waits.
func (o *owner) call(c session.Call) {
	ctx := o.ctx
	if c.Close != nil {
		ctx = context.WithoutCancel(ctx) // the node is told even when the session is over
	}
	o.srv.wg.Add(1)
	go func() {
		defer o.srv.wg.Done()
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		in := o.request(ctx, c)
		if c.Close != nil {
			return
		}
		select {
		case o.replies <- in:
		case <-o.done:
		}
	}()
}

// request makes a request and wraps the answer for the core. A panic is an
// answer too.
func (o *owner) request(ctx context.Context, c session.Call) (in session.In) {
	var opened session.SessionResult
	var negotiated session.NegotiateResult
	var updated session.UpdateResult
	answer := func(err error) session.In {
		opened.Err, negotiated.Err, updated.Err = err, err, err
		switch {
		case c.Negotiate != nil:
			return session.In{Negotiated: &negotiated}
		case c.Update != nil:
			return session.In{Updated: &updated}
		}
		return session.In{Session: &opened}
	}
	defer func() {
		if r := recover(); r != nil {
			o.panicked("request to a node", r)
			in = answer(fmt.Errorf("request to node %s panicked", c.Node))
		}
	}()
	n := o.srv.nodes
	var err error
	switch {
	case c.Open != nil:
		opened.Reply, err = n.Open(ctx, c.Node, *c.Open)
	case c.Resume != nil:
		opened.Reply, err = n.Resume(ctx, c.Node, *c.Resume)
	case c.Negotiate != nil:
		negotiated.Reply, err = n.Negotiate(ctx, c.Node, *c.Negotiate)
	case c.Update != nil:
		err = n.Update(ctx, c.Node, *c.Update)
	case c.Close != nil:
		if err = n.Close(ctx, c.Node, *c.Close); err != nil && edgeagent.CodeOf(err) != edgeagent.CodeNoSession {
			o.srv.log.Warn("node was not told that a session is over", "node", c.Node, "session", c.Close.Session, "err", err)
		}
	}
	return answer(err)
}

func (o *owner) panicked(where string, what any) {
	o.srv.metrics.panics.Inc()
	o.srv.log.Error("voice session panicked", "in", where, "panic", what, "stack", string(debug.Stack()))
}

// end is the last thing an owner does.
func (o *owner) end() {
	o.stop()
	o.timer.Stop()
	if o.conn != nil && !o.given {
		o.conn.close(signaling.CloseCrashed)
	}
	if o.leave != nil {
		o.leave()
	}
	o.srv.release(o)
	close(o.done)
}
