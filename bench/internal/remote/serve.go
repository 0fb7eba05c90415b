package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/child"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
)

// Config is what a generator is.
type Config struct {
	Name string // see CheckName; no two of one bus have the same
	Host string // shown to coordinators: the address of the clients
	// Open makes the verbs of one lease. What it makes ends with shut, which is
	// called when no verb runs any more; the contexts of verbs end before.
	Open func(ctx context.Context) (verbs Verbs, shut func() error, err error)
	// Now is the clock that is asked of; default time.Now.
	Now func() time.Time
	// Version to compare with the coordinator's; default Version().
	Version string
	Log     *slog.Logger

	ttl time.Duration // of a silent lease; tests shorten it
}

func (c *Config) validate() error {
	if err := CheckName(c.Name); err != nil {
		return err
	}
	if c.Open == nil {
		return errors.New("a generator without verbs")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Version == "" {
		c.Version = Version()
	}
	if c.Log == nil {
		c.Log = telemetry.Discard()
	}
	if c.ttl == 0 {
		c.ttl = leaseTTL
	}
	return nil
}

// Verbs finds a verb by its name; nil: there is none.
type Verbs func(name string) child.Verb

// Plain opens the same verbs for every lease; nothing needs to be shut.
func Plain(verbs map[string]child.Verb) func(context.Context) (Verbs, func() error, error) {
	return func(context.Context) (Verbs, func() error, error) {
		return func(name string) child.Verb { return verbs[name] }, func() error { return nil }, nil
	}
}

// Children opens a process of its own for every lease, which answers all verbs: it
// starts as fresh as one on the coordinator's machine, and nothing of it outlives
// its lease, as it is killed if it does not end.
func Children(start func() (*child.Process, error)) func(context.Context) (Verbs, func() error, error) {
	return func(context.Context) (Verbs, func() error, error) {
		p, err := start()
		if err != nil {
			return nil, nil, err
		}
		return func(name string) child.Verb {
			return func(ctx context.Context, body json.RawMessage) (any, error) {
				var in any
				if body != nil {
					in = body
				}
				var out json.RawMessage
				err := p.Call(ctx, name, in, &out)
				return out, err
			}
		}, p.Stop, nil
	}
}

// server is a generator that runs.
type server struct {
	// Immutable.
	config Config
	info   Info

	closing sync.WaitGroup // sessions that do

	mu sync.Mutex
	// Guarded by mu.
	lease   lease
	session *session // nil: the generator is free, or opens its verbs
}

// session is all of one lease.
type session struct {
	// Immutable.
	ctx    context.Context
	cancel context.CancelFunc
	verbs  Verbs
	shut   func() error
	ended  chan struct{} // closed when all is closed; err is set before

	running sync.WaitGroup // verbs; Add under mu of the server

	// Guarded by mu of the server.
	calls   map[uint64]*call
	pending int // of them, without an answer yet
	held    int // bytes of requests and answers
	err     error
}

// call is a verb with its body and its answer.
type call struct {
	verb   string
	size   int
	within time.Duration
	cancel context.CancelFunc
	done   chan struct{} // closed when the answer stands
	// Guarded by mu of the server; body and fault are constant after done.
	body    []byte // the request until the verb runs, then the answer
	fault   string
	started bool
}

// Serve announces the generator and serves coordinators, one at a time, until ctx
// ends.
func Serve(ctx context.Context, conn *bus.Conn, config Config) error {
	if err := config.validate(); err != nil {
		return err
	}
	s := &server{config: config, lease: lease{ttl: config.ttl}, info: Info{
		Name: config.Name, Host: config.Host, Version: config.Version, Protocol: Protocol, Machine: bench.ThisMachine(),
	}}
	bucket, err := bus.OpenBucket[Info](ctx, conn, bus.GeneratorsBucket)
	if err != nil {
		return err
	}
	if err := announce(ctx, bucket, s.info); err != nil {
		return err
	}
	announcing, stopAnnouncing := context.WithCancel(ctx)
	var announced sync.WaitGroup
	defer announced.Wait()
	defer stopAnnouncing()
	announced.Go(func() { bus.Lease(announcing, bucket, s.info.Name, s.info, announceEvery) })

	prefix := bus.GeneratorSubject(config.Name, "")
	// Questions that wait for an answer must not keep a beat waiting: two services.
	control, err := bus.Serve(ctx, conn, bus.Service{
		Name: "generator-lease", Subject: prefix, Timeout: closeTime, Log: config.Log,
		Verbs: []bus.Verb{bus.Handle("take", s.take), bus.Handle("beat", s.beat), bus.Handle("free", s.free)},
	})
	if err != nil {
		return err
	}
	work, err := bus.Serve(ctx, conn, bus.Service{
		Name: "generator", Subject: prefix, Timeout: pollTime + onTheWay, Concurrency: 2 * maxCalls, Log: config.Log,
		Verbs: []bus.Verb{bus.Handle("ask", s.ask), bus.Handle("fetch", s.fetch)},
	})
	if err == nil {
		s.watch(ctx)
		work.Stop()
	}
	control.Stop()
	s.mu.Lock()
	if s.session != nil && !s.lease.closing {
		s.endLocked("the generator ends")
	}
	s.mu.Unlock()
	s.closing.Wait()
	return err
}

// watch ends leases that nothing is heard of, until ctx ends.
func (s *server) watch(ctx context.Context) {
	look := time.NewTicker(s.config.ttl / 16)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.mu.Lock()
			if s.session != nil && s.lease.over(time.Now()) {
				s.endLocked("nothing was heard of it")
			}
			s.mu.Unlock()
		}
	}
}

// announce makes sure that no other generator has this name. The announcement of
// one that died stands for 5 s.
func announce(ctx context.Context, bucket *bus.Bucket[Info], info Info) error {
	patience := time.NewTimer(6 * time.Second)
	defer patience.Stop()
	retry := time.NewTicker(500 * time.Millisecond)
	defer retry.Stop()
	for {
		_, err := bucket.Create(ctx, info.Name, info)
		if !errors.Is(err, bus.ErrConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("a generator named %q is on this bus already: choose another --name", info.Name)
		case <-retry.C:
		}
	}
}

func (s *server) take(ctx context.Context, t take) (Info, error) {
	if t.Protocol != Protocol || t.Version != s.info.Version {
		return Info{}, refuse(codeVersion, "it is version %s (protocol %d) and the coordinator is %s (protocol %d): build both from the same commit",
			s.info.Version, Protocol, t.Version, t.Protocol)
	}
	s.mu.Lock()
	err := s.lease.take(time.Now(), t.Lease, t.Coordinator)
	s.mu.Unlock()
	if err != nil {
		return Info{}, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened := false
	defer func() { // also of a panic: nobody else would free the generator
		if !opened {
			cancel()
			s.mu.Lock()
			s.lease.closed()
			s.mu.Unlock()
		}
	}()
	own, shut, err := s.config.Open(running)
	if err != nil {
		return Info{}, refuse(codeFailed, "open its clients: %v", err)
	}
	clock := TellTime(s.config.Now)
	verbs := func(name string) child.Verb {
		if name == ClockVerb {
			return clock
		}
		return own(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	opened = true
	s.session = &session{ctx: running, cancel: cancel, verbs: verbs, shut: shut, ended: make(chan struct{}), calls: make(map[uint64]*call)}
	s.config.Log.Info("taken", "coordinator", t.Coordinator)
	if ctx.Err() != nil { // whoever asked has given up, or we end
		s.endLocked("it did not wait")
		return Info{}, ctx.Err()
	}
	// Opening may have taken long; the lease counts from now.
	if err := s.lease.holds(time.Now(), t.Lease); err != nil {
		return Info{}, err
	}
	return s.info, nil
}

// endLocked ends the lease and everything of it, in the background.
func (s *server) endLocked(why string) {
	s.lease.end()
	session := s.session
	session.cancel()
	s.config.Log.Info("closing", "coordinator", s.lease.by, "why", why)
	s.closing.Go(func() {
		session.running.Wait()
		err := session.shut()
		s.mu.Lock()
		session.err = err
		s.session = nil
		s.lease.closed()
		s.mu.Unlock()
		close(session.ended)
		if err != nil {
			s.config.Log.Warn("closed with an error", "err", err)
		}
	})
}

// heldLocked is the session of a lease, whose life it prolongs.
func (s *server) heldLocked(token string) (*session, error) {
	if err := s.lease.holds(time.Now(), token); err != nil {
		return nil, err
	}
	if s.session == nil {
		return nil, refuse(codeGone, "it still opens its clients")
	}
	return s.session, nil
}

func (s *server) beat(_ context.Context, b beat) (bus.Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, err := s.heldLocked(b.Lease)
	if err != nil {
		return bus.Done{}, err
	}
	session.forgetLocked(b.Done)
	return bus.Done{}, nil
}

// free is answered when all is closed.
func (s *server) free(ctx context.Context, f free) (bus.Done, error) {
	s.mu.Lock()
	session, err := s.heldLocked(f.Lease)
	if err == nil {
		s.endLocked("the run is over")
	}
	s.mu.Unlock()
	if err != nil {
		return bus.Done{}, err
	}
	select {
	case <-session.ended:
	case <-ctx.Done():
		return bus.Done{}, refuse(codeFailed, "its clients are not closed after %v", closeTime)
	}
	if session.err != nil {
		return bus.Done{}, refuse(codeFailed, "close its clients: %v", session.err)
	}
	return bus.Done{}, nil
}

// forgetLocked ends calls whose answer nobody wants any more.
func (s *session) forgetLocked(calls []uint64) {
	for _, id := range calls {
		c := s.calls[id]
		if c == nil {
			continue
		}
		delete(s.calls, id)
		c.cancel()
		if !c.started {
			s.pending--
			s.held -= c.size
		} else if finished(c.done) {
			s.held -= len(c.body)
		} // else its request: given back when the verb returns
	}
}

func finished(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (s *server) ask(ctx context.Context, a ask) (part, error) {
	s.mu.Lock()
	session, err := s.heldLocked(a.Lease)
	var c *call
	if err == nil {
		session.forgetLocked(a.Done)
		c, err = session.receiveLocked(a)
	}
	if err == nil && len(c.body) == c.size && !c.started {
		s.startLocked(session, a.Call, c)
	}
	complete := err == nil && c.started
	s.mu.Unlock()
	if err != nil {
		return part{}, err
	}
	if !complete {
		return part{Pending: true}, nil
	}
	return c.answer(ctx, 0)
}

// receiveLocked adds a part to its call. Parts come in order: the coordinator
// sends each when the one before is answered.
func (s *session) receiveLocked(a ask) (*call, error) {
	c := s.calls[a.Call]
	switch {
	case c == nil && a.Offset != 0:
		return nil, refuse(codeBadRequest, "part at %d of a call that did not begin", a.Offset)
	case c != nil && (c.started || a.Offset != len(c.body)):
		return nil, refuse(codeBadRequest, "part at %d out of order", a.Offset)
	case c == nil && (a.Size < 0 || a.Size > maxBody):
		return nil, refuse(codeBadRequest, "request of %d bytes, at most %d are", a.Size, maxBody)
	case c == nil && s.verbs(a.Verb) == nil:
		return nil, refuse(codeBadRequest, "no verb %q", a.Verb)
	case c == nil && (s.pending >= maxCalls || len(s.calls) >= maxKept):
		return nil, refuse(codeBusy, "%d calls are under way: ask again when one has ended", maxCalls)
	case c == nil && s.held+a.Size > maxHeld:
		return nil, refuse(codeBusy, "it holds %d MiB of requests and answers: ask for less at once", s.held>>20)
	case c == nil:
		c = &call{
			verb: a.Verb, size: a.Size, within: time.Duration(a.Within) * time.Millisecond,
			cancel: func() {}, done: make(chan struct{}), body: make([]byte, 0, a.Size),
		}
		s.calls[a.Call] = c
		s.pending++
		s.held += a.Size
	}
	if len(c.body)+len(a.Data) > c.size {
		return nil, refuse(codeBadRequest, "more than the %d bytes announced", c.size)
	}
	c.body = append(c.body, a.Data...)
	return c, nil
}

func (s *server) startLocked(session *session, id uint64, c *call) {
	c.started = true
	ctx := session.ctx
	if c.within > 0 {
		ctx, c.cancel = context.WithTimeout(ctx, c.within)
	} else {
		ctx, c.cancel = context.WithCancel(ctx)
	}
	verb, request := session.verbs(c.verb), json.RawMessage(c.body)
	if len(request) == 0 {
		request = nil
	}
	session.running.Go(func() {
		defer c.cancel()
		answer, fault := run(ctx, verb, request)
		s.mu.Lock()
		defer s.mu.Unlock()
		session.pending--
		session.held -= c.size
		if session.calls[id] == c && session.held+len(answer) <= maxHeld {
			session.held += len(answer)
		} else if session.calls[id] == c {
			answer, fault = nil, fmt.Sprintf("its answer of %d bytes found no room: ask for less at once", len(answer))
		}
		c.body, c.fault = answer, fault
		close(c.done)
	})
}

func run(ctx context.Context, verb child.Verb, request json.RawMessage) (answer []byte, fault string) {
	v, err := verb(ctx, request)
	if err == nil {
		if answer, err = json.Marshal(v); err != nil {
			err = fmt.Errorf("write answer: %w", err)
		}
	}
	if err == nil && len(answer) > maxBody {
		err = fmt.Errorf("its answer of %d MiB is longer than %d MiB: ask for fewer clients at once", len(answer)>>20, maxBody>>20)
	}
	if err == nil {
		return answer, ""
	}
	text := err.Error()
	if len(text) > maxText {
		text = text[:maxText] + " ..."
	}
	if text == "" {
		text = "failed without a word"
	}
	return nil, text
}

func (s *server) fetch(ctx context.Context, f fetch) (part, error) {
	s.mu.Lock()
	session, err := s.heldLocked(f.Lease)
	var c *call
	if err == nil {
		c = session.calls[f.Call]
	}
	s.mu.Unlock()
	if err != nil {
		return part{}, err
	}
	if c == nil || f.Offset < 0 {
		return part{}, refuse(codeBadRequest, "no call %d to answer", f.Call)
	}
	return c.answer(ctx, f.Offset)
}

// answer waits for the answer for pollTime and gives a part of it.
func (c *call) answer(ctx context.Context, offset int) (part, error) {
	wait := time.NewTimer(pollTime)
	defer wait.Stop()
	select {
	case <-c.done:
	case <-wait.C:
		return part{Pending: true}, nil
	case <-ctx.Done():
		return part{Pending: true}, nil
	}
	if c.fault != "" {
		return part{Err: c.fault}, nil
	}
	if offset > len(c.body) {
		return part{}, refuse(codeBadRequest, "part at %d of an answer of %d bytes", offset, len(c.body))
	}
	return part{Size: len(c.body), Data: c.body[offset:min(len(c.body), offset+partSize)]}, nil
}
