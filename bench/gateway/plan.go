package gateway

import (
	"math/rand/v2"
	"time"
)

// arrivals are the first n moments of a Poisson process of rate a second, counted
// from its begin.
func arrivals(random *rand.Rand, rate float64, n int) []time.Duration {
	at := make([]time.Duration, n)
	var t float64
	for i := range at {
		t += random.ExpFloat64() / rate
		at[i] = time.Duration(t * float64(time.Second))
	}
	return at
}

// stream are those of its moments that lie within length.
func stream(random *rand.Rand, rate float64, length time.Duration) []time.Duration {
	var at []time.Duration
	for t := random.ExpFloat64() / rate; t < length.Seconds(); t += random.ExpFloat64() / rate {
		at = append(at, time.Duration(t*float64(time.Second)))
	}
	return at
}

// evenly are n moments, one every interval.
func evenly(n int, interval time.Duration) []time.Duration {
	at := make([]time.Duration, n)
	for i := range at {
		at[i] = time.Duration(i) * interval
	}
	return at
}

// sliceOf tells in which of n equal slices of length a moment lies.
func sliceOf(at, length time.Duration, n int) int {
	if length <= 0 {
		return 0
	}
	return min(int(int64(at)*int64(n)/int64(length)), n-1)
}
