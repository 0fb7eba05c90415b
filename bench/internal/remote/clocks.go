package remote

import (
	"fmt"
	"slices"
	"time"

	"voicefleet/bench"
)

// Named is the clock of a generator.
type Named struct {
	Name string `json:"name"`
	Clock
}

// Clocks is the table of a report that tells how the generators' clocks stood to
// the coordinator's, and the sentence that must stand beside latencies measured
// between them.
func Clocks(list []Named) (bench.Table, string) {
	t := bench.Table{
		Title:  "clocks of the generators, against the coordinator's",
		Head:   []string{"generator", "offset ms", "± ms", "drift ppm", "± ppm", "shortest round trip ms", "samples"},
		Values: list,
	}
	var bounds []time.Duration
	for _, n := range list {
		t.Rows = append(t.Rows, []string{
			n.Name,
			fmt.Sprintf("%+.3f", ms(n.Offset)),
			fmt.Sprintf("%.3f", ms(n.Uncertainty)),
			fmt.Sprintf("%+.1f", n.Drift*1e6),
			fmt.Sprintf("%.1f", n.DriftUncertainty*1e6),
			fmt.Sprintf("%.3f", ms(n.RTT)),
			fmt.Sprint(n.Samples),
		})
		bounds = append(bounds, n.Uncertainty)
	}
	if len(list) < 2 {
		return t, "all clients were in one generator: their latencies need no clock but its own"
	}
	slices.Sort(bounds)
	worst := bounds[len(bounds)-1] + bounds[len(bounds)-2]
	return t, fmt.Sprintf("latency between clients of different generators is corrected by the offset of their clocks and may be off by ± %.3f ms; within a generator it is exact", ms(worst))
}
