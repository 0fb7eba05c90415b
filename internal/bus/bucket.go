package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucketSpec is what a bucket is like, whoever comes first.
type bucketSpec struct {
	about   string
	storage jetstream.StorageType
	// ttl is how long a value stands after its last Put; 0: for ever. A marker
	// (markerTTL) tells watchers of its end: without it they would never see it.
	ttl      time.Duration
	maxBytes int64
	// apart has the revisions of a bucket made anew begin beyond those of the lost
	// one, so that who still knows one of those cannot write by it.
	apart bool
}

// markerTTL is how long the marker of an expired or purged key stands.
const markerTTL = time.Second

// leaseTTL is how long a lease stands after its last Put.
const leaseTTL = 5 * time.Second

// keyTTL is how long a grant key stands after the last Put of its allocator. A
// session is resumed with the token that opened it, so its key must outlive the
// allocator that signed it; the private key ended with that process.
const keyTTL = 24 * time.Hour

var bucketSpecs = map[string]bucketSpec{
	NodesBucket:      {about: "node id → heartbeat", storage: jetstream.MemoryStorage, ttl: leaseTTL, maxBytes: 64 << 20},
	SignalingBucket:  {about: "signaling instance → endpoint", storage: jetstream.MemoryStorage, ttl: leaseTTL, maxBytes: 1 << 20},
	TextsBucket:      {about: "text instance → where it is", storage: jetstream.MemoryStorage, ttl: leaseTTL, maxBytes: 1 << 20},
	GeneratorsBucket: {about: "generator of load → what it is", storage: jetstream.MemoryStorage, ttl: leaseTTL, maxBytes: 1 << 20},
	// Two who make it at once reserve its bytes twice for a moment: both must fit
	// into MaxStore.
	CallsBucket:    {about: "channel id → node and epoch", storage: jetstream.FileStorage, maxBytes: 256 << 20, apart: true},
	EnrolledBucket: {about: "role.name → what was enrolled", storage: jetstream.FileStorage, maxBytes: 16 << 20},
	KeysBucket:     {about: "key id → Ed25519 public key", storage: jetstream.FileStorage, ttl: keyTTL, maxBytes: 4 << 20},
}

// Why a bucket operation was not done. Everything else is the bus being away.
var (
	ErrNotFound = errors.New("key not found")
	ErrConflict = errors.New("somebody else wrote the key first")
)

// Bucket is a bucket of subjects.go with values of type T, as JSON. Safe for
// concurrent use.
type Bucket[T any] struct {
	// Immutable.
	c    *Conn
	name string
	spec bucketSpec

	mu sync.Mutex
	// Guarded by mu.
	kv jetstream.KeyValue
}

// OpenBucket opens a bucket of subjects.go and makes it when it is not there.
func OpenBucket[T any](ctx context.Context, c *Conn, name string) (*Bucket[T], error) {
	spec, ok := bucketSpecs[name]
	if !ok {
		return nil, fmt.Errorf("open bucket %q: no such bucket", name)
	}
	b := &Bucket[T]{c: c, name: name, spec: spec}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	if err := b.ensure(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// openTimeout bounds the opening of a bucket whose context has no deadline: a
// cluster that starts takes up to 10 s to choose its leaders.
const openTimeout = 30 * time.Second

// openTry bounds one try: servers without a leader do not answer at all.
const openTry = 2 * time.Second

// ensure makes the bucket where it is missing, and tries again until ctx ends
// while the servers do not answer.
func (b *Bucket[T]) ensure(ctx context.Context) error {
	for {
		try, cancel := context.WithTimeout(ctx, openTry)
		err := b.ensureOnce(try)
		unanswered := try.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || !unanswered {
			return err
		}
	}
}

func (b *Bucket[T]) ensureOnce(ctx context.Context) error {
	if b.c.guest {
		return b.find(ctx)
	}
	if b.spec.apart {
		if err := b.begin(ctx); err != nil {
			return fmt.Errorf("open bucket %s: %w", b.name, err)
		}
	}
	kv, err := b.c.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         b.name,
		Description:    b.spec.about,
		TTL:            b.spec.ttl,
		MaxBytes:       b.spec.maxBytes,
		Storage:        b.spec.storage,
		Replicas:       b.c.replicas,
		LimitMarkerTTL: markerTTL,
	})
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", b.name, err)
	}
	b.mu.Lock()
	b.kv = kv
	b.mu.Unlock()
	return nil
}

// begin makes the stream of a bucket that is not there, with revisions that begin at
// the clock in microseconds: at less than a million writes a second a lost bucket
// had not come so far.
func (b *Bucket[T]) begin(ctx context.Context) error {
	name := "KV_" + b.name
	if _, err := b.c.js.Stream(ctx, name); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	_, err := b.c.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Description: b.spec.about, Subjects: []string{"$KV." + b.name + ".>"},
		MaxMsgsPerSubject: 1, MaxBytes: b.spec.maxBytes, MaxAge: b.spec.ttl, MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Storage: b.spec.storage, Replicas: b.c.replicas, Discard: jetstream.DiscardNew,
		AllowRollup: true, DenyDelete: true, AllowDirect: true,
		AllowMsgTTL: true, SubjectDeleteMarkerTTL: markerTTL,
		FirstSeq: uint64(time.Now().UnixMicro()),
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil // somebody else was first
	}
	return err
}

// find waits until somebody has made the bucket.
func (b *Bucket[T]) find(ctx context.Context) error {
	again := time.NewTicker(rewatchWait)
	defer again.Stop()
	for {
		kv, err := b.c.js.KeyValue(ctx, b.name)
		if err == nil {
			b.mu.Lock()
			b.kv = kv
			b.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("open bucket %s: %w", b.name, err)
		case <-again.C:
		}
	}
}

// do runs op, once again after making the bucket anew when it is lost: a bucket
// in memory ends with its last server.
func (b *Bucket[T]) do(ctx context.Context, verb, key string, op func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := b.c.await(ctx); err != nil {
		return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
	}
	b.mu.Lock()
	kv := b.kv
	b.mu.Unlock()
	err := op(ctx, kv)
	if lost(err) {
		if err = b.ensure(ctx); err == nil {
			b.mu.Lock()
			kv = b.kv
			b.mu.Unlock()
			err = op(ctx, kv)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch), errors.Is(err, jetstream.ErrKeyExists):
		err = ErrConflict
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		err = ErrNotFound
	}
	return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
}

func lost(err error) bool {
	for _, e := range []error{jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, nats.ErrNoResponders} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Entry is a key with its value. Revisions of one bucket only grow, until the
// bucket itself is lost.
type Entry[T any] struct {
	Key      string
	Value    T
	Revision uint64
	Written  time.Time // the server's clock
}

// Put writes a value, whatever was there.
func (b *Bucket[T]) Put(ctx context.Context, key string, value T) (revision uint64, err error) {
	return b.write(ctx, "put", key, value, func(ctx context.Context, kv jetstream.KeyValue, body []byte) (uint64, error) {
		return kv.Put(ctx, key, body)
	})
}

// Create writes a value where none is, or returns ErrConflict.
func (b *Bucket[T]) Create(ctx context.Context, key string, value T) (revision uint64, err error) {
	return b.write(ctx, "create", key, value, func(ctx context.Context, kv jetstream.KeyValue, body []byte) (uint64, error) {
		return kv.Create(ctx, key, body)
	})
}

// Update replaces the value of revision last, or returns ErrConflict.
func (b *Bucket[T]) Update(ctx context.Context, key string, value T, last uint64) (revision uint64, err error) {
	return b.write(ctx, "update", key, value, func(ctx context.Context, kv jetstream.KeyValue, body []byte) (uint64, error) {
		return kv.Update(ctx, key, body, last)
	})
}

func (b *Bucket[T]) write(ctx context.Context, verb, key string, value T, op func(context.Context, jetstream.KeyValue, []byte) (uint64, error)) (revision uint64, err error) {
	body, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
	}
	err = b.do(ctx, verb, key, func(ctx context.Context, kv jetstream.KeyValue) error {
		revision, err = op(ctx, kv, body)
		return err
	})
	return revision, err
}

// Find reads a key, or returns ErrNotFound.
func (b *Bucket[T]) Find(ctx context.Context, key string) (Entry[T], error) {
	e := Entry[T]{Key: key}
	err := b.do(ctx, "find", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		got, err := kv.Get(ctx, key)
		if err != nil {
			return err
		}
		e.Revision, e.Written = got.Revision(), got.Created()
		return readValue(key, got.Value(), &e.Value)
	})
	return e, err
}

// Delete removes the value of revision last, or whatever is there when last is
// 0. It returns ErrConflict when the key was written since.
func (b *Bucket[T]) Delete(ctx context.Context, key string, last uint64) error {
	opts := []jetstream.KVDeleteOpt{jetstream.PurgeTTL(markerTTL)}
	if last != 0 {
		opts = append(opts, jetstream.LastRevision(last))
	}
	return b.do(ctx, "delete", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		return kv.Purge(ctx, key, opts...)
	})
}

// Change is what a watcher sees: a value, the end of one, or that it has seen
// all there are.
type Change[T any] struct {
	Entry[T]
	Gone   bool // the key was deleted or expired; Value is zero
	Synced bool // neither: the state is complete now (again, after a reconnect)
	// Born, with Synced, is when the bucket was made, and Age how long ago, both by
	// the server's clock.
	Born time.Time
	Age  time.Duration
}

// Bounds of a watch.
const (
	// checkInterval is how often a watch looks whether its bucket is still the
	// one it began with.
	checkInterval = 10 * time.Second
	// rewatchWait is the pause after a watch that failed.
	rewatchWait = 200 * time.Millisecond
)

// Watch calls fn with every value of the bucket, then with Synced, then with
// every change, until ctx ends. When the bus was away, it goes through all of it
// again and tells as Gone what has vanished meanwhile; while it is away nothing
// is told, and so nothing vanishes.
func (b *Bucket[T]) Watch(ctx context.Context, fn func(Change[T])) {
	known := make(map[string]bool)
	for ctx.Err() == nil {
		if err := b.watchOnce(ctx, known, fn); err != nil && ctx.Err() == nil {
			b.c.log.Log(slog.LevelWarn, "watch", "watch is interrupted", "bucket", b.name, "err", err)
			select {
			case <-ctx.Done():
			case <-b.c.Reconnected():
			case <-time.After(rewatchWait):
			}
		}
	}
}

// watchOnce watches until ctx ends, the connection was lost and is back, or the
// bucket is another one.
func (b *Bucket[T]) watchOnce(ctx context.Context, known map[string]bool, fn func(Change[T])) error {
	reconnected := b.c.Reconnected()
	opening, cancel := withDeadline(ctx)
	defer cancel()
	if err := b.ensure(opening); err != nil {
		return err
	}
	born, age, err := b.born(opening)
	if err != nil {
		return err
	}
	bornSeen := time.Now()
	b.mu.Lock()
	kv := b.kv
	b.mu.Unlock()
	watching, stop := context.WithCancel(ctx) // lives as long as the watch
	defer stop()
	w, err := kv.WatchAll(watching)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	defer func() {
		_ = w.Stop()
		for range w.Updates() { // its sender blocks until read or closed
		}
	}()
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	seen := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnected:
			return nil
		case <-check.C:
			if now, _, err := b.born(ctx); err == nil && !now.Equal(born) || lost(err) {
				return fmt.Errorf("watch bucket %s: it was made anew", b.name)
			}
		case got, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("watch bucket %s: it ended", b.name)
			case got == nil:
				for key := range known {
					if !seen[key] {
						delete(known, key)
						fn(Change[T]{Entry: Entry[T]{Key: key}, Gone: true})
					}
				}
				seen = nil
				fn(Change[T]{Synced: true, Born: born, Age: age + time.Since(bornSeen)})
			default:
				b.pass(got, known, seen, fn)
			}
		}
	}
}

func (b *Bucket[T]) pass(got jetstream.KeyValueEntry, known, seen map[string]bool, fn func(Change[T])) {
	ch := Change[T]{Entry: Entry[T]{Key: got.Key(), Revision: got.Revision(), Written: got.Created()}}
	if got.Operation() != jetstream.KeyValuePut {
		if known[ch.Key] {
			delete(known, ch.Key)
			ch.Gone = true
			fn(ch)
		}
		return
	}
	if err := readValue(ch.Key, got.Value(), &ch.Value); err != nil {
		b.c.metrics.malformed.Inc()
		b.c.log.Log(slog.LevelWarn, "malformed", "malformed value", "bucket", b.name, "key", ch.Key, "err", err)
		return
	}
	known[ch.Key] = true
	if seen != nil {
		seen[ch.Key] = true
	}
	fn(ch)
}

// Keyed is a value that knows at which key of a bucket it belongs. At any other it
// is malformed: with credentials a node may write at its own key only, so it cannot
// speak for another.
type Keyed interface{ Belongs(key string) bool }

// maxValue bounds a value, in bytes: the heartbeat of a node with 4,000 calls has
// 400 kB.
const maxValue = 768 << 10

// readValue reads the value of a key into v.
func readValue(key string, body []byte, v any) error {
	if len(body) > maxValue {
		return fmt.Errorf("%d bytes, of at most %d", len(body), maxValue)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return err
	}
	if k, ok := v.(Keyed); ok && !k.Belongs(key) {
		return errors.New("it is another key's")
	}
	return nil
}

// born is when the bucket was made, and how long ago.
func (b *Bucket[T]) born(ctx context.Context) (time.Time, time.Duration, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	stream, err := b.c.js.Stream(ctx, "KV_"+b.name)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("look at bucket %s: %w", b.name, err)
	}
	info := stream.CachedInfo()
	return info.Created, max(0, info.TimeStamp.Sub(info.Created)), nil
}

// goodbyeTimeout bounds the last write of a lease that ends.
const goodbyeTimeout = time.Second

// Lease puts value at key now and every so often until ctx ends, and then deletes
// it. While the bus is away it keeps trying. every must be well below the
// bucket's 5 s.
func Lease[T any](ctx context.Context, b *Bucket[T], key string, value T, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		put, cancel := context.WithTimeout(ctx, every)
		if _, err := b.Put(put, key, value); err != nil && ctx.Err() == nil {
			b.c.log.Log(slog.LevelWarn, "lease", "lease is not renewed", "bucket", b.name, "key", key, "err", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
			defer cancel()
			_ = b.Delete(bye, key, 0) // it would expire by itself
			return
		case <-b.c.Reconnected():
		case <-tick.C:
		}
	}
}
