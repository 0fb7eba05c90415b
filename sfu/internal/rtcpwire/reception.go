package rtcpwire

import "time"

// Reception counts what came of one source (RFC 3550 appendix A.3 and A.8).
type Reception struct {
	started  bool
	base     uint64 // the first index
	highest  uint64
	received uint64
	jitter   uint32 // 16 times, in ticks of the source's clock
	transit  uint32

	expectedBefore, receivedBefore uint64 // at the last report
	since, missing                 uint32 // expected and lost between the last two

	reported uint32        // the source's own last sender report: NTP middle,
	at       time.Duration // and when it came
}

// Packet counts an authentic packet: its SRTP index, timestamp, and the time of
// arrival on a clock of the same rate.
func (r *Reception) Packet(index uint64, ts, arrival uint32) {
	transit := arrival - ts
	if !r.started {
		r.started, r.base, r.highest, r.transit = true, index, index, transit
	}
	r.base = min(r.base, index)
	r.highest = max(r.highest, index)
	r.received++
	d := int32(transit - r.transit)
	r.transit = transit
	if d < 0 {
		d = -d
	}
	// A jump of the clock is no jitter.
	if d >= 0 && d < 10*48000 {
		r.jitter += uint32(d) - (r.jitter+8)>>4
	}
}

// Report notes a sender report of the source.
func (r *Reception) Report(now time.Duration, ntp uint32) { r.reported, r.at = ntp, now }

// Block makes the reception report due now. It is false before the first packet.
func (r *Reception) Block(now time.Duration, ssrc uint32) (b Block, ok bool) {
	if !r.started {
		return b, false
	}
	expected := r.highest - r.base + 1
	since, got := expected-r.expectedBefore, r.received-r.receivedBefore
	r.expectedBefore, r.receivedBefore = expected, r.received
	b = Block{
		SSRC:    ssrc,
		Lost:    int32(max(-1<<23, min(1<<23-1, int64(expected)-int64(r.received)))),
		Highest: uint32(r.highest),
		Jitter:  r.jitter >> 4,
		LSR:     r.reported,
	}
	r.since, r.missing = uint32(since), 0
	if since > got && since > 0 {
		r.missing = uint32(since - got)
		b.Fraction = uint8(min(255, (since-got)<<8/since))
	}
	if r.reported != 0 {
		b.DLSR = uint32((now - r.at) * 65536 / time.Second)
	}
	return b, true
}

// Interval is what was expected and lost between the last two reports.
func (r *Reception) Interval() (expected, lost uint32) { return r.since, r.missing }
