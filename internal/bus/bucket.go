package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	LeadsBucket:      {about: "guild id → text instance that leads it", storage: jetstream.MemoryStorage, maxBytes: 8 << 20, apart: true},
	GeneratorsBucket: {about: "generator of load → what it is", storage: jetstream.MemoryStorage, ttl: leaseTTL, maxBytes: 1 << 20},
	// Two who make it at once reserve its bytes twice for a moment: both must fit
	// into MaxStore.
	CallsBucket:    {about: "channel id → node and epoch", storage: jetstream.FileStorage, maxBytes: 256 << 20, apart: true},
	EnrolledBucket: {about: "role.name → what was enrolled", storage: jetstream.FileStorage, maxBytes: 16 << 20},
	LabelsBucket:   {about: "guild id → label that its calls try", storage: jetstream.FileStorage, maxBytes: 1 << 20},
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
	ctx, cancel := within(ctx, openTimeout)
	defer cancel()
	if err := b.ensure(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// openTimeout bounds the opening of what has no deadline in its context: a
// cluster that starts takes up to 10 s to choose its leaders.
const openTimeout = 30 * time.Second

// firstTry and openTry bound the first try and the later ones: servers without a
// leader do not answer at all, and are asked again when they have one.
const (
	firstTry = 250 * time.Millisecond
	openTry  = 2 * time.Second
)

// remakePause comes after one try to make a bucket that nobody answers for, before it
// is asked again: its servers may only have been without a leader.
const remakePause = 50 * time.Millisecond

// putTry is how long a Put waits before it is taken for lost: where somebody overhears
// the bucket, it is delivered, and nothing tells that there is no bucket.
const putTry = time.Second

// getTry is how long a Find waits before it asks again, and then twice as long, and so
// on: any server that has the bucket answers, also one that stands still, as long as the
// others have not noticed, which takes them some seconds.
const getTry = 600 * time.Millisecond

// errUnanswered tells that nobody said within putTry that it is written, errUnread that
// nobody said what is there. Of a bucket that is lost, that is told.
var (
	errUnanswered = errors.New("no answer")
	errUnread     = errors.New("no answer")
)

// ensure makes the bucket where it is missing, and tries again until ctx ends
// while the servers do not answer.
func (b *Bucket[T]) ensure(ctx context.Context) error {
	return b.c.insist(ctx, b.ensureOnce)
}

// insist tries to make something, again until ctx ends while the servers do not
// answer. While the bus is away nothing is tried: it would wait in the reconnect buffer,
// and all of an outage's tries would come with the return.
func (c *Conn) insist(ctx context.Context, ensure func(context.Context) error) error {
	if err := c.await(ctx); err != nil {
		return err
	}
	for wait := firstTry; ; wait = min(2*wait, openTry) {
		try, cancel := context.WithTimeout(ctx, wait)
		err := ensure(try)
		early := c.early(try, err)
		cancel()
		if !early || ctx.Err() != nil {
			return err
		}
	}
}

// early says whether a try to make something failed because the servers have no leader
// yet, or have not all found each other: then it waits for the rest of its time.
func (c *Conn) early(try context.Context, err error) bool {
	if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) && (refused.ErrorCode == noPeers || refused.Code == 503) {
		<-try.Done()
	}
	return err != nil && try.Err() != nil
}

// noPeers is what a server says that does not know of the others yet (error 10005 of
// JetStream).
const noPeers jetstream.ErrorCode = 10005

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

// do runs op, and again while nobody takes it, until ctx ends: the servers are
// choosing another leader, or the bucket is lost, as one in memory is with its last
// server, and is made anew.
func (b *Bucket[T]) do(ctx context.Context, verb, key string, op func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := b.c.await(ctx); err != nil {
		return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
	}
	err := op(ctx, b.store())
	for lost(err) && ctx.Err() == nil {
		if !errors.Is(err, errUnread) {
			try, cancel := context.WithTimeout(ctx, firstTry)
			_ = b.ensureOnce(try) // if it fails, op does and tells why
			cancel()
		}
		select {
		case <-ctx.Done():
		case <-time.After(remakePause):
			err = op(ctx, b.store())
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

func (b *Bucket[T]) store() jetstream.KeyValue {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kv
}

func lost(err error) bool {
	for _, e := range []error{jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, nats.ErrNoResponders, errUnanswered, errUnread} {
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
		try, cancel := context.WithTimeout(ctx, putTry)
		defer cancel()
		revision, err := kv.Put(try, key, body)
		if err != nil && try.Err() != nil && ctx.Err() == nil {
			return 0, errUnanswered
		}
		return revision, err
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
	wait := getTry
	err := b.do(ctx, "find", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		try, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		wait *= 2
		got, err := kv.Get(try, key)
		if err != nil && try.Err() != nil && ctx.Err() == nil {
			return errUnread
		}
		if err != nil {
			return err
		}
		e.Revision, e.Written = got.Revision(), got.Created()
		return readValue(key, got.Value(), &e.Value)
	})
	return e, err
}

// Keys lists all keys, in no order.
func (b *Bucket[T]) Keys(ctx context.Context) (keys []string, err error) {
	wait := watchTry
	err = b.do(ctx, "list", "keys", func(ctx context.Context, kv jetstream.KeyValue) error {
		try, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		wait *= 2
		keys, err = kv.Keys(try)
		switch {
		case errors.Is(err, jetstream.ErrNoKeysFound):
			keys, err = nil, nil
		case err != nil && try.Err() != nil && ctx.Err() == nil:
			err = errUnread
		}
		return err
	})
	return keys, err
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
	// watchTry bounds the beginning of a watch: servers without a leader do not answer.
	watchTry = time.Second
)

// Watch calls fn with every value of the bucket, then with Synced, then with
// every change, until ctx ends. When the bus was away, it goes through all of it
// again and tells as Gone what has vanished meanwhile; while it is away nothing
// is told, and so nothing vanishes.
func (b *Bucket[T]) Watch(ctx context.Context, fn func(Change[T])) {
	known := make(map[string]bool)
	var ending sync.WaitGroup
	defer ending.Wait()
	watch := func() error { return b.watchOnce(ctx, known, &ending, fn) }
	if b.c.guest {
		watch = func() error { return b.watchAsGuest(ctx, known, fn) }
	}
	for ctx.Err() == nil {
		if err := watch(); err != nil && ctx.Err() == nil {
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
func (b *Bucket[T]) watchOnce(ctx context.Context, known map[string]bool, ending *sync.WaitGroup, fn func(Change[T])) error {
	reconnected := b.c.Reconnected()
	opening, cancel := withDeadline(ctx)
	defer cancel()
	if err := b.ensure(opening); err != nil {
		return err
	}
	looking, enough := context.WithTimeout(ctx, watchTry)
	defer enough()
	born, age, err := b.born(looking)
	if err != nil {
		return err
	}
	bornSeen := time.Now()
	watching, stop := context.WithCancel(ctx) // lives as long as the watch
	defer stop()
	overdue := time.AfterFunc(watchTry, stop)
	w, err := b.store().WatchAll(watching)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	defer ending.Go(func() { // for seconds, where no server answers
		_ = w.Stop()
		for { // its sender blocks until read
			select {
			case _, ok := <-w.Updates():
				if !ok {
					return
				}
			case <-time.After(watchTry): // it is not closed where it was stopped at its very beginning
				return
			}
		}
	})
	if !overdue.Stop() {
		return fmt.Errorf("watch bucket %s: it took longer than %v", b.name, watchTry)
	}
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
	b.passValue(ch, got.Value(), got.Operation() != jetstream.KeyValuePut, known, seen, fn)
}

// passValue tells a value of the key in ch, or the end of one.
func (b *Bucket[T]) passValue(ch Change[T], body []byte, over bool, known, seen map[string]bool, fn func(Change[T])) {
	if over {
		if known[ch.Key] {
			delete(known, ch.Key)
			ch.Gone = true
			fn(ch)
		}
		return
	}
	if err := readValue(ch.Key, body, &ch.Value); err != nil {
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

// keyOf is the key of a bucket that a subject stands for.
func keyOf(bucket, subject string) (key string, ok bool) {
	return strings.CutPrefix(subject, "$KV."+bucket+".")
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

// Overhear calls fn with every value as it is put and with the end of one as it is
// deleted, one after the other: what Watch tells of when the bucket has it, sooner, and
// also while the servers choose a leader and no bucket can be written. Whether the
// bucket takes it is not known, so this is for keys that one alone puts. It tells
// neither what there was before nor what expires.
func (b *Bucket[T]) Overhear(ctx context.Context, fn func(Change[T])) (*Subscription, error) {
	return b.c.subscribe(ctx, "$KV."+b.name+".>", func(m *nats.Msg) (err error) {
		key, ours := keyOf(b.name, m.Subject)
		if !ours {
			return fmt.Errorf("it belongs to %.100q", m.Subject)
		}
		ch := Change[T]{Entry: Entry[T]{Key: key}, Gone: m.Header.Get(kvOperation) != ""}
		if !ch.Gone {
			err = readValue(key, m.Data, &ch.Value)
		}
		if err == nil {
			fn(ch)
		}
		return err
	})
}

// kvOperation is the header of a message that ends the value of a key.
const kvOperation = "KV-Operation"

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
	LeaseOf(ctx, b, key, func() T { return value }, every)
}

// LeaseOf is Lease with a value that changes: it is asked for each time.
func LeaseOf[T any](ctx context.Context, b *Bucket[T], key string, value func() T, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		put, cancel := context.WithTimeout(ctx, every)
		if _, err := b.Put(put, key, value()); err != nil && ctx.Err() == nil {
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
