package load

import (
	"time"

	"voicefleet/bench/internal/emodel"
	"voicefleet/bench/internal/meter"
)

// figures are what a window gave, by the names of scenario.Metrics.
type figures map[string]float64

// share is 100·part/whole, zero of nothing.
func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// heardFigures are those of what the judged listeners heard.
func heardFigures(f figures, r meter.Result) {
	if r.Expected == 0 {
		return // nobody was to hear anything, which is no success
	}
	f["loss_percent"] = share(r.Lost, r.Expected)
	f["duplicates"] = float64(r.Duplicates)
	f["reordered"] = float64(r.Reordered)
	f["concealment_percent"] = 100 * r.Concealment()
	at := func(name string, h *meter.Histogram, q float64) {
		if h.Count() > 0 {
			f[name] = millis(h.Quantile(q / 100))
		}
	}
	at("latency_p50_ms", r.Latency, 50)
	at("latency_p95_ms", r.Latency, 95)
	at("latency_p99_ms", r.Latency, 99)
	at("latency_max_ms", r.Latency, 100)
	at("jitter_p50_ms", r.Jitter, 50)
	at("jitter_p99_ms", r.Jitter, 99)
	f["clipped_percent"] = share(r.Clipped, r.Spurts)
	at("clipped_ms_p50", r.Clip, 50)
	at("clipped_ms_p99", r.Clip, 99)
	at("gap_p50_ms", r.Gap, 50)
	at("gap_p99_ms", r.Gap, 99)
	f["gap_worst_ms"] = millis(r.WorstGap)
	f["loss_worst_percent"] = 100 * r.WorstLoss
	// What was not played counts, whether it was lost or came too late.
	score := emodel.R(emodel.Input{Loss: r.Concealment(), BurstR: r.BurstRatio(), Delay: r.MouthToEar() + emodel.OpusDelay, Codec: emodel.Opus})
	f["r_factor"], f["mos"] = score, emodel.MOS(score)
}
