package cql

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// bucketMillis is the span of one partition of messages, ten days. A channel with
// one message of 300 bytes a second puts 80 MB into it.
const bucketMillis = 10 * 24 * 3600 * 1000

// settled is how long after its end a bucket takes no new messages: longer than
// clocks differ and writes wait.
const settled = time.Hour

// bucketOf is the bucket that a message lies in.
func bucketOf(id textchat.ID) int32 { return int32((id >> 22) / bucketMillis) }

// first is the smallest id of a bucket.
func first(bucket int32) textchat.ID { return textchat.ID(bucket) * bucketMillis << 22 }

// closed says whether no new message comes into a bucket any more.
func closed(bucket int32, now time.Time) bool {
	return now.UnixMilli()-snowflake.Epoch > (int64(bucket)+1)*bucketMillis+settled.Milliseconds()
}

// bucketKey is a bucket of a channel.
type bucketKey struct {
	channel textchat.ID
	bucket  int32
}

// bucketSet remembers buckets. It holds no pointers, so the collector does not
// look into it; when full, an arbitrary one is forgotten. One takes 16 bytes.
type bucketSet struct {
	// Immutable.
	max          int
	hits, misses prometheus.Counter

	mu sync.Mutex
	// Guarded by mu.
	set map[bucketKey]struct{}
}

func newBucketSet(most int, hits, misses prometheus.Counter) *bucketSet {
	return &bucketSet{set: make(map[bucketKey]struct{}), max: most, hits: hits, misses: misses}
}

func (b *bucketSet) has(k bucketKey) bool {
	b.mu.Lock()
	_, ok := b.set[k]
	b.mu.Unlock()
	if ok {
		b.hits.Inc()
	} else {
		b.misses.Inc()
	}
	return ok
}

func (b *bucketSet) add(k bucketKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.set) >= b.max {
		for old := range b.set {
			delete(b.set, old)
			break
		}
	}
	b.set[k] = struct{}{}
}

func (b *bucketSet) drop(k bucketKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.set, k)
}

// generations count the writes to what a key names, so that a read begun before a
// write is not shared with one begun after it. Keys may fall together: then a
// read is shared less often than it could be.
type generations [4096]atomic.Uint64

func (g *generations) of(key uint64) *atomic.Uint64 {
	// Snowflakes differ in their upper and lowest bits.
	return &g[(key^key>>22^key>>44)%uint64(len(g))]
}
