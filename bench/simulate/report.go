package simulate

import (
	"fmt"
	"maps"
	"slices"

	"voicefleet/bench"
)

type report struct {
	bench.Report
	cfg            Config
	days           []*day
	exact, optimum float64
	month          *month
}

// Bounds of the goals.
const (
	minSpeed   = 100_000
	maxExcess  = 5.0  // percent over the best possible
	maxUnheard = 0.05 // percent of user-minutes
	maxLeast   = 1.10 // times the fullest node of least loaded
)

// policyResult are the figures of one policy.
type policyResult struct {
	Policy   string  `json:"policy"`
	RTT      float64 `json:"rtt_ms"`
	Worst    float64 `json:"worst_utilisation"`
	Over     uint64  `json:"node_seconds_over_limit"`
	Rejected uint64  `json:"rejected"`
	Needless uint64  `json:"rejected_while_room"`
	Placed   uint64  `json:"calls_placed"`
	Joined   uint64  `json:"joins"`
	Moved    uint64  `json:"calls_moved"`
	Wave     float64 `json:"largest_share_of_a_wave"`
	Unheard  float64 `json:"unheard_percent"`
}

// policies is the table of all of them.
func (r *report) policies() {
	if len(r.days) == 0 {
		return
	}
	t := bench.Table{
		Title: fmt.Sprintf("A day of %g hours, %d nodes, to %d calls with %d users before the crowd and half as many more in it", r.cfg.Hours, r.cfg.Nodes, r.days[0].calls, r.days[0].most),
		Head:  []string{"policy", "mean RTT ms", "fullest node %", "node-s over limit", "joins refused", "with room left", "calls placed", "joins", "moved when full", "unheard %"},
	}
	var values []policyResult
	for _, d := range r.days {
		unheard := 100 * d.tally.Unheard / max(1, d.tally.Heard)
		values = append(values, policyResult{d.name, d.rtt, d.tally.Worst, d.tally.Over, d.tally.Rejected, d.tally.Needless, d.tally.Placed, d.tally.Joined, d.tally.Moved, d.tally.Wave, unheard})
		t.Rows = append(t.Rows, []string{d.name, fmt.Sprintf("%.1f", d.rtt), fmt.Sprintf("%.1f", 100*d.tally.Worst), fmt.Sprint(d.tally.Over), fmt.Sprint(d.tally.Rejected),
			fmt.Sprint(d.tally.Needless), fmt.Sprint(d.tally.Placed), fmt.Sprint(d.tally.Joined), fmt.Sprint(d.tally.Moved), fmt.Sprintf("%.4f", unheard)})
		r.Series = append(r.Series, d.rtts, d.worst)
	}
	t.Values = values
	r.Tables = append(r.Tables, t)
	r.Series = append(r.Series, r.days[0].load, r.days[0].excess)
	for _, s := range timeline(r.cfg.Nodes, int64(r.cfg.Hours*3600)) {
		r.Events = append(r.Events, bench.Event{At: s.at * r.cfg.Hours * 3600, Text: s.text})
	}
}

// beside is the table of our round trips and the best possible ones.
func (r *report) beside() {
	d := r.days[0]
	t := bench.Table{Title: "Mean round trip beside the best possible", Head: []string{"when", "ours", "best", "over it %"}}
	row := func(name string, got, best float64) {
		t.Rows = append(t.Rows, []string{name, fmt.Sprintf("%.2f", got), fmt.Sprintf("%.2f", best), fmt.Sprintf("%.2f", 100*(got/best-1))})
	}
	row("50 nodes, calls of 8, exact (ms)", r.exact, r.optimum)
	for _, p := range []struct {
		name string
		a    against
	}{{"the whole day, lower bound (sum = 100)", d.whole()}, {"of it in usual time", d.usual}, {"of it during the crowd", d.crowd}, {"of it within 90 min after it or a fault", d.after}} {
		if p.a.best > 0 {
			row(p.name, 100*p.a.got/p.a.best, 100)
		}
	}
	r.Tables = append(r.Tables, t)
}

// unheard is the table of what the month cost listeners.
func (r *report) unheard() {
	m := r.month
	t := bench.Table{
		Title: fmt.Sprintf("%g days of %d nodes: %d killed, %d frozen, %d losing packets, %d flooded, %d drained, %d upgraded, %d zones and %d regions lost, bus away %d times, %d crowds",
			r.cfg.Days, r.cfg.MonthNodes, m.killed, m.frozen, m.lossy, m.floods, m.drains, m.upgrades, m.zones, m.regions, m.outages, m.crowds),
		Head: []string{"users heard nothing because", "user-minutes", "of all, %"},
	}
	for _, why := range slices.Sorted(maps.Keys(m.tally.By)) {
		t.Rows = append(t.Rows, []string{why, fmt.Sprintf("%.1f", m.tally.By[why]/60), fmt.Sprintf("%.6f", 100*m.tally.By[why]/m.tally.Heard)})
	}
	t.Rows = append(t.Rows, []string{"in all", fmt.Sprintf("%.1f", m.tally.Unheard/60), fmt.Sprintf("%.6f", 100*m.tally.Unheard/m.tally.Heard)})
	r.Tables = append(r.Tables, t)
}

// verdicts is the table of what the allocator's mind found out, and did about it.
func (r *report) verdicts() {
	t := bench.Table{Title: "What the allocator's core decided", Head: []string{"run", "nodes lost", "of these alive", "held", "bad or hot", "calls of lost nodes", "of drained", "of bad or hot", "come nearer", "drains given up", "moves of a call in an hour", "at most"}}
	row := func(name string, y tally) {
		t.Rows = append(t.Rows, []string{name, fmt.Sprint(y.Lost), fmt.Sprint(y.False), fmt.Sprint(y.Held), fmt.Sprint(y.Ill), fmt.Sprint(y.Replaced), fmt.Sprint(y.Drained), fmt.Sprint(y.Relieved), fmt.Sprint(y.Nearer), fmt.Sprint(y.Undrained),
			fmt.Sprintf("%.4f", float64(y.Moves)/max(1, y.CallHours)), fmt.Sprint(y.MostMoves)})
	}
	row("day", r.days[0].tally)
	row("month", r.month.tally)
	r.Tables = append(r.Tables, t)
}

func (r *report) goal(name, unit string, value, bound float64, least bool) {
	r.Goals = append(r.Goals, bench.Goal{Name: name, Unit: unit, Value: value, Bound: bound, AtLeast: least})
}

// better says whether a baseline is better than we are on both figures.
func better(d, us *day) bool { return d.rtt < us.rtt && d.tally.Worst < us.tally.Worst }

func (r *report) conclude(w *world) {
	r.policies()
	r.beside()
	r.unheard()
	r.verdicts()
	us := r.days[0]
	by := map[string]*day{}
	beaten := 0
	for _, d := range r.days[1:] {
		by[d.name] = d
		if better(d, us) {
			beaten++
		}
	}
	m := r.month.tally
	r.goal("placements on one core", "1/s", us.speed, minSpeed, true)
	r.goal("round trip over the exact best, 50 nodes", "%", 100*(r.exact/r.optimum-1), maxExcess, false)
	r.goal(fmt.Sprintf("round trip over the best possible, %d nodes", r.cfg.Nodes), "%", us.whole().excess(), maxExcess, false)
	if us.whole().best == 0 {
		r.Goals[len(r.Goals)-1].Void = "so short a day is judged at no time: give more hours"
	}
	r.goal("nodes above their limit", "node-seconds", float64(us.tally.Over+m.Over), 0, false)
	r.goal("joins refused while any node had room", "joins", float64(us.tally.Needless+m.Needless), 0, false)
	r.goal("living nodes taken for lost", "nodes", float64(us.tally.False+m.False), 0, false)
	r.goal("user-minutes unheard in the month", "%", 100*m.Unheard/m.Heard, maxUnheard, false)
	if !r.cfg.Alone {
		r.goal("baselines better on both round trip and fullest node", "policies", float64(beaten), 0, false)
		r.goal("fullest node against region and two choices", "times", us.tally.Worst/by[haversineTwo].tally.Worst, 1, false)
		r.goal("fullest node against least loaded", "times", us.tally.Worst/by[leastLoaded].tally.Worst, maxLeast, false)
	}
	r.Metrics = append(r.Metrics,
		bench.Metric{Name: "mean round trip", Unit: "ms", Better: bench.Less, Samples: []float64{us.rtt}},
		bench.Metric{Name: "fullest node", Unit: "%", Better: bench.Less, Samples: []float64{100 * us.tally.Worst}},
		bench.Metric{Name: "placements", Unit: "1/s", Better: bench.More, Samples: []float64{us.speed}},
	)
	r.Notes = append(r.Notes,
		fmt.Sprintf("capacity for %.2f million users in three classes of nodes (%s; %s; %s), 40 %% of it in the east and 25 %% in the west of North America, 20 %% in Europe, 15 %% in Asia", w.seats/1e6, classes[0].name, classes[1].name, classes[2].name),
		fmt.Sprintf("who lives, and which calls leave their node when, is decided by the allocator's core (package keeper), which is told of heartbeats, closed connections and answers of media ports as its server is; a listener of a lost node hears nothing from its end until that decision and %g s more, which following takes", gapFollow),
		fmt.Sprintf("seconds without sound that follow from no decision are taken from the goals of the fleet tests: moved off a full node %g, drained, relieved or come nearer %g, upgraded %g; with the rules we are held against, which know of a death at once, node killed %g, frozen %g; besides, all who wait to be placed again or to join", gapMoved, gapDrained, gapUpgrade, gapKilled, gapFrozen),
		"the best possible is a lower bound for the users of each moment on the nodes of that moment: all may sit anew every time, the members of calls of one city one by one, each region is filled to its last seat, of which calls with little talk take less, and it is known who will join; the goal is judged over the whole day; usual time, which begins 90 min after a fault or the crowd, stands beside it: calls that were placed while what is near was full or away come nearer one by one",
		fmt.Sprintf("of a wave of calls that lost their node, the survivor that got most was given %.1f %%", 100*us.tally.Wave),
		"rules we are held against see heartbeats alone and do not refuse members of a live call, so their nodes may go above the limit",
	)
}
