package crypt

import "fmt"

// Profile is an SRTP protection profile by its DTLS-SRTP number.
type Profile uint16

// The profiles, best first.
const (
	AEADAES128GCM       Profile = 0x0007 // RFC 7714 section 14.2
	AES128CMHMACSHA1_80 Profile = 0x0001 // RFC 5764 section 4.1.2
)

const (
	keyLen     = 16 // both profiles: AES-128
	gcmSaltLen = 12 // RFC 7714 section 12
	cmSaltLen  = 14 // RFC 3711 section 8.2
	gcmTagLen  = 16 // RFC 7714 section 13
	cmTagLen   = 10 // 80 bits
	// rtcpPrefix is what SRTCP leaves in the clear: header and sender SSRC.
	rtcpPrefix = 8
	// rtcpIndexLen is the E flag and the 31-bit index (RFC 3711 section 3.4).
	rtcpIndexLen = 4
	rtcpE        = 1 << 31

	// MaxOverhead is what sealing adds at most: tag, and index of SRTCP.
	MaxOverhead = gcmTagLen + rtcpIndexLen
	// MaxIndex is the last packet index of a key (48 bits, RFC 3711 section
	// 9.2). At 50 packets a second it lasts 178,000 years.
	MaxIndex = 1<<48 - 1
	// MaxRTCPIndex is the last SRTCP index of a key (31 bits).
	MaxRTCPIndex = 1<<31 - 1
)

// Opener verifies and decrypts the packets of one direction. Not safe for
// concurrent use.
type Opener interface {
	// OpenRTP opens a packet in place. The first header bytes (fixed header,
	// CSRCs, extension, as the caller parsed them; at least 12) are
	// authenticated and left as they are; the payload returned lies behind them
	// in packet. The index holds rollover counter and sequence number and must
	// end in that of the header. When ok is false nothing of the packet may be
	// used: its payload may be overwritten.
	OpenRTP(packet []byte, header int, index uint64) (payload []byte, ok bool)
	// OpenRTCP opens a compound packet in place and returns it without its
	// trailer, and its index for the replay window. The caller may read the
	// index before with RTCPIndex.
	OpenRTCP(packet []byte) (compound []byte, index uint32, ok bool)
	// RTCPIndex reads the unauthenticated index of an SRTCP packet; false when
	// the packet is shorter than its trailer.
	RTCPIndex(packet []byte) (uint32, bool)
}

// Sealer encrypts and signs the packets of one direction. Not safe for
// concurrent use. An index must never be used twice for different packets of
// one SSRC: with AEAD that gives the key away.
type Sealer interface {
	// SealRTP appends header, encrypted payload and tag to dst. Header is the
	// whole RTP header (at least 12 bytes), ending in the index' sequence
	// number; neither it nor payload may overlap the room behind dst. It
	// allocates only if dst has no room for Overhead more bytes.
	SealRTP(dst, header, payload []byte, index uint64) []byte
	// SealRTCP appends the protected form of a compound packet (at least 8
	// bytes) with an index of 31 bits.
	SealRTCP(dst, compound []byte, index uint32) []byte
	// Overhead is what sealing an RTP packet adds; SRTCP takes 4 bytes more.
	Overhead() int
}

// Keys are the master key and salt of one direction.
type Keys struct {
	Key, Salt []byte
}

// KeyingLen is the length of the keying material a profile needs (RFC 5764
// section 4.2), zero for a profile that is not supported.
func (p Profile) KeyingLen() int {
	if !p.known() {
		return 0
	}
	return 2 * (keyLen + p.saltLen())
}

func (p Profile) known() bool { return p == AEADAES128GCM || p == AES128CMHMACSHA1_80 }

func (p Profile) saltLen() int {
	if p == AEADAES128GCM {
		return gcmSaltLen
	}
	return cmSaltLen
}

// String is the profile's IANA name without its prefix.
func (p Profile) String() string {
	switch p {
	case AEADAES128GCM:
		return "AEAD_AES_128_GCM"
	case AES128CMHMACSHA1_80:
		return "AES128_CM_HMAC_SHA1_80"
	}
	return fmt.Sprintf("profile 0x%04x", uint16(p))
}

// Split cuts exported keying material into the keys of both directions: client
// key, server key, client salt, server salt (RFC 5764 section 4.2). A server
// opens with the client's and seals with its own. The parts alias material.
func Split(p Profile, material []byte) (client, server Keys, err error) {
	if !p.known() {
		return Keys{}, Keys{}, fmt.Errorf("split keying: %v is not supported", p)
	}
	if len(material) != p.KeyingLen() {
		return Keys{}, Keys{}, fmt.Errorf("split keying of %v: %d bytes, want %d", p, len(material), p.KeyingLen())
	}
	salts, s := material[2*keyLen:], p.saltLen()
	client = Keys{Key: material[:keyLen:keyLen], Salt: salts[:s:s]}
	server = Keys{Key: material[keyLen : 2*keyLen : 2*keyLen], Salt: salts[s:]}
	return client, server, nil
}

// NewOpener derives the session keys of an incoming direction.
func NewOpener(p Profile, k Keys) (Opener, error) { return newTransform(p, k) }

// NewSealer derives the session keys of an outgoing direction.
func NewSealer(p Profile, k Keys) (Sealer, error) { return newTransform(p, k) }

// transform is what every profile implements.
type transform interface {
	Opener
	Sealer
}

func newTransform(p Profile, k Keys) (transform, error) {
	if !p.known() {
		return nil, fmt.Errorf("derive keys: %v is not supported", p)
	}
	if len(k.Key) != keyLen || len(k.Salt) != p.saltLen() {
		return nil, fmt.Errorf("derive keys of %v: key of %d and salt of %d bytes, want %d and %d",
			p, len(k.Key), len(k.Salt), keyLen, p.saltLen())
	}
	if p == AEADAES128GCM {
		return newGCM(k)
	}
	return newCM(k)
}
