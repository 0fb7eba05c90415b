package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/scenario"
)

// CapacityConfig of Capacity.
type CapacityConfig struct {
	Config
	// Start and Most are sizes: rooms, or members when the scenario has one room
	// (default: what the scenario has, and 16 times as many).
	Start, Most int
	// Tolerance is how near to the limit the search goes, as a share of it
	// (default 0.05).
	Tolerance float64
}

// defaultGoals are what a voice server must keep when a scenario states nothing.
func defaultGoals() []scenario.Goal {
	return []scenario.Goal{scenario.AtMost("loss_percent", 0.1), scenario.AtMost("latency_p99_ms", 20), scenario.AtMost("join_failed", 0)}
}

// scaled is a scenario of another size.
func scaled(s *scenario.Scenario, size int) *scenario.Scenario {
	one := *s
	one.Rooms = append([]scenario.Rooms(nil), s.Rooms...)
	if rooms := roomsOf(s); rooms > 1 {
		for i := range one.Rooms {
			one.Rooms[i].Count = max(1, int(math.Round(float64(s.Rooms[i].Count)*float64(size)/float64(rooms))))
		}
	} else {
		one.Rooms[0].Members = size
	}
	return &one
}

func roomsOf(s *scenario.Scenario) int {
	n := 0
	for _, r := range s.Rooms {
		n += r.Count
	}
	return n
}

// sizeOf is the size of a scenario, and what it counts.
func sizeOf(s *scenario.Scenario) (size int, unit string) {
	if n := roomsOf(s); n > 1 {
		return n, "rooms"
	}
	return s.Rooms[0].Members, "members"
}

// try is one size that was tried.
type try struct {
	Size    int      `json:"size"`
	Met     bool     `json:"met"`
	Figures figures  `json:"figures"`
	Missed  []string `json:"missed,omitempty"`
	void    string
}

// Capacity searches the largest size of a scenario at which its goals are met. Each
// size is a run of its own, with a server of its own when none is named.
func Capacity(ctx context.Context, config CapacityConfig) (report *bench.Report, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := config.Scenario
	if len(s.Goals) == 0 {
		one := *s
		one.Goals = defaultGoals()
		s = &one
	}
	size, unit := sizeOf(s)
	if config.Start == 0 {
		config.Start = size
	}
	if config.Most == 0 {
		config.Most = 16 * size
	}
	if config.Tolerance == 0 {
		config.Tolerance = 0.05
	}
	least := 1
	if unit == "members" {
		least = max(2, s.Rooms[0].Talkers)
	}
	if config.Start < least || config.Most < config.Start || config.Tolerance < 0.001 || config.Tolerance > 0.5 {
		return nil, fmt.Errorf("capacity: from %d to at most %d %s within %.3g, want at least %d, a rising range, and 0.001 to 0.5", config.Start, config.Most, unit, config.Tolerance, least)
	}
	report = &bench.Report{Kind: "capacity", Command: config.Command, Seed: s.Seed, Scenario: string(s.YAML()), Started: time.Now().UTC(), Machine: bench.ThisMachine()}
	defer func() { report.Took = bench.Seconds(time.Since(report.Started)) }()
	var tries []try
	var best *run
	found, _, err := search(ctx, config.Start, config.Most, config.Tolerance, func(ctx context.Context, size int) (bool, error) {
		if size < least {
			return true, nil
		}
		one := config.Config
		one.Scenario = scaled(s, size)
		config.Progress.Say("capacity: trying %d %s", size, unit)
		r, err := perform(ctx, one)
		if err == nil && r.report.Partial != "" {
			err = errors.New("ended early: " + r.report.Partial)
		}
		if err != nil {
			return false, fmt.Errorf("%d %s: %w", size, unit, err)
		}
		t := try{Size: size, Figures: r.figures, Met: len(r.report.Missed()) == 0, void: r.void}
		for _, g := range r.report.Missed() {
			t.Missed = append(t.Missed, g.String())
		}
		tries = append(tries, t)
		if t.Met {
			best = r
			config.Progress.Say("capacity: %d %s: goals met", size, unit)
		} else {
			config.Progress.Say("capacity: %d %s: missed %v", size, unit, t.Missed)
		}
		return t.Met, nil
	})
	if err != nil {
		report.Partial = err.Error()
	}
	concludeCapacity(report, unit, found, config.Most, tries, best)
	if ctx.Err() != nil {
		return report, nil
	}
	return report, err
}

func concludeCapacity(report *bench.Report, unit string, found, most int, tries []try, best *run) {
	table := bench.Table{
		Title: "Sizes that were tried", Values: tries,
		Head: []string{unit, "users", "packets/s", "Mbit/s", "loss %", "latency p99 ms", "server us/packet", "machine cores", "goals"},
	}
	metric := func(name, unit string, better bench.Better, of func(try) float64) {
		m := bench.Metric{Name: name, Unit: unit, Better: better}
		for _, t := range tries {
			if t.Met && t.Size == found {
				m.Samples = append(m.Samples, of(t))
			}
		}
		if len(m.Samples) > 0 {
			report.Metrics = append(report.Metrics, m)
		}
	}
	limit := ""
	for _, t := range tries {
		f := t.Figures
		verdict := "met"
		if !t.Met {
			verdict = fmt.Sprintf("missed: %v", t.Missed)
			if t.Size > found {
				limit = fmt.Sprint(t.Missed)
			}
		}
		table.Rows = append(table.Rows, []string{fmt.Sprint(t.Size), fmt.Sprintf("%.0f", f["users"]), fmt.Sprintf("%.0f", f["packets_per_s"]), fmt.Sprintf("%.1f", f["mbit_per_s"]),
			fmt.Sprintf("%.4f", f["loss_percent"]), fmt.Sprintf("%.2f", f["latency_p99_ms"]), fmt.Sprintf("%.2f", f["cpu_us_per_packet"]), fmt.Sprintf("%.2f", f["busy_cores"]), verdict})
	}
	report.Tables = append(report.Tables, table)
	metric("capacity_users", "", bench.More, func(t try) float64 { return t.Figures["users"] })
	metric("capacity_packets_per_s", "1/s", bench.More, func(t try) float64 { return t.Figures["packets_per_s"] })
	metric("capacity_mbit_per_s", "Mbit/s", bench.More, func(t try) float64 { return t.Figures["mbit_per_s"] })
	goal := bench.Goal{Name: "capacity found", Value: float64(found), Bound: 1, AtLeast: true, Unit: unit}
	for _, t := range tries {
		if t.Size > found && t.void != "" {
			goal.Void = fmt.Sprintf("with %d %s the generator was the bottleneck (%s), so the server's limit is beyond %d; use more generators, or other machines", t.Size, unit, t.void, found)
		}
	}
	report.Goals = append(report.Goals, goal)
	if best == nil {
		return
	}
	f := best.figures
	line := fmt.Sprintf("CAPACITY: %.0f users in %d %s, %.0f packets/s, %.1f Mbit/s out, %.2f us of CPU per packet, latency p99 %.2f ms, loss %.4f %%",
		f["users"], found, unit, f["packets_per_s"], f["mbit_per_s"], f["cpu_us_per_packet"], f["latency_p99_ms"], f["loss_percent"])
	switch {
	case found == most:
		line += fmt.Sprintf("; no limit up to --most %d", most)
	case limit != "":
		line += "; more misses " + limit
	}
	report.Notes = append(report.Notes, line)
	for _, t := range best.report.Tables {
		t.Title = fmt.Sprintf("At %d %s: %s", found, unit, t.Title)
		report.Tables = append(report.Tables, t)
	}
	report.Distributions, report.Series = best.report.Distributions, best.report.Series
}
