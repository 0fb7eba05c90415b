package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/telemetry"
)

// Error is a refused request: a code out of the closed list of the room that
// refused, and words for people. Whoever asked maps it to the room's own type.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Detail is what the error that was refused with says by a method Detail, for
	// who can do something about it.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// detailed is an error with a detail; nil is none.
type detailed interface {
	error
	Detail() any
}

func detailOf(err error) json.RawMessage {
	var d detailed
	if !errors.As(err, &d) {
		return nil
	}
	v := d.Detail()
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil { // what the refusal says is enough
		return nil
	}
	return b
}

// Error is "code: message".
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes that the bus itself answers with, before a handler has seen the request.
// Every room's list has them.
const (
	CodeBadRequest  = "bad_request" // the body is not JSON of the promised type
	codeUnavailable = "unavailable" // too many requests at once, or shutting down
)

// reply is the one envelope of all answers: exactly one field is set.
type reply struct {
	OK    json.RawMessage `json:"ok,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

// timeoutHeader carries how long the asker still waits, in milliseconds.
const timeoutHeader = "Voicefleet-Timeout-Ms"

// ErrNobody tells that nobody serves the subject just now: the request was not
// delivered, and asking again is safe.
var ErrNobody = nats.ErrNoResponders

// ErrTooLarge tells a message that the server does not take: beyond its
// max_payload, 1 MiB unless it is told otherwise.
var ErrTooLarge = nats.ErrMaxPayload

// Request asks subject and waits for the answer until ctx ends (RequestTimeout
// when it has no deadline); while the bus is away it waits for it. A refusal is an *Error; whatever else comes back
// means that nobody is known to have acted.
func Request[Req, Rep any](ctx context.Context, c *Conn, subject string, req Req) (Rep, error) {
	var rep Rep
	body, err := json.Marshal(req)
	if err != nil {
		return rep, fmt.Errorf("request %s: %w", subject, err)
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := c.await(ctx); err != nil {
		return rep, fmt.Errorf("request %s: %w", subject, err)
	}
	m := nats.NewMsg(subject)
	m.Data = body
	if d, ok := ctx.Deadline(); ok {
		m.Header.Set(timeoutHeader, strconv.FormatInt(time.Until(d).Milliseconds(), 10))
	}
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return rep, fmt.Errorf("request %s: %w", subject, err)
	}
	var env reply
	if err := json.Unmarshal(answer.Data, &env); err != nil {
		return rep, fmt.Errorf("request %s: read answer: %w", subject, err)
	}
	if env.Error != nil {
		return rep, env.Error
	}
	if err := json.Unmarshal(env.OK, &rep); err != nil {
		return rep, fmt.Errorf("request %s: read answer: %w", subject, err)
	}
	return rep, nil
}

// Done is the answer of a verb that has nothing to say.
type Done struct{}

// Verb is one kind of request that a service answers.
type Verb struct {
	name   string
	handle func(ctx context.Context, body []byte) (any, error)
}

// MaxRequest bounds a request, in bytes; the longest, an SDP offer with everything a
// browser may put in, has a quarter of it.
const MaxRequest = 256 << 10

// Handle makes a verb of fn. ctx ends when the asker has given up, or the service
// stops.
func Handle[Req, Rep any](name string, fn func(ctx context.Context, req Req) (Rep, error)) Verb {
	return HandleUpTo(name, MaxRequest, fn)
}

// HandleUpTo is Handle for requests of up to most bytes.
func HandleUpTo[Req, Rep any](name string, most int, fn func(ctx context.Context, req Req) (Rep, error)) Verb {
	return Verb{name: name, handle: func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if len(body) > most {
			return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("%d bytes, of at most %d", len(body), most)}
		}
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, &Error{Code: CodeBadRequest, Message: err.Error()}
		}
		return fn(ctx, req)
	}}
}

// Service is a set of verbs. It is announced as a NATS micro service, so that it
// can be listed and counts its requests.
type Service struct {
	Name    string // of the micro service
	Version string // semantic; default 1.0.0
	Subject string // a verb is asked at Subject + its name
	// Queue shares the requests among all services of the same Queue; empty:
	// each gets all.
	Queue string
	Verbs []Verb
	// Metadata shows in the list of micro services.
	Metadata map[string]string
	// Code makes the code and the message of an error; nil, or an error of type
	// *Error: the error says it itself.
	Code func(err error) (code, message string)
	// Concurrency bounds the requests handled at once (default 256); as many
	// again wait, the next are refused as unavailable.
	Concurrency int
	// Timeout bounds each handler (default RequestTimeout).
	Timeout time.Duration
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Serving is a service that runs.
type Serving struct {
	// Immutable.
	svc    Service
	micro  micro.Service
	panics *telemetry.Panics
	took   *prometheus.HistogramVec
	slots  chan struct{}
	ctx    context.Context

	malformed prometheus.Counter
	cancel    context.CancelFunc

	waiting atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	stopping bool
	handlers sync.WaitGroup // Add under mu while not stopping
}

// Serve starts the service; when it returns, requests reach it.
func Serve(ctx context.Context, c *Conn, svc Service) (*Serving, error) {
	if svc.Version == "" {
		svc.Version = "1.0.0"
	}
	if svc.Concurrency == 0 {
		svc.Concurrency = 256
	}
	if svc.Timeout == 0 {
		svc.Timeout = RequestTimeout
	}
	s := &Serving{
		svc:    svc,
		panics: telemetry.NewPanics(svc.Metrics, svc.Log),
		took: telemetry.Register(svc.Metrics, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "voicefleet_bus_request_seconds",
			Help:    "Time from the arrival of a request to its answer, by service, verb and code (ok, or why it was refused).",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"service", "verb", "code"})),
		slots:     make(chan struct{}, svc.Concurrency),
		malformed: c.metrics.malformed,
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	ms, err := micro.AddService(c.nc, micro.Config{Name: svc.Name, Version: svc.Version, Metadata: svc.Metadata})
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("serve %s: %w", svc.Name, err)
	}
	s.micro = ms
	for _, v := range svc.Verbs {
		opts := []micro.EndpointOpt{
			micro.WithEndpointSubject(svc.Subject + v.name),
			micro.WithEndpointPendingLimits(pendingMessages, pendingBytes),
		}
		if svc.Queue != "" {
			opts = append(opts, micro.WithEndpointQueueGroup(svc.Queue))
		} else {
			opts = append(opts, micro.WithEndpointQueueGroupDisabled())
		}
		if err := ms.AddEndpoint(v.name, micro.HandlerFunc(func(r micro.Request) { s.accept(v, r) }), opts...); err != nil {
			s.Stop()
			return nil, fmt.Errorf("serve %s %s: %w", svc.Name, v.name, err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("serve %s: %w", svc.Name, err)
	}
	return s, nil
}

// accept runs on the goroutine of a subscription: it must not block. What a stream
// was told to deliver here names another subject; it is no request.
func (s *Serving) accept(v Verb, r micro.Request) {
	if r.Subject() != s.svc.Subject+v.name {
		s.malformed.Inc()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		s.answer(v, r, time.Now(), nil, &Error{Code: codeUnavailable, Message: "shutting down"})
		return
	}
	if s.waiting.Add(1) > 2*int64(s.svc.Concurrency) {
		s.waiting.Add(-1)
		s.answer(v, r, time.Now(), nil, &Error{Code: codeUnavailable, Message: "too many requests at once"})
		return
	}
	s.handlers.Add(1)
	go func() {
		defer s.handlers.Done()
		defer s.waiting.Add(-1)
		s.handle(v, r)
	}()
}

func (s *Serving) handle(v Verb, r micro.Request) {
	began := time.Now()
	timeout := s.svc.Timeout
	if ms, err := strconv.ParseInt(r.Headers().Get(timeoutHeader), 10, 32); err == nil {
		timeout = min(timeout, time.Duration(ms)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		s.answer(v, r, began, nil, &Error{Code: codeUnavailable, Message: "too many requests at once"})
		return
	}
	var value any
	var err error
	if s.panics.Guard(s.svc.Name+"_request", func() { value, err = v.handle(ctx, r.Data()) }) {
		err = &Error{Code: codeUnavailable, Message: "internal error"}
	}
	s.answer(v, r, began, value, err)
}

func (s *Serving) answer(v Verb, r micro.Request, began time.Time, value any, err error) {
	var env reply
	if err == nil {
		env.OK, err = json.Marshal(value)
	}
	code := "ok"
	if err != nil {
		env = reply{Error: s.refusal(err)}
		code = env.Error.Code
	}
	s.took.WithLabelValues(s.svc.Name, v.name, code).Observe(time.Since(began).Seconds())
	// An answer that does not leave is the asker's timeout; nothing is left to do.
	if body, err := json.Marshal(env); err == nil {
		_ = r.Respond(body)
	}
}

func (s *Serving) refusal(err error) *Error {
	if own := (*Error)(nil); errors.As(err, &own) {
		return own
	}
	if s.svc.Code != nil {
		code, message := s.svc.Code(err)
		return &Error{Code: code, Message: message, Detail: detailOf(err)}
	}
	return &Error{Code: codeUnavailable, Message: err.Error()}
}

// Stop refuses new requests, ends the context of those under way and returns when
// their handlers have.
func (s *Serving) Stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	_ = s.micro.Stop()
	s.cancel()
	s.handlers.Wait()
}

// Publish sends v to whoever listens now. It does not wait; what cannot be sent
// is dropped and counted.
func Publish[T any](c *Conn, subject string, v T) error {
	body, err := json.Marshal(v)
	if err == nil {
		err = c.nc.Publish(subject, body)
	}
	if err != nil {
		c.metrics.unpublished.Inc()
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	return nil
}

// Subscription is a subscription that runs.
type Subscription struct {
	sub  *nats.Subscription
	gone atomic.Bool
}

// Unsubscribe ends the subscription: fn is not called anew. It may be called
// from within fn.
func (s *Subscription) Unsubscribe() {
	s.gone.Store(true)
	_ = s.sub.Unsubscribe()
}

// Subscribe calls fn with each message of the subject pattern, one after the
// other in the order of each sender. When it returns the server knows of it, so
// that nothing published afterwards is missed. fn should be quick: beyond 8,192
// waiting messages the next are dropped and counted. What is larger than
// MaxEvent, or not what the subject promises, is dropped and counted as malformed.
func Subscribe[T any](ctx context.Context, c *Conn, pattern string, fn func(subject string, v T)) (*Subscription, error) {
	return SubscribeIf(ctx, c, pattern, func(string, T) error { return nil }, fn)
}

// MaxEvent bounds an event, in bytes; the longest, a batch of the journal's, has a
// tenth of it.
const MaxEvent = 64 << 10

// SubscribeIf is Subscribe for what credible returns nil for; the rest is dropped
// and counted as malformed.
func SubscribeIf[T any](ctx context.Context, c *Conn, pattern string, credible func(subject string, v T) error, fn func(subject string, v T)) (*Subscription, error) {
	return c.subscribe(ctx, pattern, func(m *nats.Msg) error {
		v, err := readEvent(pattern, m.Subject, m.Data, credible)
		if err == nil {
			fn(m.Subject, v)
		}
		return err
	})
}

// subscribe calls fn with each message of the pattern; what it returns an error for
// is counted as malformed.
func (c *Conn) subscribe(ctx context.Context, pattern string, fn func(m *nats.Msg) error) (*Subscription, error) {
	s := &Subscription{}
	sub, err := c.nc.Subscribe(pattern, func(m *nats.Msg) {
		if s.gone.Load() {
			return
		}
		if err := fn(m); err != nil {
			c.metrics.malformed.Inc()
			c.log.Log(slog.LevelWarn, "malformed", "malformed message", "subject", m.Subject, "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", pattern, err)
	}
	s.sub = sub
	if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		s.Unsubscribe()
		return nil, fmt.Errorf("subscribe %s: %w", pattern, err)
	}
	if err := c.Flush(ctx); err != nil {
		s.Unsubscribe()
		return nil, fmt.Errorf("subscribe %s: %w", pattern, err)
	}
	return s, nil
}

// readEvent reads a message. A stream can be told to deliver what it holds at any
// subject; its messages then still name their own, which is how they are known.
func readEvent[T any](pattern, subject string, body []byte, credible func(subject string, v T) error) (v T, err error) {
	switch {
	case !matches(pattern, subject):
		return v, fmt.Errorf("it belongs to %.100q", subject)
	case len(body) > MaxEvent:
		return v, fmt.Errorf("%d bytes, of at most %d", len(body), MaxEvent)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, err
	}
	return v, credible(subject, v)
}

// matches says whether a subject is one of a pattern: "*" stands for one token,
// ">" at the end for one or more.
func matches(pattern, subject string) bool {
	for {
		p, pRest, pMore := strings.Cut(pattern, ".")
		s, sRest, sMore := strings.Cut(subject, ".")
		switch {
		case p == ">":
			return s != ""
		case s == "" || p != "*" && p != s || pMore != sMore:
			return false
		case !pMore:
			return true
		}
		pattern, subject = pRest, sRest
	}
}
