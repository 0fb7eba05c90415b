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
	turns   turns         // of those for whom there is no room
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
		return sync.OnceFunc(func() {
			g.turns.left(time.Now(), len(g.queue) > cap(g.seats))
			<-g.seats
			<-g.queue
		}), ""
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

const (
	// turnLeast is how soon at least somebody is told to come again.
	turnLeast = time.Second
	// laterMost is how long a connection at most stays open that waits as it was told to.
	laterMost = 15 * time.Second
)

// turns tells those for whom there is no room when there will be: each its own moment, as
// far apart as seats became free lately. So a crowd that waits costs next to nothing, while
// whoever is at it has the machine and the store for itself. Time is an argument.
type turns struct {
	mu sync.Mutex
	// Guarded by mu.
	each time.Duration // from one that leaves to the next, while others wait: a mean of some
	last time.Time     // when somebody left
	next time.Time     // the last turn that was given
}

// left is for one who leaves its seat, while others wait for one or not.
func (t *turns) left(now time.Time, others bool) {
	const some = 16
	t.mu.Lock()
	defer t.mu.Unlock()
	if others && !t.last.IsZero() {
		t.each += (min(now.Sub(t.last), time.Second) - t.each) / some
	}
	t.last = now
}

// give is how long from now the next turn is. Beyond laterMost it is any moment of the later
// half: who comes then is given another one.
func (t *turns) give(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if least := now.Add(turnLeast); t.next.Before(least) {
		t.next = least
	}
	if next := t.next.Add(t.each); next.Sub(now) <= laterMost {
		t.next = next
		return next.Sub(now)
	}
	return laterMost/2 + rand.N(laterMost/2)
}

// spread has those who are told to come later at the same moment come at several.
func spread(wait time.Duration) time.Duration {
	return wait + rand.N(min(wait/2, time.Minute)+time.Second)
}

// comeLater answers an Identify that has to wait. The protocol has only "invalid
// session" for it, after which clients wait for 1 to 5 s; retry_after, in
// seconds, is ours: to wait for longer if it must be.
func (c *conn) comeLater(reason string, wait time.Duration) {
	c.srv.gate.metrics.deferred.WithLabelValues(reason).Inc()
	c.patient(time.Now().Add(min(wait, laterMost)))
	c.send(encode(struct {
		Op    textchat.Op `json:"op"`
		D     bool        `json:"d"`
		S     *int        `json:"s"`
		T     *string     `json:"t"`
		Retry float64     `json:"retry_after"`
	}{Op: textchat.OpInvalidSession, Retry: wait.Round(time.Millisecond).Seconds()}))
}
