package voiceclient

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// consentEvery is how often a path is asked for consent though it is not silent
// (RFC 7675 asks for 5 s; the node gives up after 30 s).
const consentEvery = 2 * time.Second

// probing is a network whose sockets know when something came last. pion asks a
// peer in a fixed rhythm; the rhythm is set to probeEvery, and what nobody needs
// is held back here: a path is asked every consentEvery, and every probeEvery once
// it has been silent for probeAfter.
type probing struct {
	transport.Net

	found func() // a check was answered while a path is looked for; nil: nobody asks

	held  atomic.Bool  // checks are held back: the path works
	last  atomic.Int64 // Unix nanoseconds when something came
	asked atomic.Int64 // and when a check went out

	detour *detour // for when nothing comes
}

func newProbing(under transport.Net) (*probing, error) {
	if under == nil {
		std, err := stdnet.NewNet()
		if err != nil {
			return nil, err
		}
		under = std
	}
	p := &probing{Net: under}
	p.detour = p.newDetour()
	return p, nil
}

// ListenUDP makes a socket that is looked at.
func (p *probing) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := p.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	return &probed{UDPConn: c, by: p, queue: make(chan datagram, detourQueue)}, nil
}

// due says whether a check is to go out now.
func (p *probing) due(now time.Time) bool {
	if p.held.Load() && now.UnixNano()-p.last.Load() < int64(probeAfter) && now.UnixNano()-p.asked.Load() < int64(consentEvery) {
		return false
	}
	p.asked.Store(now.UnixNano())
	return true
}

type probed struct {
	transport.UDPConn
	by *probing

	// What came by the detour. A reader that waits for UDP is woken by its deadline, which
	// nobody else needs.
	queue chan datagram

	answered bool // the last datagram was the answer to a check; owned by the reader
}

type datagram struct {
	b    []byte
	from net.Addr
}

// deliver gives a datagram to ReadFrom; what does not fit is lost.
func (c *probed) deliver(b []byte, from net.Addr) {
	select {
	case c.queue <- datagram{slices.Clone(b), from}:
		_ = c.UDPConn.SetReadDeadline(time.Unix(1, 0)) // a closed socket has no reader
	default:
	}
}

// isCheck says whether a datagram is a STUN binding request (RFC 8489 section 5).
func isCheck(b []byte) bool { return len(b) >= 20 && b[0] == 0 && b[1] == 1 }

// isAnswer says whether a datagram is the success response to one.
func isAnswer(b []byte) bool { return len(b) >= 20 && b[0] == 1 && b[1] == 1 }

func (c *probed) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.answered && !c.by.held.Load() && c.by.found != nil {
		c.by.found() // who reads again has seen it
	}
	n, from, err := c.read(b)
	c.answered = err == nil && isAnswer(b[:n])
	return n, from, err
}

func (c *probed) read(b []byte) (int, net.Addr, error) {
	for {
		select {
		case d := <-c.queue:
			return copy(b, d.b), d.from, nil
		default:
		}
		n, from, err := c.UDPConn.ReadFrom(b)
		switch {
		case err == nil:
			c.by.last.Store(time.Now().UnixNano())
			c.by.detour.heardUDP(c)
			return n, from, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			// The queue is looked at after this: nothing is missed. It may be empty, when
			// its reader was quicker than who woke it; an error would end that reader.
			if err := c.UDPConn.SetReadDeadline(time.Time{}); err != nil {
				return 0, nil, err
			}
		default:
			return n, from, err
		}
	}
}

func (c *probed) WriteTo(b []byte, to net.Addr) (int, error) {
	check := isCheck(b)
	if check && !c.by.due(time.Now()) || c.by.detour.takes(c, b, to, check) {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}
