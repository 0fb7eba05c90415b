package sfu

import "time"

// Every bound of the engine has a name. Those that an operator may turn are
// fields of [Limits]; the rest follow from a protocol.
const (
	// DefaultSlots is K, the number of speakers a listener hears at once when
	// its offer has that many receive sections.
	DefaultSlots = 16
	// MaxSlots bounds K. A stage holds one more, so that a speaker on it still
	// hears K others.
	MaxSlots = 32
	// MaxViews bounds the views of a session, of which slots and views together are at
	// most MaxSlots.
	MaxViews = 9
	// MaxCameras bounds the cameras of a call that are forwarded: those that came first.
	MaxCameras = 25
	// VideoPerSecond bounds the video packets of one session that are opened: some
	// 5 Mbit/s, of which each may go to a whole call.
	VideoPerSecond = 500
	// MaxOfferBytes bounds an SDP offer.
	MaxOfferBytes = 64 << 10
	// MaxSections bounds the m-lines of an offer: 1 + MaxSlots audio and
	// 2 + 9 video ones fit.
	MaxSections = 64
	// MaxReassembly bounds what a DTLS handshake may hold of unfinished
	// fragments, per session.
	MaxReassembly = 64 << 10
	// MaxDatagram is the largest datagram the engine reads or sends. Voice of
	// 20 ms at 510 kbit/s is 1,275 bytes; what is longer is dropped.
	MaxDatagram = 1500
	// SSRCsPerSession bounds the sources one session may send from.
	SSRCsPerSession = 4
	// VoicePerSecond bounds the voice packets of one session that are opened:
	// frames of 2.5 ms are 400 a second, and each may go to a whole call.
	VoicePerSecond = 500
	// FeedbackPerSecond bounds the RTCP packets of one session that are opened.
	FeedbackPerSecond = 100
	// HandshakeTimeout ends a session whose DTLS handshake takes longer.
	HandshakeTimeout = 10 * time.Second
	// ConsentTimeout ends a session without a valid STUN check for so long
	// (RFC 7675 section 5.1).
	ConsentTimeout = 30 * time.Second
	// FlightResends bounds how often the last DTLS flight is sent again when
	// the client repeats its own, within FlightKept after the handshake.
	FlightResends = 5
	// FlightKept is how long the datagrams of the last flight are kept.
	FlightKept = 30 * time.Second
	// OnsetPackets is the number of cached packets sent first when a gated
	// speaker starts, so that no syllable is clipped (60 ms).
	OnsetPackets = 3
	// SilenceFrames is the number of F8 FF FE frames that end a talk spurt.
	SilenceFrames = 3
	// ProbesPerPrefix bounds the probes of clients that a worker answers, per second
	// and source prefix; FleetProbesPerSecond those of the fleet: 1,000 nodes that
	// measure 10 peers each a second, spread over all, are 10 for each.
	ProbesPerPrefix      = 10
	FleetProbesPerSecond = 1000
	// ProbesVerified bounds the probes whose password a worker looks at, right or
	// wrong. One takes about 1 µs, so a flood costs it 2 % of a core.
	ProbesVerified = 20_000
	// MaxRelayPeers bounds the other nodes of a call. Each gets every speaker of
	// this one.
	MaxRelayPeers = 7
	// RelayEvery is how often a worker gives relay packets to the agent at most: what
	// it forwards meanwhile shares the next datagram, and the wake-ups of both agents
	// and of the other engine, which cost more than the packets. A packet waits for
	// half of it on average, 1.25 of the 2 ms that a second node may add; one that comes
	// after a pause does not wait.
	RelayEvery = 2500 * time.Microsecond
	// MaxRemoteSpeakers bounds the speakers of other nodes that a call knows at
	// once: the stages of three of them.
	MaxRemoteSpeakers = 99
	// MaxKeep bounds what the agent leaves with a session.
	MaxKeep = 4 << 10
	// RememberedFor is how long an engine without agent and session keeps what it
	// is to remember: longer than it takes to start an agent anew.
	RememberedFor = time.Minute
	// MemoryOfEnds is how long the engine remembers which sessions have ended,
	// for an agent that adopts it: longer than the grant of one may be shown
	// again. EndsKept bounds how many it remembers.
	MemoryOfEnds = 3 * time.Minute
	EndsKept     = 4096
	// MaxReplacing bounds the sessions beyond [Limits.Sessions] that stand at once
	// because each is about to take the place of another.
	MaxReplacing = 64
	// MaxFrame bounds a frame of the command stream.
	MaxFrame = 1 << 20
)

// Limits are the bounds an operator may turn. The zero value of a field means
// its default.
type Limits struct {
	// Sessions bounds the sessions of the node (default 4,000). One costs at
	// most 64 KiB, and 160 KiB more while its camera is on.
	Sessions int `json:"sessions,omitempty"`
	// HalfOpen bounds the DTLS handshakes under way at once (default 256). One
	// costs about 40 KiB and three goroutines while it lasts.
	HalfOpen int `json:"half_open,omitempty"`
	// ChecksPerPrefix bounds the STUN checks per second that are verified for
	// one source prefix (/24 or /64) without a session there (default 2,000: a
	// whole LAN party behind one address may join at once).
	ChecksPerPrefix int `json:"checks_per_prefix,omitempty"`
	// ShedVideo is the share of a second (0..1) that a worker may be busy: beyond it
	// video is not forwarded, until there is room again (default 0.85; 1: always
	// forwarded). Voices get the rest.
	ShedVideo float64 `json:"shed_video,omitempty"`
}

// WithDefaults fills the zero fields.
func (l Limits) WithDefaults() Limits {
	if l.Sessions == 0 {
		l.Sessions = 4000
	}
	if l.HalfOpen == 0 {
		l.HalfOpen = 256
	}
	if l.ChecksPerPrefix == 0 {
		l.ChecksPerPrefix = 2000
	}
	if l.ShedVideo == 0 {
		l.ShedVideo = 0.85
	}
	return l
}
