package impair

import (
	"fmt"
	"math"
	"time"
)

// Direction of media, seen from the client.
type Direction uint8

// The directions.
const (
	Both Direction = iota
	Up             // client to server
	Down           // server to client
)

var directionNames = [...]string{Both: "both", Up: "up", Down: "down"}

// String is the name a scenario uses.
func (d Direction) String() string {
	if int(d) < len(directionNames) {
		return directionNames[d]
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

// MarshalText writes the name.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a name; nothing means both.
func (d *Direction) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Both
		return nil
	}
	for i, name := range directionNames {
		if name == string(text) {
			*d = Direction(i)
			return nil
		}
	}
	return fmt.Errorf("direction %q: want up, down or both", text)
}

// Rule says what happens to the RTP packets of a direction. The zero value lets
// everything pass.
type Rule struct {
	Direction Direction `json:"direction"`
	// Loss is the share of packets to drop, 0 to 1, without those that ClipOnset
	// takes.
	Loss float64 `json:"loss,omitempty"`
	// Exact counts instead of throwing dice: of a flow every n-th packet is lost,
	// doubled, held back. The first one comes at a random place.
	Exact bool `json:"exact,omitempty"`
	// Burst is the mean number of packets lost in a row, after Gilbert and Elliott
	// with no loss in the good state and nothing else in the bad one; 0: each packet
	// for itself. With Exact every burst has this length.
	Burst float64 `json:"burst,omitempty"`
	// Delay is added to each packet, and Jitter up to as much more, evenly drawn. A
	// packet never passes the one before it in its flow, so a jitter far above the
	// packets' interval bunches them.
	Delay  time.Duration `json:"delay,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"`
	// Duplicate is the share of packets sent twice, the copy right behind.
	Duplicate float64 `json:"duplicate,omitempty"`
	// Reorder is the share of packets held back until Behind (default 1) later ones
	// of the flow have gone, one at a time; after 200 ms without them it goes
	// anyway.
	Reorder float64 `json:"reorder,omitempty"`
	Behind  int     `json:"behind,omitempty"`
	// Cut drops every datagram, also STUN, DTLS and RTCP.
	Cut bool `json:"cut,omitempty"`
	// ClipOnset drops the start of each spurt: the packets of so much sender time
	// (RTP timestamps at 48 kHz, RFC 7587 section 4.1) from the first of a flow, and
	// from each whose timestamp is more than 200 ms from the one before.
	ClipOnset time.Duration `json:"clip_onset,omitempty"`
}

// Bounds of a rule.
const (
	maxDelay  = 10 * time.Second // of delay, jitter and clipping each
	maxBurst  = 1000
	maxBehind = 100
)

func (r Rule) withDefaults() Rule {
	if r.Behind == 0 {
		r.Behind = 1
	}
	return r
}

// Validate tells what is wrong with a rule.
func (r Rule) Validate() error {
	r = r.withDefaults()
	share := func(v float64) bool { return v >= 0 && v <= 1 } // false for NaN
	length := func(v time.Duration) bool { return v >= 0 && v <= maxDelay }
	switch {
	case int(r.Direction) >= len(directionNames):
		return fmt.Errorf("%v: want up, down or both", r.Direction)
	case !share(r.Loss):
		return fmt.Errorf("loss %v: want a share from 0 to 1", r.Loss)
	case !share(r.Duplicate):
		return fmt.Errorf("duplicate %v: want a share from 0 to 1", r.Duplicate)
	case !share(r.Reorder):
		return fmt.Errorf("reorder %v: want a share from 0 to 1", r.Reorder)
	case r.Burst != 0 && !(r.Burst >= 1 && r.Burst <= maxBurst):
		return fmt.Errorf("burst %v: want 0, or a length from 1 to %d packets", r.Burst, maxBurst)
	case r.Exact && r.Burst != math.Trunc(r.Burst):
		return fmt.Errorf("burst %v: want a whole number with exact loss", r.Burst)
	case !r.Exact && r.Burst > 0 && r.Loss < 1 && r.Loss > r.Burst/(1+r.Burst):
		// The good state lasts at least one packet.
		return fmt.Errorf("loss %v in bursts of %v: want at most %.4f, or longer bursts", r.Loss, r.Burst, r.Burst/(1+r.Burst))
	case r.Behind < 1 || r.Behind > maxBehind:
		return fmt.Errorf("behind %d: want 1 to %d packets", r.Behind, maxBehind)
	case r.Reorder*float64(r.Behind+1) > 1:
		return fmt.Errorf("reorder %v behind %d: want at most %.4f, as only one packet is held back at a time", r.Reorder, r.Behind, 1/float64(r.Behind+1))
	case !length(r.Delay):
		return fmt.Errorf("delay %v: want 0 to %v", r.Delay, maxDelay)
	case !length(r.Jitter):
		return fmt.Errorf("jitter %v: want 0 to %v", r.Jitter, maxDelay)
	case !length(r.ClipOnset):
		return fmt.Errorf("clip of onsets %v: want 0 to %v", r.ClipOnset, maxDelay)
	}
	return nil
}

// law is a rule made ready for one direction. A new one is made for each Set, so
// that flows notice the change by its address.
type law struct {
	Rule
	clip             uint32  // ticks of the RTP clock
	enterBad, endBad float64 // chances per packet of the loss model
}

// rtpRate is the RTP clock of Opus, in ticks per second.
const rtpRate = 48000

func newLaw(r Rule) *law {
	l := &law{Rule: r.withDefaults()}
	l.clip = uint32(r.ClipOnset * rtpRate / time.Second)
	if r.Burst > 0 {
		// In balance Loss of all packets are in the bad state, which lasts Burst
		// packets: enterBad·(1-Loss) = endBad·Loss.
		l.endBad = 1 / r.Burst
		l.enterBad = 1
		if r.Loss < 1 {
			l.enterBad = min(1, r.Loss*l.endBad/(1-r.Loss))
		} else {
			l.endBad = 0
		}
	}
	return l
}
