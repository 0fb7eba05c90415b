package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench"
	"voicefleet/bench/crowd"
	"voicefleet/bench/forward"
)

// edgeFlags are how the node under test is started.
func edgeFlags(cmd *cobra.Command, e *forward.EdgeConfig, logs *bool) {
	cmd.Flags().StringVar(&e.Program, "program", "bin/voicefleet", "the voicefleet program to measure")
	cmd.Flags().IntVar(&e.Workers, "workers", 1, "media workers of the node")
	cmd.Flags().IntVar(&e.MediaPort, "media-port", 0, "first UDP port of the node (default: a free one)")
	cmd.Flags().IntVar(&e.HTTPPort, "http-port", 0, "TCP port of the node's metrics (default: a free one)")
	cmd.Flags().BoolVar(logs, "logs", false, "show what the node logs")
}

// self is this program as a child role.
func self() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{exe, roleName}, nil
}

const roleName = "role"

func roleCommand() *cobra.Command {
	return &cobra.Command{
		Use:    roleName + " NAME ...",
		Short:  "Run a part of a measurement as a child process",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			// The parent decides about our end: it closes the input.
			ignoreSignals()
			if len(args) > 0 && crowd.IsRole(args[0]) {
				return crowd.RunRole(cmd.Root().Context(), args, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			return forward.RunRole(cmd.Root().Context(), args, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func forwardCommand() *cobra.Command {
	var o output
	var config forward.Config
	var cases []string
	var logs bool
	var against string
	cmd := &cobra.Command{
		Use:     "forward",
		Short:   "CPU per forwarded packet, beside a raw sendmmsg loop, with and without encryption, and stock pion",
		Long:    wordsForward,
		Example: "  voicebench forward\n  voicebench forward --cases 3x300 --window 3s --rounds 2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range cases {
				c, err := forward.ParseCase(text)
				if err != nil {
					return err
				}
				config.Cases = append(config.Cases, c)
			}
			var err error
			if config.Self, err = self(); err != nil {
				return err
			}
			if against != "" {
				if config.Against, err = bench.ReadFile(against); err != nil {
					return err
				}
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			if logs {
				config.Edge.Log = cmd.ErrOrStderr()
			}
			r, err := forward.Run(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	edgeFlags(cmd, &config.Edge, &logs)
	cmd.Flags().StringSliceVar(&cases, "cases", []string{"10x10", "25x25", "3x300"}, "rooms, as TALKERSxLISTENERS; equal numbers: all talk")
	cmd.Flags().StringVar(&against, "against", "", "JSON report of an earlier run: the goals are then that nothing is lost and that no ratio to the raw loop that seals has grown by more than --worse; a case in which one has is measured longer; the other yardsticks are left out")
	cmd.Flags().Float64Var(&config.Worse, "worse", 25, "percent, with --against")
	cmd.Flags().DurationVar(&config.Window, "window", 10*time.Second, "length of one measured window")
	cmd.Flags().IntVar(&config.Rounds, "rounds", 4, "windows for the node and for each yardstick")
	cmd.Flags().IntVar(&config.Generators, "generators", 2, "processes of light clients")
	cmd.Flags().IntVar(&config.Slots, "slots", 32, "receive streams each client offers (K)")
	return cmd
}
