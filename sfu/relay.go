package sfu

import (
	"encoding/binary"
	"errors"

	"voicefleet/internal/snowflake"
)

// A call with members far apart has a node near each of them. What one of these
// nodes forwards of its own speakers and cameras it also gives to the others, once per
// node, in relay packets; there they enter the call as speakers without a session. What
// came in a relay packet never goes out in one, so there are no loops: the nodes
// of a call are a full mesh.
//
// A relay packet, big-endian:
//
//	 0  1  RelayVersion
//	 1  1  flags: 1 the speaker has priority, 2 first half of a packet, 4 second half,
//	       8 video, 16 marker bit of video, 32 the other way: that user's camera is asked
//	       for a key frame
//	 2  1  audio level (RFC 6464: V bit and -dBov), 0xff: none
//	 3  1  zero
//	 4  4  sequence number: rises by one per packet of the speaker on its way to
//	       other nodes; what is missing was lost. Of video, the low half of the SRTP
//	       index that it came with
//	 8  8  call
//	16  8  epoch of the call
//	24  8  user
//	32  4  SSRC of the speaker on its node
//	36  4  timestamp, 48 kHz, of video 90 kHz
//	40     Opus or VP8 payload, at least one byte, of whatever payload type clients use
//
// It does not depend on who listens. A packet too long for one datagram of the
// link between two nodes goes in halves, each with the same header but the flag.
const (
	// RelayVersion is the first byte. RFC 7983 leaves it to nobody, and demux
	// takes it for foreign.
	RelayVersion = 0xF1
	// RelayHeader is the length of a relay packet without its payload.
	RelayHeader = 40
	// RelayPrefix is what each takes more in a list.
	RelayPrefix = 2
	// MaxRelayPacket bounds a relay packet.
	MaxRelayPacket = MaxDatagram - RelayLocal - RelayPrefix
)

// The flags of a relay packet.
const (
	relayPriority = 1 << iota
	relayFirst
	relaySecond
	relayVideo
	relayMarker
	relayKeyFrame
	relayFlags = relayKeyFrame<<1 - 1
)

// RelayKind says what a relay packet is.
type RelayKind uint8

// The kinds.
const (
	RelayVoice RelayKind = iota
	RelayVideo
	RelayKeyFrame // the wish for one
)

// RelayHalf says whether a relay packet is whole.
type RelayHalf uint8

// The halves.
const (
	RelayWhole RelayHalf = iota
	RelayFirst
	RelaySecond
)

// RelayPacket is a relay packet, read. Payload lies in what was read.
type RelayPacket struct {
	Call      CallID
	Epoch     uint64
	User      UserID
	SSRC      SSRC
	Sequence  uint32
	Timestamp uint32
	Level     uint8
	Priority  bool
	Kind      RelayKind
	Marker    bool // of video
	Half      RelayHalf
	Payload   []byte
}

// ErrRelayForm is a datagram that is no relay packet.
var ErrRelayForm = errors.New("no relay packet")

// ReadRelayPacket reads a datagram, which it keeps no part of but the payload.
func ReadRelayPacket(d []byte) (p RelayPacket, err error) {
	if len(d) <= RelayHeader || len(d) > MaxRelayPacket || d[0] != RelayVersion || d[3] != 0 || d[1]&^relayFlags != 0 {
		return p, ErrRelayForm
	}
	switch d[1] & (relayFirst | relaySecond) {
	case relayFirst | relaySecond:
		return p, ErrRelayForm
	case relayFirst:
		p.Half = RelayFirst
	case relaySecond:
		p.Half = RelaySecond
	}
	switch d[1] & (relayVideo | relayMarker | relayKeyFrame) {
	case 0:
	case relayVideo:
		p.Kind = RelayVideo
	case relayVideo | relayMarker:
		p.Kind, p.Marker = RelayVideo, true
	case relayKeyFrame:
		p.Kind = RelayKeyFrame
	default:
		return p, ErrRelayForm
	}
	p.Priority = d[1]&relayPriority != 0
	p.Level = d[2]
	p.Sequence = binary.BigEndian.Uint32(d[4:])
	p.Call.ID = snowflake.ID(binary.BigEndian.Uint64(d[8:]))
	p.Epoch = binary.BigEndian.Uint64(d[16:])
	p.User.ID = snowflake.ID(binary.BigEndian.Uint64(d[24:]))
	p.SSRC = SSRC(binary.BigEndian.Uint32(d[32:]))
	p.Timestamp = binary.BigEndian.Uint32(d[36:])
	p.Payload = d[RelayHeader:]
	if p.Call.ID == 0 || p.User.ID == 0 || p.SSRC == 0 {
		return p, ErrRelayForm
	}
	return p, nil
}

// Append appends the packet as it goes over the wire.
func (p *RelayPacket) Append(dst []byte) []byte {
	flags := byte(0)
	if p.Priority {
		flags = relayPriority
	}
	switch p.Half {
	case RelayFirst:
		flags |= relayFirst
	case RelaySecond:
		flags |= relaySecond
	}
	switch p.Kind {
	case RelayVideo:
		flags |= relayVideo
		if p.Marker {
			flags |= relayMarker
		}
	case RelayKeyFrame:
		flags |= relayKeyFrame
	}
	dst = append(dst, RelayVersion, flags, p.Level, 0)
	dst = binary.BigEndian.AppendUint32(dst, p.Sequence)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Call.ID))
	dst = binary.BigEndian.AppendUint64(dst, p.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.User.ID))
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.SSRC))
	dst = binary.BigEndian.AppendUint32(dst, p.Timestamp)
	return append(dst, p.Payload...)
}

// Packets that travel together are a list: each behind its length in two bytes.

// AppendTo appends the packet to a list.
func (p *RelayPacket) AppendTo(list []byte) []byte {
	return p.Append(binary.BigEndian.AppendUint16(list, uint16(RelayHeader+len(p.Payload))))
}

// NextRelay cuts the first packet off a list. It fails when the length lies.
func NextRelay(list []byte) (packet, rest []byte, err error) {
	if len(list) < RelayPrefix {
		return nil, nil, ErrRelayForm
	}
	n := RelayPrefix + int(binary.BigEndian.Uint16(list))
	if n == RelayPrefix || n > len(list) {
		return nil, nil, ErrRelayForm
	}
	return list[RelayPrefix:n], list[n:], nil
}

// Between engine and agent relay packets go over loopback, from and to the media
// port of their calls, as a list behind a header of its own:
//
//	0  1  RelayLocalVersion
//	1  1  zero
//	2  2  towards the engine: the number of the peer they came from, as the agent
//	      counts them; zero from the engine
//	4  8  the secret that the agent gave the engine with [Relay]
const (
	RelayLocalVersion = 0xF2
	RelayLocal        = 12
)

// RelaySecret tells the datagrams of engine and agent from those of any other
// program on the machine.
type RelaySecret [8]byte

// AppendRelayLocal begins a local datagram; the list of packets is to follow.
func AppendRelayLocal(dst []byte, peer uint16, secret *RelaySecret) []byte {
	dst = append(dst, RelayLocalVersion, 0)
	dst = binary.BigEndian.AppendUint16(dst, peer)
	return append(dst, secret[:]...)
}

// ReadRelayLocal is the list of packets of a local datagram and the peer it came
// from. It is false without the secret.
func ReadRelayLocal(d []byte, secret *RelaySecret) (peer uint16, list []byte, ok bool) {
	if len(d) <= RelayLocal || d[0] != RelayLocalVersion || d[1] != 0 || RelaySecret(d[4:12]) != *secret {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(d[2:]), d[RelayLocal:], true
}
