package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

const (
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
	From    edgeagent.NodeID
	Cause   allocator.Cause
	Planned bool
	Why     allocator.MendWhy // of allocator.CauseMend
	Avoid   []edgeagent.NodeID
	Epoch   uint64 // of the call where it is now; a seat of an older one is where it was

	Tries int       // that were refused
	Again time.Time // when to try again; zero: under way, or done
}

func (m moving) on() bool { return m.Cause != "" }

// mends is the node that the user leaves for its own sake; empty: it is not so.
func (m moving) mends() edgeagent.NodeID {
	if m.Cause != allocator.CauseMend {
		return ""
	}
	return m.From
}

// told is what the client reads of the move to node.
func (m moving) told(node edgeagent.NodeID) *VoiceMove {
	if !m.on() {
		return nil
	}
	return &VoiceMove{From: string(m.From), To: string(node), Cause: string(m.Cause), Planned: m.Planned}
}

// handleMoved seats everybody anew whose seat is on the node that the call is
// moved from. Who has a seat of that epoch or a later one has moved already.
func (g *Guild) handleMoved(now time.Time, in Moved, out *Out) {
	for _, user := range slices.Sorted(maps.Keys(g.pending)) {
		if p := g.pending[user]; p.Channel == in.Channel && in.Epoch > p.Epoch {
			// Its answer tells whether it is from before the move or after it.
			p = edit(g, g.pending, user)
			p.Epoch = in.Epoch
			if p.Moving.on() {
				p.Moving.Planned = p.Moving.Planned && in.Planned
			}
		}
	}
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		v, p := g.voice[user], g.pending[user]
		m := moving{From: cmp.Or(v.Node, in.From), Cause: in.Cause, Planned: in.Planned, Epoch: in.Epoch}
		switch {
		case v.Channel != in.Channel || v.Epoch >= in.Epoch || in.From != "" && v.Node != "" && v.Node != in.From:
		case p == nil:
			g.move(out, user, m)
		case p.Channel != v.Channel: // on its way elsewhere, and stays if it does not get there
			m.Again = now
			edit(g, g.voice, user).Wait = m
		}
	}
}

// move asks for another seat in the channel where the user is. Its voice state
// stays as it is.
func (g *Guild) move(out *Out, user textchat.ID, m moving) {
	v := edit(g, g.voice, user)
	m.Again = time.Time{}
	v.Wait = moving{}
	g.order(out, user, &pending{Channel: v.Channel, Session: v.Session, Wishes: v.Wishes,
		RTT: v.RTT, Region: v.Region, Where: v.Where, Moving: m, Epoch: m.Epoch})
}

// newest is the highest epoch of the call of a channel that is known. A seat of an older
// one is where the call was before: whoever took it would be there alone.
func (g *Guild) newest(channel textchat.ID) uint64 {
	epoch := uint64(0)
	for _, v := range g.voice {
		if v.Channel == channel {
			epoch = max(epoch, v.Epoch, v.Wait.Epoch)
		}
	}
	for _, p := range g.pending {
		if p.Channel == channel {
			epoch = max(epoch, p.Epoch)
		}
	}
	return epoch
}

// outdated asks again when the answer is from before a move that came meanwhile.
func (g *Guild) outdated(out *Out, in Placed, p *pending) bool {
	if in.Assignment.Epoch >= p.Epoch || p.Stale >= staleTries {
		return false
	}
	again := *p
	again.Stale++
	g.order(out, in.User, &again)
	return true
}

// later puts a move off that was refused. It says no when it has been tried
// often enough: then the user is out, if its session has ended.
func (g *Guild) later(now time.Time, in PlaceFailed, p *pending, out *Out) bool {
	v := g.voice[in.User]
	switch {
	case v == nil || v.Channel != p.Channel || v.Session != p.Session:
		return false
	case p.Moving.Tries >= moveTries:
		if !v.Opened {
			g.leave(now, out, in.User, notPlaced)
		}
		return false
	}
	v = edit(g, g.voice, in.User)
	v.Wait = p.Moving
	v.Wait.Epoch = p.Epoch
	// A fraction by user, so that a call does not ask in one instant.
	pause := min(moveWait<<p.Moving.Tries, moveWaitMax)
	v.Wait.Again = now.Add(pause + pause*time.Duration(uint64(in.User)%97)/97)
	v.Wait.Tries++
	return true
}

func (g *Guild) handleMend(now time.Time, in Mend, out *Out) {
	v := g.voice[in.User]
	if v == nil || v.Channel != in.Channel || v.Call != in.Session || g.pending[in.User] != nil || v.Wait.on() {
		return
	}
	if now.Sub(v.Placed) < mendPause {
		return // the session is hardly open
	}
	g.mend(now, out, in.User, moving{Cause: allocator.CauseMend, Why: allocator.MendDeaf})
}

// mend seats a user anew for its own sake; away from its node when that has just
// been tried, or is known to be of no use.
func (g *Guild) mend(now time.Time, out *Out, user textchat.ID, m moving) {
	v := edit(g, g.voice, user)
	m.From = v.Node
	if v.Node != "" && (m.Cause == allocator.CauseNodeLost || !v.Mended.IsZero() && now.Sub(v.Mended) < mendElsewhere) {
		m.Avoid = []edgeagent.NodeID{v.Node}
	}
	v.Mended, v.Opened = now, false
	g.move(out, user, m)
}

// wants says whether a client that asks for another seat may have one.
func (g *Guild) wants(in VoiceUpdate) bool {
	c := g.channels[in.Channel]
	return c != nil && c.Type.Voice() && g.Permissions(in.User, in.Channel).Has(textchat.ViewChannel|textchat.Connect)
}
