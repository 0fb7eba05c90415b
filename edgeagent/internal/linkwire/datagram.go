package linkwire

import (
	"encoding/binary"
	"errors"

	"voicefleet/sfu"
)

const (
	// Version is the first byte of a datagram.
	Version = 0xE1
	// Header is the length of a datagram without packets.
	Header = 8
	// MinRoom is the least a link must carry in one datagram: half of the longest
	// packet, with both headers.
	MinRoom = Header + sfu.RelayPrefix + sfu.RelayHeader + (sfu.MaxRelayPacket-sfu.RelayHeader+1)/2
)

// Builder makes datagrams of at most so many bytes.
type Builder struct {
	buf    []byte
	number uint32
}

// NewBuilder has room for datagrams of any size a link may have.
func NewBuilder() *Builder { return &Builder{buf: make([]byte, 0, 2048)} }

// Begin begins the next datagram.
func (b *Builder) Begin() {
	b.number++
	b.buf = append(b.buf[:0], Version, 0, 0, 0)
	b.buf = binary.BigEndian.AppendUint32(b.buf, b.number)
}

// Fits says whether a packet of so many bytes still fits.
func (b *Builder) Fits(packet, room int) bool { return len(b.buf)+sfu.RelayPrefix+packet <= room }

// Add appends a packet.
func (b *Builder) Add(packet []byte) {
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(len(packet)))
	b.buf = append(b.buf, packet...)
}

// Empty says that no packet was added.
func (b *Builder) Empty() bool { return len(b.buf) <= Header }

// Datagram lends what was built until the next Begin.
func (b *Builder) Datagram() []byte { return b.buf }

// ErrForm is a datagram that no link sends.
var ErrForm = errors.New("no datagram of a link")

// Open reads the header of a datagram; the list of packets follows (sfu.NextRelay).
func Open(d []byte) (number uint32, list []byte, err error) {
	if len(d) < Header || d[0] != Version || d[1] != 0 || d[2] != 0 || d[3] != 0 {
		return 0, nil, ErrForm
	}
	return binary.BigEndian.Uint32(d[4:]), d[Header:], nil
}

// Tally counts what a link loses, by the numbers of what comes.
type Tally struct {
	first, highest uint32
	begun          bool
	received       uint64
}

// Came notes a datagram.
func (t *Tally) Came(number uint32) {
	if !t.begun {
		t.begun, t.first, t.highest = true, number, number
	}
	if int32(number-t.highest) > 0 {
		t.highest = number
	}
	if int32(number-t.first) >= 0 {
		t.received++
	}
}

// Lost is how many never came, or not yet.
func (t *Tally) Lost() uint64 {
	if !t.begun {
		return 0
	}
	return max(uint64(t.highest-t.first)+1, t.received) - t.received
}
