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
	"voicefleet/allocator/placement"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// Config is what an allocator needs.
type Config struct {
	Bus *bus.Conn // required
	// Seed of the draws among near-equal nodes; 0 takes one from the system.
	Seed    uint64
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

const (
	// casTries bounds how often one request writes the calls bucket; each lost
	// race shows the winner's entry, so the second try nearly always ends it.
	casTries = 8
	// touchEvery is how old the last seat of a live call may be before giving
	// another writes the entry again. Well below allocator.CallIdle less the
	// life of a grant, so that no entry is deleted under a fresh grant.
	touchEvery = 5 * time.Second
	// keyEvery is how often the public key is put again: a bucket that was lost
	// must not refuse grants for long.
	keyEvery = 10 * time.Second
	// sweepEvery is how often ended calls are looked for.
	sweepEvery = 5 * time.Second
	// missingKept is how long a node counts as there that was missing when the
	// nodes bucket was read again after an outage: it writes every second, but a
	// bucket in memory begins empty.
	missingKept = 3 * time.Second
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

	mu sync.Mutex
	// Guarded by mu.
	core      placement.Core
	revisions map[sfu.CallID]uint64
	endpoints map[string]string              // signaling instance → endpoint
	missing   map[edgeagent.NodeID]time.Time // to be lost then
	decisions *decisions
	draw      *mathrand.Rand
	unsynced  int // buckets not read to the end yet
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
	m := newMetrics(cfg.Metrics)
	return &Server{
		cfg: cfg, key: key,
		metrics:   m,
		journal:   newJournal(m),
		panics:    telemetry.NewPanics(cfg.Metrics, cfg.Log),
		revisions: map[sfu.CallID]uint64{},
		endpoints: map[string]string{},
		missing:   map[edgeagent.NodeID]time.Time{},
		decisions: newDecisions(),
		draw:      mathrand.New(mathrand.NewPCG(cfg.Seed, 1)),
		unsynced:  3,
	}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, s.cfg.Bus, bus.NodesBucket)
	if err != nil {
		return err
	}
	if s.calls, err = bus.OpenBucket[allocator.CallEntry](ctx, s.cfg.Bus, bus.CallsBucket); err != nil {
		return err
	}
	gateways, err := bus.OpenBucket[string](ctx, s.cfg.Bus, bus.SignalingBucket)
	if err != nil {
		return err
	}
	keys, err := bus.OpenBucket[ed25519.PublicKey](ctx, s.cfg.Bus, bus.KeysBucket)
	if err != nil {
		return err
	}
	past, err := bus.OpenHistory[allocator.JournalEntry](ctx, s.cfg.Bus, bus.JournalHistory)
	if err != nil {
		return err
	}
	public := s.key.Public().(ed25519.PublicKey)
	if _, err := keys.Put(ctx, edgeagent.KeyID(public), public); err != nil {
		return fmt.Errorf("publish grant key: %w", err)
	}

	rekeyed := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, keyEvery/2)
		defer cancel()
		if _, err := keys.Put(ctx, edgeagent.KeyID(public), public); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("grant key could not be put again", "err", err)
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { nodes.Watch(ctx, s.seeNode) })
	all.Go(func() { s.calls.Watch(ctx, s.seeCall) })
	all.Go(func() { gateways.Watch(ctx, s.seeGateway) })
	all.Go(func() { s.journal.run(ctx, past) })
	serving, err := bus.Serve(ctx, s.cfg.Bus, s.service())
	if err != nil {
		cancel()
		all.Wait()
		return err
	}
	defer all.Wait()
	defer serving.Stop()
	sweep, rekey := time.NewTicker(sweepEvery), time.NewTicker(keyEvery)
	defer sweep.Stop()
	defer rekey.Stop()
	for {
		select {
		case <-ctx.Done():
			cancel()
			return nil
		case <-sweep.C:
			s.sweep(ctx)
		case <-rekey.C:
			rekeyed(ctx)
		case <-s.cfg.Bus.Reconnected():
			rekeyed(ctx)
		}
	}
}

// Ready is nil when all that decisions rest on has been read.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsynced > 0 {
		return errors.New("allocator is reading nodes and calls")
	}
	return s.cfg.Bus.Ready()
}

func (s *Server) seeNode(ch bus.Change[edgeagent.Heartbeat]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ch.Synced:
		s.syncedLocked()
	case ch.Gone && ch.Revision == 0: // not found when read again
		s.missing[edgeagent.NodeID(ch.Key)] = time.Now().Add(missingKept)
	case ch.Gone:
		delete(s.missing, edgeagent.NodeID(ch.Key))
		s.core.Lose(time.Now(), edgeagent.NodeID(ch.Key))
	case string(ch.Value.Node) == ch.Key && ch.Value.Node.Valid():
		delete(s.missing, ch.Value.Node)
		s.core.Observe(time.Now(), ch.Value)
	}
}

// loseMissingLocked gives up the nodes that have not come back.
func (s *Server) loseMissingLocked(now time.Time) {
	for n, until := range s.missing {
		if now.After(until) {
			delete(s.missing, n)
			s.core.Lose(now, n)
		}
	}
}

func (s *Server) seeCall(ch bus.Change[allocator.CallEntry]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch.Synced {
		s.syncedLocked()
		return
	}
	var id sfu.CallID
	if err := id.UnmarshalText([]byte(ch.Key)); err != nil {
		return // not written by an allocator
	}
	s.seeCallLocked(id, ch)
}

// seeCallLocked takes in an entry unless a newer one is known already: the
// watcher runs behind what this server wrote itself. Without a revision the call
// was not found when the bucket was read again.
func (s *Server) seeCallLocked(id sfu.CallID, ch bus.Change[allocator.CallEntry]) {
	if ch.Revision != 0 && ch.Revision < s.revisions[id] {
		return
	}
	if ch.Gone {
		delete(s.revisions, id)
		s.core.LoseCall(id)
		return
	}
	s.revisions[id] = ch.Revision
	s.core.ObserveCall(ch.Value)
}

func (s *Server) seeGateway(ch bus.Change[string]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ch.Synced:
		s.syncedLocked()
	case ch.Gone:
		delete(s.endpoints, ch.Key)
	default:
		s.endpoints[ch.Key] = ch.Value
	}
}

// syncedLocked counts the buckets read; a later Synced, after a reconnect, finds
// the count at zero.
func (s *Server) syncedLocked() { s.unsynced = max(0, s.unsynced-1) }

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
	return a, err
}

func (s *Server) seat(ctx context.Context, req allocator.PlaceRequest) (allocator.Assignment, error) {
	if err := check(req); err != nil {
		return allocator.Assignment{}, err
	}
	if err := s.Ready(); err != nil {
		return allocator.Assignment{}, allocator.Refuse(allocator.CodeUnavailable, "%v", err)
	}
	for range casTries {
		entry, created, err := s.claim(ctx, req)
		if errors.Is(err, bus.ErrConflict) {
			s.metrics.races.Inc()
			if err := s.reread(ctx, req.Call); err != nil {
				return allocator.Assignment{}, err
			}
			continue
		}
		if err != nil {
			return allocator.Assignment{}, err
		}
		if created {
			s.mu.Lock()
			left := s.core.StraysOf(req.Call)
			s.mu.Unlock()
			s.fence(ctx, left) // who was in a call that moves comes after, now
		}
		return s.assign(req, entry, created)
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

// claim decides and writes the decision; bus.ErrConflict tells that somebody
// else wrote the call since it was read.
func (s *Server) claim(ctx context.Context, req allocator.PlaceRequest) (entry allocator.CallEntry, created bool, err error) {
	now := time.Now()
	s.mu.Lock()
	s.loseMissingLocked(now)
	ex, refused := s.core.Decide(now, req, s.draw)
	s.decisions.add(ex)
	old, live := s.core.Call(req.Call)
	revision := s.revisions[req.Call]
	adopted := false
	switch {
	case refused != nil:
	case live && ex.Chosen == old.Node:
		entry = old
	default:
		created = true
		why := ex
		why.Candidates = slices.Clone(ex.Candidates[:min(len(ex.Candidates), allocator.MaxWhy)])
		entry = allocator.CallEntry{Call: req.Call, Node: ex.Chosen, Created: now, Why: why}
		if node, epoch, carried := s.core.Carrier(req.Call); carried && node == ex.Chosen {
			entry.Epoch, created = epoch, false // it lost its entry, not its life
			adopted = true
		} else {
			entry.Epoch = s.core.NextEpoch(now)
		}
	}
	s.mu.Unlock()
	if refused != nil {
		return entry, false, refused
	}
	if created || adopted || now.Sub(entry.Touched) > touchEvery {
		entry.Touched = now
		key := req.Call.String()
		if live {
			revision, err = s.calls.Update(ctx, key, entry, revision)
		} else {
			revision, err = s.calls.Create(ctx, key, entry)
		}
		if err != nil {
			return entry, false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeCallLocked(req.Call, bus.Change[allocator.CallEntry]{Entry: bus.Entry[allocator.CallEntry]{Value: entry, Revision: revision}})
	s.core.Seat(now, req.Call, req.Expected)
	return entry, created, nil
}

// reread takes in what the winner of a race wrote.
func (s *Server) reread(ctx context.Context, id sfu.CallID) error {
	e, err := s.calls.Find(ctx, id.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, bus.ErrNotFound) {
		delete(s.revisions, id)
		s.core.LoseCall(id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read call %v: %w", id, err)
	}
	delete(s.revisions, id) // what was read counts, even from a bucket made anew
	s.seeCallLocked(id, bus.Change[allocator.CallEntry]{Entry: e})
	return nil
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
	return tell(ctx, s, req.Call, req.User, "update", edgeagent.UpdateRequest{Call: req.Call, User: req.User, Rights: &req.Rights})
}

func (s *Server) remove(ctx context.Context, req allocator.RemoveRequest) (bus.Done, error) {
	return tell(ctx, s, req.Call, req.User, "close", edgeagent.CloseRequest{Call: req.Call, User: req.User, Reason: req.Reason})
}

func tell[Req any](ctx context.Context, s *Server, id sfu.CallID, user sfu.UserID, verb string, req Req) (bus.Done, error) {
	if id.ID == 0 || user.ID == 0 { // without a user the node would take all of the call
		return bus.Done{}, allocator.Refuse(allocator.CodeBadRequest, "call and user are required")
	}
	s.mu.Lock()
	entry, live := s.core.Call(id)
	s.mu.Unlock()
	if !live {
		return bus.Done{}, allocator.Refuse(allocator.CodeNoCall, "call %v is not live", id)
	}
	_, err := bus.Request[Req, bus.Done](ctx, s.cfg.Bus, bus.NodeSubject(string(entry.Node), verb), req)
	var refused *bus.Error
	switch {
	case err == nil:
		return bus.Done{}, nil
	case errors.As(err, &refused) && refused.Code == string(edgeagent.CodeNoSession):
		return bus.Done{}, allocator.Refuse(allocator.CodeNoCall, "user has no session in call %v", id)
	}
	return bus.Done{}, allocator.Refuse(allocator.CodeUnavailable, "node %s: %v", entry.Node, err)
}

func (s *Server) explain(_ context.Context, req allocator.ExplainRequest) (allocator.ExplainReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := allocator.ExplainReply{Decisions: s.decisions.of(req.Call)}
	if e, ok := s.core.Call(req.Call); ok {
		out.Entry = &e
	}
	// Where it would go now is asked as for a call that is not live.
	probe := mathrand.New(mathrand.NewPCG(1, 1)) // not the server's draw: asking changes nothing
	fresh := allocator.PlaceRequest{Call: sfu.CallID{}}
	out.Now, _ = s.core.Decide(time.Now(), fresh, probe) // a refusal is told by its Reason
	out.Now.Call = req.Call
	return out, nil
}

func (s *Server) nodes(_ context.Context, req allocator.PageRequest) (allocator.NodePage, error) {
	s.mu.Lock()
	all := s.core.View(time.Now(), edgeagent.NodeID(req.After))
	s.mu.Unlock()
	n := min(len(all), allocator.ListPage)
	return allocator.NodePage{Nodes: all[:n], More: n < len(all)}, nil
}

func (s *Server) list(_ context.Context, req allocator.PageRequest) (allocator.CallPage, error) {
	var after sfu.CallID
	if req.After != "" {
		if err := after.UnmarshalText([]byte(req.After)); err != nil {
			return allocator.CallPage{}, allocator.Refuse(allocator.CodeBadRequest, "after: %v", err)
		}
	}
	s.mu.Lock()
	all := s.core.Calls(after)
	s.mu.Unlock()
	n := min(len(all), allocator.ListPage)
	return allocator.CallPage{Calls: all[:n], More: n < len(all)}, nil
}

// sweep deletes the entries of ended calls, each only if nobody wrote it since.
func (s *Server) sweep(ctx context.Context) {
	s.panics.Guard("sweep", func() {
		if s.Ready() != nil {
			return
		}
		s.mu.Lock()
		s.loseMissingLocked(time.Now())
		strays := s.core.Strays()
		ended := s.core.Ended(time.Now())
		revisions := make([]uint64, len(ended))
		for i, id := range ended {
			revisions[i] = s.revisions[id]
		}
		s.metrics.live.Set(float64(len(s.revisions)))
		reserved := 0
		for _, load := range s.core.Reserved(time.Now()) {
			reserved += load.Sessions
		}
		s.metrics.reserved.Set(float64(reserved))
		s.metrics.headroom.Set(float64(s.core.Headroom(time.Now())))
		s.mu.Unlock()
		s.fence(ctx, strays)
		for i, id := range ended {
			err := s.calls.Delete(ctx, id.String(), revisions[i])
			if err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrNotFound) {
				return // the bus is away: nothing ends meanwhile
			}
		}
	})
}

// fenceTimeout bounds how long a sweep waits for one node.
const fenceTimeout = time.Second

// fence ends the sessions of calls on nodes they were moved away from, so that
// their users come after.
func (s *Server) fence(ctx context.Context, strays []placement.Stray) {
	silent := map[edgeagent.NodeID]bool{}
	for _, x := range strays {
		if silent[x.Node] {
			continue // the next sweep tries again
		}
		if err := s.closeCall(ctx, x); err != nil {
			silent[x.Node] = true
			s.cfg.Log.Warn("a call is on two nodes", "call", x.Call, "stray", x.Node, "err", err)
			continue
		}
		s.metrics.fenced.Inc()
	}
}

func (s *Server) closeCall(ctx context.Context, x placement.Stray) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	_, err := bus.Request[edgeagent.CloseRequest, bus.Done](ctx, s.cfg.Bus, bus.NodeSubject(string(x.Node), "close"),
		edgeagent.CloseRequest{Call: x.Call, Reason: edgeagent.Moved})
	if refused := (*bus.Error)(nil); errors.As(err, &refused) && refused.Code == string(edgeagent.CodeNoSession) {
		return nil
	}
	return err
}
