package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// historySpec is what a stream of the past is like, whoever comes first.
type historySpec struct {
	about    string
	subject  string
	messages int64 // kept, the newest
	maxBytes int64
}

// again is how long an entry with the id of another is not taken.
const again = 2 * time.Minute

var historySpecs = map[string]historySpec{
	JournalHistory: {about: "who did what in the fleet, when, why", subject: JournalSubject, messages: 10_000, maxBytes: 16 << 20},
}

// History is a bounded list of values of type T, as JSON, that anybody appends to
// and follows: a stream of subjects.go. The newest push out the oldest. Safe for
// concurrent use.
type History[T any] struct {
	// Immutable.
	c    *Conn
	name string
	spec historySpec

	mu sync.Mutex
	// Guarded by mu.
	stream jetstream.Stream
}

// OpenHistory opens a history of subjects.go and makes it when it is not there.
func OpenHistory[T any](ctx context.Context, c *Conn, name string) (*History[T], error) {
	spec, ok := historySpecs[name]
	if !ok {
		return nil, fmt.Errorf("open history %q: no such history", name)
	}
	h := &History[T]{c: c, name: name, spec: spec}
	ctx, cancel := within(ctx, openTimeout)
	defer cancel()
	err := c.insist(ctx, func(ctx context.Context) error {
		_, err := h.ensure(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *History[T]) ensure(ctx context.Context) (jetstream.Stream, error) {
	s, err := h.c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        h.name,
		Description: h.spec.about,
		Subjects:    []string{h.spec.subject},
		MaxMsgs:     h.spec.messages,
		MaxBytes:    h.spec.maxBytes,
		MaxMsgSize:  maxEntry,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Replicas:    h.c.replicas,
		Duplicates:  again,
	})
	if err != nil {
		return nil, fmt.Errorf("open history %s: %w", h.name, err)
	}
	h.mu.Lock()
	h.stream = s
	h.mu.Unlock()
	return s, nil
}

// maxEntry bounds one entry, in bytes.
const maxEntry = 16 << 10

// Append adds a value. Of values with the same id that come within two minutes
// the first is taken alone, so that several may tell of one thing; an empty id is
// like no other.
func (h *History[T]) Append(ctx context.Context, id string, value T) error {
	body, err := json.Marshal(value)
	if err == nil && len(body) > maxEntry {
		err = fmt.Errorf("%d bytes, at most %d are taken", len(body), maxEntry)
	}
	if err != nil {
		return fmt.Errorf("append to %s: %w", h.name, err)
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := h.c.await(ctx); err != nil {
		return fmt.Errorf("append to %s: %w", h.name, err)
	}
	var opts []jetstream.PublishOpt
	if id != "" {
		opts = append(opts, jetstream.WithMsgID(id))
	}
	_, err = h.c.js.Publish(ctx, h.spec.subject, body, opts...)
	if lost(err) {
		if _, err = h.ensure(ctx); err == nil {
			_, err = h.c.js.Publish(ctx, h.spec.subject, body, opts...)
		}
	}
	if err != nil {
		return fmt.Errorf("append to %s: %w", h.name, err)
	}
	return nil
}

// Past is an entry of a history, or, with Synced alone, says that all there was has
// been told. Seq grows; when the stream itself was lost it begins anew.
type Past[T any] struct {
	Seq    uint64
	Value  T
	Synced bool
}

// Follow calls fn with every entry there is, oldest first, once with Synced, and then
// with every new one, until ctx ends. After the bus was away it goes on where it was, or from the
// beginning where the stream was lost. Entries that cannot be read are counted and
// left out.
func (h *History[T]) Follow(ctx context.Context, fn func(Past[T])) {
	var at place
	for ctx.Err() == nil {
		err := h.followOnce(ctx, &at, fn)
		if err == nil || ctx.Err() != nil {
			continue
		}
		h.c.log.Log(slog.LevelWarn, "follow", "history is interrupted", "history", h.name, "err", err)
		select {
		case <-ctx.Done():
		case <-h.c.Reconnected():
		case <-time.After(rewatchWait):
		}
	}
}

// place is how far a history was followed.
type place struct {
	seen   uint64    // the last entry
	born   time.Time // when the stream was made
	synced bool      // all there was has been told, in this stream or one before
}

// followOnce follows until ctx ends, the connection was lost and is back, or the
// stream is another one.
func (h *History[T]) followOnce(ctx context.Context, at *place, fn func(Past[T])) error {
	reconnected := h.c.Reconnected()
	opening, cancel := withDeadline(ctx)
	defer cancel()
	if err := h.c.await(opening); err != nil {
		return err
	}
	s, err := h.ensure(opening)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if !info.Created.Equal(at.born) {
		at.seen, at.born = 0, info.Created
	}
	left := func(n uint64) {
		if n == 0 && !at.synced {
			at.synced = true
			fn(Past[T]{Synced: true})
		}
	}
	if info.State.LastSeq <= at.seen || info.State.Msgs == 0 {
		left(0)
	}
	// A consumer that keeps itself in order, and is gone with this process.
	consumer, err := s.OrderedConsumer(opening, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at.seen + 1})
	if err != nil {
		return fmt.Errorf("follow history %s: %w", h.name, err)
	}
	failed := make(chan error, 1)
	reading, err := consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			return // no message of a stream
		}
		at.seen = meta.Sequence.Stream
		defer left(meta.NumPending)
		var v T
		if json.Unmarshal(m.Data(), &v) != nil {
			h.c.metrics.malformed.Inc()
			return
		}
		fn(Past[T]{Seq: at.seen, Value: v})
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrConsumerDeleted) || lost(err) {
			select {
			case failed <- err:
			default:
			}
		}
	}))
	if err != nil {
		return fmt.Errorf("follow history %s: %w", h.name, err)
	}
	defer func() {
		reading.Stop()
		<-reading.Closed() // fn is not called any more
	}()
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnected:
			return nil
		case err := <-failed:
			return fmt.Errorf("follow history %s: %w", h.name, err)
		case <-check.C:
			asking, cancel := withDeadline(ctx)
			info, err := s.Info(asking)
			cancel()
			if err == nil && !info.Created.Equal(at.born) || lost(err) {
				return fmt.Errorf("follow history %s: it was made anew", h.name)
			}
		}
	}
}
