package icelite

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Credentials are the user name fragment and password of one side of a session.
type Credentials struct {
	Ufrag, Pwd string
}

// The lengths of minted credentials, all of the ice-char alphabet (RFC 8839
// section 5.4, which asks for at least 4 and 22 characters).
const (
	UfragLen = 12 // 72 bits: unguessable, so that a stranger costs no HMAC
	PwdLen   = 24 // 144 bits
)

// Mint makes fresh credentials from the system's randomness.
func Mint() Credentials {
	var b [(UfragLen + PwdLen) / 4 * 3]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	text := iceChars.EncodeToString(b[:])
	return Credentials{Ufrag: text[:UfragLen], Pwd: text[UfragLen:]}
}

// iceChars is base64 in its standard alphabet, which is that of ice-char.
var iceChars = base64.RawStdEncoding

// Peek returns the server's half of USERNAME of a binding request that is well
// formed as far as can be told without its password; FINGERPRINT is verified if
// there is one. The result is lent from the datagram. It costs one pass over at
// most sfu.MaxDatagram bytes.
func Peek(datagram []byte) (ufrag []byte, ok bool) {
	m, ok := parse(datagram)
	return m.server, ok
}

// Request is an authentic connectivity check.
type Request struct {
	Transaction  [12]byte
	Client       []byte // the client's user name fragment, lent from the datagram
	UseCandidate bool   // the client nominates this pair (RFC 8445 section 7.3.1.5)
	Controlling  bool   // false is a role conflict: a lite agent is always controlled
}

// Key is a password made ready: an HMAC keyed once. It belongs to one goroutine
// and takes about 500 bytes.
type Key struct {
	mac mac

	// Scratch of the call under way.
	head [headerLen]byte
	sum  [sha1.Size]byte
}

// mac is the part of hash.Hash that an HMAC needs.
type mac interface {
	Reset()
	Write([]byte) (int, error)
	Sum([]byte) []byte
}

// NewKey keys a Key with a password (a short-term credential: RFC 8489 section
// 9.1.1; OpaqueString leaves the ice-char alphabet as it is).
func NewKey(pwd string) *Key {
	return &Key{mac: hmac.New(sha1.New, []byte(pwd))}
}

// Check verifies a binding request whose ufrag Peek returned. It is false when
// MESSAGE-INTEGRITY is wrong.
func (k *Key) Check(datagram []byte) (Request, bool) {
	m, ok := parse(datagram)
	if !ok {
		return Request{}, false
	}
	if !k.verify(datagram, m.integrity) {
		return Request{}, false
	}
	r := Request{Client: m.client, UseCandidate: m.useCandidate, Controlling: m.controlling}
	copy(r.Transaction[:], datagram[8:headerLen])
	return r, true
}

// verify checks the MESSAGE-INTEGRITY at an offset of a datagram.
func (k *Key) verify(datagram []byte, integrity int) bool {
	// The length in the header counts up to the end of MESSAGE-INTEGRITY (RFC
	// 8489 section 14.5).
	copy(k.head[:], datagram)
	binary.BigEndian.PutUint16(k.head[2:], uint16(integrity+attrHeaderLen+integrityLen-headerLen))
	k.mac.Reset()
	k.mac.Write(k.head[:])
	k.mac.Write(datagram[headerLen:integrity])
	sum := k.mac.Sum(k.sum[:0])
	return subtle.ConstantTimeCompare(sum, datagram[integrity+attrHeaderLen:][:integrityLen]) == 1
}

// Answers says whether a datagram is an authentic answer to AppendRequest: who sent
// it has seen the transaction, and knows the password, which is the client's.
func (k *Key) Answers(datagram []byte, transaction [12]byte) bool {
	at, ok := success(datagram, transaction)
	return ok && k.verify(datagram, at)
}

// AppendRequest appends a binding request to a client, keyed with its password. A
// lite agent makes no connectivity checks, but a client answers a consent check
// whoever sends it (RFC 7675 section 5.1; RFC 8445 section 7.3), and so shows that
// it receives what is sent to an address. It is as long as the client's own check but
// for what else that has.
func (k *Key) AppendRequest(dst []byte, transaction [12]byte, client, server string) []byte {
	start := len(dst)
	dst = appendHeader(dst, bindRequest, transaction)
	dst = binary.BigEndian.AppendUint16(dst, attrUsername)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(client)+1+len(server)))
	dst = append(dst, client...)
	dst = append(dst, ':')
	dst = append(dst, server...)
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	dst = binary.BigEndian.AppendUint16(dst, attrPriority)
	dst = binary.BigEndian.AppendUint16(dst, 4)
	dst = binary.BigEndian.AppendUint32(dst, hostPriority)
	// The tie breaker decides role conflicts, of which there is none: clients offer.
	dst = binary.BigEndian.AppendUint16(dst, attrICEControlled)
	dst = binary.BigEndian.AppendUint16(dst, 8)
	dst = append(dst, transaction[:8]...)
	return k.seal(dst, start)
}

// hostPriority is that of the first component of a host candidate (RFC 8445 section
// 5.1.2.1).
const hostPriority = 126<<24 | 65535<<8 | 255

// MaxSuccess is the longest answer: header, XOR-MAPPED-ADDRESS with IPv6,
// MESSAGE-INTEGRITY and FINGERPRINT. With IPv4 it is 64 bytes; the shortest
// request a Mint-ed ufrag allows takes 20 + 20 + 24 bytes, so that an answer is
// at most 19 % longer than what it answers.
const MaxSuccess = headerLen + attrHeaderLen + 20 + attrHeaderLen + integrityLen + attrHeaderLen + fingerprintLen

// AppendSuccess appends the binding success response that tells the client the
// address its request came from.
func (k *Key) AppendSuccess(dst []byte, transaction [12]byte, from netip.AddrPort) []byte {
	start := len(dst)
	addr := from.Addr().Unmap()
	ipLen, family := 4, byte(1)
	if addr.Is6() {
		ipLen, family = 16, 2
	}
	dst = appendHeader(dst, bindSuccess, transaction)

	// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2): masked with magic cookie and
	// transaction, as they stand in the header.
	dst = binary.BigEndian.AppendUint16(dst, attrXORMappedAddress)
	dst = binary.BigEndian.AppendUint16(dst, uint16(4+ipLen))
	dst = append(dst, 0, family)
	dst = binary.BigEndian.AppendUint16(dst, from.Port()^magicCookie>>16)
	ip := addr.As16() // IPv4 in its last four bytes
	for i, b := range ip[16-ipLen:] {
		dst = append(dst, b^dst[start+4+i])
	}
	return k.seal(dst, start)
}

// appendHeader appends the header of a message that seal ends.
func appendHeader(dst []byte, kind uint16, transaction [12]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, 0) // its length: seal knows it
	dst = binary.BigEndian.AppendUint32(dst, magicCookie)
	return append(dst, transaction[:]...)
}

// seal appends MESSAGE-INTEGRITY and FINGERPRINT to the message that begins at start.
// Its length counts up to the end of the one when that is made, and of the other then
// (RFC 8489 sections 14.5 and 14.7).
func (k *Key) seal(dst []byte, start int) []byte {
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start+attrHeaderLen+integrityLen-headerLen))
	k.mac.Reset()
	k.mac.Write(dst[start:])
	dst = binary.BigEndian.AppendUint16(dst, attrMessageIntegrity)
	dst = binary.BigEndian.AppendUint16(dst, integrityLen)
	dst = append(dst, k.mac.Sum(k.sum[:0])...)

	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start+attrHeaderLen+fingerprintLen-headerLen))
	crc := crc32.ChecksumIEEE(dst[start:])
	dst = binary.BigEndian.AppendUint16(dst, attrFingerprint)
	dst = binary.BigEndian.AppendUint16(dst, fingerprintLen)
	return binary.BigEndian.AppendUint32(dst, crc^fingerprintXOR)
}
