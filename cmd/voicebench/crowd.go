package main

import (
	"github.com/spf13/cobra"

	"voicefleet/bench/crowd"
)

func crowdCommand() *cobra.Command {
	var o output
	var config crowd.Config
	var sizes []int
	var short, logs bool
	cmd := &cobra.Command{
		Use:     "crowd",
		Short:   "A hundred thousand sessions of the text gateway: memory, fan-out, storms, beside a raw loop",
		Long:    wordsCrowd,
		Example: wordsCrowdExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if config.Self, err = self(); err != nil {
				return err
			}
			if sizes != nil {
				config.Sizes = crowd.SizesOf(sizes)
			}
			if short {
				config.Short()
			}
			if logs {
				config.Log = cmd.ErrOrStderr()
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			r, err := crowd.Run(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&config.Program, "program", "bin/voicefleet", "the voicefleet program to measure")
	f.BoolVar(&logs, "logs", false, "show what the servers log")
	// In the library zero is the default, which --short has others of.
	f.BoolVar(&short, "short", false, "a minute: some hundred sessions, short windows, goals that a busy machine keeps")
	f.Float64Var(&config.Scale, "scale", 1, "multiplies all numbers of sessions; the goals stay")
	f.IntSliceVar(&sizes, "sizes", nil, "sizes of the crowd, rising; memory and the storm are of the second (default 20000,100000,200000)")
	f.IntVar(&config.PerHall, "per-server", 0, "sessions of one server at most (default: what the limit of open files lets it have)")
	f.StringVar(&config.Store, "cql", "", "store of the text instances, cql://HOST/KEYSPACE, in place of a node of its own; what is written stays there")
	f.Float64Var(&config.Rate, "rate", 400, "sessions that arrive a second: each is four reads of the store, which is on the same cores")
	f.IntVar(&config.Guild, "guild", 0, "members online in the guild of the message rate (default 1,000; negative: leave it out)")
	f.Float64Var(&config.Messages, "messages-per-second", 0, "messages a second in that guild (default 160)")
	f.DurationVar(&config.Window, "window", 0, "length of one window of messages, and of the yardstick (default 5s)")
	f.IntVar(&config.Rounds, "rounds", 0, "windows of each (default 4)")
	f.IntVar(&config.FanOuts, "fan-outs", 0, "single messages at each size (default 10)")
	f.DurationVar(&config.Settle, "settle", 0, "how long sessions rest before memory is read: each sends a heartbeat in 40 s (default 45s)")
	f.Float64Var(&config.Drop, "drop", 0, "share of the connections (0 to 1) that is cut and resumes (default 0.5; negative: none)")
	f.DurationVar(&config.Patience, "patience", 0, "how long a session may take until READY or RESUMED (default 1m)")
	f.IntVar(&config.LookUps, "look-ups", 0, "look-ups of each kind (default 2,000; negative: none)")
	return cmd
}
