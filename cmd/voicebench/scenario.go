package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"voicefleet/bench"
	"voicefleet/bench/load"
	"voicefleet/bench/scenario"
)

func scenarioCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "scenario",
		Short:   "Loads that are written down: list, show, run",
		Long:    wordsScenario,
		Example: "  voicebench scenario ls\n  voicebench scenario show stage > mine.yaml\n  voicebench scenario run mine.yaml --html mine.html",
	}
	cmd.AddCommand(scenarioListCommand(), scenarioShowCommand(), scenarioRunCommand())
	return cmd
}

func scenarioListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the scenarios that come with the program",
		Long:  wordsScenarioList,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tab := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(tab, "NAME\tUSERS\tROOMS\tPACKETS/S\tMBIT/S\tLENGTH\tABOUT")
			for _, s := range scenario.Library() {
				t := s.Plan().Totals
				fmt.Fprintf(tab, "%s\t%d\t%d\t%.0f\t%.1f\t%v\t%s\n", s.Name, t.Users, t.Rooms, t.PacketsOut, t.MbitOut, s.Duration, firstSentence(s.About))
			}
			return tab.Flush()
		},
	}
}

func scenarioShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME|FILE",
		Short:   "Print a scenario with every field, and what it adds up to",
		Long:    wordsScenarioShow,
		Example: "  voicebench scenario show stage\n  voicebench scenario show stage > mine.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Load(args[0])
			if err != nil {
				return err
			}
			t := s.Plan().Totals
			fmt.Fprintf(cmd.OutOrStdout(), "# %d users in %d rooms, %d talk, %d pairs; %.0f packets/s in, %.0f out, %.1f Mbit/s out\n%s",
				t.Users, t.Rooms, t.Talkers, t.Pairs, t.PacketsIn, t.PacketsOut, t.MbitOut, s.YAML())
			return nil
		},
	}
}

// loadFlags are those of every run of a scenario.
type loadFlags struct {
	output
	target
	generators int
	prices     string
	bus        string
	on         []string
	config     load.Config
}

func (l *loadFlags) flags(cmd *cobra.Command) {
	l.output.flags(cmd)
	l.target.flags(cmd)
	cmd.Flags().IntVar(&l.generators, "generators", 1, "processes of light clients to start here")
	cmd.Flags().StringVar(&l.prices, "prices", "", "YAML file of what a core and a gigabyte cost (default: invented ones, as an example)")
	cmd.Flags().StringVar(&l.bus, "bus", "", "NATS servers where generators of other machines wait (voicebench generator)")
	cmd.Flags().StringSliceVar(&l.on, "on", nil, "names of the generators to use, with --bus (default: all)")
}

// borrow takes the generators of other machines, if any are wanted.
func (l *loadFlags) borrow(cmd *cobra.Command) (done func(), err error) {
	if l.bus == "" {
		if len(l.on) > 0 {
			return nil, errors.New("--on needs --bus nats://HOST:4222, where the generators wait")
		}
		return func() {}, nil
	}
	var free func() error
	l.config.Remote, free, err = load.Borrow(cmd.Context(), l.bus, l.on, l.config.Progress)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := free(); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "voicebench: give generators back: %v\n", err)
		}
	}, nil
}

// run runs s by the flags, and reports. args are the command's own.
func (l *loadFlags) run(cmd *cobra.Command, s *scenario.Scenario, args []string, run func(context.Context, load.Config) (*bench.Report, error)) error {
	if err := l.prepare(cmd, s, args); err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	l.config.Progress = p
	r, err := func() (*bench.Report, error) {
		defer p.done()
		giveBack, err := l.borrow(cmd)
		if err != nil {
			return nil, err
		}
		defer giveBack()
		return run(cmd.Context(), l.config)
	}()
	return l.finish(cmd, r, err)
}

// prepare fills the configuration of a run of s.
func (l *loadFlags) prepare(cmd *cobra.Command, s *scenario.Scenario, args []string) error {
	if err := l.check(cmd); err != nil {
		return err
	}
	if l.seed == 0 {
		l.seed = s.Seed // as written, unless the flag says otherwise
	}
	s.Seed = l.seed
	var err error
	l.config.Scenario = s
	l.config.Program, l.config.MediaPort = l.up.Program, l.up.MediaPort
	l.config.Generators = l.generators
	l.config.Command = l.command(cmd, args...)
	if l.config.Prices, err = bench.LoadPrices(l.prices); err != nil {
		return err
	}
	if l.config.Self, err = self(); err != nil {
		return err
	}
	if l.logs {
		l.config.Log = cmd.ErrOrStderr()
	}
	if !l.own() {
		l.config.Server = &l.Target
	}
	return nil
}

func scenarioRunCommand() *cobra.Command {
	var l loadFlags
	cmd := &cobra.Command{
		Use:     "run NAME|FILE",
		Short:   "Run a scenario: what every listener heard, what it cost, goals met or missed",
		Long:    wordsScenarioRun,
		Example: "  voicebench scenario run small-rooms\n  voicebench scenario run mine.yaml --json mine.json --html mine.html\n  voicebench scenario run join-storm --server https://voice.example:8443 --invite CODE",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Load(args[0])
			if err != nil {
				return err
			}
			return l.run(cmd, s, args, load.Run)
		},
	}
	l.flags(cmd)
	seedOfScenario(cmd)
	return cmd
}

// seedOfScenario says of --seed that a scenario has one of its own.
func seedOfScenario(cmd *cobra.Command) {
	cmd.Flags().Lookup("seed").Usage = "draw lots from this seed (default: the scenario's)"
}

func capacityCommand() *cobra.Command {
	var l loadFlags
	var c load.CapacityConfig
	cmd := &cobra.Command{
		Use:     "capacity NAME|FILE",
		Short:   "Search the largest size of a scenario at which its goals are met",
		Long:    wordsCapacity,
		Example: "  voicebench capacity small-rooms\n  voicebench capacity stage --start 500 --most 5000",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Load(args[0])
			if err != nil {
				return err
			}
			return l.run(cmd, s, args, func(ctx context.Context, config load.Config) (*bench.Report, error) {
				c.Config = config
				return load.Capacity(ctx, c)
			})
		},
	}
	l.flags(cmd)
	seedOfScenario(cmd)
	cmd.Flags().IntVar(&c.Start, "start", 0, "size to begin with: rooms, or members when there is one room (default: the scenario's)")
	cmd.Flags().IntVar(&c.Most, "most", 0, "largest size to try (default: 16 times the scenario's)")
	cmd.Flags().Float64Var(&c.Tolerance, "tolerance", 0.05, "how near to the limit, as a share of it")
	return cmd
}

// firstSentence is what a list says of a scenario.
func firstSentence(about string) string {
	about = strings.Join(strings.Fields(about), " ")
	if first, _, more := strings.Cut(about, ". "); more {
		return first
	}
	return strings.TrimSuffix(about, ".")
}
