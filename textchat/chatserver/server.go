package chatserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/password"
	"voicefleet/textchat/internal/ratelimit"
	"voicefleet/textchat/internal/sqlite"
)

const (
	// presenceQueue bounds call events that wait for their guild; beyond it they
	// are dropped and counted.
	presenceQueue = 4096
	// movedQueue bounds moves that wait for their guild: all calls of a large node
	// at once. Beyond it they are dropped and counted; clients then ask by
	// themselves, some 4 s later.
	movedQueue = 16384
	// sweepEvery is how often overdue connections and sessions are looked for.
	sweepEvery = time.Second
	// slowTurn is the longest slow mode.
	slowTurn = 6 * time.Hour
)

// Server is one instance of textchat.
type Server struct {
	// Immutable.
	cfg      Config
	store    textchat.Store
	ownStore bool
	files    Files
	hasher   *password.Hasher
	metrics  *metrics
	api      http.Handler
	root     http.Handler
	// Times a test may shorten before Run.
	resumeWindow    time.Duration
	instanceGrace   time.Duration
	identifyTimeout time.Duration
	heartbeatLimit  time.Duration
	bodyTimeout     time.Duration
	idleTime        time.Duration
	noteErase       time.Duration // how often an erasure writes down how far it is

	// Safe for concurrent use.
	mint  snowflake.Mint
	rates ratelimit.Table
	slow  ratelimit.Table // windows of up to six hours: slow mode, bytes attached
	day   ratelimit.Table // sessions that bots begin
	hub   hub
	voice lanes
	gate  gate

	uploads uploads
	private private
	views   views
	pages   pages
	awaited atomic.Int64 // writes that await looks for

	regionsKnown regionList

	ensemble *ensemble // nil: this is the only instance, and sessions end with it

	// life ends when Run is asked to stop; everything that runs is counted in
	// tasks. stopped guards against a task begun after the wait; it is only read by those who
	// begin one, as every connection does for what it reads.
	life    context.Context
	end     context.CancelFunc
	tasks   sync.WaitGroup
	taskMu  sync.RWMutex
	stopped bool // guarded by taskMu
	running atomic.Bool
	joined  chan struct{} // closed by Run

	presence chan edgeagent.CallEvent
	moved    chan allocator.Moved

	mu sync.RWMutex
	// Guarded by mu.
	owners   map[textchat.ID]*owner
	channels map[textchat.ID]textchat.ID // channel → guild, of loaded guilds
}

// New opens the store. Handler works from now on; Run must be called to end
// everything in order.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("chatserver: %w", err)
	}
	s := &Server{
		cfg: cfg, store: cfg.Store,
		hasher:          password.NewHasher(cfg.Limits.Hashers, cfg.Limits.HashQueue),
		resumeWindow:    textchat.ResumeWindow,
		instanceGrace:   instanceGrace,
		identifyTimeout: textchat.IdentifyTimeout,
		heartbeatLimit:  textchat.HeartbeatDeadline,
		bodyTimeout:     bodyTimeout,
		idleTime:        idleTime,
		noteErase:       eraseNoted,
		presence:        make(chan edgeagent.CallEvent, presenceQueue),
		moved:           make(chan allocator.Moved, movedQueue),
		joined:          make(chan struct{}),
		owners:          make(map[textchat.ID]*owner),
		channels:        make(map[textchat.ID]textchat.ID),
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("chatserver: %w", err)
	}
	if s.store == nil {
		st, err := sqlite.Open(cfg.DataDir, sqlite.Config{Metrics: cfg.Metrics, Patience: cfg.patience})
		if err != nil {
			return nil, fmt.Errorf("chatserver: %w", err)
		}
		s.store, s.ownStore = st, true
	}
	if s.files = cfg.Files; s.files == nil {
		f, err := filestore.Open(filepath.Join(cfg.DataDir, folderFiles))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("chatserver: %w", err), s.closeStore())
		}
		s.files = f
	}
	s.mint.Worker = cfg.Worker
	s.slow.Turn = slowTurn
	s.day.Turn = sessionDay
	s.private.init()
	s.views.init(s.metrics)
	s.pages.init(s)
	s.hub.init()
	s.voice.init(s)
	if err := s.gate.init(s); err != nil {
		return nil, fmt.Errorf("chatserver: %w", err)
	}
	s.life, s.end = context.WithCancel(context.Background())
	switch {
	case cfg.Bus != nil:
		s.ensemble, err = newEnsemble(s.life, s)
	case cfg.Told != "":
		s.ensemble, err = newAlone(s.life, s)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("chatserver: %w", err), s.closeStore())
	}
	s.gate.begin(s)
	s.api = s.newAPI()
	s.root = s.newRoot()
	return s, nil
}

// Joined is closed when a server that runs knows what the other instances know, if there
// are any: from then on sessions that they leave behind are resumed here.
func (s *Server) Joined() <-chan struct{} { return s.joined }

// Handler answers /api, /gateway and, with a page, everything else.
func (s *Server) Handler() http.Handler { return s.root }

// Run serves until ctx ends: then clients are told to come back, what runs is
// waited for and the store is closed. It is called once.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("chatserver: Run was called before")
	}
	var cancels []func()
	cancel := func() {
		for _, c := range cancels {
			c()
		}
	}
	if s.ensemble != nil {
		sharing, leave := context.WithCancel(ctx)
		ready, over := make(chan struct{}), make(chan error, 1)
		s.task(func() { over <- s.ensemble.run(sharing, func() { close(ready) }) })
		cancels = append(cancels, leave)
		select {
		case <-ready:
		case err := <-over:
			cancel()
			if err == nil {
				return s.stop() // it was told to end
			}
			return errors.Join(fmt.Errorf("chatserver: join the other instances: %w", err), s.stop())
		}
	}
	close(s.joined)
	if s.cfg.Presence != nil {
		c, err := s.cfg.Presence.SubscribePresence(s.notePresence)
		if err != nil {
			cancel()
			return errors.Join(fmt.Errorf("chatserver: subscribe to presence: %w", err), s.stop())
		}
		cancels = append(cancels, c)
		s.task(s.passPresence)
	}
	if s.cfg.Moves != nil {
		c, err := s.cfg.Moves.SubscribeMoved(s.noteMoved)
		if err != nil {
			cancel()
			return errors.Join(fmt.Errorf("chatserver: subscribe to moves: %w", err), s.stop())
		}
		cancels = append(cancels, c)
		s.task(s.passMoved)
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			cancel()
			return s.stop()
		case now := <-sweep.C:
			s.sweep(now)
		}
	}
}

// stop is the order of dying: clients, then what serves them, then the store.
func (s *Server) stop() error {
	s.hub.closeAll(textchat.CloseGoingAway)
	s.end()
	s.hub.open.Wait()
	s.gate.end()
	s.taskMu.Lock()
	s.stopped = true
	s.taskMu.Unlock()
	s.tasks.Wait()
	if s.ensemble != nil && s.ensemble.bus != nil {
		s.ensemble.bye()
	}
	return s.closeStore()
}

func (s *Server) closeStore() error {
	if s.isAlone() {
		if err := s.ensemble.alone.journal.Close(); err != nil {
			s.cfg.Log.Error("close journal", "err", err)
		}
	}
	if !s.ownStore {
		return nil
	}
	if err := s.store.Close(); err != nil {
		return fmt.Errorf("chatserver: close store: %w", err)
	}
	return nil
}

// Close ends a server whose Run was never called.
func (s *Server) Close() error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("chatserver: Close is for a server that does not run")
	}
	return s.stop()
}

// task runs f in a goroutine that Run waits for. It reports false, and runs
// nothing, when the server has stopped.
func (s *Server) task(f func()) bool {
	s.taskMu.RLock()
	defer s.taskMu.RUnlock()
	if s.stopped {
		return false
	}
	s.tasks.Go(f)
	return true
}

// recovered is deferred around one unit: a panic ends that unit only.
func (s *Server) recovered(unit string) {
	if r := recover(); r != nil {
		s.panicked(unit, r)
	}
}

func (s *Server) panicked(unit string, r any) {
	s.metrics.panics.WithLabelValues(unit).Inc()
	s.cfg.Log.Error("panic", "unit", unit, "panic", fmt.Sprint(r), "stack", stack())
}

func (s *Server) notePresence(e edgeagent.CallEvent) {
	if e.Opened == nil && e.Left == nil && e.Deaf == nil {
		return
	}
	select {
	case s.presence <- e:
	default:
		s.metrics.presenceDropped.Inc()
	}
}

func (s *Server) passPresence() {
	for {
		var e edgeagent.CallEvent
		select {
		case <-s.life.Done():
			return
		case e = <-s.presence:
		}
		o := s.loadedOwner(e.Call.ID)
		if o == nil || !o.mine() {
			continue // no voice state can be in a guild that is not loaded
		}
		switch {
		case e.Opened != nil:
			o.post(guild.CallOpened{Channel: e.Call.ID, User: e.Opened.User.ID, Session: e.Opened.Session})
		case e.Left != nil:
			o.post(guild.CallLeft{Channel: e.Call.ID, User: e.Left.User.ID, Session: e.Left.Session, Reason: e.Left.Reason})
		case e.Deaf != nil:
			o.post(guild.Mend{Channel: e.Call.ID, User: e.Deaf.User.ID, Session: e.Deaf.Session})
		}
	}
}

func (s *Server) noteMoved(m allocator.Moved) {
	select {
	case s.moved <- m:
	default:
		s.metrics.presenceDropped.Inc()
	}
}

func (s *Server) passMoved() {
	for {
		select {
		case <-s.life.Done():
			return
		case m := <-s.moved:
			if o := s.loadedOwner(m.Call.ID); o != nil && o.mine() {
				o.post(guild.Moved{Channel: m.Call.ID, From: m.From, To: m.To, Epoch: m.Epoch, Cause: m.Cause, Planned: m.Planned})
			}
		}
	}
}

// loadedOwner is the owner of a channel's guild, if it is loaded.
func (s *Server) loadedOwner(channel textchat.ID) *owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.owners[s.channels[channel]]
}

// owner is the owner of a guild; it is begun when needed.
func (s *Server) owner(id textchat.ID) (*owner, error) {
	s.mu.RLock()
	o := s.owners[id]
	s.mu.RUnlock()
	if o != nil {
		return o, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owners[id]; o != nil {
		return o, nil
	}
	o = newOwner(s, id)
	if !s.task(o.run) {
		return nil, textchat.Unavailable("The server is going away.", time.Second)
	}
	s.owners[id] = o
	return o, nil
}

// ownerOf finds the guild of a channel.
func (s *Server) ownerOf(ctx context.Context, channel textchat.ID) (*owner, error) {
	s.mu.RLock()
	g, ok := s.channels[channel]
	s.mu.RUnlock()
	if !ok {
		var err error
		if g, err = s.store.ChannelGuild(ctx, channel); errors.Is(err, textchat.ErrNoRecord) {
			return nil, textchat.ErrUnknownChannel
		} else if err != nil {
			return nil, err
		}
	}
	return s.owner(g)
}

func (s *Server) forget(id textchat.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owners, id)
}

// noteChannels notes the guild of channels, and says whether one of them was not known.
func (s *Server) noteChannels(g textchat.ID, ids ...textchat.ID) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		_, known := s.channels[id]
		s.channels[id], news = g, news || !known
	}
	return news
}

func (s *Server) dropChannel(id textchat.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, id)
}

func (s *Server) newID() textchat.ID { return s.mint.Next(time.Now()) }
