package allocatorserver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// Config is what an allocator needs.
type Config struct {
	Bus *bus.Conn // required
	// Seed of the draws among near-equal nodes, and the number that makes the
	// epochs of this allocator its own; 0 takes one from the system.
	Seed uint64
	// Probe asks a node on its media port whether it lives, until ctx ends; nil
	// sends STUN checks.
	Probe   func(ctx context.Context, hb edgeagent.Heartbeat) keeper.Answer
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

const (
	// casTries bounds how often one request writes the calls bucket; each lost
	// race shows the winner's entry, so the second try nearly always ends it.
	casTries = 8
	// keyEvery is how often the public key is put again: a bucket that was lost
	// must not refuse grants for long.
	keyEvery = 10 * time.Second
	keyAgain = 200 * time.Millisecond // after a first put that failed
	// sweepEvery is how often ended calls are looked for.
	sweepEvery = 5 * time.Second
	// tickEvery is how precise the times of suspicions and moves are.
	tickEvery = 50 * time.Millisecond
	// waitEvery is how often a request looks again that waits for a verdict.
	waitEvery = 20 * time.Millisecond
)

// Server is one allocator.
type Server struct {
	// Immutable.
	cfg     Config
	key     ed25519.PrivateKey
	metrics *metrics
	panics  *telemetry.Panics
	journal *journal
	calls   *bus.Bucket[allocator.CallEntry]
	tries   *bus.Bucket[allocator.GuildLabel]

	mu sync.Mutex
	// Guarded by mu.
	core      *keeper.Core
	endpoints map[string]string // signaling instance → endpoint
	decisions *decisions
	draw      *mathrand.Rand
	unread    map[string]struct{}           // buckets not read to the end yet
	ending    map[edgeagent.NodeID]struct{} // nodes that are told which calls they have no more
	stopped   bool                          // no task begins any more

	tasks sync.WaitGroup // Add under mu while not stopped

	allRead chan struct{} // closed when unread is empty
}

// New makes an allocator with a signing key of its own.
func New(cfg Config) (*Server, error) {
	if cfg.Bus == nil {
		return nil, errors.New("new allocator: Bus is required")
	}
	if cfg.Log == nil {
		cfg.Log = telemetry.Discard()
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make grant key: %w", err)
	}
	if cfg.Seed == 0 {
		cfg.Seed = mathrand.Uint64()
	}
	if cfg.Probe == nil {
		cfg.Probe = probe
	}
	m := newMetrics(cfg.Metrics)
	return &Server{
		cfg: cfg, key: key,
		metrics:   m,
		journal:   newJournal(m),
		panics:    telemetry.NewPanics(cfg.Metrics, cfg.Log),
		core:      keeper.New(cfg.Seed),
		endpoints: map[string]string{},
		ending:    map[edgeagent.NodeID]struct{}{},
		decisions: newDecisions(),
		draw:      mathrand.New(mathrand.NewPCG(cfg.Seed, 1)),
		unread:    map[string]struct{}{bus.NodesBucket: {}, bus.CallsBucket: {}, bus.SignalingBucket: {}, bus.LabelsBucket: {}},
		allRead:   make(chan struct{}),
	}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, s.cfg.Bus, bus.NodesBucket)
	if err != nil {
		return unlessOver(ctx, err)
	}
	if s.calls, err = bus.OpenBucket[allocator.CallEntry](ctx, s.cfg.Bus, bus.CallsBucket); err != nil {
		return unlessOver(ctx, err)
	}
	if s.tries, err = bus.OpenBucket[allocator.GuildLabel](ctx, s.cfg.Bus, bus.LabelsBucket); err != nil {
		return unlessOver(ctx, err)
	}
	gateways, err := bus.OpenBucket[string](ctx, s.cfg.Bus, bus.SignalingBucket)
	if err != nil {
		return unlessOver(ctx, err)
	}
	keys, err := bus.OpenBucket[ed25519.PublicKey](ctx, s.cfg.Bus, bus.KeysBucket)
	if err != nil {
		return unlessOver(ctx, err)
	}
	past, err := bus.OpenHistory[allocator.JournalEntry](ctx, s.cfg.Bus, bus.JournalHistory)
	if err != nil {
		return unlessOver(ctx, err)
	}
	public := s.key.Public().(ed25519.PublicKey)
	rekeyed := func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, keyEvery/2)
		defer cancel()
		_, err := keys.Put(ctx, edgeagent.KeyID(public), public)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("grant key could not be put", "err", err)
		}
		return err == nil
	}
	for !rekeyed(ctx) { // without it every grant would be refused
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keyAgain):
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer s.wait()
	silences, err := bus.Subscribe(ctx, s.cfg.Bus, bus.SilenceSubject, func(_ string, v edgeagent.Silence) {
		s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out { return s.core.Silence(now, v, out) })
	})
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer silences.Unsubscribe()
	moves, err := bus.Subscribe(ctx, s.cfg.Bus, bus.AllMoved, func(_ string, m allocator.Moved) {
		s.think(ctx, func(now time.Time, out []keeper.Out) []keeper.Out { s.core.Heard(now, m); return out })
	})
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer moves.Unsubscribe()
	beats, err := nodes.Overhear(ctx, func(ch bus.Change[edgeagent.Heartbeat]) { s.hearNode(ctx, ch) })
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer beats.Unsubscribe()
	all.Go(func() { nodes.Watch(ctx, func(ch bus.Change[edgeagent.Heartbeat]) { s.seeNode(ctx, ch) }) })
	all.Go(func() { s.calls.Watch(ctx, func(ch bus.Change[allocator.CallEntry]) { s.seeCall(ctx, ch) }) })
	all.Go(func() { s.followDisconnects(ctx) })
	all.Go(func() { gateways.Watch(ctx, s.seeGateway) })
	all.Go(func() { s.tries.Watch(ctx, s.seeLabel) })
	all.Go(func() { s.journal.run(ctx, past) })
	defer all.Wait()
	defer cancel()
	tick, sweep, rekey := time.NewTicker(tickEvery), time.NewTicker(sweepEvery), time.NewTicker(keyEvery)
	defer tick.Stop()
	defer sweep.Stop()
	defer rekey.Stop()
	allRead := s.allRead
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-allRead: // until then another answers, or whoever asks asks again
			allRead = nil
			serving, err := bus.Serve(ctx, s.cfg.Bus, s.service())
			if err != nil {
				return unlessOver(ctx, err)
			}
			defer serving.Stop()
		case <-tick.C:
			s.tick(ctx)
		case <-sweep.C:
			s.startTask(func() { s.sweep(ctx) })
		case <-rekey.C:
			s.startTask(func() { rekeyed(ctx) })
		case <-s.cfg.Bus.Reconnected():
			s.pardon()
			s.startTask(func() { rekeyed(ctx) })
		}
	}
}

// unlessOver is no error when the server was to end anyway.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Ready is nil when all that decisions rest on has been read.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) > 0 {
		return errors.New("allocator is reading nodes, calls and labels")
	}
	return s.cfg.Bus.Ready()
}

func (s *Server) seeGateway(ch bus.Change[string]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ch.Synced:
		s.readLocked(bus.SignalingBucket)
	case ch.Gone:
		delete(s.endpoints, ch.Key)
	default:
		s.endpoints[ch.Key] = ch.Value
	}
}

// readLocked takes a bucket as read; after a reconnect it is read once more.
func (s *Server) readLocked(bucket string) {
	if _, ok := s.unread[bucket]; !ok {
		return
	}
	delete(s.unread, bucket)
	if len(s.unread) == 0 {
		close(s.allRead)
	}
}

// service is what an allocator answers.
func (s *Server) service() bus.Service {
	return bus.Service{
		Name: bus.AllocatorService, Subject: bus.AllocatorSubject, Queue: bus.AllocatorService,
		Verbs: []bus.Verb{
			bus.Handle("place", s.place),
			bus.Handle("update", s.update),
			bus.Handle("remove", s.remove),
			bus.Handle("explain", s.explain),
			bus.Handle("nodes", s.nodes),
			bus.Handle("calls", s.list),
			bus.Handle("journal", s.journal.read),
			bus.Handle("peers", s.peers),
			bus.Handle("regions", s.regions),
			bus.Handle("drain", s.drain),
			bus.Handle("cordon", s.cordon),
			bus.Handle("undrain", s.undrain),
			bus.Handle("upgrade", s.upgrade),
			bus.Handle("progress", s.progress),
			bus.Handle("move", s.move),
			bus.Handle("label", s.label),
			bus.Handle("labels", s.labels),
		},
		Code:    refusal,
		Metrics: s.cfg.Metrics, Log: s.cfg.Log,
	}
}

// refusal is an error as it crosses the bus.
func refusal(err error) (code, message string) {
	if own := (*allocator.Error)(nil); errors.As(err, &own) {
		return string(own.Code), own.Message
	}
	return string(codeOf(err)), err.Error()
}

// codeOf is the one place where errors become codes.
func codeOf(err error) allocator.ErrorCode {
	var own *allocator.Error
	if errors.As(err, &own) {
		return own.Code
	}
	return allocator.CodeUnavailable
}

// place gives one user a seat in one call.
func (s *Server) place(ctx context.Context, req allocator.PlaceRequest) (allocator.Assignment, error) {
	began := time.Now()
	a, err := s.seat(ctx, req)
	s.metrics.placed(time.Since(began), err)
	if err == nil && req.Mend.Valid() {
		s.noted(allocator.JournalEntry{At: time.Now(), By: "allocator", Deed: allocator.DeedMend, Node: req.Mend, To: a.Node, Call: req.Call,
			Why: fmt.Sprintf("user %v %v: it is seated anew", req.User, req.MendWhy)})
	}
	return a, err
}

func (s *Server) seat(ctx context.Context, req allocator.PlaceRequest) (allocator.Assignment, error) {
	if err := check(req); err != nil {
		return allocator.Assignment{}, err
	}
	if err := s.Ready(); err != nil {
		return allocator.Assignment{}, allocator.Refuse(allocator.CodeUnavailable, "%v", err)
	}
	for tries := 0; tries < casTries; {
		claim, refused := s.claim(req)
		switch {
		case refused != nil:
			return allocator.Assignment{}, refused
		case claim.Wait:
			select {
			case <-time.After(waitEvery):
				continue
			case <-ctx.Done():
				return allocator.Assignment{}, allocator.Refuse(allocator.CodeUnavailable, "it is not known yet which nodes live: try again")
			}
		case claim.Reread:
			req.Epoch = 0 // what is found counts
			if err := s.reread(ctx, req.Call, claim.Known); err != nil {
				return allocator.Assignment{}, err
			}
			continue
		case claim.Write != nil && claim.Later:
			s.startTask(func() { s.touch(context.WithoutCancel(ctx), *claim.Write) })
		case claim.Write != nil:
			tries++
			trying, cancel := context.WithTimeout(ctx, keeper.WriteTime)
			won, err := s.write(trying, *claim.Write)
			unanswered := trying.Err() != nil && ctx.Err() == nil
			cancel()
			switch {
			case err != nil && unanswered:
				continue // whether it was written is seen next
			case err != nil:
				return allocator.Assignment{}, err
			case !won:
				s.metrics.races.Inc()
				continue
			}
		}
		if claim.Why.Span {
			return s.guest(ctx, req, claim)
		}
		s.mu.Lock()
		s.core.Seat(time.Now(), req.Call)
		s.mu.Unlock()
		return s.assign(req, claim.Entry, claim.Created)
	}
	return allocator.Assignment{}, allocator.Refuse(allocator.CodeUnavailable, "too many allocators placed this call at once")
}

// Bounds of a request: a grant carries what it names, and must stay a token of at
// most 2,048 bytes.
const (
	maxName  = 128 // bytes of guild, gateway session and region
	maxRTTs  = 256
	maxAvoid = 16
)

func check(req allocator.PlaceRequest) error {
	switch {
	case req.Call.ID == 0 || req.User.ID == 0 || req.Session == "":
		return allocator.Refuse(allocator.CodeBadRequest, "call, user and session are required")
	case len(req.Session) > maxName || len(req.Guild) > maxName || len(req.Region) > maxName:
		return allocator.Refuse(allocator.CodeBadRequest, "guild, session or region is longer than %d bytes", maxName)
	case len(req.RTT) > maxRTTs:
		return allocator.Refuse(allocator.CodeBadRequest, "%d RTTs, at most %d are read", len(req.RTT), maxRTTs)
	case len(req.Avoid) > maxAvoid:
		return allocator.Refuse(allocator.CodeBadRequest, "%d nodes to avoid, at most %d are", len(req.Avoid), maxAvoid)
	}
	return nil
}

// claim decides.
func (s *Server) claim(req allocator.PlaceRequest) (keeper.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim, refused := s.core.Claim(time.Now(), req)
	if refused != nil {
		s.decisions.add(claim.Why)
		return claim, refused
	}
	if !claim.Wait && !claim.Reread {
		s.decisions.add(claim.Why)
	}
	return claim, nil
}

// assign signs the grant and names the voice gateways.
func (s *Server) assign(req allocator.PlaceRequest, entry allocator.CallEntry, created bool) (allocator.Assignment, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return allocator.Assignment{}, fmt.Errorf("make session id: %w", err)
	}
	g := edgeagent.Grant{
		ID: sfu.SessionID(hex.EncodeToString(id[:])), Node: entry.Node, Guild: req.Guild, Call: req.Call, Epoch: entry.Epoch,
		User: req.User, Session: req.Session, Rights: req.Rights, Echo: req.Echo, Expires: time.Now().Add(edgeagent.GrantLife),
	}
	token, err := edgeagent.SignGrant(s.key, g)
	if err != nil {
		return allocator.Assignment{}, err
	}
	endpoints := s.gateways()
	if len(endpoints) == 0 {
		return allocator.Assignment{}, allocator.Refuse(allocator.CodeUnavailable, "no voice gateway is up")
	}
	return allocator.Assignment{Node: entry.Node, Epoch: entry.Epoch, Session: g.ID, Token: token, Endpoints: endpoints, New: created}, nil
}

// gateways are the endpoints in random order, each once, so that clients spread.
func (s *Server) gateways() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.endpoints {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	slices.Sort(out)
	s.draw.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// update and remove pass an order on to the node of a call.
func (s *Server) update(ctx context.Context, req allocator.UpdateRequest) (bus.Done, error) {
	return tell(ctx, s, req.Call, req.User, "update", edgeagent.UpdateRequest{Session: req.Session, Call: req.Call, User: req.User, Rights: &req.Rights})
}

func (s *Server) remove(ctx context.Context, req allocator.RemoveRequest) (bus.Done, error) {
	return tell(ctx, s, req.Call, req.User, "close", edgeagent.CloseRequest{Session: req.Session, Call: req.Call, User: req.User, Reason: req.Reason})
}

// live is the entry of a call.
func (s *Server) live(id sfu.CallID) (allocator.CallEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.core.Place().Call(id)
	if !ok {
		return e, allocator.Refuse(allocator.CodeNoCall, "call %v is not live", id)
	}
	return e, nil
}

// cut says whether no order comes to a node.
func (s *Server) cut(node edgeagent.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Watch().Cut(time.Now(), node)
}

// leavingTime is for how long members may be on the node that their call left as planned.
const leavingTime = 15 * time.Second

// leaving is the node that a call is just leaving, and that serves on; empty: none.
func (s *Server) leaving(e allocator.CallEntry) edgeagent.NodeID {
	m := e.Move
	if m == nil || !m.Planned || time.Since(m.At) > leavingTime || slices.Contains(e.Nodes(), m.From) {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.core.Watch().Up(m.From) {
		return ""
	}
	return m.From
}

func tell[Req any](ctx context.Context, s *Server, id sfu.CallID, user sfu.UserID, verb string, req Req) (bus.Done, error) {
	if id.ID == 0 || user.ID == 0 { // without a user the node would take all of the call
		return bus.Done{}, allocator.Refuse(allocator.CodeBadRequest, "call and user are required")
	}
	entry, err := s.live(id)
	if err != nil {
		return bus.Done{}, err
	}
	var away edgeagent.NodeID
	done := false
	ask := func(node edgeagent.NodeID) error {
		_, err := bus.Request[Req, bus.Done](ctx, s.cfg.Bus, bus.NodeSubject(string(node), verb), req)
		refused := (*bus.Error)(nil)
		if err != nil && (!errors.As(err, &refused) || refused.Code != string(edgeagent.CodeNoSession)) {
			return allocator.Refuse(allocator.CodeUnavailable, "node %s: %v", node, err)
		}
		done = done || err == nil
		return nil
	}
	for _, node := range entry.Nodes() { // the user is on one of them
		switch {
		case done:
		case s.cut(node):
			away = node
		default:
			if err := ask(node); err != nil {
				return bus.Done{}, err
			}
		}
	}
	if from := s.leaving(entry); from != "" { // and may be there still
		if err := ask(from); err != nil && !done {
			return bus.Done{}, err
		}
	}
	if done {
		return bus.Done{}, nil
	}
	if away != "" {
		return bus.Done{}, allocator.Refuse(allocator.CodeUnavailable, "node %s is cut off from the bus", away)
	}
	return bus.Done{}, allocator.Refuse(allocator.CodeNoCall, "user has no session in call %v", id)
}

func (s *Server) explain(_ context.Context, req allocator.ExplainRequest) (allocator.ExplainReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := allocator.ExplainReply{Decisions: s.decisions.of(req.Call)}
	if e, ok := s.core.Place().Call(req.Call); ok {
		out.Entry = &e
	}
	probe := mathrand.New(mathrand.NewPCG(1, 1)) // not the server's draw: asking changes nothing
	out.Now = s.core.Place().Anew(time.Now(), req.Call, probe)
	return out, nil
}

func (s *Server) nodes(_ context.Context, req allocator.PageRequest) (allocator.NodePage, error) {
	s.mu.Lock()
	all := s.core.Place().View(time.Now(), edgeagent.NodeID(req.After))
	all, more := all[:min(len(all), allocator.ListPage)], len(all) > allocator.ListPage
	for i := range all {
		all[i].Suspect, all[i].Degraded = s.core.Doubts(all[i].Node)
		all[i].Cordoned = all[i].State == edgeagent.Draining && !all[i].Emptying
	}
	s.mu.Unlock()
	return allocator.NodePage{Nodes: all, More: more}, nil
}

func (s *Server) list(_ context.Context, req allocator.PageRequest) (allocator.CallPage, error) {
	var after sfu.CallID
	if req.After != "" {
		if err := after.UnmarshalText([]byte(req.After)); err != nil {
			return allocator.CallPage{}, allocator.Refuse(allocator.CodeBadRequest, "after: %v", err)
		}
	}
	s.mu.Lock()
	all := s.core.Place().Calls(after)
	s.mu.Unlock()
	n := min(len(all), allocator.ListPage)
	return allocator.CallPage{Calls: all[:n], More: n < len(all)}, nil
}
