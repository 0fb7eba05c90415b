package crowd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/procstat"
)

const (
	// perAccount is how many sessions share an account: a user may have 16, and one
	// is left for its posts.
	perAccount = 15
	// perSource is how many sessions share a source address: of one a server takes
	// 1,024, and 3,000 attempts a minute.
	perSource = 100
)

// server is what a hall's sessions are connected to.
type server interface {
	CPU() (procstat.CPU, error)
	RSS() (int64, error)
}

// hall is one server and its sessions.
type hall struct {
	number   int
	host     string // HOST:PORT of the server
	server   server
	loader   *child.Process
	sources  []netip.Addr
	sessions int
	empty    int64 // resident memory of the server without anybody
}

// openHall starts a process of sessions for a server.
func openHall(c *Config, number int, host string, s server, mark string) (_ *hall, err error) {
	h := &hall{number: number, host: host, server: s}
	if h.empty, err = s.RSS(); err != nil {
		return nil, err
	}
	h.loader, err = start(c.Self, roleSessions, host, mark, fmt.Sprint(c.Seed+uint64(number)))
	return h, err
}

// arrive lets more sessions in, one of each token.
func (h *hall) arrive(ctx context.Context, tokens []string, rate float64, patience time.Duration) (epollclient.Entered, error) {
	if len(tokens) == 0 {
		return epollclient.Entered{}, nil
	}
	r := arriveRequest{Tokens: tokens, Sessions: len(tokens), Rate: rate, Patience: patience}
	for i := 0; i < len(tokens); i += perSource {
		a := source(h.number, len(h.sources))
		h.sources, r.Sources = append(h.sources, a), append(r.Sources, a)
	}
	h.sessions += len(tokens)
	var e epollclient.Entered
	err := h.loader.Call(ctx, "arrive", r, &e)
	return e, err
}

// source is the i-th local address of a hall's sessions.
func source(hall, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + hall), byte(i / 250), byte(2 + i%250)})
}

func bare(token string) string {
	b, _ := bytes.CutPrefix([]byte(token), []byte("Bot "))
	return string(b)
}

func (h *hall) count(ctx context.Context) (c counted, err error) {
	err = h.loader.Call(ctx, "count", struct{}{}, &c)
	return c, err
}

func (h *hall) tally(ctx context.Context, from int) (t epollclient.Tally, err error) {
	err = h.loader.Call(ctx, "tally", from, &t)
	return t, err
}

// close ends the sessions.
func (h *hall) close() error {
	if h.loader == nil {
		return errors.New("a hall without sessions")
	}
	return h.loader.Stop()
}
