package icelite

import (
	"hash/maphash"
	"net/netip"
	"time"

	"voicefleet/sfu"
)

// The table of a Limiter: 1,024 sets of 4 buckets of 32 bytes, 128 KiB in all,
// however many addresses a flood pretends to come from.
const (
	limiterSets = 1024
	limiterWays = 4
)

// Limiter is a token bucket per source prefix (/24 of IPv4, /64 of IPv6) for
// work that a stranger can make us do, in a table of fixed size. A prefix that
// finds no place takes over the fullest bucket of its set with the tokens that
// are in it: changing prefixes mints none, and who was refused stays refused.
// Belongs to one goroutine.
type Limiter struct {
	// Immutable.
	rate  float64 // tokens per second
	burst float64
	seed  maphash.Seed
	epoch time.Time

	buckets [limiterSets][limiterWays]bucket
}

type bucket struct {
	prefix sfu.ProbePrefix
	tokens float64
	asked  time.Duration // since epoch; buckets start full at the epoch
}

// NewLimiter allows each prefix so many tokens per second, and one second's
// worth at once.
func NewLimiter(perSecond int, now time.Time) *Limiter {
	l := &Limiter{rate: float64(perSecond), burst: float64(perSecond), seed: maphash.MakeSeed(), epoch: now}
	for s := range l.buckets {
		for w := range l.buckets[s] {
			l.buckets[s][w].tokens = l.burst
		}
	}
	return l
}

// Allow takes one token of the prefix that addr is in, if there is one.
func (l *Limiter) Allow(now time.Time, addr netip.Addr) bool {
	p, t := sfu.PrefixOf(addr), now.Sub(l.epoch)
	set := &l.buckets[maphash.Comparable(l.seed, p)%limiterSets]
	b := &set[0]
	for i := range set {
		l.refill(&set[i], t)
		if set[i].prefix == p {
			b = &set[i]
			break
		}
		if set[i].tokens > b.tokens {
			b = &set[i]
		}
	}
	b.prefix = p
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (l *Limiter) refill(b *bucket, t time.Duration) {
	if gone := t - b.asked; gone > 0 {
		b.tokens = min(l.burst, b.tokens+l.rate*gone.Seconds())
		b.asked = t
	}
}
