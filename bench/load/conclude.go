package load

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/scenario"
)

// conclude makes the report of what there is: w is nil when no window was
// measured.
func (r *run) conclude(w *outcome) {
	f := figures{}
	r.figures = f
	r.joins(f)
	if w != nil {
		heard := r.hearing(f, w)
		r.cost(f, w)
		r.void = cmp.Or(r.path(), r.bottleneck(f, w))
		r.series(w, heard)
		r.report.Events = w.journal
	}
	for _, m := range scenario.Metrics {
		if v, ok := f[m.Name]; ok {
			samples := []float64{v}
			if parts := r.parts(w, m.Name); len(parts) > 1 {
				samples = parts
			}
			r.report.Metrics = append(r.report.Metrics, bench.Metric{Name: m.Name, Unit: m.Unit, Better: m.Better, Samples: samples})
		}
	}
	for _, g := range r.plan.Scenario.Goals {
		r.report.Goals = append(r.report.Goals, r.goal(f, g))
	}
	if r.void != "" {
		r.note("the harness was the bottleneck: %s. What was measured is not the server; use more generators, or other machines", r.void)
		if len(r.report.Goals) == 0 {
			r.report.Goals = append(r.report.Goals, bench.Goal{Name: "generator keeps up", Void: r.void})
		}
	}
}

// goal judges a goal of the scenario.
func (r *run) goal(f figures, g scenario.Goal) bench.Goal {
	m, _ := scenario.MetricOf(g.Metric) // Check has seen to it
	bound, atLeast := g.Bound()
	goal := bench.Goal{Name: g.Metric, Bound: bound, AtLeast: atLeast, Unit: m.Unit, Value: f[g.Metric]}
	switch _, measured := f[g.Metric]; {
	case r.void != "":
		goal.Void = r.void
	case g.Metric == "wrong_voice" && r.deaf != "":
		goal.Void = r.deaf
	case !measured && r.report.Partial != "":
		goal.Void = "the run ended before it was measured"
	case !measured:
		goal.Void = "not measured in this run"
	}
	return goal
}

func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

// newHistogram holds nanoseconds from 1 µs to 60 s.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1000, 60_000_000_000, 3) }

// joins are the figures of the way in.
func (r *run) joins(f figures) {
	all, first := newHistogram(), newHistogram()
	stages := []struct {
		name string
		of   func(stages) time.Duration
		h    *hdrhistogram.Histogram
	}{
		{"placed", func(s stages) time.Duration { return s.Placed }, newHistogram()},
		{"voice WebSocket", func(s stages) time.Duration { return s.Connect }, newHistogram()},
		{"session opened", func(s stages) time.Duration { return s.Ready }, newHistogram()},
		{"offer to answer", func(s stages) time.Duration { return s.Description }, newHistogram()},
		{"ICE", func(s stages) time.Duration { return s.ICE }, newHistogram()},
		{"DTLS", func(s stages) time.Duration { return s.DTLS }, newHistogram()},
		{"of ICE and DTLS, the server", func(s stages) time.Duration { return s.Server }, newHistogram()},
	}
	failed := make(map[string]int)
	failures := 0
	for _, m := range r.members {
		m.mu.Lock()
		due, joined, err := m.due, m.joined, m.failed
		m.mu.Unlock()
		switch {
		case err != nil:
			failures++
			failed[err.Error()]++
		case joined.IsZero():
		default:
			_ = all.RecordValue(joined.Sub(due).Nanoseconds())
			for _, s := range stages {
				if d := s.of(m.stages); d > 0 {
					_ = s.h.RecordValue(d.Nanoseconds())
				}
			}
			if at := m.firstAudio(); at.After(due) && m.heardOthers {
				_ = first.RecordValue(at.Sub(due).Nanoseconds())
			}
		}
	}
	f["join_failed"] = float64(failures)
	kinds := make([]string, 0, len(failed))
	for text := range failed {
		kinds = append(kinds, text)
	}
	slices.SortFunc(kinds, func(a, b string) int { return cmp.Compare(failed[b], failed[a]) })
	for _, text := range kinds[:min(len(kinds), 5)] {
		r.note("%d members did not get in: %s", failed[text], text)
	}
	if all.TotalCount() == 0 {
		return
	}
	at := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }
	f["join_p50_ms"], f["join_p99_ms"], f["join_max_ms"] = at(all, 50), at(all, 99), float64(all.Max())/1e6
	table := bench.Table{Title: fmt.Sprintf("How %d members came in: time of each stage in ms", all.TotalCount()), Head: []string{"stage", "p50", "p90", "p99", "max"}}
	row := func(name string, h *hdrhistogram.Histogram) {
		if h.TotalCount() > 0 {
			table.Rows = append(table.Rows, []string{name, fmt.Sprintf("%.1f", at(h, 50)), fmt.Sprintf("%.1f", at(h, 90)), fmt.Sprintf("%.1f", at(h, 99)), fmt.Sprintf("%.1f", float64(h.Max())/1e6)})
		}
	}
	for _, s := range stages {
		row(s.name, s.h)
	}
	row("due to media", all)
	r.report.Distributions = append(r.report.Distributions, bench.DistributionOf("join, from due to media", "ms", all, 1e6))
	if first.TotalCount() > 0 {
		f["first_audio_p50_ms"], f["first_audio_p99_ms"] = at(first, 50), at(first, 99)
		row("due to first voice", first)
		r.report.Distributions = append(r.report.Distributions, bench.DistributionOf("join, from due to first voice", "ms", first, 1e6))
	}
	r.report.Tables = append(r.report.Tables, table)
}

// hearing are the figures of what listeners heard.
func (r *run) hearing(f figures, w *outcome) meter.Result {
	var all, light, faithful meter.Result
	var verdict verdict
	type row struct {
		name string
		meter.Result
	}
	var rows []row
	var values []heard
	ears := 0
	for _, m := range r.members {
		one := heard{Room: m.Room + 1, Member: m.Seat + 1}
		if m.bot != nil {
			m.bot.mu.Lock()
			one.verdict = m.bot.verdict
			verdict.add(m.bot.verdict)
			m.bot.mu.Unlock()
		}
		if m.heard == nil || m.heard.Expected == 0 {
			continue
		}
		all.Merge(*m.heard)
		kind := "light"
		if m.bot != nil {
			kind = "faithful"
			faithful.Merge(*m.heard)
			if m.ears {
				ears++
			}
		} else if r.plan.Scenario.Rooms[m.room.Group].Faithful > 0 {
			light.Merge(*m.heard)
		}
		values = append(values, one.of(m, kind))
		rows = append(rows, row{fmt.Sprintf("%d/%d %s", m.Room+1, m.Seat+1, kind), *m.heard})
	}
	heardFigures(f, all)
	if ears > 0 && opus.CanDecode && verdict.Right+verdict.Wrong == 0 {
		r.deaf = "no bot that decodes heard 100 ms of speech"
	}
	if all.Expected > 0 {
		f["wrong_voice"] = float64(all.Stray + verdict.Misattributed + verdict.Unmarked + verdict.Wrong)
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.Loss(), a.Loss()), cmp.Compare(b.WorstGap, a.WorstGap), cmp.Compare(b.Latency.Quantile(.99), a.Latency.Quantile(.99)))
	})
	table := bench.Table{
		Title: fmt.Sprintf("What %d judged listeners heard in %v (the worst first)", len(rows), w.end.Sub(w.begin)),
		Head:  []string{"room/seat", "expected", "lost", "loss %", "twice", "reordered", "p50 ms", "p99 ms", "jitter p99 ms", "concealed %", "clipped", "worst gap ms", "MOS"},
	}
	line := func(name string, h meter.Result) []string {
		one := figures{}
		heardFigures(one, h)
		return []string{name, fmt.Sprint(h.Expected), fmt.Sprint(h.Lost), fmt.Sprintf("%.4f", 100*h.Loss()), fmt.Sprint(h.Duplicates), fmt.Sprint(h.Reordered),
			fmt.Sprintf("%.2f", millis(h.Latency.Quantile(.5))), fmt.Sprintf("%.2f", millis(h.Latency.Quantile(.99))), fmt.Sprintf("%.2f", millis(h.Jitter.Quantile(.99))),
			fmt.Sprintf("%.3f", 100*h.Concealment()), fmt.Sprintf("%d of %d", h.Clipped, h.Spurts), fmt.Sprintf("%.0f", millis(h.WorstGap)), fmt.Sprintf("%.2f", one["mos"])}
	}
	for i, one := range rows {
		if i == rowsShown {
			r.note("%d more listeners were judged, none worse than those shown", len(rows)-i)
			break
		}
		table.Rows = append(table.Rows, line(one.name, one.Result))
	}
	if len(rows) > 0 {
		table.Rows = append(table.Rows, line("all", all))
		table.Values = values
		r.report.Tables = append(r.report.Tables, table)
		r.report.Distributions = append(r.report.Distributions,
			bench.DistributionOf("one-way latency, from due to arrival", "ms", all.Latency.HDR(), 1e6),
			bench.DistributionOf("inter-arrival jitter", "ms", all.Jitter.HDR(), 1e6))
		if all.Clip.Count() > 0 {
			r.report.Distributions = append(r.report.Distributions, bench.DistributionOf("speech lost at the start of a clipped spurt", "ms", all.Clip.HDR(), 1e6))
		}
		if all.Gap.Count() > 0 {
			r.report.Distributions = append(r.report.Distributions, bench.DistributionOf("audible gaps", "ms", all.Gap.HDR(), 1e6))
		}
	}
	r.scores(f)
	r.crossCheck(light, faithful, verdict)
	r.everybody(f, w)
	return all
}

// heard is what a listener heard, for programs. Times are in ms.
type heard struct {
	Room       int     `json:"room"` // from 1
	Member     int     `json:"member"`
	Kind       string  `json:"kind"`
	FirstAudio float64 `json:"first_audio_ms,omitempty"` // since it was due; 0: nobody talked when it came
	Expected   uint64  `json:"expected"`
	Received   uint64  `json:"received"`
	Lost       uint64  `json:"lost"`
	Twice      uint64  `json:"twice"`
	Reordered  uint64  `json:"reordered"`
	P50        float64 `json:"latency_p50_ms"`
	P99        float64 `json:"latency_p99_ms"`
	WorstGap   float64 `json:"worst_gap_ms"`
	verdict            // of faithful bots
}

// of fills in what the meter knows.
func (h heard) of(m *member, kind string) heard {
	r := m.heard
	h.Kind, h.Expected, h.Received, h.Lost, h.Twice, h.Reordered = kind, r.Expected, r.Received, r.Lost, r.Duplicates, r.Reordered
	h.P50, h.P99, h.WorstGap = millis(r.Latency.Quantile(.5)), millis(r.Latency.Quantile(.99)), millis(r.WorstGap)
	if at := m.firstAudio(); at.After(m.due) && m.heardOthers {
		h.FirstAudio = millis(at.Sub(m.due))
	}
	return h
}

// rowsShown bounds the listeners listed one by one: the worst ones.
const rowsShown = 12

// crossCheck sets light clients beside the faithful bots of the same rooms: both
// measure the same server, so they must find the same.
func (r *run) crossCheck(light, faithful meter.Result, v verdict) {
	if faithful.Expected == 0 {
		return
	}
	r.note("faithful bots: %d pieces of 100 ms had the right voice by their sound, %d a wrong one; %d packets under another's name, %d of nobody", v.Right, v.Wrong, v.Misattributed, v.Unmarked)
	if light.Expected == 0 {
		return
	}
	r.report.Tables = append(r.report.Tables, bench.Table{
		Title: "Light clients against faithful bots in the same rooms",
		Head:  []string{"kind", "listeners", "expected", "loss %", "latency p50 ms", "p99 ms", "jitter p50 ms"},
		Rows: [][]string{
			{"light", fmt.Sprint(light.Listeners), fmt.Sprint(light.Expected), fmt.Sprintf("%.4f", 100*light.Loss()), fmt.Sprintf("%.2f", millis(light.Latency.Quantile(.5))), fmt.Sprintf("%.2f", millis(light.Latency.Quantile(.99))), fmt.Sprintf("%.2f", millis(light.Jitter.Quantile(.5)))},
			{"faithful", fmt.Sprint(faithful.Listeners), fmt.Sprint(faithful.Expected), fmt.Sprintf("%.4f", 100*faithful.Loss()), fmt.Sprintf("%.2f", millis(faithful.Latency.Quantile(.5))), fmt.Sprintf("%.2f", millis(faithful.Latency.Quantile(.99))), fmt.Sprintf("%.2f", millis(faithful.Jitter.Quantile(.5)))},
		},
	})
	apart := max(light.Loss()-faithful.Loss(), faithful.Loss()-light.Loss())
	r.report.Goals = append(r.report.Goals, bench.Goal{Name: "loss of light clients and of faithful bots apart", Value: 100 * apart, Bound: crossLoss, Unit: "points"})
}

// crossLoss is how far apart the two kinds of bots may find loss, in points.
const crossLoss = 0.1

// everybody counts what all light clients got by their headers, where nobody
// pauses, comes or goes: then it is known to the packet.
func (r *run) everybody(f figures, w *outcome) {
	var expected uint64
	for _, m := range r.members {
		if m.Within || m.Leave > 0 || m.bot != nil || m.room.Talk.Pattern != scenario.TalkContinuous {
			return
		}
	}
	if r.report.Partial != "" || r.plan.Scenario.Crowded() || r.light == nil {
		return
	}
	for _, m := range r.members {
		for _, t := range r.talkers[m.Room] {
			if t != m {
				for _, s := range t.expected(w.begin, w.end, r.plan.Scenario.Server.SilenceGate) {
					expected += uint64(s.Count)
				}
			}
		}
	}
	got := w.last.counts.Voice
	lost := int64(expected) - int64(got)
	f["loss_all_percent"] = 100 * float64(max(lost, 0)) / float64(max(expected, 1))
	r.note("all %d light clients together, by their headers: %d of %d packets of the window (%d missing, %.5f %%), %d of no announced source, %d twice",
		len(r.members), got, expected, lost, 100*float64(lost)/float64(max(expected, 1)), w.last.counts.Unknown, w.last.counts.Duplicates)
}

// cost are the figures of the server and of the load itself.
func (r *run) cost(f figures, w *outcome) {
	took := w.after.at.Sub(w.before.at).Seconds()
	if took <= 0 {
		return
	}
	packets := float64(w.after.received() - w.before.received())
	f["packets_per_s"] = packets / took
	f["packets_in_per_s"] = float64(w.after.sent()-w.before.sent()) / took
	f["mbit_per_s"] = float64(w.after.bytes()-w.before.bytes()) * 8 / 1e6 / took
	users := w.before.users
	for _, now := range w.readings {
		users = min(users, now.users)
	}
	f["users"] = float64(users)
	if r.server == nil || w.after.server == (w.before.server) {
		return
	}
	cpu := w.after.server.Sub(w.before.server)
	if packets > 0 {
		micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / packets }
		f["cpu_us_per_packet"], f["cpu_user_us_per_packet"], f["cpu_system_us_per_packet"] = micros(cpu.Total()), micros(cpu.User), micros(cpu.System)
	}
	f["busy_cores"] = busyCores(w.before, w.after, took) - w.after.ours.Sub(w.before.ours).Total().Seconds()/took
	f["server_cores"] = cpu.Total().Seconds() / took
	f["rss_mib"] = float64(w.after.rss) / (1 << 20)
	if users > 0 {
		f["rss_kib_per_session"] = float64(w.after.rss-r.idle.rss) / 1024 / float64(users)
	}
	if n := r.plan.Totals.Listeners; n > 0 {
		f["cpu_s_per_listener_minute"] = cpu.Total().Seconds() / took * 60 / float64(n)
	}
	f["socket_drops"] = w.after.shown.SocketDrops - w.before.shown.SocketDrops
	table := bench.Table{Title: "What it cost", Head: []string{"figure", "value"}}
	add := func(name, format string, args ...any) {
		table.Rows = append(table.Rows, []string{name, fmt.Sprintf(format, args...)})
	}
	add("users, the least of the window", "%d", users)
	add("packets heard", "%.0f /s", f["packets_per_s"])
	add("sent to the server", "%.0f /s", f["packets_in_per_s"])
	add("UDP payload heard", "%.1f Mbit/s", f["mbit_per_s"])
	add("server: user and system", "%.3f + %.3f cores", cpu.User.Seconds()/took, cpu.System.Seconds()/took)
	add("CPU per packet: user, system, both", "%.2f, %.2f, %.2f us", f["cpu_user_us_per_packet"], f["cpu_system_us_per_packet"], f["cpu_us_per_packet"])
	add("machine busy, softirq included, less the harness", "%.3f cores", f["busy_cores"])
	add("CPU per listener-minute", "%.4f s", f["cpu_s_per_listener_minute"])
	add("memory", "%.1f MiB, %.1f KiB per session", f["rss_mib"], f["rss_kib_per_session"])
	drops := 0.0
	for reason, n := range w.after.shown.Drops {
		if n -= w.before.shown.Drops[reason]; n > 0 && reason != silenceReason {
			drops += n
			add("dropped: "+reason, "%.0f", n)
		}
	}
	f["drops"] = drops
	add("dropped: receive buffer full", "%.0f", f["socket_drops"])
	r.report.Tables = append(r.report.Tables, table,
		bench.CostTable(bench.Usage{Users: float64(users), Cores: f["server_cores"], BitsPerSecond: f["mbit_per_s"] * 1e6}, r.config.Prices))
}

// busyCores is what of the machine was not idle. The kernel measures idle time, but
// samples what a core is busy with at its ticks: work that begins with a tick and
// ends before the next, as that of paced packets does, is mostly missed there.
func busyCores(a, b reading, seconds float64) float64 {
	now := b.machine.Sub(a.machine)
	return max(0, float64(runtime.NumCPU())-(now.Idle+now.IOWait+now.Steal).Seconds()/seconds)
}

// partLength is how much of a window makes one sample of a rate, so that two runs
// can be compared with an interval. Parts of one window are alike in what a run is
// unlucky with as a whole: differences between runs are then somewhat too sure.
const partLength = 5 * time.Second

// parts are the samples of a rate, one for each part of the window; none for figures
// that only the whole window has.
func (r *run) parts(w *outcome, name string) []float64 {
	if w == nil {
		return nil
	}
	var of func(a, b reading, seconds float64) float64
	packets := func(a, b reading) float64 { return max(1, float64(b.received()-a.received())) }
	micros := func(of func(procstat.CPU) time.Duration) func(a, b reading, _ float64) float64 {
		return func(a, b reading, _ float64) float64 {
			return float64(of(b.server.Sub(a.server))) / 1000 / packets(a, b)
		}
	}
	switch name {
	case "packets_per_s":
		of = func(a, b reading, s float64) float64 { return packets(a, b) / s }
	case "mbit_per_s":
		of = func(a, b reading, s float64) float64 { return float64(b.bytes()-a.bytes()) * 8 / 1e6 / s }
	case "cpu_us_per_packet":
		of = micros(procstat.CPU.Total)
	case "cpu_user_us_per_packet":
		of = micros(func(c procstat.CPU) time.Duration { return c.User })
	case "cpu_system_us_per_packet":
		of = micros(func(c procstat.CPU) time.Duration { return c.System })
	case "server_cores":
		of = func(a, b reading, s float64) float64 { return b.server.Sub(a.server).Total().Seconds() / s }
	case "busy_cores":
		of = func(a, b reading, s float64) float64 {
			return busyCores(a, b, s) - b.ours.Sub(a.ours).Total().Seconds()/s
		}
	default:
		return nil
	}
	var samples []float64
	for i, from := 1, 0; i < len(w.readings); i++ {
		a, b := w.readings[from], w.readings[i]
		if took := b.at.Sub(a.at); took > partLength-readEvery/2 {
			samples = append(samples, of(a, b, took.Seconds()))
			from = i
		}
	}
	return samples
}

// silenceReason is how the server names what its silence gate holds back: not a
// loss.
const silenceReason = "silence"

// bottleneck says why the figures are not the server's, or nothing.
func (r *run) bottleneck(f figures, w *outcome) string {
	var talked spoken
	for _, m := range r.members {
		if m.bot != nil {
			m.bot.mu.Lock()
			talked.add(m.bot.spoken)
			m.bot.mu.Unlock()
		}
	}
	p := w.last.pace
	sent, late, worst := p.Sent+p.Failed+talked.Sent+talked.Failed, p.Late+talked.Late, max(p.Worst, talked.Worst)
	f["late_percent"] = share(late, sent)
	f["generator_drops"] = float64(p.SocketDrops)
	r.note("generator: %d packets sent, %d failed, %.3f %% late by more than 20 ms, the latest by %v; its busiest thread used %.0f %% of a core, its receive buffers lost %d",
		p.Sent+talked.Sent, p.Failed+talked.Failed, f["late_percent"], worst.Round(100*time.Microsecond), 100*busiest(w), p.SocketDrops)
	c := w.last.counts
	if c.Opened+c.Refused > 0 {
		r.note("judged light clients opened %d packets, %d could not be opened", c.Opened, c.Refused)
	}
	switch {
	case f["late_percent"] > lateAtMost:
		return fmt.Sprintf("%.1f %% of the packets were sent more than 20 ms late", f["late_percent"])
	case worst > stallAtMost:
		return fmt.Sprintf("it stood still: a packet was sent %v late", worst.Round(time.Millisecond))
	case p.SocketDrops > 0:
		return fmt.Sprintf("its own receive buffers lost %d datagrams", p.SocketDrops)
	case busiest(w) > busyAtMost:
		return fmt.Sprintf("a thread of it was busy %.0f %% of the time", 100*busiest(w))
	}
	return ""
}

// busiest is the greatest load of a generator's thread at a reading.
func busiest(w *outcome) float64 {
	most := 0.0
	for _, now := range append(w.readings, w.last) {
		most = max(most, now.pace.Busy)
	}
	return most
}

// series are what is drawn over time, from the start of the window.
func (r *run) series(w *outcome, heard meter.Result) {
	line := func(plot, name, unit string, of func(before, after reading, seconds float64) float64) {
		s := bench.Series{Plot: plot, Name: name, Unit: unit}
		for i := 1; i < len(w.readings); i++ {
			a, b := w.readings[i-1], w.readings[i]
			if took := b.at.Sub(a.at).Seconds(); took > 0.1 {
				s.Points = append(s.Points, bench.Point{At: b.at.Sub(w.begin).Seconds(), V: of(a, b, took)})
			}
		}
		if len(s.Points) > 0 {
			r.report.Series = append(r.report.Series, s)
		}
	}
	var loss, p50, p99 bench.Series
	loss = bench.Series{Plot: "Loss", Name: "lost", Unit: "%"}
	p50, p99 = bench.Series{Plot: "One-way latency", Name: "p50", Unit: "ms"}, bench.Series{Plot: "One-way latency", Name: "p99", Unit: "ms"}
	for _, s := range heard.Slices {
		at := s.At.Sub(w.begin).Seconds()
		loss.Points = append(loss.Points, bench.Point{At: at, V: 100 * s.Loss()})
		p50.Points = append(p50.Points, bench.Point{At: at, V: millis(s.Latency.Quantile(.5))})
		p99.Points = append(p99.Points, bench.Point{At: at, V: millis(s.Latency.Quantile(.99))})
	}
	for _, s := range []bench.Series{loss, p50, p99} {
		if len(s.Points) > 0 {
			r.report.Series = append(r.report.Series, s)
		}
	}
	line("Packets", "heard", "1/s", func(a, b reading, s float64) float64 { return float64(b.received()-a.received()) / s })
	line("Packets", "sent to the server", "1/s", func(a, b reading, s float64) float64 { return float64(b.sent()-a.sent()) / s })
	if r.server != nil {
		line("CPU", "server, user", "cores", func(a, b reading, s float64) float64 { return b.server.Sub(a.server).User.Seconds() / s })
		line("CPU", "server, system", "cores", func(a, b reading, s float64) float64 { return b.server.Sub(a.server).System.Seconds() / s })
		line("Memory of the server", "resident", "MiB", func(_, b reading, _ float64) float64 { return float64(b.rss) / (1 << 20) })
	}
	line("CPU", "harness", "cores", func(a, b reading, s float64) float64 { return b.ours.Sub(a.ours).Total().Seconds() / s })
	line("CPU", "machine", "cores", func(a, b reading, s float64) float64 { return busyCores(a, b, s) })
	line("Users", "in their rooms", "", func(_, b reading, _ float64) float64 { return float64(b.users) })
}
