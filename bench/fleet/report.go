package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/meter"
)

// elsewhere tells what else is promised of a fleet than is done to it here.
const elsewhere = "judged elsewhere: two owners of a call, and nodes taken for lost at 30 % loss, in schedules of virtual time (the tests of allocator/keeper); " +
	"who comes without UDP, or whose NAT forgets it (make closed-test); calls on two nodes (make cascade-test). make fleet-soak does all of it"

// conclude makes the report of all rounds there are.
func (r *run) conclude() {
	if r.void > 0 {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%d rounds were done again, because the harness itself was more than %v late in them, or half of the shortest gap that is judged (%v where only losses count), or the host took as much of a core away within 100ms: the machine was busy with something else", r.void, lateAtMost, lateUnsent))
	}
	if len(r.config.Untimed) > 0 {
		r.report.Notes = append(r.report.Notes, "of "+strings.Join(r.config.Untimed, ", ")+" times and rates are told and not judged (--untimed), but for silence of seconds")
	}
	r.report.Notes = append(r.report.Notes, elsewhere)
	for i := range r.results {
		res := &r.results[i]
		r.report.Tables = append(r.report.Tables, res.table())
		for _, one := range res.rounds {
			text := res.title
			if one.Victim != "" {
				text += ": " + one.Victim
			}
			r.report.Events = append(r.report.Events, bench.Event{At: one.At.Seconds(), Text: text})
		}
		r.report.Metrics = append(r.report.Metrics, res.metrics()...)
		if hit := res.hit(); len(hit) > 0 {
			var h meter.Histogram
			for _, one := range hit {
				h.Record(one.Gap)
			}
			d := bench.DistributionOf(res.title, "ms", h.HDR(), float64(time.Millisecond))
			d.Plot = "audible gap of all listeners who were on the victim"
			r.report.Distributions = append(r.report.Distributions, d)
		}
		r.report.Goals = append(r.report.Goals, r.goals(res)...)
	}
}

// goals are those of a trial in this run, with what its rounds make of them.
func (r *run) goals(res *result) (list []bench.Goal) {
	void := ""
	if len(res.rounds) == 0 {
		void = "no round came to its end"
	}
	for _, g := range res.goals {
		if r.judged(&res.trial, g) {
			list = append(list, bench.Goal{
				Name: res.title + ": " + g.name, Value: g.of(res), Bound: r.bound(res, g), AtLeast: g.atLeast, Unit: g.unit, Void: void,
			})
		}
	}
	return list
}

// figures names what the rounds tell beyond what all do, in order.
func (res *result) figures() []string {
	names := make(map[string]bool)
	for _, one := range res.rounds {
		for name := range one.Figures {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// table is a trial round by round.
func (res *result) table() bench.Table {
	t := bench.Table{Title: res.title, Head: []string{"round", "victim", "listeners", "median s", "worst s", "worst listener", "recovered", "lost", "others' worst s", "others lost", "paths opened", "resumed", "ended", "harness late s", "host took s"},
		Values: res.rounds}
	figures := res.figures()
	t.Head = append(t.Head, figures...)
	for i, one := range res.rounds {
		g, w := gaps(one.Hit), worst(one.Hit)
		hitLost, _ := lost(one.Hit)
		sparedLost, _ := lost(one.Spared)
		row := []string{
			fmt.Sprint(i + 1), one.Victim, fmt.Sprint(len(one.Hit)), fmt.Sprintf("%.3f", quantile(g, 0.5)), fmt.Sprintf("%.3f", w.Gap.Seconds()), fmt.Sprint(w.Member),
			fmt.Sprint(recovered(one.Hit)), fmt.Sprint(hitLost), fmt.Sprintf("%.3f", worst(one.Spared).Gap.Seconds()), fmt.Sprint(sparedLost),
			fmt.Sprint(one.Moved), fmt.Sprint(one.Resumed), fmt.Sprint(one.Ended), fmt.Sprintf("%.3f", one.Late.Seconds()), fmt.Sprintf("%.2f", one.Taken.Seconds()),
		}
		for _, name := range figures {
			cell := "-" // of a round that went without
			if v, told := one.Figures[name]; told {
				cell = fmt.Sprintf("%.4g", v)
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// metrics are what can be compared with another report, a sample for each round.
func (res *result) metrics() []bench.Metric {
	median := bench.Metric{Name: res.title + ": gap median", Unit: "s", Better: bench.Less}
	most := bench.Metric{Name: res.title + ": gap of the worst listener", Unit: "s", Better: bench.Less}
	more := make(map[string]*bench.Metric)
	all := []*bench.Metric{&median, &most}
	for _, one := range res.rounds {
		median.Samples = append(median.Samples, quantile(gaps(one.Hit), 0.5))
		most.Samples = append(most.Samples, worst(one.Hit).Gap.Seconds())
		for name, v := range one.Figures {
			m := more[name]
			if m == nil {
				m = &bench.Metric{Name: res.title + ": " + name, Better: bench.Less}
				more[name] = m
				all = append(all, m)
			}
			m.Samples = append(m.Samples, v)
		}
	}
	list := make([]bench.Metric, len(all))
	for i, m := range all {
		list[i] = *m
	}
	return list
}
