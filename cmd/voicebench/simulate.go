package main

import (
	"github.com/spf13/cobra"

	"voicefleet/bench/simulate"
)

func simulateCommand() *cobra.Command {
	var o output
	var config simulate.Config
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Place the calls of a large fleet in virtual time, beside other rules",
		Long:  wordsSimulate,
		Example: `  voicebench simulate --html fleet.html
  voicebench simulate --nodes 100 --hours 3 --days 2      # a minute
  voicebench simulate --nodes 100 --days 0.1 --alone      # our own rule through a day
  voicebench simulate --seed 7 --json -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.start()
			config.Seed, config.Command = o.seed, o.command(cmd)
			p := newProgress(cmd.ErrOrStderr())
			defer p.done()
			config.Progress = p
			r, err := simulate.Run(cmd.Context(), config)
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&config.Nodes, "nodes", simulate.DefaultNodes, "nodes of the day; 1,000 carry 4 million users and a crowd of 6 million")
	f.Float64Var(&config.Hours, "hours", simulate.DefaultHours, "hours of the day that are simulated")
	f.IntVar(&config.MonthNodes, "month-nodes", simulate.DefaultMonthNodes, "nodes of the month")
	f.Float64Var(&config.Days, "days", simulate.DefaultDays, "days of the month")
	f.BoolVar(&config.Alone, "alone", false, "leave out the rules that others use, and the goals that compare")
	return cmd
}

const wordsSimulate = `Simulate lets the allocator's own placement decide in virtual time, second by second,
where the calls of a world of 30 regions go, and sets it beside the rules others use:
random, round robin, least loaded, least used in the region (Discord 2018), region and
stress (Jitsi), nearest region and two choices (LiveKit). In the day a few nodes are
killed, a zone and a region fall, heartbeats come late and a crowd comes at once; then
a month of deaths, drains and upgrades tells what share of all user-minutes is unheard.

The same seed gives the same report, but for the figure of speed.`
