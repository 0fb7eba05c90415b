package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"voicefleet/bench/fleet"
)

func fleetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Kill, freeze, cut off and drain the nodes of a whole fleet, and tell who heard it",
		Long:  wordsFleet,
	}
	cmd.AddCommand(
		fleetRunCommand("test", "Do every fault as often as its goal wants (25 minutes)", wordsFleetTest, wordsFleetTestExamples, fleet.Test),
		demoCommand(),
		fleetRunCommand("soak", "The same at length (two hours)", wordsFleetSoak, wordsFleetSoakExamples, fleet.Soak),
	)
	return cmd
}

func fleetRunCommand(use, short, long, examples string, plan fleet.Plan) *cobra.Command {
	var o output
	var quick bool
	var log string
	config := fleet.Config{Kind: "fleet " + use}
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long,
		Example: examples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Plan = plan
			if quick {
				config.Plan = fleet.Short
			}
			if err := config.Validate(); err != nil {
				return err
			}
			if !config.Loopback {
				// From here on this program is another one: it was started again.
				if err := fleet.Isolate(); err != nil {
					return fmt.Errorf("%w; or leave out the faults of the network: --loopback", err)
				}
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			defer p.done()
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			closeLog, err := openLog(log, &config)
			if err != nil {
				return err
			}
			defer closeLog()
			r, err := fleet.Run(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&config.Program, "program", "bin/voicefleet", "the program to test")
	f.IntVar(&config.Calls, "calls", 40, "calls")
	f.IntVar(&config.Members, "members", 5, "members of each; two of them talk at any time")
	f.IntVar(&config.Edges, "edges", 3, "media nodes")
	f.IntVar(&config.Centrals, "centrals", 2, "voice gateways, each with an allocator")
	f.IntVar(&config.Buses, "buses", 3, "servers of the bus: 1, or a cluster of 3 or more")
	f.IntVar(&config.Rounds, "rounds", 0, "rounds of each fault (default: as its goal wants)")
	f.StringSliceVar(&config.Only, "only", nil, "faults to do, of "+strings.Join(fleet.Faults(), ", ")+" (default: all)")
	f.BoolVar(&quick, "short", false, "one or two rounds of a fault of each family (4 minutes)")
	f.StringSliceVar(&config.Untimed, "untimed", nil, "faults of which no times are judged, only what is lost, moved, split and ended, who gets in again, and silence of seconds: for a machine that has other work")
	f.BoolVar(&config.Loopback, "loopback", false, "all on this host's loopback addresses, without root and without faults of the network")
	f.StringVar(&log, "log", "", "write what the fleet's programs and its clients log, and when each round was over, to this file")
	return cmd
}

// openLog has a fleet log to the file of --log; to none without a name. What it returns
// closes the file.
func openLog(name string, config *fleet.Config) (closeLog func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	to, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--log: %w", err)
	}
	config.Log = to
	return func() { _ = to.Close() }, nil
}
