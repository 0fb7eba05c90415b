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

// replaceAfter is when an op 4 that repeats the present state asks for a new
// grant, if the old one was not used: its voice server may be out of reach.
const replaceAfter = 10 * time.Second

// anewAfter is how long after a grant its user may ask for another one because
// nothing comes from the voice server: opening a session takes less.
const anewAfter = 2 * time.Second

// Wishes are what a client says of itself by op 4: that it sends nothing, that it is to be
// sent nothing, and that its camera is on.
type Wishes struct {
	SelfMute, SelfDeaf bool
	SelfVideo          bool `json:",omitempty"`
}

// voice is a user in a voice channel.
type voice struct {
	Channel textchat.ID
	Session string // gateway session
	Wishes

	Suppressed bool      // on a stage: it only listens
	Asked      time.Time // since when it asks to speak; zero: it does not

	Call   sfu.SessionID // the voice session that the grant opens
	Opened bool
	Placed time.Time
	Rights sfu.Rights // as the voice side knows them
	// Granted are the rights of the grant that Call is of.
	Granted sfu.Rights `json:",omitzero"`

	Node   edgeagent.NodeID
	Epoch  uint64             // of the call there
	RTT    map[string]float64 // as the client said at its last op 4
	Region string
	Where  *edgeagent.Location // of its address then

	Check  time.Time // when the node is asked, next, for a session that its user says it holds; zero: it is known
	Mended time.Time // when it was last seated anew for its own sake, on this node
	Wait   moving    // a move that was refused for now
}

// pending is a user on the way into a voice channel.
type pending struct {
	Attempt uint64
	Channel textchat.ID
	Session string
	Wishes
	Rights sfu.Rights
	RTT    map[string]float64
	Region string
	Where  *edgeagent.Location

	Line   line   // what it has to do with the queue of the channel
	Moving moving // why a user who is in the call is seated anew
	Epoch  uint64 // the newest of the call that is known
	Stale  int    // answers that were older than that
}

// VoiceUpdate is gateway op 4. Channel zero leaves.
type VoiceUpdate struct {
	User    textchat.ID
	Session string
	Channel textchat.ID
	Wishes
	RTT      map[string]float64 // measured by the client, may be nil
	Region   string
	Location *edgeagent.Location // of its address; nil: not known
	// Wait says that the client waits in line if there is no room.
	Wait bool
	// Anew says that nothing comes from the voice server any more: the client
	// wants another seat in the channel it is in.
	Anew bool
	// Holds is the voice session by which the user is in the channel already, as its
	// client says.
	Holds sfu.SessionID
}

// Placed and PlaceFailed answer a PlaceOrder.
type Placed struct {
	User       textchat.ID
	Attempt    uint64
	Assignment allocator.Assignment
}
type PlaceFailed struct {
	User    textchat.ID
	Attempt uint64
	Code    string
	Message string
	Full    *allocator.Full // of CodeFull, where more is known
}

// CallOpened and CallLeft are facts from the voice side.
type CallOpened struct {
	Channel textchat.ID
	User    textchat.ID
	Session sfu.SessionID
}
type CallLeft struct {
	Channel textchat.ID
	User    textchat.ID
	Session sfu.SessionID
	Reason  string
}

// SessionGone tells that a gateway session ended for good.
type SessionGone struct {
	User    textchat.ID
	Session string
}

// TakeOver tells that the instance is gone that asked for the seats of those on the
// way into voice.
type TakeOver struct{}

// handleTakeOver asks for these seats again.
func (g *Guild) handleTakeOver(out *Out) {
	for _, user := range slices.Sorted(maps.Keys(g.pending)) {
		p := *g.pending[user]
		g.order(out, user, &p)
	}
}

// Tick ends what has taken too long.
type Tick struct{}

// Deadline is when Tick has something to do next; zero: never as it stands.
func (g *Guild) Deadline() time.Time {
	first := g.firstTimeout()
	if !g.archives.IsZero() && (first.IsZero() || g.archives.Before(first)) {
		first = g.archives
	}
	sooner := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if at := g.visitsEnd(); !at.IsZero() {
		sooner(at)
	}
	for _, q := range g.queues {
		if !q.Asking {
			sooner(q.Next)
		}
	}
	for user, v := range g.voice {
		switch {
		case g.pending[user] != nil: // its answer comes first
		case v.Wait.on():
			sooner(v.Wait.Again)
		case !v.Check.IsZero():
			sooner(v.Check)
		case !v.Opened && g.openTimeout != 0:
			sooner(v.Placed.Add(g.openTimeout))
		}
	}
	return first
}

// voiceState is the public form of a user's voice state, in a channel or not.
func (g *Guild) voiceState(user textchat.ID) textchat.VoiceState {
	s := textchat.VoiceState{Guild: g.self.ID, User: user}
	if m := g.members[user]; m != nil {
		c := *m
		s.Member, s.Deaf, s.Mute = &c, m.Deaf, m.Mute
	}
	if v := g.voice[user]; v != nil {
		ch := v.Channel
		s.Channel, s.Session, s.Suppress = &ch, v.Session, !v.Rights.Speak
		s.SelfMute, s.SelfDeaf, s.SelfVideo = v.SelfMute, v.SelfDeaf, v.SelfVideo && v.Rights.Video
		if !v.Asked.IsZero() {
			s.RequestToSpeak = &textchat.Time{Time: v.Asked}
		}
	}
	return s
}

// VoiceState is the voice state of a user who is in a channel.
func (g *Guild) VoiceState(user textchat.ID) (textchat.VoiceState, bool) {
	if g.voice[user] == nil {
		return textchat.VoiceState{}, false
	}
	return g.voiceState(user), true
}

// rights of a user in a voice channel. On a stage speaks who is let, whatever Speak says.
func (g *Guild) rights(user, channel textchat.ID) sfu.Rights {
	p := g.Permissions(user, channel)
	r := sfu.Rights{Speak: p.Has(textchat.Speak), Video: p.Has(textchat.Stream), Priority: p.Has(textchat.PrioritySpeaker)}
	if g.isStage(channel) {
		r.Speak = p.Has(textchat.Connect) && !g.suppressed(user, channel)
		r.Video, r.Priority = r.Video && r.Speak, false
	}
	if m := g.members[user]; m != nil {
		r.Mute, r.Deaf = m.Mute, m.Deaf
	}
	return r
}

// tell publishes the voice state of user, who was in channel was (or zero)
// before.
func (g *Guild) tell(out *Out, user, was textchat.ID, session string) {
	s := g.voiceState(user)
	e := Event{Name: textchat.EventVoiceStateUpdate, Intent: textchat.IntentVoiceStates, Own: user, Data: s, Was: was}
	if s.Channel == nil {
		s.Session = session
		e.Data, e.Channel, e.Was = s, was, 0
	} else {
		e.Channel = *s.Channel
		if was != 0 && was != *s.Channel {
			hidden := s
			hidden.Channel, hidden.Session, hidden.Suppress, hidden.RequestToSpeak = nil, "", false, nil
			hidden.SelfMute, hidden.SelfDeaf, hidden.SelfVideo = false, false, false
			e.Hidden = hidden
		}
	}
	out.event(e)
}

func (g *Guild) voiceError(out *Out, in VoiceUpdate, code, message string) {
	out.event(Event{Name: textchat.EventVoiceError, Session: in.Session,
		Data: VoiceError{Guild: g.self.ID, Channel: in.Channel, Code: code, Message: message}})
}

func (g *Guild) handleVoiceUpdate(now time.Time, in VoiceUpdate, out *Out) {
	if g.members[in.User] == nil {
		return
	}
	v, p := g.voice[in.User], g.pending[in.User]
	if in.Channel == 0 {
		if channel, i, ok := g.waits(in.User); ok && g.queues[channel].List[i].Session == in.Session {
			g.unline(now, out, in.User)
		}
		// A second session of the user does not end the call of the first.
		if p != nil && p.Session == in.Session {
			g.cancel(out, in.User)
		}
		if v != nil && v.Session == in.Session {
			g.leave(now, out, in.User, clientLeft)
		}
		return
	}
	if g.holds(now, in, out) {
		return
	}
	if g.ordered(now, in, out) {
		if p != nil && g.pending[in.User] == p && p.Line == lineHead && p.Session == in.Session {
			p = edit(g, g.pending, in.User)
			p.Wishes = in.Wishes
		}
		return
	}
	switch {
	case p != nil && p.Session == in.Session && p.Channel == in.Channel:
		p = edit(g, g.pending, in.User)
		p.Wishes = in.Wishes
		if v != nil && v.Session == in.Session && v.Channel == in.Channel {
			v = edit(g, g.voice, in.User)
			v.Wishes = in.Wishes
			g.tell(out, in.User, v.Channel, "") // it is in the call: a move may take its time
		}
		return
	case p == nil && v != nil && v.Session == in.Session && v.Channel == in.Channel:
		same := v.Wishes == in.Wishes
		anew := in.Anew && !v.Wait.on() && now.Sub(v.Placed) >= anewAfter
		if anew && g.wants(in) {
			v = edit(g, g.voice, in.User)
			v.RTT, v.Region, v.Where, v.Wishes = in.RTT, in.Region, in.Location, in.Wishes
			g.mend(now, out, in.User, moving{Cause: allocator.CauseMend, Why: allocator.MendAsked})
			return
		}
		if !same || v.Opened || now.Sub(v.Placed) < replaceAfter {
			v = edit(g, g.voice, in.User)
			v.Wishes = in.Wishes
			g.tell(out, in.User, v.Channel, "")
			return
		}
	}
	if code, message := g.barred(in.User, in.Channel); code != "" {
		g.voiceError(out, in, code, message)
		return
	}
	g.place(out, in)
}

const (
	// holdsFor is how long after a guild was loaded a user is believed to be in a call of
	// which nothing is known here; later such a user is one who joins.
	holdsFor = time.Minute
	// checkAfter and checkSpread are when a session is asked for that a user holds: at a
	// restart thousands say so within seconds. It is asked for again after checkAgain
	// unless it was answered.
	checkAfter  = 5 * time.Second
	checkSpread = 30 * time.Second
	checkAgain  = 30 * time.Second
)

// holds takes a user at its word who is in the call of a channel, by a session that its
// node still has, though its gateway session is another or nothing is known here of
// either. After a restart everybody comes back so; a new seat for each would make all
// clients open new paths at once, for nothing. Whether the node has that session is
// asked later. What is not known here is no way past those in line.
func (g *Guild) holds(now time.Time, in VoiceUpdate, out *Out) bool {
	v := g.voice[in.User]
	switch {
	case in.Holds == "" || in.Anew || g.pending[in.User] != nil:
		return false
	case v == nil && (now.Sub(g.since) > holdsFor || g.queues[in.Channel] != nil):
		return false
	case v != nil && (v.Channel != in.Channel || v.Call != in.Holds || v.Session == in.Session):
		return false
	}
	if code, _ := g.barred(in.User, in.Channel); code != "" {
		return false
	}
	held := voice{Call: in.Holds, Placed: now, Rights: g.rights(in.User, in.Channel), Suppressed: g.suppressed(in.User, in.Channel),
		Check: now.Add(checkAfter + time.Duration(in.User%textchat.ID(checkSpread/time.Millisecond))*time.Millisecond)}
	was := textchat.ID(0)
	if v != nil {
		held, was = *v, v.Channel
	}
	held.Channel, held.Session, held.Wishes, held.Opened = in.Channel, in.Session, in.Wishes, true
	held.RTT, held.Region, held.Where = in.RTT, in.Region, in.Location
	put(g, g.voice, in.User, &held)
	if v == nil {
		g.came(now, in.Channel)
	}
	g.tell(out, in.User, was, "")
	return true
}

// barred is why a user may not enter a voice channel, or "".
func (g *Guild) barred(user, channel textchat.ID) (code, message string) {
	c := g.channels[channel]
	perms := g.Permissions(user, channel)
	switch {
	case c == nil || g.members[user] == nil || !c.Type.Voice() || !perms.Has(textchat.ViewChannel):
		return VoiceUnknownChannel, "There is no such voice channel."
	case !perms.Has(textchat.Connect):
		return VoiceMissingPerms, "You may not connect to this channel."
	case g.isFull(c, user) && !perms.Has(textchat.MoveMembers):
		return VoiceChannelFull, "This channel is full."
	}
	return "", ""
}

// isFull counts who is in a channel or on the way there, but for user.
func (g *Guild) isFull(c *textchat.Channel, user textchat.ID) bool {
	if c.UserLimit == 0 {
		return false
	}
	n := 0
	for id, v := range g.voice {
		if p := g.pending[id]; id != user && (v.Channel == c.ID || p != nil && p.Channel == c.ID) {
			n++
		}
	}
	for id, p := range g.pending {
		if id != user && p.Channel == c.ID && g.voice[id] == nil {
			n++
		}
	}
	return n >= c.UserLimit
}

// place asks for a seat; the answer comes as an input.
func (g *Guild) place(out *Out, in VoiceUpdate) {
	if p := g.pending[in.User]; p != nil && p.Channel != in.Channel {
		g.cancel(out, in.User)
	}
	want := lineNone
	if in.Wait {
		want = lineWait
	}
	g.order(out, in.User, &pending{Channel: in.Channel, Session: in.Session, Wishes: in.Wishes,
		RTT: in.RTT, Region: in.Region, Where: in.Location, Line: want})
}

// order asks for the seat of p under a new attempt number.
func (g *Guild) order(out *Out, user textchat.ID, p *pending) {
	old := g.attempt
	g.undo = append(g.undo, func() { g.attempt = old })
	g.attempt++
	p.Attempt, p.Rights = g.attempt, g.rights(user, p.Channel)
	if p.Epoch == 0 {
		p.Epoch = g.newest(p.Channel)
	}
	put(g, g.pending, user, p)
	rtt, region, where := p.RTT, p.Region, p.Where
	if r := g.channels[p.Channel].RTCRegion; r != nil && *r != "" {
		rtt, region, where = nil, *r, nil // the channel's wish, not the first member's distance
	}
	out.Effects = append(out.Effects, Effect{User: user, Place: &PlaceOrder{Attempt: p.Attempt, Move: p.Moving.on(), Request: allocator.PlaceRequest{
		Guild: g.self.ID.String(), Call: callID(p.Channel), User: userID(user), Session: p.Session, Rights: p.Rights,
		Echo: g.channels[p.Channel].Echo, RTT: rtt, Region: region, Location: where, Epoch: p.Epoch, Expected: g.expected(p.Channel), Avoid: p.Moving.Avoid, Mend: p.Moving.mends(), MendWhy: p.Moving.Why,
		// Who only says that it is in the call takes no seat of those who are not.
		Inside: g.voice[user] != nil && g.voice[user].Channel == p.Channel && g.voice[user].Check.IsZero(),
	}}})
}

// cancel forgets a placement under way. Its seat is given back, unless it is in
// the call that the user is in already.
func (g *Guild) cancel(out *Out, user textchat.ID) {
	p := g.pending[user]
	if p == nil {
		return
	}
	drop(g, g.pending, user)
	if q := g.queues[p.Channel]; q != nil && p.Line == lineHead {
		next := g.lineOf(p.Channel)
		next.Asking = false
		g.setLine(p.Channel, next)
	}
	if v := g.voice[user]; v == nil || v.Channel != p.Channel {
		g.remove(out, user, p.Channel, cancelled, "")
	}
}

// remove ends the voice session of a user in a call: that one, or without a session
// any that the user has there.
func (g *Guild) remove(out *Out, user, channel textchat.ID, reason string, session sfu.SessionID) {
	out.Effects = append(out.Effects, Effect{User: user, Remove: &allocator.RemoveRequest{
		Call: callID(channel), User: userID(user), Session: session, Reason: reason}})
}

// leave ends a voice state and the voice session behind it.
func (g *Guild) leave(now time.Time, out *Out, user textchat.ID, reason string) {
	v := g.voice[user]
	drop(g, g.voice, user)
	g.went(now, v.Channel)
	g.tell(out, user, v.Channel, v.Session)
	session := sfu.SessionID("")
	if v.Opened && OfOwnWill(reason) {
		session = v.Call
	}
	g.remove(out, user, v.Channel, reason, session)
}

func (g *Guild) handlePlaced(now time.Time, in Placed, out *Out) {
	p := g.pending[in.User]
	if p == nil || p.Attempt != in.Attempt {
		return // superseded: cancel or the newer attempt takes care of the seat
	}
	if g.outdated(out, in, p) {
		return
	}
	drop(g, g.pending, in.User)
	was := textchat.ID(0)
	old := g.voice[in.User]
	if old != nil {
		was = old.Channel
		if old.Channel != p.Channel {
			g.remove(out, in.User, old.Channel, "moved", "")
		}
	}
	v := &voice{Channel: p.Channel, Session: p.Session, Wishes: p.Wishes,
		Suppressed: g.suppressed(in.User, p.Channel), Call: in.Assignment.Session, Placed: now, Rights: p.Rights, Granted: p.Rights,
		Node: in.Assignment.Node, Epoch: in.Assignment.Epoch, RTT: p.RTT, Region: p.Region, Where: p.Where}
	if old != nil && old.Channel == v.Channel {
		v.Asked = old.Asked
		if old.Node == v.Node {
			v.Mended = old.Mended
		}
	}
	put(g, g.voice, in.User, v)
	if was != v.Channel {
		g.came(now, v.Channel)
		if was != 0 {
			g.went(now, was)
		}
	}
	g.refreshRights(out, in.User) // they may have changed on the way
	if old == nil || !p.Moving.on() || old.Wishes != p.Wishes {
		g.tell(out, in.User, was, "") // a move changes nothing for the others
	}
	out.event(Event{Name: textchat.EventVoiceServerUpdate, Session: p.Session,
		Data: VoiceServer{Token: in.Assignment.Token, Guild: g.self.ID, Endpoints: in.Assignment.Endpoints, Move: p.Moving.told(in.Assignment.Node)}})
	if p.Line == lineHead {
		g.unline(now, out, in.User)
		g.admit(now, out) // where there was room for one, there may be for the next
	}
}

func (g *Guild) handlePlaceFailed(now time.Time, in PlaceFailed, out *Out) {
	p := g.pending[in.User]
	if p == nil || p.Attempt != in.Attempt {
		return
	}
	drop(g, g.pending, in.User)
	if p.Moving.on() && g.later(now, in, p, out) {
		return
	}
	if g.refused(now, in, p, out) {
		return
	}
	g.voiceError(out, VoiceUpdate{Session: p.Session, Channel: p.Channel}, in.Code, in.Message)
}

func (g *Guild) handleCallOpened(in CallOpened, out *Out) {
	v := g.voice[in.User]
	if v == nil || v.Channel != in.Channel {
		if p := g.pending[in.User]; p == nil || p.Channel != in.Channel {
			g.remove(out, in.User, in.Channel, "no_voice_state", "") // a grant outlived its voice state
		}
		return
	}
	// An older grant of the same call may have been used: that session lives now. What
	// rights it was opened with are those of the grant, whatever was changed since.
	old := v.Call != in.Session || v.Granted != v.Rights
	v = edit(g, g.voice, in.User)
	v.Call, v.Opened, v.Check = in.Session, true, time.Time{}
	if old {
		v.Granted = v.Rights
		out.Effects = append(out.Effects, Effect{User: in.User, Update: &allocator.UpdateRequest{
			Call: callID(v.Channel), User: userID(in.User), Rights: v.Rights}})
	}
}

func (g *Guild) handleCallLeft(now time.Time, in CallLeft, out *Out) {
	v := g.voice[in.User]
	if v == nil || v.Channel != in.Channel || v.Call != in.Session || in.Reason == edgeagent.Superseded {
		return
	}
	p := g.pending[in.User]
	switch moved := p != nil && p.Channel == v.Channel && p.Moving.on() || v.Wait.on(); {
	case moved && in.Reason != clientLeft:
		edit(g, g.voice, in.User).Opened = false // another seat is on its way
		return
	case in.Reason == edgeagent.NodeGone:
		g.mend(now, out, in.User, moving{Cause: allocator.CauseNodeLost})
		return
	case in.Reason == edgeagent.EngineLost || in.Reason == edgeagent.Moved:
		g.mend(now, out, in.User, moving{Cause: allocator.CauseMend, Why: allocator.MendEnded})
		return
	case moved:
		g.cancel(out, in.User)
	}
	drop(g, g.voice, in.User)
	g.went(now, v.Channel)
	g.tell(out, in.User, v.Channel, v.Session)
}

func (g *Guild) handleSessionGone(now time.Time, in SessionGone, out *Out) {
	if channel, i, ok := g.waits(in.User); ok && g.queues[channel].List[i].Session == in.Session {
		g.unline(now, out, in.User)
	}
	if p := g.pending[in.User]; p != nil && p.Session == in.Session {
		g.cancel(out, in.User)
	}
	if v := g.voice[in.User]; v != nil && v.Session == in.Session {
		g.leave(now, out, in.User, gatewaySessionEnded)
	}
	g.endSession(now, out, in.User, in.Session)
}

func (g *Guild) handleTick(now time.Time, out *Out) {
	g.admit(now, out)
	g.endTimeouts(now, out)
	g.archiveOld(now, out)
	g.endVisits(now, out)
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		switch v := g.voice[user]; {
		case g.pending[user] != nil:
		case v.Wait.on():
			if !now.Before(v.Wait.Again) {
				g.move(out, user, v.Wait)
			}
		case !v.Check.IsZero():
			if !now.Before(v.Check) {
				v = edit(g, g.voice, user)
				v.Check = now.Add(checkAgain)
				out.Effects = append(out.Effects, Effect{User: user, Update: &allocator.UpdateRequest{
					Call: callID(v.Channel), User: userID(user), Session: v.Call, Rights: v.Rights}})
			}
		case g.openTimeout != 0 && !v.Opened && now.Sub(v.Placed) >= g.openTimeout:
			g.leave(now, out, user, notOpened)
		}
	}
}

// refreshRights passes on what a user may do in its call, when that changed. It
// reports whether the public voice state changed with it.
func (g *Guild) refreshRights(out *Out, user textchat.ID) bool {
	v := g.voice[user]
	if v == nil {
		return false
	}
	r := g.rights(user, v.Channel)
	if r == v.Rights {
		return false
	}
	shown := r.Speak != v.Rights.Speak || r.Mute != v.Rights.Mute || r.Deaf != v.Rights.Deaf
	c := *v
	c.Rights = r
	put(g, g.voice, user, &c)
	out.Effects = append(out.Effects, Effect{User: user, Update: &allocator.UpdateRequest{
		Call: callID(v.Channel), User: userID(user), Rights: r}})
	return shown
}

// refreshAll does so for everybody in voice, after roles or overwrites changed.
func (g *Guild) refreshAll(out *Out) {
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		if g.refreshRights(out, user) {
			g.tell(out, user, g.voice[user].Channel, "")
		}
	}
}

// Abandon are the effects that end every call of the guild: its core is thrown
// away after a fault.
func (g *Guild) Abandon() []Effect {
	var out Out
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		g.remove(&out, user, g.voice[user].Channel, "guild_restarted", "")
	}
	return out.Effects
}
