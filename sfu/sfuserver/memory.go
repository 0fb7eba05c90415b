package sfuserver

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
)

// memoryUsed is the share of GOMEMLIMIT that the process uses, as the limit counts
// it (all memory mapped by the runtime but what it has given back); 0 without one.
func memoryUsed() float64 {
	limit := debug.SetMemoryLimit(-1)
	if limit <= 0 || limit == math.MaxInt64 {
		return 0
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64()-samples[1].Value.Uint64()) / float64(limit)
}
