package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/target"
	"voicefleet/signaling/voiceclient"
)

// A call on the victim may have listeners whose packets take longer ways: one whose
// network lets no UDP through but that to a relay, and one who is so far away that it is
// seated on another node, which the voices cross to. Each is a member of its own, with
// the media of pion: as a light client has neither way.
const (
	relayed = iota
	faraway
	farKinds
)

// Round trips that the one far away says it measured, in ms: to where its call is, and
// to all others.
const (
	farFrom = 150.0
	farNear = 5.0
	// farWithin is how long both may take until they hear the call, farTries how often
	// they come.
	farWithin = 8 * time.Second
	farTries  = 3
)

// farListeners are those two, in one call.
type farListeners [farKinds]*farListener

type farListener struct {
	ear  *ear
	call *voiceclient.Call
	had  voiceclient.Stats // at the beginning of the window
}

// seatFar joins both to a call on a node, and returns when they hear it by their ways.
// Two nodes share no call for a minute after their link was lost: then, or on a machine
// that is too busy, there is an error, and a round can do without them.
func (r *run) seatFar(ctx context.Context, node string) (f farListeners, err error) {
	c := r.crowd
	at := -1
	for _, m := range c.members {
		if on, _, in, _ := m.state(); in && on == node {
			at = m.call
			break
		}
	}
	if at < 0 {
		return f, fmt.Errorf("no call is on %s", node)
	}
	ctx, cancel := context.WithTimeout(ctx, farWithin)
	defer cancel()
	defer func() {
		if err != nil {
			f.close()
			err = fmt.Errorf("seat the relayed and the far listener: %w", err)
		}
	}()
	far := make(map[string]float64)
	for _, e := range r.fleet.Edges {
		far[e.Name] = farNear
	}
	far[node] = farFrom
	room := c.members[at*c.turns.members].room
	var joining sync.WaitGroup
	var errs [farKinds]error
	for kind := range f {
		// A seat that nobody has: it listens to the first voice of its call.
		e := &ear{clock: c.clock, turns: c.turns, seat: c.turns.members, first: uint32(at*c.turns.members) + 1, member: len(c.members) + kind}
		f[kind] = &farListener{ear: e}
		options := voiceclient.Options{Slots: slots, Log: c.log, OnAudio: func(p voiceclient.Packet) {
			if m, ok := mark.Read(p.Opus); ok {
				e.hear(m, p.Arrived)
			}
		}}
		rtt := far
		if kind == relayed {
			if options.Net, errs[kind] = newClosedNet(); errs[kind] != nil {
				continue
			}
			rtt = nil
		}
		joining.Go(func() {
			var err error
			if f[kind].call, err = c.remote.JoinFrom(ctx, room, c.far[at][kind], options, rtt); err != nil {
				errs[kind] = fmt.Errorf("the %s one: %w", [...]string{"relayed", "far"}[kind], err)
			}
		})
	}
	joining.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return f, err
	}
	for {
		way, on := f[relayed].call.Stats().Voice.Way, f[faraway].call.Stats().Voice.Node
		if way == "turn" && on != node && f[relayed].ear.silentFor() < 5*slotTime && f[faraway].ear.silentFor() < 5*slotTime {
			return f, nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return f, fmt.Errorf("one goes by %q and has heard nothing for %v, the other is on %s and has not for %v: %w",
				way, f[relayed].ear.silentFor(), on, f[faraway].ear.silentFor(), err)
		}
	}
}

func (f *farListeners) close() {
	for _, l := range f {
		if l != nil && l.call != nil {
			_ = l.call.Close()
		}
	}
}

// closedNet is a network that lets nothing through but UDP to a relay: pion asks a node
// by sockets of ListenUDP, and a relay by those of ListenPacket.
type closedNet struct{ transport.Net }

func newClosedNet() (*closedNet, error) {
	std, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	return &closedNet{std}, nil
}

func (n *closedNet) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	return closedConn{c}, nil
}

func (n *closedNet) CreateDialer(*net.Dialer) transport.Dialer { return closedDialer{} }

type closedConn struct{ transport.UDPConn }

func (closedConn) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }

type closedDialer struct{}

func (closedDialer) Dial(_, address string) (net.Conn, error) {
	return nil, fmt.Errorf("dial %s: the network is closed", address)
}

// seats of the far listeners of all calls.
func farSeats(rooms []target.Room) []target.Room {
	var seats []target.Room
	for _, room := range rooms {
		for range farKinds {
			seats = append(seats, room)
		}
	}
	return seats
}
