package edgeagentserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/internal/custody"
	"voicefleet/edgeagent/internal/load"
	"voicefleet/edgeagent/internal/peers"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// Config of a Server. Bus, Node and Engine are required.
type Config struct {
	Bus  *bus.Conn
	Node edgeagent.NodeID
	// Region and Zone say where the node stands; Zone is the failure domain
	// within the region. Allocators compare Region with that of the user.
	Region, Zone string
	// Location tells where, for users whose place on the earth is all that is known;
	// nil: nobody knows.
	Location *edgeagent.Location
	// Label and Weight make the node one that tries something out: of calls whose
	// guild does not try the label it takes the share Weight (0: all).
	Label  string
	Weight float64
	// Peers says which other nodes to measure; it is asked once a minute. Nil
	// measures none.
	Peers   func(ctx context.Context, req edgeagent.PeersRequest) ([]edgeagent.Peer, error)
	Version string
	// Ports of the media sockets, one per worker; the engine's own word counts
	// once it has started.
	Ports []uint16
	// Advertise gives the addresses clients can reach the node at, best first.
	// It is asked every second; a change reaches new sessions.
	Advertise func() []netip.Addr
	Limits    sfu.Limits
	// NoSilenceGate forwards silence too; for measurements.
	NoSilenceGate bool
	// CapacityPPS is how many packets a second the node offers to send. Zero
	// measures it, which takes 200 ms at start.
	CapacityPPS float64
	// Engine starts a media engine and returns its command stream. It is called
	// again, with back-off, whenever the stream has ended and was closed. A stream
	// that is [Found] leads to an engine at work, one that is [Mortal] can say
	// how the engine ended.
	Engine func(ctx context.Context) (io.ReadWriteCloser, error)
	// Closed are ways in for clients whose network lets no UDP through; nil: none.
	Closed *Closed

	// Link is the UDP socket for the links to other nodes, lent for the time of Run.
	// Nil: no call of this node spans nodes.
	Link *net.UDPConn
	// Trust says which nodes are believed there. Nil: those whose certificates the
	// allocator names, as no authority vouches for them.
	Trust PeerTrust
	// LinkPacket is how long the packets of links are (UDP payload; default 1,400).
	// Each path between nodes must take them; shorter ones cost more of each.
	LinkPacket int

	// Program finds and checks the program on disk for the verb upgrade. Nil: this
	// node cannot be upgraded by itself.
	Program func(ctx context.Context) (Program, error)

	Metrics prometheus.Registerer
	Log     *slog.Logger
}

func (cfg *Config) validate() error {
	if cfg.Bus == nil || cfg.Engine == nil {
		return errors.New("agent: Bus and Engine are required")
	}
	if !cfg.Node.Valid() {
		return fmt.Errorf("agent: node id %.70q: want 1 to 64 characters of a-z, 0-9 and -", cfg.Node)
	}
	if cfg.Location != nil && !cfg.Location.Valid() {
		return fmt.Errorf("agent: there is no place %+v", *cfg.Location)
	}
	if len(cfg.Label) > edgeagent.MaxLabel || !(cfg.Weight >= 0 && cfg.Weight <= 1) {
		return fmt.Errorf("agent: label %.70q with weight %v: want at most %d characters and 0 to 1", cfg.Label, cfg.Weight, edgeagent.MaxLabel)
	}
	if cfg.CapacityPPS < 0 {
		return fmt.Errorf("agent: capacity of %v packets/s", cfg.CapacityPPS)
	}
	if cfg.Advertise == nil {
		cfg.Advertise = func() []netip.Addr { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = telemetry.Discard()
	}
	cfg.Log = cfg.Log.With("node", cfg.Node)
	cfg.Limits = cfg.Limits.WithDefaults()
	return nil
}

// Bounds of the shell.
const (
	// inboxLen is how many requests and how many engine events may wait for the
	// agent. Requests beyond it wait until their deadline, events slow the
	// engine's stream down.
	inboxLen = 256
	// tickInterval is how precise the core's timeouts are.
	tickInterval = 100 * time.Millisecond
)

// Server is the agent of one node. Run it once.
type Server struct {
	// Immutable.
	cfg     Config
	log     *telemetry.Flood
	panics  *telemetry.Panics
	metrics *metrics
	keys    *bus.Keys
	links   *links // nil without Config.Link
	started time.Time

	requests chan request
	events   chan engineEvent
	checks   chan custody.Check // holds one: the core asks for one at a time
	// successor holds the program that is to replace this process: one upgrade is
	// under way at a time, as long as upgrading is set.
	successor chan Program
	upgrading atomic.Bool
	done      chan struct{} // closed when run has ended
	beat      chan struct{} // holds one: a heartbeat is due now
	closed    *closed       // nil without
	nextID    atomic.Uint64

	// Owned by run.
	core     *custody.Core
	meter    load.Meter
	current  *engine
	starts   int // engines so far
	waiting  map[uint64]chan<- custody.Reply
	out      []custody.Out
	last     sfu.LoadReading
	strain   load.Pressure
	pressed  bool
	measured float64 // packets/s, before any correction
	memory   float64 // share of the limit, as the last heartbeat found it

	mu sync.Mutex
	// Guarded by mu.
	capacity edgeagent.Capacity // zero until known
	synced   bool               // the grant keys are known
	peers    peers.Table
}

// request is something that run is asked to do.
type request struct {
	do    func(now time.Time, id uint64, out []custody.Out) []custody.Out
	reply chan<- custody.Reply // room for one
}

// engineEvent is what happens to an engine: it is up, says something, or is gone.
type engineEvent struct {
	engine  *engine
	up      bool
	gone    bool
	crashed bool // with gone: by its own fault
	looping bool // it crashes again and again
	event   sfu.Event
}

// New checks the configuration and readies an agent.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:       cfg,
		log:       telemetry.NewFlood(cfg.Log, 1),
		panics:    telemetry.NewPanics(cfg.Metrics, cfg.Log),
		metrics:   newMetrics(cfg.Metrics),
		keys:      bus.NewKeys(),
		started:   time.Now(),
		requests:  make(chan request, inboxLen),
		events:    make(chan engineEvent, inboxLen),
		checks:    make(chan custody.Check, 1),
		successor: make(chan Program, 1),
		done:      make(chan struct{}),
		beat:      make(chan struct{}, 1),
		waiting:   make(map[uint64]chan<- custody.Reply),
	}
	if cfg.Closed != nil {
		var err error
		if s.closed, err = newClosed(*cfg.Closed, cfg.Node, s.panics); err != nil {
			return nil, err
		}
		s.closed.targets.own(cfg.Advertise(), cfg.Ports)
		telemetry.Register(cfg.Metrics, &closedCollector{s.closed})
	}
	door := custody.RelayDoor{}
	if cfg.Link != nil {
		var err error
		if s.links, err = newLinks(&cfg, s.beatNow); err != nil {
			return nil, err
		}
		door = s.links.door()
	}
	s.core = custody.New(custody.Config{
		Node: cfg.Node, Limits: cfg.Limits, NoSilenceGate: cfg.NoSilenceGate, Advertise: cfg.Advertise(), TCP: cfg.Closed.tcp(),
		ProbeKey: sfu.NewProbeKey(), Relay: door,
	})
	return s, nil
}

// Run is the life of the node. It returns when ctx has ended and everybody has
// been told that the node is gone.
func (s *Server) Run(ctx context.Context) error {
	// Things die in the order: verbs, sessions, engine, heartbeat, links.
	if s.links != nil {
		if err := s.links.run(); err != nil {
			return err
		}
		defer s.links.close()
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { s.followKeys(running) })
	background.Go(func() { s.confirm(running) })
	background.Go(func() { s.succeed(running) })
	background.Go(func() { s.measure() })
	if s.cfg.Peers != nil {
		background.Go(func() { s.measurePeers(running) })
	}
	if s.closed != nil {
		background.Go(func() { s.closed.run(running) })
		background.Go(func() { s.closed.targets.follow(running, s.cfg.Bus, s.log) })
	}

	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	heartbeat := make(chan struct{})
	go func() { defer close(heartbeat); s.heartbeats(beating) }()

	engines, stopEngines := context.WithCancel(context.WithoutCancel(ctx))
	supervised := make(chan struct{})
	go func() { defer close(supervised); s.supervise(engines) }()

	looping, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	looped := make(chan struct{})
	go func() { defer close(looped); s.run(looping) }()

	if serving, err := s.serve(ctx); err == nil { // otherwise ctx has ended
		<-ctx.Done()
		serving.Stop()
	}
	s.farewell()
	stopEngines()
	<-supervised
	stopBeating()
	<-heartbeat
	stopLoop()
	<-looped
	return nil
}

// farewellTimeout bounds what the good-bye of a node may take.
const farewellTimeout = 2 * time.Second

// farewell ends all sessions, for whoever serves their members.
func (s *Server) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	_, _ = s.ask(ctx, func(now time.Time, id uint64, out []custody.Out) []custody.Out {
		return append(s.core.Shutdown(now, out), custody.Out{Reply: &custody.Reply{ID: id}})
	})
}

// run owns the core.
func (s *Server) run(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.requests:
			id := s.nextID.Add(1)
			s.waiting[id] = r.reply
			if s.step(func(now time.Time) { s.out = r.do(now, id, s.out) }) && s.waiting[id] != nil {
				s.perform(custody.Out{Reply: &custody.Reply{ID: id, Err: errors.New("internal error")}})
			}
		case ev := <-s.events:
			s.step(func(now time.Time) { s.engineEvent(now, ev) })
		case <-tick.C:
			s.step(func(now time.Time) { s.out = s.core.Tick(now, s.out) })
		}
	}
}

// step lets the core do one thing and then does what it says.
func (s *Server) step(fn func(now time.Time)) (panicked bool) {
	panicked = s.panics.Guard("agent", func() { fn(time.Now()) })
	for i, o := range s.out {
		s.perform(o)
		s.out[i] = custody.Out{}
	}
	s.out = s.out[:0]
	return panicked
}

func (s *Server) perform(o custody.Out) {
	switch {
	case o.Command != nil:
		if s.current != nil {
			s.current.send(*o.Command)
		}
	case o.Reply != nil:
		if reply := s.waiting[o.Reply.ID]; reply != nil {
			delete(s.waiting, o.Reply.ID)
			reply <- *o.Reply
		}
	case o.Event != nil:
		s.publish(*o.Event)
	case o.Check != nil:
		s.checks <- *o.Check
	case o.Route != nil:
		if s.links != nil {
			s.links.set(*o.Route, s.core.Number)
		}
	case o.Identity != nil:
		if s.links != nil {
			s.links.become(o.Identity)
		}
	case o.Quarantined != nil:
		q := o.Quarantined
		s.cfg.Log.Error("call is quarantined: the media engine failed in its work again and again; report the stack above",
			"call", q.Call, "crashes", q.Deaths, "panics", q.Panics, "for", q.For)
	case o.Door != nil:
		if s.closed != nil {
			s.closed.door(*o.Door)
		}
	case o.Bad != nil:
		if s.current != nil {
			s.current.fail(o.Bad)
		}
	}
}

// publish tells an event to whom it concerns: the signaling instances of the
// call, the guilds, or both. The bus counts what it cannot take.
func (s *Server) publish(ev edgeagent.CallEvent) {
	call := ev.Call.String()
	if ev.Opened == nil && ev.Deaf == nil {
		_ = bus.Publish(s.cfg.Bus, bus.CallSubject(call, string(s.cfg.Node)), ev)
	}
	if ev.Opened != nil || ev.Left != nil || ev.Deaf != nil {
		_ = bus.Publish(s.cfg.Bus, bus.PresenceSubject(call, string(s.cfg.Node)), ev)
	}
	if ev.Deaf != nil {
		s.metrics.mends.Inc()
	}
	if ev.Left != nil {
		s.metrics.ended.WithLabelValues(endReason(ev.Left.Reason)).Inc()
	}
}

// endReason is the reason as a metric label: those of the agent and the engine by
// name, whatever a CloseRequest says as "request".
func endReason(reason string) string {
	switch sfu.EndReason(reason) {
	case sfu.EndClosed, sfu.EndConsent, sfu.EndHandshake, sfu.EndIdle, sfu.EndPanic,
		edgeagent.Superseded, edgeagent.NodeGone, edgeagent.EngineLost, edgeagent.Moved, edgeagent.Quarantined:
		return reason
	}
	return "request"
}

func (s *Server) engineEvent(now time.Time, ev engineEvent) {
	switch {
	case ev.looping:
		s.drainItself()
	case ev.up:
		s.current = ev.engine
		s.starts++
		if found, ok := ev.engine.stream.(Found); ok && found.Found() {
			s.out = s.core.EngineFound(now, s.out)
		} else {
			s.out = s.core.EngineUp(now, s.out)
		}
	case ev.engine != s.current:
	case ev.gone:
		s.current = nil
		s.out = s.core.EngineLost(now, ev.crashed, s.out)
		s.last = sfu.LoadReading{}
	default:
		if ev.event.Load != nil {
			s.meter.Media(now, *ev.event.Load)
			s.press(now, *ev.event.Load)
			s.metrics.load(*ev.event.Load)
			if ev.event.Load.Panics > s.last.Panics {
				s.panics.Add("call", ev.event.Load.Panics-s.last.Panics)
			}
			s.last = *ev.event.Load
		}
		s.out = s.core.Event(now, ev.event, s.out)
		if ev.event.Started != nil || ev.event.Adopted != nil {
			s.beatNow()
		}
	}
}

// press has newcomers refused while the node cannot take anybody more.
func (s *Server) press(now time.Time, r sfu.LoadReading) {
	reason := s.strain.Read(now, r, s.memory)
	if (reason != "") != s.pressed {
		s.pressed = reason != ""
		if s.pressed {
			s.cfg.Log.Warn("node is overloaded: newcomers are refused", "reason", reason)
		} else {
			s.cfg.Log.Info("node takes newcomers again")
		}
	}
	s.metrics.pressed(s.pressed)
	s.core.Press(reason)
}

// ask lets run do something and waits for its reply.
func (s *Server) ask(ctx context.Context, do func(now time.Time, id uint64, out []custody.Out) []custody.Out) (custody.Reply, error) {
	reply := make(chan custody.Reply, 1)
	select {
	case s.requests <- request{do, reply}:
	case <-ctx.Done():
		return custody.Reply{}, fmt.Errorf("agent is busy: %w", ctx.Err())
	case <-s.done:
		return custody.Reply{}, errors.New("agent has ended")
	}
	select {
	case r := <-reply:
		return r, r.Err
	case <-ctx.Done():
		return custody.Reply{}, fmt.Errorf("wait for media engine: %w", ctx.Err())
	case <-s.done:
		return custody.Reply{}, errors.New("agent has ended")
	}
}
