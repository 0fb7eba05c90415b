package egress

import (
	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
)

const (
	// Datagrams is how many one batch takes. More saves next to nothing per
	// datagram, and the first would wait longer.
	Datagrams = 128
	// arenaBytes bounds the bytes of a batch: voice of 100 to 300 bytes fills
	// the table first, and the arena stays in a core's own cache.
	arenaBytes = 48 << 10
)

// Path is where a datagram goes, as the kernel wants it. The zero value leads
// nowhere.
type Path struct {
	Sockaddr [demux.SockaddrLen]byte
	Len      uint8 // of Sockaddr; 0 leads nowhere
	// Pinned: send from Source, as the kernel would choose another address.
	Pinned bool
	// Interface is that of a link-local Source, else 0.
	Interface uint32
	Source    [16]byte // IPv4 in its mapped form
}

// Datagram is one of a batch.
type Datagram struct {
	at, length int
	To         Path
}

// Batch belongs to one goroutine.
type Batch struct {
	// Immutable.
	send func(*Batch)

	arena []byte
	used  int
	list  [Datagrams]Datagram
	n     int
}

// NewBatch calls send, which must not keep the batch, when it is full and on
// Flush.
func NewBatch(send func(*Batch)) *Batch {
	return &Batch{send: send, arena: make([]byte, arenaBytes)}
}

// Next lends room for one datagram of at most sfu.MaxDatagram bytes: an empty
// slice to append to. It is good until the next Put.
func (b *Batch) Next() []byte { return b.arena[b.used:b.used] }

// Put takes the datagram that was appended to Next, and copies the path.
func (b *Batch) Put(datagram []byte, to *Path) {
	d := &b.list[b.n]
	d.at, d.length, d.To = b.used, len(datagram), *to
	b.used += len(datagram)
	b.n++
	if b.n == Datagrams || len(b.arena)-b.used < sfu.MaxDatagram {
		b.Flush()
	}
}

// Len is how many datagrams wait.
func (b *Batch) Len() int { return b.n }

// At lends the i-th datagram.
func (b *Batch) At(i int) (bytes []byte, to *Path) {
	d := &b.list[i]
	return b.arena[d.at : d.at+d.length : d.at+d.length], &d.To
}

// Flush sends what waits.
func (b *Batch) Flush() {
	if b.n > 0 {
		b.send(b)
		b.n, b.used = 0, 0
	}
}
