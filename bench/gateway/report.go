package gateway

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
)

// Names of the steps in the report.
var stepNames = [steps]string{"fan-out", "rate", "resume"}

// maxLate is the share of what the generator may do late, in percent; beyond it
// the figures are its own.
const maxLate = 1

// ms shows a quantile in milliseconds.
func ms(h *hdrhistogram.Histogram, q float64) string {
	if h.TotalCount() == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(h.ValueAtQuantile(q))/1e6)
}

// quantiles are what a row shows of times.
func quantiles(h *hdrhistogram.Histogram) []string {
	return []string{ms(h, 50), ms(h, 90), ms(h, 99), ms(h, 100)}
}

// p99 is in ms.
func p99(h *hdrhistogram.Histogram) float64 { return float64(h.ValueAtQuantile(99)) / 1e6 }

// arrivalResult are the values of the table of arrivals, and of that of resumes.
type arrivalResult struct {
	Sessions int            `json:"sessions"`
	In       int            `json:"in"`
	Failed   map[string]int `json:"failed,omitempty"`
	Lost     map[string]int `json:"lost,omitempty"`
}

// stepResult is a row of the table of messages.
type stepResult struct {
	Step string `json:"step"`
	tally
}

// conclude makes the report, when everybody has left.
func (l *load) conclude() {
	l.arrived()
	defer l.reasons()
	if l.ledger == nil {
		return
	}
	var done []stepResult
	for s := range steps {
		if t := l.ledger.tally(s); t.Planned > t.Unsent {
			done = append(done, stepResult{stepNames[s], t})
		}
	}
	l.messages(done)
	l.resumes()
	l.costs()
	l.generator()
}

// goal adds a goal, unless its bound says that there is none.
func (l *load) goal(name, unit string, value, bound float64, void string) {
	if bound < 0 {
		return
	}
	l.report.Goals = append(l.report.Goals, bench.Goal{Name: name, Unit: unit, Value: value, Bound: bound, Void: void})
}

// timeGoal is a goal for the p99 of times, none at a bound of 0.
func (l *load) timeGoal(name string, h *hdrhistogram.Histogram, bound time.Duration) {
	if bound <= 0 {
		return
	}
	void := ""
	if h.TotalCount() == 0 {
		void = "nothing was measured"
	}
	l.goal(name, "ms", p99(h), float64(bound)/1e6, void)
}

// distribution adds times, and their p99 as a figure to compare.
func (l *load) distribution(name string, h *hdrhistogram.Histogram) {
	if h.TotalCount() == 0 {
		return
	}
	l.report.Distributions = append(l.report.Distributions, bench.DistributionOf(name, "ms", h, 1e6))
}

func (l *load) metric(name, unit string, samples ...float64) {
	if len(samples) > 0 {
		l.report.Metrics = append(l.report.Metrics, bench.Metric{Name: name, Unit: unit, Better: bench.Less, Samples: samples})
	}
}

// ways are the times of connections on their way in.
func ways(links []*link) (connected, hello, in, guild *hdrhistogram.Histogram) {
	connected, hello, in, guild = newHistogram(), newHistogram(), newHistogram(), newHistogram()
	for _, k := range links {
		if k == nil {
			continue
		}
		for _, m := range []struct {
			h  *hdrhistogram.Histogram
			at time.Time
		}{{connected, k.stages.connected}, {hello, k.stages.hello}, {in, k.stages.in}, {guild, k.stages.guild}} {
			if !m.at.IsZero() {
				record(m.h, m.at.Sub(k.stages.due))
			}
		}
	}
	return connected, hello, in, guild
}

func (l *load) arrived() {
	connected, hello, in, guild := ways(l.first)
	n := int(in.TotalCount())
	table := bench.Table{Title: fmt.Sprintf("Arrivals: %d sessions of %d accounts at %v/s, %d got in; ms from the moment that was intended", len(l.sessions), len(l.accounts), l.config.Rate, n),
		Head:   []string{"until", "sessions", "p50", "p90", "p99", "max"},
		Values: arrivalResult{Sessions: len(l.sessions), In: n, Failed: l.notIn, Lost: l.lost}}
	for _, row := range []struct {
		name string
		h    *hdrhistogram.Histogram
	}{{"upgraded", connected}, {"HELLO", hello}, {"READY", in}, {"GUILD_CREATE", guild}} {
		table.Rows = append(table.Rows, append([]string{row.name, fmt.Sprint(row.h.TotalCount())}, quantiles(row.h)...))
		l.distribution("arrival until "+row.name, row.h)
	}
	l.report.Tables = append(l.report.Tables, table)
	if l.report.Partial == "" || l.ledger != nil {
		l.goal("sessions that did not get in", "%", percent(int64(len(l.sessions)-n), int64(len(l.sessions))), l.config.MaxFailed, "")
		l.timeGoal("READY, p99", in, l.config.MaxReady)
	}
	if in.TotalCount() > 0 {
		l.metric("READY p99", "ms", p99(in))
	}
}

func (l *load) messages(done []stepResult) {
	c := l.config
	if len(done) == 0 {
		return
	}
	deliveries := bench.Table{Title: fmt.Sprintf("Deliveries to %d sessions; ms from the moment a post was due (in the step resume, until those came back who were away)", len(l.ledger.receivers)),
		Head: []string{"step", "posts", "taken", "429", "failed", "due", "lost", "twice", "out of order", "p50", "p90", "p99", "max"}, Values: done}
	lasts := bench.Table{Title: "Posts; ms from the moment a post was due", Head: []string{"step", "until", "posts", "p50", "p90", "p99", "max"}}
	var due, lost, twice, order, posts, untaken int64
	for _, s := range done {
		each := s.all()
		deliveries.Rows = append(deliveries.Rows, append([]string{s.Step, fmt.Sprint(s.Planned - s.Unsent), fmt.Sprint(s.Taken), fmt.Sprint(s.Refused), fmt.Sprint(s.Failed + s.Unknown),
			fmt.Sprint(s.Expected), fmt.Sprint(s.Lost), fmt.Sprint(s.Twice), fmt.Sprint(s.Swapped + s.Contradicted)}, quantiles(each)...))
		lasts.Rows = append(lasts.Rows, append([]string{s.Step, "answer", fmt.Sprint(s.post.TotalCount())}, quantiles(s.post)...),
			append([]string{s.Step, "last session", fmt.Sprint(s.last.TotalCount())}, quantiles(s.last)...))
		l.distribution(s.Step+": post to each session", each)
		l.distribution(s.Step+": post to the last session", s.last)
		l.distribution(s.Step+": post to its answer", s.post)
		twice += s.Twice
		order += s.Swapped + s.Contradicted
		posts += int64(s.Planned - s.Unsent)
		untaken += int64(s.Refused + s.Failed + s.Unknown)
		if s.Step == stepNames[stepResume] && l.report.Partial != "" {
			continue // those that were cut may not have been back
		}
		due += s.Expected
		lost += s.Lost
	}
	l.report.Tables = append(l.report.Tables, deliveries, lasts)
	void := ""
	if due == 0 {
		void = "no post was taken"
	}
	l.goal("deliveries lost", "%", percent(lost, due), c.MaxLost, void)
	if c.MaxLost >= 0 {
		l.goal("deliveries that came twice", "of them", float64(twice), 0, void)
		l.goal("deliveries out of order", "of them", float64(order), 0, void)
	}
	l.goal("posts refused (429) or not taken", "%", percent(untaken, posts), c.MaxRefused, "")
	i := slices.IndexFunc(done, func(s stepResult) bool { return s.Step == stepNames[stepRate] })
	if i < 0 {
		return
	}
	rate := done[i]
	l.timeGoal("post to each session at the rate, p99", rate.all(), c.MaxDelivery)
	l.timeGoal("post to the last session at the rate, p99", rate.last, c.MaxLast)
	middle := bench.Series{Plot: "Post to each session", Name: "p50", Unit: "ms"}
	high := bench.Series{Plot: "Post to each session", Name: "p99", Unit: "ms"}
	var p50s, p99s []float64
	for n, h := range rate.each {
		if h.TotalCount() == 0 {
			continue
		}
		at := c.Length.Seconds() * (float64(n) + 0.5) / rateSlices
		p50s, p99s = append(p50s, float64(h.ValueAtQuantile(50))/1e6), append(p99s, p99(h))
		middle.Points = append(middle.Points, bench.Point{At: at, V: p50s[len(p50s)-1]})
		high.Points = append(high.Points, bench.Point{At: at, V: p99s[len(p99s)-1]})
	}
	l.metric("post to each session p50", "ms", p50s...)
	l.metric("post to each session p99", "ms", p99s...)
	if rate.last.TotalCount() > 0 {
		l.metric("post to the last session p99", "ms", p99(rate.last))
	}
	l.report.Series = append(l.report.Series, middle, high)
}

func (l *load) resumes() {
	if l.resumed.dropped == 0 {
		return
	}
	connected, hello, in, _ := ways(l.resumed.links)
	n := int(in.TotalCount())
	table := bench.Table{Title: fmt.Sprintf("Resume: %d connections cut for %v, %d resumed; ms from the moment all were told to", l.resumed.dropped, l.config.Away, n),
		Head: []string{"until", "sessions", "p50", "p90", "p99", "max"}, Values: arrivalResult{Sessions: l.resumed.dropped, In: n, Failed: l.notResumed}}
	for _, row := range []struct {
		name string
		h    *hdrhistogram.Histogram
	}{{"begun by the generator", l.resumed.pace.begun()}, {"upgraded", connected}, {"HELLO", hello}, {"RESUMED", in}} {
		table.Rows = append(table.Rows, append([]string{row.name, fmt.Sprint(row.h.TotalCount())}, quantiles(row.h)...))
		l.distribution("resume until "+row.name, row.h)
	}
	l.report.Tables = append(l.report.Tables, table)
	if l.report.Partial != "" {
		return
	}
	l.goal("sessions that did not resume", "%", percent(int64(l.resumed.dropped-n), int64(l.resumed.dropped)), l.config.MaxFailed, "")
	l.timeGoal("RESUMED, p99", in, l.config.MaxResumed)
	if n > 0 {
		l.metric("RESUMED p99", "ms", p99(in))
	}
}

// costResult are the values of the table of costs.
type costResult struct {
	Deliveries int64   `json:"deliveries"`
	User       float64 `json:"server_user_us_per_delivery"`
	System     float64 `json:"server_system_us_per_delivery"`
	Generator  float64 `json:"generator_us_per_delivery"`
	Idle       int64   `json:"rss_idle_bytes"`
	Full       int64   `json:"rss_sessions_bytes"`
	After      int64   `json:"rss_after_bytes"`
	Session    float64 `json:"rss_per_session_kib"`
}

// costs tells what the rate step took of the server and of us.
func (l *load) costs() {
	u := &l.usage
	c := l.config
	if u.pids == nil {
		l.report.Notes = append(l.report.Notes, "no CPU and memory of the server: "+u.why)
	}
	void := ""
	switch {
	case u.pids == nil:
		void = u.why
	case len(u.looks) < 2:
		void = "no messages at a rate"
	}
	var r costResult
	if len(u.looks) >= 2 {
		end := u.drained
		if end.delivered == 0 {
			end = u.looks[len(u.looks)-1]
		}
		begin := u.looks[0]
		r.Deliveries = end.delivered - begin.delivered
		if r.Deliveries == 0 {
			void = "nothing was delivered"
		} else {
			per := func(d time.Duration) float64 { return float64(d) / 1e3 / float64(r.Deliveries) }
			server := end.server.Sub(begin.server)
			r.User, r.System, r.Generator = per(server.User), per(server.System), per(end.generator.Sub(begin.generator).Total())
		}
		l.loadSeries(u.pids != nil)
	}
	r.Idle, r.Full, r.After = u.idleRSS, u.fullRSS, u.lastRSS
	if u.sessions > 0 && u.pids != nil {
		r.Session = float64(u.fullRSS-u.idleRSS) / 1024 / float64(u.sessions)
		l.metric("server memory per session", "KiB", r.Session)
	}
	table := bench.Table{Title: "Costs of the rate step, and memory", Head: []string{"", "user µs", "system µs", "µs", "of"}, Values: r}
	if r.Deliveries > 0 {
		if u.pids != nil {
			table.Rows = append(table.Rows, []string{"server", fmt.Sprintf("%.2f", r.User), fmt.Sprintf("%.2f", r.System), fmt.Sprintf("%.2f", r.User+r.System), "each delivery"})
		}
		table.Rows = append(table.Rows, []string{"generator", "", "", fmt.Sprintf("%.2f", r.Generator), "each delivery"})
	}
	if r.Session != 0 {
		table.Rows = append(table.Rows, []string{"server memory", "", "", fmt.Sprintf("%.1f KiB", r.Session), "each session, garbage included"})
	}
	if len(table.Rows) > 0 {
		l.report.Tables = append(l.report.Tables, table)
	}
	if c.MaxCPU > 0 {
		l.goal("server CPU per delivery", "µs", r.User+r.System, float64(c.MaxCPU)/1e3, void)
	}
	if c.MaxMemory > 0 {
		void := ""
		if u.pids == nil {
			void = u.why
		}
		l.goal("server memory per session", "KiB", r.Session, c.MaxMemory, void)
	}
}

// loadSeries draws CPU and deliveries over the rate step, and takes the samples of
// its slices.
func (l *load) loadSeries(server bool) {
	looks := l.usage.looks
	busy := bench.Series{Plot: "CPU", Name: "server", Unit: "% of a core"}
	own := bench.Series{Plot: "CPU", Name: "generator", Unit: "% of a core"}
	delivered := bench.Series{Plot: "Deliveries", Name: "delivered", Unit: "/s"}
	for i, b := range looks[1:] {
		a := looks[i]
		took := (b.at - a.at).Seconds()
		if took <= 0 {
			continue
		}
		at := b.at.Seconds()
		busy.Points = append(busy.Points, bench.Point{At: at, V: 100 * b.server.Sub(a.server).Total().Seconds() / took})
		own.Points = append(own.Points, bench.Point{At: at, V: 100 * b.generator.Sub(a.generator).Total().Seconds() / took})
		delivered.Points = append(delivered.Points, bench.Point{At: at, V: float64(b.delivered-a.delivered) / took})
	}
	l.report.Series = append(l.report.Series, own, delivered)
	if !server {
		return
	}
	l.report.Series = append(l.report.Series, busy)
	const each = points / rateSlices
	var samples []float64
	for i := each; i < len(looks); i += each {
		a, b := looks[i-each], looks[i]
		if n := b.delivered - a.delivered; n > 0 {
			samples = append(samples, float64(b.server.Sub(a.server).Total())/1e3/float64(n))
		}
	}
	l.metric("server CPU per delivery", "µs", samples...)
}

// generator says whether the figures are the server's.
func (l *load) generator() {
	lag, slow := l.ledger.lag()
	late, read, storm := l.pace.share(), percent(slow, lag.TotalCount()), l.resumed.pace.share()
	l.distribution("generator: begun later than intended", l.pace.begun())
	l.distribution("generator: read later than received", lag)
	l.goal(fmt.Sprintf("generator: begun more than %v late", lateSend), "%", late, maxLate, "")
	l.goal(fmt.Sprintf("generator: read more than %v late", lateRead), "%", read, maxLate, "")
	if l.resumed.dropped > 0 {
		l.goal(fmt.Sprintf("generator: resumed more than %v late", lateStorm), "%", storm, maxLate, "")
	}
	if late > maxLate || read > maxLate || storm > maxLate {
		l.report.Notes = append(l.report.Notes, fmt.Sprintf("the generator was the bottleneck: %.2f %% of its sends, %.2f %% of its reads and %.2f %% of its resumes were late; "+
			"take fewer --sessions or a lower rate, or run it on a machine of its own", late, read, storm))
	}
}

// reasons notes what went wrong, and how often.
func (l *load) reasons() {
	var aliens int64
	if l.ledger != nil {
		aliens = l.ledger.aliens()
	}
	for _, m := range []struct {
		what string
		n    map[string]int
	}{{"did not get in", l.notIn}, {"did not resume", l.notResumed}, {"lost the connection", l.lost}, {"posts not taken", l.notTaken}} {
		for _, r := range slices.Sorted(maps.Keys(m.n)) {
			l.report.Notes = append(l.report.Notes, fmt.Sprintf("%s: %d × %s", m.what, m.n[r], r))
		}
	}
	for _, m := range []struct {
		what string
		n    int64
	}{{"heartbeats without an answer", l.unanswered.Load()}, {"times the server asked to reconnect (op 7)", l.reconnects.Load()},
		{"frames that could not be read", l.garbled.Load()}, {"messages of others heard", aliens}} {
		if m.n > 0 {
			l.report.Notes = append(l.report.Notes, fmt.Sprintf("%d %s", m.n, m.what))
		}
	}
}
