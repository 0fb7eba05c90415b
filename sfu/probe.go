package sfu

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

// A probe is a STUN binding request (RFC 8489) to a media port, answered like the
// connectivity check of a session, but belonging to none: with it allocators and
// peers ask whether the engine lives and how far it is, and clients measure. Its
// credentials are stateless: the user name fragment says who may ask and until
// when, the password is its HMAC-SHA-256 under the node's probe key (RFC 2104).

// ProbeKey makes the passwords of a node's probes: ProbeKeyLen random bytes, made
// by the agent, told to the engine and, in the heartbeat, to the fleet.
type ProbeKey []byte

// ProbeKeyLen is the length of a probe key in bytes.
const ProbeKeyLen = 32

// NewProbeKey makes a key from the system's randomness.
func NewProbeKey() ProbeKey {
	k := make(ProbeKey, ProbeKeyLen)
	rand.Read(k) // never fails: it ends the program instead
	return k
}

// Valid says whether the key has the promised length.
func (k ProbeKey) Valid() bool { return len(k) == ProbeKeyLen }

// Probe is what a probe's user name fragment says.
type Probe struct {
	// Prefix is the one the request must come from: /24 of IPv4, /64 of IPv6. The
	// zero Prefix is none: a probe of the fleet, from allocators and peers.
	Prefix  ProbePrefix
	Expires time.Time // whole seconds
}

// ProbePrefix is the 64 leading bits of an IPv6 address, or the 24 of an IPv4 one
// behind 32 ones, which no global IPv6 address begins with.
type ProbePrefix [8]byte

// PrefixOf is the prefix an address is in.
func PrefixOf(a netip.Addr) (p ProbePrefix) {
	if a = a.Unmap(); a.Is4() {
		v4 := a.As4()
		binary.BigEndian.PutUint32(p[:], 0xffffffff)
		copy(p[4:7], v4[:3])
		return p
	}
	v6 := a.As16()
	copy(p[:], v6[:8])
	return p
}

const (
	// FleetProbeLife and ClientProbeLife are how long credentials are made for. A
	// probe must tell the living from the dead, so that of the fleet bears clocks
	// that are an hour apart.
	FleetProbeLife  = time.Hour
	ClientProbeLife = 5 * time.Minute

	// ProbeUfragLen is the length of a probe's user name fragment: mark, expiry and
	// prefix, 15 bytes in base64, whose alphabet is that of ice-char (RFC 8839
	// section 5.4). No session has one so long.
	ProbeUfragLen = 20
	// ProbePwdLen is the length of its password: 192 bits of the HMAC.
	ProbePwdLen   = 32
	probePwdBytes = ProbePwdLen / 4 * 3
)

// probeMark begins a user name fragment: "prb" with base64's fourth character
// for the kind.
var (
	fleetMark  = [3]byte{0xa6, 0xb6, 0xc0} // "prbA"
	clientMark = [3]byte{0xa6, 0xb6, 0xc1} // "prbB"
)

// FleetProbe is a probe of the fleet, made now.
func FleetProbe(now time.Time) Probe { return Probe{Expires: now.Add(FleetProbeLife)} }

// ClientProbe is a probe for the client at an address, made now.
func ClientProbe(now time.Time, at netip.Addr) Probe {
	return Probe{Prefix: PrefixOf(at), Expires: now.Add(ClientProbeLife)}
}

// Client says whether it is a client's.
func (p Probe) Client() bool { return p.Prefix != ProbePrefix{} }

// Credentials are the user name fragment and the password of a probe.
func (p Probe) Credentials(key ProbeKey) (ufrag, pwd string) {
	b := make([]byte, 0, 15)
	if p.Client() {
		b = append(b, clientMark[:]...)
	} else {
		b = append(b, fleetMark[:]...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(p.Expires.Unix()))
	b = append(b, p.Prefix[:]...)
	ufrag = base64.RawStdEncoding.EncodeToString(b)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(ufrag))
	return ufrag, string(AppendProbePwd(nil, mac.Sum(nil)))
}

// AppendProbePwd appends the password that an HMAC-SHA-256 of the user name
// fragment makes.
func AppendProbePwd(dst, sum []byte) []byte {
	return base64.RawStdEncoding.AppendEncode(dst, sum[:probePwdBytes])
}

// ReadProbe reads a user name fragment; false: it is no probe's. It allocates
// nothing, and says nothing about who made it.
func ReadProbe(ufrag []byte) (Probe, bool) {
	var b [15]byte
	if len(ufrag) != ProbeUfragLen {
		return Probe{}, false
	}
	if n, err := base64.RawStdEncoding.Decode(b[:], ufrag); err != nil || n != len(b) {
		return Probe{}, false
	}
	p := Probe{Expires: time.Unix(int64(binary.BigEndian.Uint32(b[3:])), 0)}
	copy(p.Prefix[:], b[7:])
	mark := [3]byte(b[:])
	switch {
	case mark == fleetMark && !p.Client(), mark == clientMark && p.Client():
		return p, true
	}
	return Probe{}, false
}

// May says whether a probe that comes from an address at a time is to be
// answered, if its password is right.
func (p Probe) May(now time.Time, from netip.Addr) bool {
	return now.Before(p.Expires) && (!p.Client() || p.Prefix == PrefixOf(from))
}
