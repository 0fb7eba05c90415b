package turngate

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"
)

// limiterBuckets is the size of a limiter's table, 64 KiB. Prefixes that fall into
// one bucket share its tokens: a flood from many makes strangers wait, and never
// gets more than its own.
const limiterBuckets = 4096

// limiter is a token bucket for each source prefix (/24 of IPv4, /64 of IPv6).
type limiter struct {
	rate    float64 // tokens a second
	burst   float64 // the most that are saved up
	seed    maphash.Seed
	epoch   time.Time
	buckets [limiterBuckets]struct {
		tokens float64
		asked  time.Duration
	}
}

// newLimiter allows a prefix at most perSecond in any second: a fifth of them at
// once, the rest as time goes on.
func newLimiter(perSecond int, now time.Time) *limiter {
	burst := float64(perSecond) / 5
	l := &limiter{rate: float64(perSecond) - burst, burst: burst, seed: maphash.MakeSeed(), epoch: now}
	for i := range l.buckets {
		l.buckets[i].tokens = burst
	}
	return l
}

func (l *limiter) allow(now time.Time, prefix uint64) bool {
	b, t := &l.buckets[maphash.Comparable(l.seed, prefix)%limiterBuckets], now.Sub(l.epoch)
	if gone := t - b.asked; gone > 0 {
		b.tokens = min(l.burst, b.tokens+l.rate*gone.Seconds())
		b.asked = t
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Prefix is what clients of one network share: the /24 of an IPv4 address, behind
// a mark that no global IPv6 address has, or the /64 of an IPv6 address.
func Prefix(addr netip.Addr) uint64 {
	addr = addr.Unmap()
	if addr.Is4() {
		v4 := addr.As4()
		return 0xffffffff<<32 | uint64(binary.BigEndian.Uint32(v4[:]))>>8
	}
	v6 := addr.As16()
	return binary.BigEndian.Uint64(v6[:8])
}
