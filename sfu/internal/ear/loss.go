package ear

import "time"

const (
	// enough is how many packets a figure of loss rests on: 2 % of them are two.
	enough = 100
	// lossKept is how long a figure stands: longer than the pause between two
	// reports of a browser (2.5 to 7.5 s).
	lossKept = 8 * time.Second
)

// Loss is the loss of one direction, as last known. The zero value knows nothing.
type Loss struct {
	expected, lost uint32 // since the last figure
	fraction       float32
	at             time.Duration
	known          bool
}

// Add takes in how many of the expected packets were lost. Figures rest on at
// least a hundred packets, or two lost ones would be 10 % of twenty.
func (l *Loss) Add(now time.Duration, expected, lost uint32) {
	l.expected += expected
	l.lost += min(lost, expected)
	if l.expected < enough {
		return
	}
	l.fraction, l.at, l.known = float32(l.lost)/float32(l.expected), now, true
	l.expected, l.lost = 0, 0
}

// Fraction is the loss, 0..1; false when it is not known or too old.
func (l *Loss) Fraction(now time.Duration) (float64, bool) {
	return float64(l.fraction), l.known && now-l.at <= lossKept
}

// Stream reads the receiver reports about one stream.
type Stream struct {
	known   bool
	highest uint32
	lost    int32
}

// Progress is what a report says of a stream, compared with the one before.
type Progress uint8

// What a report can say.
const (
	Nonsense Progress = iota // about packets that were never sent
	Nothing                  // it is older than the one before, or the first
	Grew                     // more came
	Stuck                    // no more came
)

// Read takes in the extended highest sequence number and the packets lost in all,
// as a report has them. next is the index of the packet to be sent next, sent how
// many were. Expected and missing count the packets between two reports.
func (s *Stream) Read(highest uint32, lost int32, next uint64, sent uint32) (p Progress, expected, missing uint32) {
	// A receiver counts rollovers from when it began to listen, so only the lower
	// half can be compared with what was sent.
	behind := uint32(uint16(next) - 1 - uint16(highest)) // packets it has not seen
	if behind >= 1<<15 {
		return Nonsense, 0, 0
	}
	was := *s
	*s = Stream{known: true, highest: highest, lost: lost}
	if !was.known {
		if behind < sent {
			return Grew, 0, 0
		}
		return Nothing, 0, 0 // it has got none of these
	}
	switch expected = highest - was.highest; {
	case expected == 0:
		return Stuck, 0, 0
	case expected >= 1<<31: // older
		*s = was
		return Nothing, 0, 0
	case expected >= 1<<15: // a receiver that began anew
		return Nothing, 0, 0
	}
	// Duplicates, and packets sent again, make the sum shrink.
	return Grew, expected, min(uint32(max(0, lost-was.lost)), expected)
}
