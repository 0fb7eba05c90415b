package chatserver

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/ratelimit"
)

// standingRoom is how many connections may wait for guilds, for each that may begin a
// session: a goroutine each, some 10 KiB.
const standingRoom = 16

// gate is what the gateway's connections share.
type gate struct {
	// Immutable.
	shardGuilds int // a test may lower it before Run
	metrics     gateMetrics
	poll        *poll // nil: not on this system; it runs from the first connection on
	polling     sync.Once

	// Safe for concurrent use.
	streams gatewaysession.Streams
	writers writers
	seats   chan struct{} // taken by sessions that begin, or come from elsewhere
	queue   chan struct{} // taken by those, and by those that wait for a seat
	// Taken by connections that wait, without a seat, for guilds that are being loaded; those
	// beyond do not wait, and what they say of such a guild before they have it is not heard.
	standing chan struct{}
}

// gateMetrics are the gateway's; the rest of them is in metrics.
type gateMetrics struct {
	deferred *prometheus.CounterVec
	shed     *prometheus.CounterVec
	streams  prometheus.Gauge
	slow     prometheus.Counter
}

func (g *gate) init(s *Server) error {
	g.shardGuilds = textchat.MaxShardGuilds
	g.streams.Allow(s.cfg.Limits.Streams)
	g.seats = make(chan struct{}, s.cfg.Limits.Identifying)
	g.queue = make(chan struct{}, 2*s.cfg.Limits.Identifying)
	g.standing = make(chan struct{}, standingRoom*s.cfg.Limits.Identifying)
	g.metrics = gateMetrics{
		deferred: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_gateway_identifies_deferred_total",
			Help: "Identifies that were told to come later, by reason."}, []string{"reason"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_gateway_shed_total",
			Help: "Presences and typing not sent, because a newer one was at hand or the client lagged."}, []string{"kind"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "voicefleet_gateway_streams",
			Help: "Gateway connections with a compressor of their own."}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_gateway_slow_total",
			Help: "Connections closed, to be resumed, because their client lagged."}),
	}
	for _, c := range []prometheus.Collector{g.metrics.deferred, g.metrics.shed, g.metrics.streams, g.metrics.slow} {
		if err := s.cfg.Metrics.Register(c); err != nil {
			return err
		}
	}
	g.writers.init()
	var err error
	g.poll, err = newPoll()
	return err
}

// begin has connections read and written, until end.
func (g *gate) begin(s *Server) {
	n := runtime.GOMAXPROCS(0)
	for range n {
		s.task(func() { g.writers.run(n) })
	}
}

// watch has poll tell when a connection can be read.
func (g *gate) watch(c *conn) error {
	g.polling.Do(func() {
		// There is a connection, so the server has not stopped.
		c.srv.task(func() { g.poll.run(func(c *conn) { c.srv.task(c.look) }) })
	})
	return g.poll.watch(c)
}

// end is called when there is no connection any more.
func (g *gate) end() {
	g.writers.end()
	if g.poll != nil {
		g.poll.close()
	}
}

// shedKind names what was not sent, for the counter.
func shedKind(k gatewaysession.Kind) string {
	if k == gatewaysession.Typing {
		return "typing"
	}
	return "presence"
}

// enter waits for a seat to begin a session in, at most askTimeout. reason, when not
// empty, says why there is none; else leave must be called, and may be again.
func (g *gate) enter(ctx context.Context) (leave func(), reason string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case g.queue <- struct{}{}:
	default:
		return nil, "crowd"
	}
	select {
	case g.seats <- struct{}{}:
		return sync.OnceFunc(func() { <-g.seats; <-g.queue }), ""
	case <-ctx.Done():
		<-g.queue
		return nil, "slow"
	}
}

// mayIdentify counts an Identify of an account. Zero is yes; else it says when to
// come back. Whoever has shards begins one of each bucket in a window, others as
// many sessions as there are buckets.
func (s *Server) mayIdentify(now time.Time, user textchat.ID, shard [2]uint64) time.Duration {
	key, limit := "identify|"+user.String(), textchat.MaxConcurrency
	if shard[1] > 1 {
		key, limit = key+"|"+string(rune('a'+shard[0]%textchat.MaxConcurrency)), 1
	}
	a := s.rates.Take(now, key, ratelimit.Rule{Limit: limit, Window: textchat.IdentifyWindow})
	if a.OK {
		return 0
	}
	return max(a.Reset.Sub(now), time.Millisecond)
}

// sessionDay is how long the sessions that a bot begins count.
const sessionDay = 24 * time.Hour

// starts counts n sessions that a bot begins today, on this instance.
func (s *Server) starts(now time.Time, user textchat.ID, n int) ratelimit.Answer {
	return s.day.TakeN(now, user.String(), ratelimit.Rule{Limit: s.cfg.Limits.Starts, Window: sessionDay}, n)
}

// laterMost is how long a connection at most stays open that waits as it was told to.
const laterMost = 15 * time.Second

// comeLater answers an Identify that has to wait. The protocol has only "invalid
// session" for it, after which clients wait for 1 to 5 s; retry_after, in
// seconds, is ours: to wait, spread out, for longer if it must be.
func (c *conn) comeLater(reason string, wait time.Duration) {
	c.srv.gate.metrics.deferred.WithLabelValues(reason).Inc()
	wait += time.Duration(rand.Int64N(int64(min(wait/2, time.Minute) + time.Second)))
	c.patient(time.Now().Add(min(wait, laterMost)))
	c.send(encode(struct {
		Op    textchat.Op `json:"op"`
		D     bool        `json:"d"`
		S     *int        `json:"s"`
		T     *string     `json:"t"`
		Retry float64     `json:"retry_after"`
	}{Op: textchat.OpInvalidSession, Retry: wait.Round(time.Millisecond).Seconds()}))
}
