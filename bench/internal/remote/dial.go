package remote

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"voicefleet/internal/bus"
)

// Caller is a generator, wherever it lives: [Generator] here, child.Process in a
// process of ours.
type Caller interface {
	Call(ctx context.Context, verb string, in, out any) error
}

// Generator is the coordinator's handle of a generator that it has the lease of.
// Safe for concurrent use.
type Generator struct {
	// Immutable.
	conn   *bus.Conn
	info   Info
	token  string
	slots  chan struct{} // calls at once
	ctx    context.Context
	lose   context.CancelCauseFunc // gives up all calls
	ended  chan struct{}           // closed when the beats have ended
	silent time.Duration           // unanswered for so long, it is lost

	mu sync.Mutex
	// Guarded by mu.
	last uint64   // call
	done []uint64 // calls the generator is to forget
}

var errFreed = errors.New("its lease was given back")

// Find lists the generators that are on the bus, by name.
func Find(ctx context.Context, conn *bus.Conn) ([]Info, error) {
	bucket, err := bus.OpenBucket[Info](ctx, conn, bus.GeneratorsBucket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bus.RequestTimeout)
	defer cancel()
	var list []Info
	synced := false
	bucket.Watch(ctx, func(ch bus.Change[Info]) {
		switch {
		case synced:
		case ch.Synced:
			synced = true
			cancel()
		case !ch.Gone:
			list = append(list, ch.Value)
		}
	})
	if !synced {
		return nil, fmt.Errorf("list generators: %w", ctx.Err())
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Dial takes the lease of a generator, for a coordinator of that name, until Close.
func Dial(ctx context.Context, conn *bus.Conn, name, coordinator string) (*Generator, error) {
	return dial(ctx, conn, name, coordinator, Version(), leaseTTL)
}

func dial(ctx context.Context, conn *bus.Conn, name, coordinator, version string, silent time.Duration) (*Generator, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	g := &Generator{conn: conn, token: rand.Text(), slots: make(chan struct{}, maxCalls), ended: make(chan struct{}), silent: silent}
	var err error
	g.info, err = bus.Request[take, Info](ctx, conn, bus.GeneratorSubject(name, "take"),
		take{Lease: g.token, Coordinator: coordinator, Version: version, Protocol: Protocol})
	switch said := (*bus.Error)(nil); {
	case err == nil:
	case errors.Is(err, bus.ErrNobody):
		return nil, fmt.Errorf("no generator %q is on this bus%s: start it with: voicebench generator --bus nats://HOST:4222 --name %s", name, others(ctx, conn), name)
	case errors.As(err, &said):
		return nil, fmt.Errorf("generator %s refuses us: %s", name, said.Message)
	default:
		return nil, fmt.Errorf("take generator %s: %w", name, err)
	}
	g.ctx, g.lose = context.WithCancelCause(context.WithoutCancel(ctx))
	go g.beat() // Close waits for it
	return g, nil
}

// others names the generators there are, for whoever mistyped one.
func others(ctx context.Context, conn *bus.Conn) string {
	list, err := Find(ctx, conn)
	if err != nil || len(list) == 0 {
		return ""
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	return " (there are: " + strings.Join(names, ", ") + ")"
}

// Info is what the generator said of itself.
func (g *Generator) Info() Info { return g.info }

// Lost is closed when the generator is given up or given back; Err then says why.
func (g *Generator) Lost() <-chan struct{} { return g.ctx.Done() }

// Err says why the generator is lost; nil while it is not.
func (g *Generator) Err() error {
	if g.ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("generator %s: %w", g.info.Name, context.Cause(g.ctx))
}

func (g *Generator) subject(verb string) string { return bus.GeneratorSubject(g.info.Name, verb) }

// takeDone empties the list of calls to forget into a message.
func (g *Generator) takeDone() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	done := g.done
	g.done = nil
	return done
}

func (g *Generator) forget(calls ...uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = append(g.done, calls...)
}

func (g *Generator) beat() {
	defer close(g.ended)
	every := time.NewTicker(g.silent / beats)
	defer every.Stop()
	heard := time.Now()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-every.C:
		}
		done := g.takeDone()
		ctx, cancel := context.WithTimeout(g.ctx, g.silent/beats)
		_, err := bus.Request[beat, bus.Done](ctx, g.conn, g.subject("beat"), beat{Lease: g.token, Done: done})
		cancel()
		switch now := time.Now(); {
		case err == nil:
			heard = now
		case refused(err, codeGone):
			g.lose(errors.New(message(err)))
			return
		case now.Sub(heard) >= g.silent:
			g.lose(fmt.Errorf("nothing was heard of it for %v: see whether it still runs, and whether its machine reaches the bus", g.silent))
			return
		default:
			g.forget(done...)
		}
	}
}

// Close gives the generator back and returns when it has closed all of ours.
func (g *Generator) Close(ctx context.Context) error {
	lost := g.Err()
	g.lose(errFreed)
	<-g.ended
	if errors.Is(lost, errFreed) {
		return nil
	}
	if lost != nil {
		return lost
	}
	ctx, cancel := context.WithTimeout(ctx, closeTime+onTheWay)
	defer cancel()
	if _, err := bus.Request[free, bus.Done](ctx, g.conn, g.subject("free"), free{Lease: g.token}); err != nil {
		return fmt.Errorf("give back generator %s: %w", g.info.Name, err)
	}
	return nil
}

// Call runs a verb with a request and waits for its answer, at most until ctx
// ends; the verb is then ended too. in and out may be nil.
func (g *Generator) Call(ctx context.Context, verb string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, err)
		}
	}
	if len(body) > maxBody {
		return fmt.Errorf("ask %s to %s: a request of %d MiB, at most %d are: ask for fewer clients at once", g.info.Name, verb, len(body)>>20, maxBody>>20)
	}
	for _, c := range []context.Context{g.ctx, ctx} {
		if c.Err() != nil {
			return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, context.Cause(c))
		}
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, ctx.Err())
	case <-g.ctx.Done():
		return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, context.Cause(g.ctx))
	}
	g.mu.Lock()
	g.last++
	id := g.last
	g.mu.Unlock()
	defer g.forget(id)

	// A call ends with the caller's patience or with the generator. The deadline
	// goes to the verb; on a message that holds a question it would make a refusal
	// of it just before it is over.
	calling, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	defer context.AfterFunc(g.ctx, func() { cancel(context.Cause(g.ctx)) })()
	var within time.Duration
	if d, ok := ctx.Deadline(); ok {
		within = max(time.Until(d), time.Millisecond)
	}
	answer, err := g.call(calling, id, verb, body, within)
	switch fault := (*verbError)(nil); {
	case err == nil:
	case errors.As(err, &fault):
		return fmt.Errorf("%s: %s: %s", g.info.Name, verb, fault.text)
	case calling.Err() != nil:
		return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, context.Cause(calling))
	case errors.Is(err, bus.ErrTooLarge):
		return fmt.Errorf("ask %s to %s: the bus takes no message of %d KiB: set max_payload of the NATS server to 1MB or more", g.info.Name, verb, partSize*4/3>>10)
	case errors.Is(err, bus.ErrNobody):
		return fmt.Errorf("ask %s to %s: it has left the bus: see on its machine why", g.info.Name, verb)
	default:
		return fmt.Errorf("ask %s to %s: %w", g.info.Name, verb, err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("%s: %s: read answer: %w", g.info.Name, verb, err)
		}
	}
	return nil
}

// verbError is what a verb failed with.
type verbError struct{ text string }

func (e *verbError) Error() string { return e.text }

// call sends a request and reads its answer, part by part.
func (g *Generator) call(ctx context.Context, id uint64, verb string, body []byte, within time.Duration) ([]byte, error) {
	var got part
	for offset := 0; ; {
		a := ask{Lease: g.token, Call: id, Verb: verb, Size: len(body), Offset: offset, Within: within.Milliseconds(), Done: g.takeDone()}
		a.Data = body[offset:min(len(body), offset+partSize)]
		var err error
		// Not asked twice: a verb must not run twice.
		if got, err = request[ask](ctx, g, "ask", a); err != nil {
			g.forget(a.Done...)
			return nil, err
		}
		if offset += len(a.Data); offset == len(body) {
			break
		}
	}
	var answer []byte
	for {
		if got.Err != "" {
			return nil, &verbError{got.Err}
		}
		if !got.Pending {
			switch {
			case got.Size < 0 || got.Size > maxBody || len(answer)+len(got.Data) > got.Size || len(got.Data) == 0 && len(answer) < got.Size:
				return nil, fmt.Errorf("its answer is out of bounds: %d and %d of %d bytes", len(answer), len(got.Data), got.Size)
			case answer == nil:
				answer = make([]byte, 0, got.Size)
			}
			if answer = append(answer, got.Data...); len(answer) == got.Size {
				return answer, nil
			}
		}
		var err error
		got, err = request[fetch](ctx, g, "fetch", fetch{Lease: g.token, Call: id, Offset: len(answer)})
		// An answer that was lost on the way is asked for again; the beats tell
		// when there is nobody to ask.
		for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			got, err = request[fetch](ctx, g, "fetch", fetch{Lease: g.token, Call: id, Offset: len(answer)})
		}
		if err != nil {
			return nil, err
		}
	}
}

// request asks for a part; the generator holds a question for pollTime at most.
func request[Req any](ctx context.Context, g *Generator, verb string, req Req) (part, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime+onTheWay)
	defer cancel()
	return bus.Request[Req, part](ctx, g.conn, g.subject(verb), req)
}
