package impair

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// minRTP is a fixed header (RFC 3550 section 5.1).
const minRTP = 12

// isRTP tells RTP by its first byte (RFC 7983 section 7) and from RTCP by its
// second (RFC 5761 section 4).
func isRTP(b []byte) bool {
	return len(b) >= minRTP && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223)
}

func rtpTimestamp(b []byte) uint32 { return binary.BigEndian.Uint32(b[4:]) }
func rtpSSRC(b []byte) uint32      { return binary.BigEndian.Uint32(b[8:]) }

// pauseTicks is the step of timestamps from which on silence lay between.
const pauseTicks = int32(200 * time.Millisecond * rtpRate / time.Second)

// fate of a packet.
type fate uint8

const (
	pass fate = iota
	lost
	clipped
)

// verdict on a packet; the rest counts only for one that passes.
type verdict struct {
	fate   fate
	delay  time.Duration
	double bool
	hold   bool // held back behind later ones
}

// flow is the RTP of one SSRC of a client in one direction. It decides; it knows
// no clock and no socket.
type flow struct {
	rand *rand.Rand
	ssrc uint32

	begun       bool
	last, onset uint32 // timestamps: the newest, and where its spurt began

	law                *law // under which the following was begun
	bad                bool // state of the loss model
	left               int  // packets of an exact burst still to lose
	loss, double, hold credit

	// Of the proxy, about packets on their way.
	newest int64    // when the last one is due, so that none passes it
	held   *pending // the one held back
}

func newFlow(seed, number uint64, ssrc uint32) *flow {
	return &flow{rand: rand.New(rand.NewPCG(seed, number)), ssrc: ssrc}
}

// whole is one packet of credit. A share of a billionth is the finest step.
const whole = 1_000_000_000

// credit pays out one of every n packets, for shares that are not 1/n too.
type credit uint64

// earn adds a packet's share and tells whether n packets are paid out.
func (c *credit) earn(share float64, n int) bool {
	*c += credit(share*whole + 0.5)
	if price := credit(n) * whole; *c >= price {
		*c -= price
		return true
	}
	return false
}

// begin starts anew under a law.
func (f *flow) begin(l *law) {
	f.law, f.left = l, 0
	f.bad = l.Burst > 0 && f.rand.Float64() < l.Loss
	f.loss = credit(f.rand.Uint64N(uint64(max(1, l.Burst)) * whole))
	f.double = credit(f.rand.Uint64N(whole))
	f.hold = credit(f.rand.Uint64N(whole))
}

// hear follows sender time. Packets under a cut are heard too, so that its end is
// no onset.
func (f *flow) hear(timestamp uint32) {
	step := int32(timestamp - f.last)
	jump := !f.begun || step > pauseTicks || step < -pauseTicks
	if jump {
		f.onset = timestamp
	}
	if jump || step > 0 {
		f.last, f.begun = timestamp, true
	}
}

// judge decides over the packet of a timestamp that was heard.
func (f *flow) judge(l *law, timestamp uint32) verdict {
	if f.law != l {
		f.begin(l)
	}
	if timestamp-f.onset < l.clip {
		return verdict{fate: clipped}
	}
	if l.Loss > 0 && f.lose(l) {
		return verdict{fate: lost}
	}
	v := verdict{delay: l.Delay}
	if l.Jitter > 0 {
		v.delay += time.Duration(f.rand.Int64N(int64(l.Jitter) + 1))
	}
	// A packet is held back or doubled, not both. The credit for a packet that
	// could not be held back stays.
	if l.Reorder > 0 {
		if l.Exact {
			if f.held != nil {
				f.hold += credit(l.Reorder*whole + 0.5)
			} else {
				v.hold = f.hold.earn(l.Reorder, 1)
			}
		} else {
			v.hold = f.rand.Float64() < l.Reorder && f.held == nil
		}
	}
	if l.Duplicate > 0 {
		if l.Exact {
			if v.hold {
				f.double += credit(l.Duplicate*whole + 0.5)
			} else {
				v.double = f.double.earn(l.Duplicate, 1)
			}
		} else {
			v.double = f.rand.Float64() < l.Duplicate && !v.hold
		}
	}
	return v
}

// lose is the loss model.
func (f *flow) lose(l *law) bool {
	switch {
	case l.Exact:
		n := max(1, int(l.Burst))
		if f.loss.earn(l.Loss, n) {
			f.left += n
		}
		if f.left == 0 {
			return false
		}
		f.left--
		return true
	case l.Burst > 0:
		now := f.bad
		chance := l.enterBad
		if now {
			chance = l.endBad
		}
		if f.rand.Float64() < chance {
			f.bad = !now
		}
		return now
	}
	return f.rand.Float64() < l.Loss
}
