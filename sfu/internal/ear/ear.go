package ear

import "time"

const (
	// quickPatience and slowPatience are how much audible time may pass without
	// evidence.
	quickPatience = 3 * time.Second
	slowPatience  = 15 * time.Second
	// missedReports is how many reports in a row may be missing.
	missedReports = 15
	// firstCadence is what a listener's reports are taken to come at until that
	// is known; minCadence and maxCadence bound what is learned. RFC 3550 section
	// 6.2 has 5 s, times 0.5 to 1.5.
	firstCadence = 6 * time.Second
	minCadence   = time.Second
	maxCadence   = 8 * time.Second
	// quickKnown is how often feedback must have come to be relied on.
	quickKnown = 10
	// LatePatience is the audible time without evidence after which every packet
	// asks for feedback.
	LatePatience = time.Second
	// signAfter is the least audible time without evidence after which a report that
	// nothing more came is believed: it may have been written a round trip before.
	// wordAfter is the least between two words of the client that say so: they come
	// about 2 s apart, and ticks measure that but roughly.
	signAfter = 4 * time.Second
	wordAfter = 1500 * time.Millisecond
	// audiblePackets is how many packets within a second make it audible time: as much
	// as they hold at packetTime each, so that who speaks in snatches is not taken to
	// have been heard all the time.
	audiblePackets = 10
	packetTime     = 20 * time.Millisecond
	// ownVoice is for how long a client counts as heard.
	ownVoice = 3 * time.Second
)

// Evidence is what shows that a listener hears.
type Evidence uint8

// The kinds.
const (
	Feedback Evidence = iota // transport-wide congestion control
	Word                     // the client's own report
	Report                   // the highest sequence number grew
	Request                  // it wants a packet again
	Kinds                    // how many there are
)

// Ear is one listener. The zero value has just joined.
type Ear struct {
	audible time.Duration // without evidence
	ticked  time.Duration
	quick   uint8         // how often feedback came, at most quickKnown
	sign    bool          // a report said that nothing more came
	word    bool          // the client said so, again and again
	doubt   time.Duration // audible when it said so first; with said
	said    bool          // it said so, and no evidence since
	told    bool          // as deaf, and no evidence since
	cadence time.Duration // between its reports on a stream, smoothed; 0: unknown
	last    Evidence      // the last kind
	any     bool
	rtcp    bool // some of it was not the client's word
	fresh   bool // evidence came since the last Tick
	Down    Loss // on the way to it
	Up      Loss // of what it sends
}

// Heard takes in evidence.
func (e *Ear) Heard(kind Evidence) {
	e.audible, e.sign, e.word, e.said = 0, false, false, false
	e.last, e.any, e.fresh = kind, true, true
	e.rtcp = e.rtcp || kind != Word
	if kind == Feedback && e.quick < quickKnown {
		e.quick++
	}
}

// Reported takes in how long after the one before a report on a stream came.
func (e *Ear) Reported(after time.Duration) {
	after = min(max(after, minCadence), maxCadence)
	if e.cadence == 0 {
		e.cadence = after
	}
	e.cadence += (after - e.cadence) / 8
}

// Stuck takes in a report about a stream with packets lately sent, of which no
// more came than the report before said.
func (e *Ear) Stuck() { e.sign = e.sign || e.audible >= signAfter }

// Say takes in the client's word: that more packets came since its last one, or none
// for a second or more.
func (e *Ear) Say(hears bool) {
	switch {
	case hears:
		e.Heard(Word)
	case !e.said: // perhaps of a pause of who speaks
		e.said, e.doubt = true, e.audible
	case e.audible-e.doubt >= wordAfter:
		e.word = true
	}
}

// Late says that evidence is overdue: every packet should ask for feedback.
func (e *Ear) Late() bool { return e.audible >= LatePatience }

// By is the kind of evidence that came last; false when none ever did.
func (e *Ear) By() (Evidence, bool) { return e.last, e.any }

// Verdict is what Tick found out.
type Verdict uint8

// The verdicts. Deaf and Hears are given once each, at the change.
const (
	Same Verdict = iota
	Deaf
	Hears
)

// Tick is to be called about every second, with how many packets were sent to the
// listener since, and when the client itself was heard last.
func (e *Ear) Tick(now time.Duration, sent int, own time.Duration) Verdict {
	fresh := e.fresh
	e.fresh = false
	// A pause of ours (a frozen process) is not a pause of the listener.
	if took := now - e.ticked; sent >= audiblePackets && !fresh {
		e.audible += min(took, time.Second, time.Duration(sent)*packetTime)
	}
	e.ticked = now
	if e.told {
		if !fresh {
			return Same
		}
		e.told = false
		return Hears
	}
	if now-own > ownVoice || !e.deaf() {
		return Same
	}
	e.told = true
	return Deaf
}

func (e *Ear) deaf() bool {
	cadence := e.cadence
	if cadence == 0 {
		cadence = firstCadence
	}
	switch {
	case e.audible < quickPatience:
		return false
	case e.quick >= quickKnown || e.word:
		return true
	case e.audible < slowPatience:
		return false
	}
	return e.sign || (e.rtcp || !e.any) && e.audible >= missedReports*cadence
}
