package impair

import "container/heap"

// maxDatagram is the longest that passes: an Ethernet frame is 1,500 bytes, and
// loopback gets no longer ones from the peers we know.
const maxDatagram = 2048

// pending is a packet that waits. The proxy owns it until it is sent.
type pending struct {
	due, arrived int64  // nanoseconds of the proxy's clock
	order        uint64 // among those due at the same time
	at           int    // in the heap

	client    *client
	direction Direction
	flow      *flow
	double    bool // the second copy
	behind    int  // later packets it is still held back behind
	overtaken int  // by later packets until now

	size int
	data [maxDatagram]byte
}

// queue holds pending packets by time. What was sent is used again.
type queue struct {
	limit int
	order uint64
	heap  byTime
	free  []*pending
}

// add gives a packet with its bytes, nil when the queue is full.
func (q *queue) add(due int64, b []byte) *pending {
	if len(q.heap) >= q.limit {
		return nil
	}
	var p *pending
	if n := len(q.free); n > 0 {
		p, q.free = q.free[n-1], q.free[:n-1]
	} else {
		p = new(pending)
	}
	q.order++
	p.due, p.order, p.size = due, q.order, copy(p.data[:], b)
	heap.Push(&q.heap, p)
	return p
}

// move changes when a packet is due: behind all that were added before.
func (q *queue) move(p *pending, due int64) {
	q.order++
	p.due, p.order = due, q.order
	heap.Fix(&q.heap, p.at)
}

// first is the packet due next, nil without one.
func (q *queue) first() *pending {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

// next takes the first one out; done gives it back.
func (q *queue) next() *pending { return heap.Pop(&q.heap).(*pending) }

func (q *queue) done(p *pending) {
	p.client, p.flow = nil, nil
	p.double, p.behind, p.overtaken = false, 0, 0
	q.free = append(q.free, p)
}

type byTime []*pending

func (h byTime) Len() int { return len(h) }
func (h byTime) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].order < h[j].order
}
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *byTime) Push(x any) {
	p := x.(*pending)
	p.at = len(*h)
	*h = append(*h, p)
}
func (h *byTime) Pop() any {
	old := *h
	n := len(old) - 1
	p := old[n]
	old[n] = nil
	*h = old[:n]
	return p
}
