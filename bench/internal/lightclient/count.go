package lightclient

// Counts are what a client received. Voice are RTP datagrams at least as long as
// [Config.VoiceSize] says, Other the shorter ones (silence frames, warm-up),
// Unknown those of no announced source; Bytes are UDP payload of all.
type Counts struct {
	Voice, Other, Unknown, RTCP, Bytes uint64
	// Largest is the longest RTP datagram.
	Largest int
	// Lost, Late and Duplicates are holes, stragglers and repetitions in the RTP
	// sequence numbers of the slots: what the server did send and we did not get,
	// got out of order, or got twice. Voice and Other count all of them; a
	// straggler that fills a hole takes it back.
	Lost, Late, Duplicates uint64
	// Of a sampled client: datagrams that were opened, and that could not be.
	Opened, Refused uint64
}

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Voice += o.Voice
	c.Other += o.Other
	c.Unknown += o.Unknown
	c.RTCP += o.RTCP
	c.Bytes += o.Bytes
	c.Largest = max(c.Largest, o.Largest)
	c.Lost += o.Lost
	c.Late += o.Late
	c.Duplicates += o.Duplicates
	c.Opened += o.Opened
	c.Refused += o.Refused
}

// slot is the state of one receive stream.
type slot struct {
	seen uint64 // bit i: sequence number top-i came
	top  uint16 // highest sequence number
	span uint8  // sequence numbers that seen knows of, 0 before the first
	open rollover
	said reception
}

// seenSpan is how far back a straggler is told from a repetition: 1.28 s.
const seenSpan = 64

// track counts the sequence number of a packet.
func (s *slot) track(seq uint16, c *Counts) {
	ahead := int(int16(seq - s.top))
	switch {
	case s.span == 0:
		s.top, s.seen, s.span = seq, 1, 1
		s.said = reception{base: uint32(seq), highest: uint32(seq), received: 1}
	case ahead > 0:
		c.Lost += uint64(ahead - 1)
		s.said.highest += uint32(ahead)
		s.said.received++
		s.seen = s.seen<<ahead | 1
		s.top, s.span = seq, uint8(min(seenSpan, int(s.span)+ahead))
	case -ahead >= int(s.span): // before all we know
		c.Late++
	case s.seen>>-ahead&1 != 0:
		c.Duplicates++
	default:
		s.seen |= 1 << -ahead
		s.said.received++
		c.Late++
		c.Lost--
	}
}
