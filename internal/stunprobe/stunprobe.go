package stunprobe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

const (
	// MaxAddrs bounds the addresses that one probe asks.
	MaxAddrs = 8
	// maxAnswer is more than the longest answer, in bytes.
	maxAnswer = 512
)

// Pace is how often an address is asked while it does not answer.
type Pace struct {
	Requests int
	Spacing  time.Duration // between two of them
}

var (
	// Insistent asks whether a node lives: twelve times within 150 ms, so that lost
	// datagrams say nothing. At 30 % loss each way 0.03 % of such questions find no answer;
	// with six it is 1.8 %.
	Insistent = Pace{12, 12500 * time.Microsecond}
	// Sparing asks how far a node is: what is not measured costs little, and the clients of
	// one network share sfu.ProbesPerPrefix answers a second.
	Sparing = Pace{3, 25 * time.Millisecond}
)

// Answer is the first right one.
type Answer struct {
	RTT time.Duration
	// Lost are the requests to the same address that left before the one it answers:
	// they, or the answers to them, are lost, but for what came out of order.
	Lost int
}

// Probe asks addresses, all of which are one node's, and returns the first right answer.
// Without one it waits until ctx ends, which needs a deadline: the last request of an
// insistent one leaves after 138 ms.
func Probe(ctx context.Context, pace Pace, addrs []netip.AddrPort, ufrag, pwd string) (Answer, error) {
	if len(addrs) == 0 {
		return Answer{}, errors.New("probe: no address")
	}
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return Answer{}, fmt.Errorf("probe %v: %w", addrs[0], err)
	}
	defer conn.Close()
	return probe(ctx, conn, pace, addrs[:min(len(addrs), MaxAddrs)], ufrag, pwd)
}

// request is one that was sent.
type request struct {
	round int
	at    time.Time
}

func probe(ctx context.Context, conn *net.UDPConn, pace Pace, addrs []netip.AddrPort, ufrag, pwd string) (Answer, error) {
	integrity := stun.NewShortTermIntegrity(pwd)
	sent := map[[stun.TransactionIDSize]byte]request{}
	buf := make([]byte, maxAnswer)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var failed error // of the last request that could not be sent
	for round := range pace.Requests {
		for _, a := range addrs {
			m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":probe"), integrity, stun.Fingerprint)
			if err != nil {
				return Answer{}, fmt.Errorf("probe %v: %w", a, err)
			}
			sent[m.TransactionID] = request{round, time.Now()}
			if _, err := conn.WriteToUDPAddrPort(m.Raw, a); err != nil {
				delete(sent, m.TransactionID)
				failed = err
			}
		}
		var until time.Time // none after the last round: ctx ends the wait
		if round < pace.Requests-1 {
			until = time.Now().Add(pace.Spacing)
		}
		if a, ok := await(conn, until, buf, sent, integrity); ok {
			return a, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(sent) == 0 && failed != nil {
		return Answer{}, fmt.Errorf("probe %v: %w", addrs[0], failed)
	}
	return Answer{}, fmt.Errorf("probe %v: no answer: %w", addrs[0], context.Cause(ctx))
}

// await reads until a right answer comes, the time is up or the socket is closed.
func await(conn *net.UDPConn, until time.Time, buf []byte, sent map[[stun.TransactionIDSize]byte]request, integrity stun.MessageIntegrity) (Answer, bool) {
	if conn.SetReadDeadline(until) != nil { // closed
		return Answer{}, false
	}
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return Answer{}, false
		}
		now := time.Now()
		m := &stun.Message{Raw: buf[:n]}
		if m.Decode() != nil || m.Type != stun.BindingSuccess {
			continue
		}
		if r, ours := sent[m.TransactionID]; ours && integrity.Check(m) == nil {
			return Answer{now.Sub(r.at), r.round}, true
		}
	}
}
