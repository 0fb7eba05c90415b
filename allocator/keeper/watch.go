package keeper

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// Times of a suspicion.
const (
	// late is how long after its last heartbeat, due every second, a node is
	// suspect.
	late = 1500 * time.Millisecond
	// overdue is how long after its last heartbeat a node is asked, so that by late it
	// is known for two rounds whether it answers: on a busy bus some come that late.
	overdue = 1200 * time.Millisecond
	// AskTime is how long the answer to one question is waited for; twelve checks
	// are sent in it.
	AskTime = 150 * time.Millisecond
	// holdTime is how long a node may be held that answers but does not beat.
	holdTime = 30 * time.Second
	// heldJoin is how long a node that answers is held before whoever joins a call on it,
	// and has waited for it until then, takes that call elsewhere: no session can be
	// opened there. An agent that its supervisor starts again is back sooner.
	heldJoin = 2 * time.Second
	// askAgain is how often a node is asked that is held, or that is lost and beats;
	// askSoon is it in the first second after its connection closed: of a node that dies
	// the media engine may live for a moment longer than the agent.
	askAgain = time.Second
	askSoon  = 150 * time.Millisecond
	// roundKept is how long after it was asked an unanswered question counts against a
	// node that becomes suspect.
	roundKept = 500 * time.Millisecond
	// silenceKept is how long a silence report counts.
	silenceKept = 3 * time.Second
	// absence is how long the links of a node may be away with its agent, and how long
	// with the next one they may take to be back: one that its supervisor starts again
	// takes 0.3 to 1 s for both.
	absence = 3 * time.Second
	// settleTime is how long a lost node must beat to be taken back that never
	// answers: the way to its media port may be closed for us alone.
	settleTime = 10 * time.Second
	// lostKept is how long a lost node is remembered after its last heartbeat.
	lostKept = time.Minute
	// standstill is a gap between two ticks, or in everybody's heartbeats at once
	// after the bus was away, that tells nothing of the nodes.
	standstill = 700 * time.Millisecond

	// The guard: that many nodes and more than that share of all, within that time,
	// do not die of themselves; the observer is sick.
	guardNodes = 3
	guardShare = 0.3
	guardTime  = 2 * time.Second

	// Who loses a check, or says that its listeners lose packets, is asked every leakAgain
	// until leakRounds questions were answered, within leakTime: it is bad when leakShare of
	// their checks were lost. Less than that leaves the bus quick enough to tell what its
	// listeners lose. A look counts for leakKept.
	leakAgain  = 100 * time.Millisecond
	leakRounds = 10
	leakTime   = 5 * time.Second
	leakKept   = 2 * leakTime
	leakShare  = 0.25

	// Rounds of questions without an answer that a verdict takes. At 30 % loss
	// each way heartbeats come late, connections close now and then, and all twelve
	// answers of a round get lost in 0.03 % of rounds; one client's silence may be its own.
	roundsClosed  = 1
	roundsLate    = 2
	roundsSilence = 3
	// The last of them ends while the node is suspect. Those before it may be over by
	// then: a node is asked as soon as half of its clients have heard nothing for 0.6 s
	// or its heartbeat is overdue, and nothing follows from that alone. Without it
	// clients of a frozen node waited for 0.45 s of questions more.
)

// Verdict is what Watch has to say about a node.
type Verdict struct {
	Node edgeagent.NodeID
	Deed allocator.Deed // DeedSuspect, DeedHold, DeedLost or DeedBack; empty: only Ask
	Why  string
	// Ask tells to ask the node on its media port, and to tell Answered.
	Ask bool
	// Serves, of DeedLost: its media engine still answers.
	Serves bool
}

// Answer is what came of a question.
type Answer struct {
	Came bool
	Lost int // checks before the one that was answered
}

// standing is what is thought of a node.
type standing int

const (
	up standing = iota
	asked
	held
	lost
)

// cause of a suspicion.
type cause int

const (
	causeClosed cause = iota
	causeLate
	causeSilence
)

type watched struct {
	hb      edgeagent.Heartbeat // without calls
	unknown bool                // it never beat: calls live there, that is all
	heard   time.Time           // its last heartbeat, or since when its silence counts
	over    time.Time           // by its own clock, the last heartbeat that was overheard
	closed  time.Time           // of its connection, by the clock of the bus; zero: open
	silent  time.Time           // the last silence report that counts
	deaf    int                 // such reports in a row, about once a second
	voices  int                 // clients in silence, of the last one

	standing     standing
	cause        cause
	since        time.Time // of the suspicion
	beatingAgain time.Time // since when a lost node beats
	reopened     time.Time // since when a node is back whose connection had closed
	asking       bool
	sent         time.Time // the last question
	askedAt      time.Time // the last one that tells whether it lives
	extra        bool      // the one under way only tells of its leak
	answered     bool      // the last question
	reached      bool      // it ever answered one
	rounds       int       // of questions without an answer in a row
	waits        bool      // a verdict waits for a sign that we are well
	leak         leak
}

// leak is a look at how much of what a node is asked is lost. It begins with a question
// whose first check found no answer, or by the word of the node, and counts those after it
// that are answered: what is never answered is another matter.
type leak struct {
	since         time.Time // zero: there was no reason yet
	lossy         bool      // a check was lost
	rounds        int
	checks, drops int
}

// share is how much is lost of what was asked; 0: not enough of it to matter, or nobody
// knows yet.
func (l *leak) share() float64 {
	if l.rounds < leakRounds || float64(l.drops) < leakShare*float64(l.checks) {
		return 0
	}
	return float64(l.drops) / float64(l.checks)
}

// open says whether a look has still to come to its end.
func (l *leak) open(now time.Time) bool {
	return !l.since.IsZero() && l.rounds < leakRounds && now.Sub(l.since) <= leakTime
}

// told begins a look by the word of the node, unless one was begun within leakTime.
func (l *leak) told(now time.Time) {
	if now.Sub(l.since) > leakTime {
		*l = leak{since: now}
	}
}

// take counts an answered question, or begins a look with it: also after one of late that
// found nothing.
func (l *leak) take(now time.Time, lost int) {
	switch {
	case l.open(now):
		l.rounds++
		l.checks += lost + 1
		l.drops += lost
		l.lossy = l.lossy || lost > 0
	case lost > 0 && (!l.lossy || now.Sub(l.since) > leakTime):
		*l = leak{since: now, lossy: true}
	}
}

// Watch is the discovery of nodes: who lives. Not safe for concurrent use; the zero
// value is ready to use.
type Watch struct {
	nodes  map[edgeagent.NodeID]*watched
	ticked time.Time
	away   bool // the bus is
	order  []edgeagent.NodeID
}

// repeats says whether a heartbeat was overheard before it came out of the bucket,
// or a newer one was. A clock that steps back costs nothing: what is overheard always
// counts. Of a node whose connection closed, the bucket alone tells what came after.
func (w *Watch) repeats(hb edgeagent.Heartbeat, written time.Time) bool {
	n := w.nodes[hb.Node]
	if n == nil || written.IsZero() || hb.At.IsZero() || n.over.IsZero() || !n.closed.IsZero() || hb.State == edgeagent.Gone {
		return false
	}
	behind := n.over.Sub(hb.At)
	return behind >= 0 && behind < overheardKept
}

// overheardKept is how far what comes out of the bucket may be behind.
const overheardKept = 5 * time.Second

// Beat takes in a heartbeat that was written at a time by the clock of the bus, or
// was overheard (zero).
func (w *Watch) Beat(now time.Time, hb edgeagent.Heartbeat, written time.Time, out []Verdict) []Verdict {
	if w.nodes == nil {
		w.nodes = map[edgeagent.NodeID]*watched{}
	}
	hb.Calls = nil
	n := w.nodes[hb.Node]
	if hb.State == edgeagent.Gone {
		delete(w.nodes, hb.Node)
		return out
	}
	if n == nil {
		n = &watched{}
		w.nodes[hb.Node] = n
	}
	if !hb.ProbeKey.Valid() {
		// An agent without an engine: it may yet find the one of the agent before, which
		// answers by the key it has.
		hb.ProbeKey = n.hb.ProbeKey
	}
	n.hb, n.unknown = hb, false
	if tellsLoss(hb) {
		n.leak.told(now) // before its next heartbeats, which may be late for it, say the same
	}
	if !n.closed.IsZero() && !written.After(n.closed) {
		return out // it came late: the connection closed after it
	}
	n.heard, n.closed, n.waits = now, time.Time{}, false
	if written.IsZero() {
		n.over = hb.At
	}
	switch n.standing {
	case up:
		if !n.reached && hb.State == edgeagent.Ready && now.Sub(n.askedAt) >= 10*askAgain {
			out = w.wonder(now, hb.Node, n, out) // whether our questions reach it at all
		}
	case asked, held:
		if n.cause != causeSilence {
			out = w.back(now, hb.Node, n, "it beats again", out)
		}
	case lost:
		if n.beatingAgain.IsZero() {
			n.beatingAgain = now
		}
		if now.Sub(n.beatingAgain) >= settleTime && now.Sub(n.silent) > silenceKept {
			return w.back(now, hb.Node, n, "it beats again, though it does not answer us", out)
		}
		if !n.asking && now.Sub(n.askedAt) >= askAgain/2 {
			out = w.ask(now, hb.Node, n, out)
		}
	}
	return out
}

// Closed tells that the bus lost the connection of a node, by its clock at.
func (w *Watch) Closed(now time.Time, node edgeagent.NodeID, at time.Time, out []Verdict) []Verdict {
	n := w.nodes[node]
	if n == nil {
		return out
	}
	n.closed = at
	return w.suspect(now, node, n, causeClosed, "its bus connection closed", out)
}

// Expired tells that the lease of a node ended, given up or not. A node that is lost
// is forgotten: it would begin anew.
func (w *Watch) Expired(now time.Time, node edgeagent.NodeID, givenUp bool, out []Verdict) []Verdict {
	n := w.nodes[node]
	switch {
	case n == nil:
		return out
	case n.standing == lost:
		delete(w.nodes, node)
		return out
	case !givenUp && !n.over.IsZero() && n.closed.IsZero() && now.Sub(n.heard) < late:
		return out // nothing could be written, but it was overheard
	}
	return w.suspect(now, node, n, causeLate, "its lease ended", out)
}

// Hosts tells that calls live on a node of which nothing is known.
func (w *Watch) Hosts(now time.Time, node edgeagent.NodeID) {
	if w.nodes == nil {
		w.nodes = map[edgeagent.NodeID]*watched{}
	}
	if w.nodes[node] == nil {
		// It gets as long to say that it lives as others to say what they carry.
		w.nodes[node] = &watched{hb: edgeagent.Heartbeat{Node: node, State: edgeagent.Joining}, unknown: true, heard: now.Add(republish - late)}
	}
}

// Silence takes in a report of clients. It counts when at least half of those
// who report from there hear nothing; with those that may soon be silent, the node is
// asked.
func (w *Watch) Silence(now time.Time, s edgeagent.Silence, out []Verdict) []Verdict {
	n := w.nodes[s.Node]
	switch {
	case n == nil || s.Silent < 0 || s.Doubt < 0 || s.Silent+s.Doubt < 1 || 2*(s.Silent+s.Doubt) < s.Of:
		return out
	case s.Silent < 1 || 2*s.Silent < s.Of:
		return w.wonder(now, s.Node, n, out)
	}
	if now.Sub(n.silent) > silenceKept {
		n.deaf = 0
	}
	n.voices = s.Silent
	if n.deaf == 0 || now.Sub(n.silent) >= askAgain/2 {
		n.deaf++
		n.silent = now
	}
	switch n.standing {
	case up:
		if pause := askAgain / 4; (n.answered || !n.reached) && !n.asking && (now.Sub(n.askedAt) < pause || n.deaf > 1 && now.Sub(n.askedAt) < askAgain) {
			return out // it was asked for this just now
		}
		return w.suspect(now, s.Node, n, causeSilence, fmt.Sprintf("%d of %d clients hear nothing", s.Silent, s.Of), out)
	case asked:
		if !n.asking {
			return w.judge(now, s.Node, n, out)
		}
	case held:
		if n.answered && n.deaf >= heldReports {
			return w.lose(now, s.Node, n, fmt.Sprintf("it answers on its media port, but does not beat, and %d of %d clients hear nothing", s.Silent, s.Of), out)
		}
		if !n.asking && (!n.answered || now.Sub(n.askedAt) >= askAgain/2) {
			return w.ask(now, s.Node, n, out)
		}
	}
	return out
}

// Bus tells that the bus went away, or is back. While it is away nobody can beat.
func (w *Watch) Bus(now time.Time, away bool) {
	if w.away && !away {
		w.pardon(now)
	}
	w.away = away
}

// pardon lets the silence of every node count from now on only.
func (w *Watch) pardon(now time.Time) {
	for _, n := range w.nodes {
		if n.standing == up && n.heard.Before(now) {
			n.heard = now
		}
	}
}

// Answered tells what came of a question.
func (w *Watch) Answered(now time.Time, node edgeagent.NodeID, a Answer, out []Verdict) []Verdict {
	n := w.nodes[node]
	if n == nil || !n.asking {
		return out
	}
	n.asking = false
	if n.extra {
		if n.extra = false; !a.Came {
			return out // those who lose much are asked often: it proves less than else
		}
	}
	n.answered = a.Came
	if a.Came {
		n.reached, n.rounds = true, 0
		n.leak.take(now, a.Lost)
	} else {
		n.rounds++
	}
	switch n.standing {
	case up:
		if !a.Came && n.rounds < roundsSilence {
			return w.ask(now, node, n, out)
		}
	case asked:
		return w.judge(now, node, n, out)
	case held:
		if !a.Came {
			return w.judge(now, node, n, out)
		}
	case lost:
		if a.Came && !n.beatingAgain.IsZero() && now.Sub(n.heard) < late {
			return w.back(now, node, n, "it beats and answers again", out)
		}
	}
	return out
}

// Tick does what is due.
func (w *Watch) Tick(now time.Time, out []Verdict) []Verdict {
	if !w.ticked.IsZero() && now.Sub(w.ticked) > standstill {
		w.pardon(now) // it was us who stood still
	}
	w.ticked = now
	if w.away {
		return out
	}
	w.order = w.order[:0]
	for id := range w.nodes {
		w.order = append(w.order, id)
	}
	slices.Sort(w.order)
	for _, id := range w.order {
		n := w.nodes[id]
		switch {
		case n.asking && now.Sub(n.sent) > 2*AskTime+standstill:
			out = w.Answered(now, id, Answer{}, out) // whoever asked has died
		case n.standing == up && now.Sub(n.heard) > late:
			out = w.suspect(now, id, n, causeLate, fmt.Sprintf("no heartbeat for %.1f s", now.Sub(n.heard).Seconds()), out)
		case n.asking:
		case n.standing == up && now.Sub(n.heard) > overdue:
			out = w.wonder(now, id, n, out)
		case n.standing == asked:
			out = w.judge(now, id, n, out)
		case n.standing == lost && now.Sub(n.heard) > lostKept:
			delete(w.nodes, id)
		case n.standing == held && n.cause == causeSilence && now.Sub(n.heard) < late && now.Sub(n.silent) > silenceKept:
			out = w.back(now, id, n, "nobody reports silence any more", out)
		case n.standing == held && now.Sub(n.askedAt) >= n.pause(now):
			if now.Sub(n.since) >= holdTime && !(n.answered && w.crowd(now)) {
				out = w.lose(now, id, n, fmt.Sprintf("held for %v and it did not come back", holdTime), out)
			} else {
				out = w.ask(now, id, n, out)
			}
		case (n.standing == up || n.standing == held) && n.leak.open(now) && now.Sub(n.sent) >= leakAgain:
			n.asking, n.extra, n.sent = true, true, now
			out = append(out, Verdict{Node: id, Ask: true})
		}
	}
	return out
}

// pause is how long after a question a held node is asked again.
func (n *watched) pause(now time.Time) time.Duration {
	if n.cause == causeClosed && now.Sub(n.since) < askAgain {
		return askSoon
	}
	return askAgain
}

// wonder asks a node of which nothing is thought yet: what it answers, or does not, is
// known when it becomes suspect.
func (w *Watch) wonder(now time.Time, id edgeagent.NodeID, n *watched, out []Verdict) []Verdict {
	if n.standing != up || n.unknown || n.asking || now.Sub(n.askedAt) < askAgain {
		return out
	}
	n.rounds = 0
	return w.ask(now, id, n, out)
}

func (w *Watch) ask(now time.Time, id edgeagent.NodeID, n *watched, out []Verdict) []Verdict {
	n.asking, n.askedAt, n.sent = true, now, now
	return append(out, Verdict{Node: id, Ask: true})
}

func (w *Watch) suspect(now time.Time, id edgeagent.NodeID, n *watched, c cause, why string, out []Verdict) []Verdict {
	if n.standing != up {
		if n.standing != lost && c < n.cause {
			n.cause = c // a surer sign
			if n.standing == asked && !n.asking {
				return w.judge(now, id, n, out)
			}
		}
		return out
	}
	if now.Sub(n.askedAt) > roundKept {
		n.rounds = 0
	}
	n.rounds = min(n.rounds, n.need(now, c)-1)
	n.standing, n.cause, n.since, n.answered, n.waits = asked, c, now, false, false
	v := Verdict{Node: id, Deed: allocator.DeedSuspect, Why: why}
	if n.unknown { // there is no address to ask
		return w.judge(now, id, n, append(out, v))
	}
	if !n.asking {
		n.asking, n.askedAt, n.sent, v.Ask = true, now, now, true
	}
	return append(out, v)
}

// judge is the verdict on a suspect whose last question is over.
func (w *Watch) judge(now time.Time, id edgeagent.NodeID, n *watched, out []Verdict) []Verdict {
	silence := n.silence(now)
	switch {
	case n.unknown:
		return w.lose(now, id, n, "nobody knows it", out)
	case n.answered && n.cause == causeSilence:
		// It answers us and beats: their silence is of another making.
		return w.back(now, id, n, "it answers on its media port", out)
	case n.answered:
		return w.hold(now, id, n, "it answers on its media port", out)
	case n.cause == causeSilence && !n.reached:
		return w.back(now, id, n, "it beats, and never answered us", out)
	}
	if n.rounds < n.need(now, n.cause) {
		return w.ask(now, id, n, out)
	}
	if n.cause == causeLate && !silence && now.Sub(n.since) < roundsLate*AskTime {
		return out // whether others are late, too, is not known so soon
	}
	if !silence {
		if w.crowd(now) {
			return w.hold(now, id, n, fmt.Sprintf("%d of %d nodes vanished at once and no client reports silence: we may be the sick one", w.vanished(now), w.size(now)), out)
		}
		if n.cause == causeLate && w.alone(n) && now.Sub(n.since) < guardTime {
			n.waits = true
			return out
		}
	}
	why := "no answer on its media port"
	if silence {
		why += ", and its clients hear nothing"
	}
	return w.lose(now, id, n, why, out)
}

// silence says whether the clients of a node hear nothing.
func (n *watched) silence(now time.Time) bool {
	return !n.silent.IsZero() && now.Sub(n.silent) <= silenceKept
}

// need is how many rounds of questions without an answer a verdict takes.
func (n *watched) need(now time.Time, c cause) int {
	switch {
	case c == causeClosed && n.standing == held: // it has answered, and is asked often
		return roundsLate
	case c == causeClosed, c == causeLate && n.silence(now):
		return roundsClosed
	case c == causeSilence:
		return roundsSilence
	}
	return roundsLate
}

// size is how many nodes there are or just were.
func (w *Watch) size(now time.Time) int {
	count := 0
	for _, n := range w.nodes {
		if !n.unknown && (n.standing != lost || now.Sub(n.since) <= guardTime) {
			count++
		}
	}
	return count
}

// vanished counts the nodes that became suspect or lost within guardTime and are
// so still.
func (w *Watch) vanished(now time.Time) int {
	count := 0
	for _, n := range w.nodes {
		if n.standing != up && n.cause != causeSilence && !n.unknown && (now.Sub(n.since) <= guardTime || n.standing == held) {
			count++
		}
	}
	return count
}

// crowd says whether those are more than may die at once.
func (w *Watch) crowd(now time.Time) bool {
	gone := w.vanished(now)
	return gone >= guardNodes && float64(gone) > guardShare*float64(w.size(now))
}

// alone says whether nobody was heard since a node's heartbeat was due, in a fleet
// large enough for the guard: then the next one heard, or the next one missed, will
// tell whether we are well.
func (w *Watch) alone(n *watched) bool {
	others := 0
	for _, o := range w.nodes {
		if o == n || o.standing == lost || o.unknown {
			continue
		}
		others++
		if o.standing == up && o.heard.After(n.heard.Add(edgeagent.HeartbeatInterval)) {
			return false
		}
	}
	return others+1 >= guardNodes
}

func (w *Watch) hold(now time.Time, id edgeagent.NodeID, n *watched, why string, out []Verdict) []Verdict {
	if n.standing == held {
		return out
	}
	n.standing, n.deaf = held, 0
	return append(out, Verdict{Node: id, Deed: allocator.DeedHold, Why: why})
}

func (w *Watch) lose(now time.Time, id edgeagent.NodeID, n *watched, why string, out []Verdict) []Verdict {
	n.standing, n.beatingAgain = lost, time.Time{}
	return append(out, Verdict{Node: id, Deed: allocator.DeedLost, Why: why, Serves: n.answered})
}

func (w *Watch) back(now time.Time, id edgeagent.NodeID, n *watched, why string, out []Verdict) []Verdict {
	n.standing, n.rounds, n.waits = up, 0, false
	if n.cause == causeClosed {
		n.reopened = now
	}
	if n.heard.Before(now) && n.cause == causeSilence {
		n.deaf = max(n.deaf, 1)
	}
	return append(out, Verdict{Node: id, Deed: allocator.DeedBack, Why: why})
}

// Deaf lists the nodes that beat and answer us, and whose clients have reported
// silence for some seconds, so many at a time that no few of them make a node bad: by name.
func (w *Watch) Deaf(now time.Time) []edgeagent.NodeID {
	var out []edgeagent.NodeID
	for id, n := range w.nodes {
		enough := n.voices >= min(edgeagent.LossVoters, (n.hb.Load.Sessions+1)/2)
		if n.standing == up && n.answered && n.deaf >= deafReports && enough && now.Sub(n.silent) <= silenceKept {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b edgeagent.NodeID) int { return cmp.Compare(a, b) })
	return out
}

const (
	// deafReports is how many silence reports in a row, of about one a second, make a
	// node bad that beats and answers.
	deafReports = 4
	// heldReports is how many make one lost that answers and does not beat, whatever else
	// happens to others: its own are the nearest to it.
	heldReports = 2
)

// Leaky tells of a node that lives and loses a share of what it is asked, or of its
// answers. When several lose of it nobody is named: the way to them is ours, too.
func (w *Watch) Leaky(now time.Time) (node edgeagent.NodeID, share float64) {
	losing := 0
	for id, n := range w.nodes {
		if n.standing != lost && n.leak.lossy && now.Sub(n.leak.since) <= leakKept {
			node, share = id, n.leak.share()
			losing++
		}
	}
	if losing > 1 {
		return "", 0
	}
	return node, share
}

// Suspect says whether a node is being asked: a verdict is near.
func (w *Watch) Suspect(node edgeagent.NodeID) bool {
	n := w.nodes[node]
	return n != nil && n.standing == asked
}

// Up says whether a node is there and not suspect.
func (w *Watch) Up(node edgeagent.NodeID) bool {
	n := w.nodes[node]
	return n != nil && n.standing == up
}

// Absent says whether the agent of a node, whose engine may serve on, is away or has
// just come back.
func (w *Watch) Absent(now time.Time, node edgeagent.NodeID) bool {
	n := w.nodes[node]
	switch {
	case n == nil:
		return false
	case n.standing == up:
		return now.Sub(n.reopened) < absence
	}
	return n.standing != lost && n.cause == causeClosed && now.Sub(n.since) < absence
}

// Cut says whether a node is held that answers and has had the time to be heard again:
// it serves who is there, nobody can be let in, and no order comes to it.
func (w *Watch) Cut(now time.Time, node edgeagent.NodeID) bool {
	return w.answering(node) && now.Sub(w.nodes[node].since) >= heldJoin
}

// answering says whether a node is held because it answers.
func (w *Watch) answering(node edgeagent.NodeID) bool {
	n := w.nodes[node]
	return n != nil && n.standing == held && n.answered
}

// Lost says whether a node is lost, or nothing is known of it.
func (w *Watch) Lost(node edgeagent.NodeID) bool {
	n := w.nodes[node]
	return n == nil || n.standing == lost
}

// Heartbeat is the last word of a node, without its calls.
func (w *Watch) Heartbeat(node edgeagent.NodeID) (edgeagent.Heartbeat, bool) {
	if n := w.nodes[node]; n != nil && !n.unknown {
		return n.hb, true
	}
	return edgeagent.Heartbeat{}, false
}

// Count is how many nodes are suspect, held and lost.
func (w *Watch) Count() (suspects, holds, losts int) {
	for _, n := range w.nodes {
		switch n.standing {
		case asked:
			suspects++
		case held:
			holds++
		case lost:
			losts++
		}
	}
	return suspects, holds, losts
}

// known says whether anything is known of a node.
func (w *Watch) known(node edgeagent.NodeID) bool { return w.nodes[node] != nil }

// unseen says whether a node has still to beat for the first time.
func (w *Watch) unseen(node edgeagent.NodeID) bool {
	n := w.nodes[node]
	return n != nil && n.unknown && n.standing != lost
}

// standing is what is thought of a node.
func (w *Watch) standing(node edgeagent.NodeID) standing {
	if n := w.nodes[node]; n != nil {
		return n.standing
	}
	return lost
}
