package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/telemetry"
)

// Bounds of a connection.
const (
	// maxReconnectWait bounds the back-off between two attempts to connect, so
	// that a join waiting for the bus goes on within 2 s of its return.
	maxReconnectWait = time.Second
	// firstReconnectWait is the longest wait before the first attempt; it doubles
	// from there. A list of several servers is gone through without waiting.
	firstReconnectWait = 50 * time.Millisecond
	// reconnectBuffer holds what is published while the bus is away. When it is
	// full, Publish fails.
	reconnectBuffer = 1 << 20
	// pendingMessages and pendingBytes bound what one subscription may lag
	// behind. What comes beyond is dropped and counted as a slow consumer.
	pendingMessages = 8192
	pendingBytes    = 16 << 20
	// pingInterval and two missed answers: a server that stands still is left
	// after 1.2 to 1.8 s, so that clients go on at another within 2 s.
	pingInterval = 600 * time.Millisecond
	// RequestTimeout is the deadline of requests and bucket operations whose
	// context has none.
	RequestTimeout = 5 * time.Second
)

// Config says where the bus is.
type Config struct {
	// URL of the NATS servers, separated by commas. Without it, Embedded.
	URL string
	// Embedded is the server in this process.
	Embedded *Embedded
	// Dial, when set, makes the connections instead: one that can stand still and
	// break, to a server in this process.
	Dial func() (net.Conn, error)
	// Name shows in the lists of the server, and is told by Disconnects: see
	// ClientName.
	Name string
	// Replicas of each bucket (default 1, or 3 with a URL of at least 3 servers).
	Replicas int
	// Credentials of an enrolled program; nil where the network is trusted.
	Credentials *Credentials
	Metrics     prometheus.Registerer
	Log         *slog.Logger
}

func (cfg *Config) validate() error {
	if cfg.URL == "" && cfg.Embedded == nil && cfg.Dial == nil {
		return errors.New("neither a URL nor an embedded server is given")
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
		if strings.Count(cfg.URL, ",") >= 2 {
			cfg.Replicas = 3
		}
	}
	if cfg.Replicas < 1 || cfg.Replicas > 5 {
		return fmt.Errorf("%d replicas: want 1 to 5", cfg.Replicas)
	}
	if cfg.Log == nil {
		cfg.Log = telemetry.Discard()
	}
	return nil
}

// Credentials let an enrolled program in: a JWT that the servers check by
// themselves, and the key that it names.
type Credentials struct {
	// JWT is the newest; asked whenever a connection is made.
	JWT  func() string
	Seed []byte // of the NATS user key
	// TLS names the authority that vouches for the servers; nil: the system's.
	TLS *tls.Config
	// Inbox is where answers come, as its permissions have it (default: _INBOX).
	Inbox string
	// Guest may neither make buckets nor change them: it waits for those who may.
	Guest bool
}

// access is how a connection with c gets in.
func (c *Credentials) access() []nats.Option {
	opts := []nats.Option{nats.UserJWT(
		func() (string, error) { return c.JWT(), nil },
		func(nonce []byte) ([]byte, error) {
			key, err := nkeys.FromSeed(c.Seed)
			if err != nil {
				return nil, err
			}
			defer key.Wipe()
			return key.Sign(nonce)
		})}
	if c.TLS != nil {
		opts = append(opts, nats.Secure(c.TLS))
	}
	if c.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.Inbox))
	}
	return opts
}

// Conn is a connection to the bus that comes back by itself. Safe for concurrent
// use.
type Conn struct {
	// Immutable.
	nc       *nats.Conn
	js       jetstream.JetStream
	url      string
	access   []nats.Option // how to get in
	replicas int
	guest    bool
	log      *telemetry.Flood
	metrics  connMetrics

	mu sync.Mutex
	// Guarded by mu.
	reconnected chan struct{} // closed at the next reconnect
}

type connMetrics struct {
	reconnects    prometheus.Counter
	slowConsumers prometheus.Counter
	unpublished   prometheus.Counter
	malformed     prometheus.Counter
}

// Connect returns when the bus is there; it tries until ctx ends.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("connect to bus: %w", err)
	}
	counter := func(name, help string) prometheus.Counter {
		return telemetry.Register(cfg.Metrics, prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_bus_" + name, Help: help}))
	}
	c := &Conn{
		url:         cfg.URL,
		replicas:    cfg.Replicas,
		log:         telemetry.NewFlood(cfg.Log, 1),
		reconnected: make(chan struct{}),
		metrics: connMetrics{
			reconnects:    counter("reconnects_total", "Times the connection to the bus was lost and came back."),
			slowConsumers: counter("slow_consumers_total", "Times a subscription of this process lagged so far behind that messages were dropped."),
			unpublished:   counter("unpublished_total", "Events that could not be handed to the bus and were dropped."),
			malformed:     counter("malformed_total", "Messages from the bus that were not what their subject promises; ignored."),
		},
	}
	switch {
	case cfg.Dial != nil:
		c.access = append(c.access, nats.InProcessServer(dialer(cfg.Dial)))
	case cfg.URL == "":
		c.access = append(c.access, nats.InProcessServer(cfg.Embedded))
		if cfg.Embedded.token != "" {
			c.access = append(c.access, nats.Token(cfg.Embedded.token))
		}
	}
	if cfg.Credentials != nil {
		c.access = append(c.access, cfg.Credentials.access()...)
		c.guest = cfg.Credentials.Guest
	}
	up := make(chan struct{}, 1)
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(reconnectBuffer),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { up <- struct{}{} }),
		nats.ReconnectHandler(func(*nats.Conn) { c.onReconnect() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.log.Log(slog.LevelWarn, "disconnect", "bus connection lost", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				c.metrics.slowConsumers.Inc()
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			c.log.Log(slog.LevelWarn, "async", "bus reports an error", "subject", subject, "err", err)
		}),
	}
	nc, err := nats.Connect(cfg.URL, append(opts, c.access...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to bus: %w", err)
	}
	c.nc = nc
	select {
	case <-up:
	case <-ctx.Done():
		last := nc.LastError()
		nc.Close()
		if last != nil {
			return nil, fmt.Errorf("connect to bus: %w (%w)", last, ctx.Err())
		}
		return nil, fmt.Errorf("connect to bus: %w", ctx.Err())
	}
	if c.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to bus: %w", err)
	}
	return c, nil
}

// dialer is a nats.InProcessConnProvider.
type dialer func() (net.Conn, error)

func (d dialer) InProcessConn() (net.Conn, error) { return d() }

// reconnectDelay doubles from firstReconnectWait to maxReconnectWait; half of it
// is random, so that a fleet does not come back in step.
func reconnectDelay(attempts int) time.Duration {
	d := min(maxReconnectWait, firstReconnectWait<<min(max(attempts-1, 0), 10))
	return d/2 + rand.N(d/2)
}

func (c *Conn) onReconnect() {
	c.metrics.reconnects.Inc()
	c.log.Log(slog.LevelInfo, "reconnect", "bus connection is back")
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.reconnected)
	c.reconnected = make(chan struct{})
}

// Reconnected is closed when the connection has been lost and is back, once.
func (c *Conn) Reconnected() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reconnected
}

// Reconnects counts how often the connection was made anew, before anything comes on
// the new one.
func (c *Conn) Reconnects() uint64 { return c.nc.Stats().Reconnects }

// Renew makes the connection anew, soon: so credentials count that have changed.
func (c *Conn) Renew() {
	if err := c.nc.ForceReconnect(); err != nil {
		c.log.Log(slog.LevelWarn, "renew", "bus connection is not made anew", "err", err)
	}
}

// Ready is nil while the bus is connected.
func (c *Conn) Ready() error {
	if s := c.nc.Status(); s != nats.CONNECTED {
		return fmt.Errorf("bus is %v", s)
	}
	return nil
}

// await returns when the bus is connected. What waits here is not sent when its
// asker has given up meanwhile, as it would be out of the reconnect buffer.
func (c *Conn) await(ctx context.Context) error {
	for {
		back := c.Reconnected()
		switch {
		case c.nc.IsConnected():
			return nil
		case c.nc.IsClosed():
			return nats.ErrConnectionClosed
		}
		select {
		case <-back:
		case <-ctx.Done():
			return fmt.Errorf("bus is away: %w", ctx.Err())
		}
	}
}

// Flush returns when the server has seen everything published and subscribed so
// far.
func (c *Conn) Flush(ctx context.Context) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush bus: %w", err)
	}
	return nil
}

// closeFlush bounds how long Close waits for the last messages to leave.
const closeFlush = time.Second

// Close sends what is published, and ends the connection and its subscriptions.
func (c *Conn) Close() {
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(closeFlush)
	}
	c.nc.Close()
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return within(ctx, RequestTimeout)
}

// within is ctx with a deadline: its own, or after d.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}
