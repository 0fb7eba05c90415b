package edgeagentserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/linkwire"
	"voicefleet/sfu"
)

// link is the way to one other node, connected or not.
type link struct {
	// Immutable.
	all    *links
	node   edgeagent.NodeID
	number uint16 // as the engine knows it
	ring   *linkwire.Ring
	came   chan *quic.Conn // made by the peer; holds one
	ctx    context.Context
	stop   context.CancelFunc
	began  time.Time // what heard counts from

	who  atomic.Pointer[edgeagent.RelayPeer]
	conn atomic.Pointer[quic.Conn] // nil: none just now
	// giveUp ends a round of attempts to reach who was, and is set before it begins.
	giveUp atomic.Pointer[context.CancelFunc]
	// joined is when it was connected last, which the dialling side believes before
	// the other has looked at its certificate; heard is when something came last.
	joined, heard atomic.Int64
	open          atomic.Bool // something came over conn
	known         atomic.Bool // something came ever
	lost          atomic.Bool
	// taken and missed count the datagrams that came and those that did not; lossy says
	// that these are many, all the time.
	taken, missed atomic.Int64
	lossy         atomic.Bool
}

func newLink(all *links, who edgeagent.RelayPeer, number uint16) *link {
	k := &link{all: all, node: who.Node, number: number, ring: linkwire.NewRing(), came: make(chan *quic.Conn, 1), began: time.Now()}
	k.ctx, k.stop = context.WithCancel(all.running)
	k.who.Store(&who)
	return k
}

// run keeps the link until stop.
func (k *link) run() {
	var watching sync.WaitGroup
	watching.Go(k.watch)
	defer watching.Wait()
	patience := dialTime
	for k.ctx.Err() == nil {
		who := k.who.Load()
		conn, err := k.connect(patience)
		if patience = min(2*patience, dialTime); k.who.Load() != who { // it is elsewhere now
			patience = redialTime
		}
		if err == nil {
			patience = redialTime
			k.joined.Store(int64(time.Since(k.began)))
			err = k.serve(conn)
		}
		if k.ctx.Err() != nil {
			break
		}
		k.all.log.Log(slog.LevelWarn, "link "+string(k.node), "no link to a node of a call", "peer", k.node, "err", err)
		select {
		case <-k.ctx.Done():
		case <-time.After(dialPause):
		}
	}
	select {
	case conn := <-k.came:
		k.all.end(conn, "no call is shared any more")
	default:
	}
}

// meet has the link lead to a peer that is elsewhere than it was, or another.
func (k *link) meet(who edgeagent.RelayPeer) {
	was := k.who.Swap(&who)
	if conn := k.conn.Load(); conn != nil && was.Link.Fingerprint != who.Link.Fingerprint {
		k.all.end(conn, "the node has started anew")
	}
	if giveUp := k.giveUp.Load(); giveUp != nil {
		(*giveUp)()
	}
}

// hear notes that something came. Only then the link is open.
func (k *link) hear() {
	k.heard.Store(int64(time.Since(k.began)))
	if !k.open.Load() {
		k.known.Store(true)
		k.all.metrics.up.Inc()
		k.open.Store(true)
	}
}

// silent is for how long nothing came.
func (k *link) silent() time.Duration { return time.Since(k.began) - time.Duration(k.heard.Load()) }

// doubt ends a connection to a node that is not believed any more.
func (k *link) doubt(conn *quic.Conn) {
	leaf, _, err := named(k.all.trust, conn.ConnectionState().TLS)
	if err == nil {
		err = k.all.trust.Check(*k.who.Load(), leaf)
	}
	if k.all.refuse(err) != nil {
		k.all.end(conn, "not believed any more")
	}
}

// watch gives a dead connection up, and one to who is not believed any more, and
// tells when the node is lost and found. It also sees that nothing is held back for
// long.
func (k *link) watch() {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	trusted, judged := time.Now(), time.Now()
	var quality linkwire.Quality
	var taken, missed int64
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(judged) >= time.Second {
			judged = time.Now()
			came, gone := k.taken.Load(), k.missed.Load()
			k.judge(quality.Second(int(came-taken), int(gone-missed)))
			taken, missed = came, gone
		}
		k.all.socket.flush()
		silent := k.silent()
		idle := min(silent, time.Since(k.began)-time.Duration(k.joined.Load()))
		if conn := k.conn.Load(); conn != nil && idle > deadAfter {
			k.all.end(conn, "nothing was heard")
		} else if conn != nil && time.Since(trusted) > trustEvery {
			trusted = time.Now()
			k.doubt(conn)
		}
		patience := lostAfter
		if !k.known.Load() {
			patience = firstPatience
		}
		if lost := silent > patience; lost != k.lost.Load() {
			k.lost.Store(lost)
			if lost {
				k.all.metrics.losses.Inc()
			}
			k.all.changed()
		}
	}
}

// judge takes in whether the link loses packets all the time.
func (k *link) judge(share float64, lossy bool) {
	if lossy == k.lossy.Load() {
		return
	}
	k.lossy.Store(lossy)
	if lossy {
		k.all.metrics.lossy.Inc()
		k.all.log.Log(slog.LevelWarn, "lossy "+string(k.node), "a link loses packets: its calls fall back to one node", "peer", k.node, "percent", fmt.Sprintf("%.1f", 100*share))
	}
	k.all.changed()
}

// connect makes a connection, or waits for the one that the peer makes. Patience
// is for one attempt.
func (k *link) connect(patience time.Duration) (*quic.Conn, error) {
	if k.node < k.all.node {
		select {
		case conn := <-k.came:
			return conn, nil
		case <-k.ctx.Done():
			return nil, k.ctx.Err()
		}
	}
	round, giveUp := context.WithCancel(k.ctx)
	defer giveUp()
	k.giveUp.Store(&giveUp)
	who := *k.who.Load()
	var why error
	for _, addr := range who.Addrs {
		if err := k.all.socket.reaches(addr); err != nil {
			why = errors.Join(why, err)
			continue
		}
		ctx, cancel := context.WithTimeout(round, patience)
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, who.Link.Port))
		conn, err := k.all.outer.Dial(ctx, to, k.all.clientTLS(who), k.all.quic())
		cancel()
		if err == nil {
			return conn, nil
		}
		why = errors.Join(why, fmt.Errorf("dial %v: %w", to, err))
	}
	return nil, why
}

// serve carries packets over a connection and returns why it ended.
func (k *link) serve(conn *quic.Conn) error {
	most, err := room(conn)
	if err != nil {
		k.all.end(conn, err.Error())
		return err
	}
	k.all.metrics.drops[dropDown].Add(float64(k.ring.Clear())) // of the connection before
	k.conn.Store(conn)
	var sending sync.WaitGroup
	sending.Go(func() { k.send(conn, most) })
	stop := context.AfterFunc(k.ctx, func() { k.all.end(conn, "no call is shared any more") })
	err = k.receive(conn)
	stop()
	k.conn.Store(nil)
	if k.open.Swap(false) {
		k.all.metrics.up.Dec()
	}
	k.all.end(conn, "")
	sending.Wait()
	return err
}

// sender is what send works with.
type sender struct {
	k             *link
	conn          *quic.Conn
	room          int
	build         *linkwire.Builder
	held          int // packets in it
	first, second []byte
}

// send is the only one who calls SendDatagram, which waits when the network takes
// no more, and allocates.
func (k *link) send(conn *quic.Conn, room int) {
	s := &sender{k: k, conn: conn, room: room, build: linkwire.NewBuilder()}
	s.build.Begin()
	packet := make([]byte, 0, sfu.MaxRelayPacket)
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	overrun := k.ring.Dropped()
	quiet := false  // nothing was sent since the last tick
	if !s.flush() { // the other side waits for a sign of life
		return
	}
	for {
		select {
		case <-conn.Context().Done():
			return
		case <-alive.C:
			if quiet && !s.flush() {
				return
			}
			quiet = true
			continue
		case <-k.ring.Wake():
		}
		for {
			var ok bool
			if packet, ok = k.ring.Take(packet); !ok {
				break
			}
			if !s.add(packet) {
				return
			}
			quiet = false
		}
		if s.held > 0 && !s.flush() {
			return
		}
		if now := k.ring.Dropped(); now > overrun {
			k.all.metrics.drops[dropOverrun].Add(float64(now - overrun))
			overrun = now
		}
	}
}

// add puts a packet into the datagram that is built, or into the next one, or in
// halves into two.
func (s *sender) add(packet []byte) bool {
	if linkwire.Header+2+len(packet) > s.room {
		p, err := sfu.ReadRelayPacket(packet)
		if err != nil {
			s.k.all.metrics.drop(dropMalformed)
			return true
		}
		s.first, s.second = linkwire.Split(&p, s.first[:0], s.second[:0])
		s.k.all.metrics.split.Inc()
		return s.put(s.first) && s.put(s.second)
	}
	return s.put(packet)
}

func (s *sender) put(packet []byte) bool {
	if !s.build.Fits(len(packet), s.room) && !s.flush() {
		return false
	}
	s.build.Add(packet)
	s.held++
	return true
}

// flush sends what was built, be it only a sign of life. It is false when the
// connection has ended.
func (s *sender) flush() bool {
	m := s.k.all.metrics
	err := s.conn.SendDatagram(s.build.Datagram())
	if long := (*quic.DatagramTooLargeError)(nil); errors.As(err, &long) {
		// The path takes less than it did.
		m.drops[dropTooLong].Add(float64(s.held))
		s.room = max(int(long.MaxDatagramPayloadSize), linkwire.MinRoom)
		err = nil
	} else if err != nil {
		m.drops[dropDown].Add(float64(s.held))
	} else {
		m.out.Add(float64(s.held))
		m.datagrams.Inc()
	}
	s.build.Begin()
	s.held = 0
	return err == nil
}

// receive takes what the peer sends until the connection ends.
func (k *link) receive(conn *quic.Conn) error {
	m := k.all.metrics
	var tally linkwire.Tally
	var halves linkwire.Joiner
	var parcels parcels
	lost, missing, orphans := uint64(0), uint64(0), uint64(0)
	for {
		d, err := conn.ReceiveDatagram(k.ctx)
		if err != nil {
			return err
		}
		number, rest, err := linkwire.Open(d)
		if err != nil {
			m.drop(dropMalformed)
			continue
		}
		k.hear()
		tally.Came(number)
		k.taken.Add(1)
		if now := tally.Lost(); now != missing {
			k.missed.Add(int64(now) - int64(missing))
			missing = now
			if now > lost { // what comes late is counted as lost, too
				m.lost.Add(float64(now - lost))
				lost = now
			}
		}
		for len(rest) > 0 {
			var packet []byte
			if packet, rest, err = sfu.NextRelay(rest); err != nil {
				m.drop(dropMalformed)
				break
			}
			p, err := sfu.ReadRelayPacket(packet)
			if err != nil {
				m.drop(dropMalformed)
				continue
			}
			if p.Half != sfu.RelayWhole {
				whole, ok := halves.Join(p)
				if halves.Orphans > orphans {
					m.drops[dropHalf].Add(float64(halves.Orphans - orphans))
					orphans = halves.Orphans
				}
				if !ok {
					continue
				}
				p = whole
			}
			k.all.sort(k, &p, &parcels)
		}
		k.all.toEngine(&parcels)
	}
}
