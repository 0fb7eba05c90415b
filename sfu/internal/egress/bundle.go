package egress

import (
	"math"
	"time"

	"voicefleet/sfu"
)

// Bundle collects the relay packets of a worker for the agent. Those of one
// interval (sfu.RelayEvery) go in one datagram, which costs one system call and one
// wake-up at each station of the way to the other nodes, however many they are. It
// belongs to one goroutine.
type Bundle struct {
	datagram []byte        // empty: nothing waits
	next     time.Duration // not before
	to       Path
	secret   sfu.RelaySecret
}

// early is how soon before it is due a bundle goes when there is occasion.
const early = 500 * time.Microsecond

// NewBundle leads nowhere yet.
func NewBundle() *Bundle { return &Bundle{datagram: make([]byte, 0, sfu.MaxDatagram)} }

// Lead says where the agent is. What waits goes to the one before.
func (b *Bundle) Lead(to Path, secret sfu.RelaySecret, out *Batch) {
	b.flush(out)
	b.to, b.secret = to, secret
}

// Add takes a packet of at most sfu.MaxRelayPacket bytes, a copy of it.
func (b *Bundle) Add(p *sfu.RelayPacket, out *Batch) {
	if len(b.datagram)+sfu.RelayPrefix+sfu.RelayHeader+len(p.Payload) > sfu.MaxDatagram {
		b.flush(out)
	}
	if len(b.datagram) == 0 {
		b.datagram = sfu.AppendRelayLocal(b.datagram, 0, &b.secret)
	}
	b.datagram = p.AppendTo(b.datagram)
}

// Due is when Send has something to do: never, if nothing waits.
func (b *Bundle) Due() time.Duration {
	if len(b.datagram) == 0 {
		return math.MaxInt64
	}
	return b.next
}

// Send puts what waits into the batch once it is due. All workers of an engine
// have their turn at the same moments, so that the agent wakes once for them.
func (b *Bundle) Send(now time.Duration, out *Batch) {
	if now >= b.Due()-early {
		b.flush(out)
		b.next = (now + early).Truncate(sfu.RelayEvery) + sfu.RelayEvery
	}
}

func (b *Bundle) flush(out *Batch) {
	if len(b.datagram) > 0 {
		out.Put(append(out.Next(), b.datagram...), &b.to)
		b.datagram = b.datagram[:0]
	}
}
