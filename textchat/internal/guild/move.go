package guild

import (
	"maps"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

const (
	// clientLeft is the reason of a session that its client closed.
	clientLeft = "left"

	// moveWait is the wait before a move that was refused is asked for again; it
	// doubles up to moveWaitMax. After moveTries, some 30 s, the user is out.
	moveWait    = 250 * time.Millisecond
	moveWaitMax = 4 * time.Second
	moveTries   = 10

	// staleTries is how often a placement is asked for again because the answer
	// was older than a move already known: another allocator may lag for a moment.
	staleTries = 3

	// mendPause is the least time between two seats of one user for its own sake,
	// mendElsewhere how soon after one the next is wanted on another node.
	mendPause     = 2 * time.Second
	mendElsewhere = time.Minute
)

// Moved tells that the call of a channel has another node. It may come twice.
type Moved struct {
	Channel  textchat.ID
	From, To edgeagent.NodeID
	Epoch    uint64 // of the call on To
	Cause    allocator.Cause
	Planned  bool // From still serves
}

// Mend asks for a new seat for one user, whose session does not do what it
// should. A user who has another session by now is left alone.
type Mend struct {
	Channel textchat.ID
	User    textchat.ID
	Session sfu.SessionID
}

// moving is why and how a user who is in a call is seated anew. The zero value
// is no move.
type moving struct {
	from    edgeagent.NodeID
	cause   allocator.Cause
	planned bool
	avoid   []edgeagent.NodeID

	tries int       // that were refused
	again time.Time // when to try again; zero: under way, or done
}

func (m moving) on() bool { return m.cause != "" }

// told is what the client reads of the move to node.
func (m moving) told(node edgeagent.NodeID) *VoiceMove {
	if !m.on() {
		return nil
	}
	return &VoiceMove{From: string(m.from), To: string(node), Cause: string(m.cause), Planned: m.planned}
}

// handleMoved seats everybody anew whose seat is on the node that the call is
// moved from. Who has a seat of that epoch or a later one has moved already.
func (g *Guild) handleMoved(now time.Time, in Moved, out *Out) {
	for _, user := range slices.Sorted(maps.Keys(g.pending)) {
		if p := g.pending[user]; p.channel == in.Channel && in.Epoch > p.moved.Epoch {
			// Its answer tells whether it is from before the move or after it.
			p.moved = in
			if p.moving.on() {
				p.moving.planned = p.moving.planned && in.Planned
			}
		}
	}
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		v, p := g.voice[user], g.pending[user]
		m := moving{from: v.node, cause: in.Cause, planned: in.Planned}
		switch {
		case v.channel != in.Channel || v.epoch >= in.Epoch || in.From != "" && v.node != in.From:
		case p == nil:
			g.move(out, user, m)
		case p.channel != v.channel: // on its way elsewhere, and stays if it does not get there
			m.again = now
			v.wait = m
		}
	}
}

// move asks for another seat in the channel where the user is. Its voice state
// stays as it is.
func (g *Guild) move(out *Out, user textchat.ID, m moving) {
	v := g.voice[user]
	m.again = time.Time{}
	v.wait = moving{}
	g.order(out, user, &pending{channel: v.channel, session: v.session, selfMute: v.selfMute, selfDeaf: v.selfDeaf,
		rtt: v.rtt, region: v.region, where: v.where, moving: m, moved: Moved{Epoch: v.epoch}})
}

// outdated asks again when the answer is from before a move that came meanwhile.
func (g *Guild) outdated(out *Out, in Placed, p *pending) bool {
	if in.Assignment.Epoch >= p.moved.Epoch || p.stale >= staleTries {
		return false
	}
	p.stale++
	g.order(out, in.User, p)
	return true
}

// later puts a move off that was refused. It says no when it has been tried
// often enough: then the user is out, if its session has ended.
func (g *Guild) later(now time.Time, in PlaceFailed, p *pending, out *Out) bool {
	v := g.voice[in.User]
	switch {
	case v == nil || v.channel != p.channel || v.session != p.session:
		return false
	case p.moving.tries >= moveTries:
		if !v.opened {
			g.leave(out, in.User, "not_placed")
		}
		return false
	}
	v.wait = p.moving
	// A fraction by user, so that a call does not ask in one instant.
	pause := min(moveWait<<p.moving.tries, moveWaitMax)
	v.wait.again = now.Add(pause + pause*time.Duration(uint64(in.User)%97)/97)
	v.wait.tries++
	return true
}

func (g *Guild) handleMend(now time.Time, in Mend, out *Out) {
	v := g.voice[in.User]
	if v == nil || v.channel != in.Channel || v.call != in.Session || g.pending[in.User] != nil || v.wait.on() {
		return
	}
	if now.Sub(v.placed) < mendPause {
		return // the session is hardly open
	}
	g.mend(now, out, in.User, allocator.CauseMend)
}

// mend seats a user anew for its own sake; away from its node when that has just
// been tried, or is known to be of no use.
func (g *Guild) mend(now time.Time, out *Out, user textchat.ID, cause allocator.Cause) {
	v := g.voice[user]
	m := moving{from: v.node, cause: cause}
	if v.node != "" && (cause == allocator.CauseNodeLost || !v.mended.IsZero() && now.Sub(v.mended) < mendElsewhere) {
		m.avoid = []edgeagent.NodeID{v.node}
	}
	v.mended, v.opened = now, false
	g.move(out, user, m)
}

// wants says whether a client that asks for another seat may have one.
func (g *Guild) wants(in VoiceUpdate) bool {
	c := g.channels[in.Channel]
	return c != nil && c.Type.Voice() && g.Permissions(in.User, in.Channel).Has(textchat.ViewChannel|textchat.Connect)
}
