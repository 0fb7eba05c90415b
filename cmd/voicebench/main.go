package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"voicefleet/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Whoever asks a second time does not want to wait for a report.
	context.AfterFunc(ctx, stop)
	switch err := root().ExecuteContext(ctx); {
	case errors.Is(err, errMissed):
		os.Exit(2)
	case errors.Is(err, errPartial):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "voicebench: "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
		os.Exit(1)
	}
}

// errMissed ends the program after a report that says which goals were missed,
// errPartial after one that says why it is not whole.
var (
	errMissed  = errors.New("goals missed")
	errPartial = errors.New("ended early")
)

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "voicebench",
		Short:         "Load a voice server and measure it",
		Long:          wordsRoot,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(callCommand(), joinCommand(), forwardCommand(), memoryCommand(), roleCommand())
	cmd.AddCommand(compareCommand(), htmlCommand())
	cmd.AddCommand(gatewayCommand(), crowdCommand(), storeCommand())
	cmd.AddCommand(doctorCommand(), generatorCommand())
	cmd.AddCommand(scenarioCommand(), capacityCommand())
	cmd.AddCommand(simulateCommand())
	cmd.AddCommand(fleetCommand())
	return cmd
}

// output are the flags every measurement has.
type output struct {
	json string
	html string
	seed uint64
}

func (o *output) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.json, "json", "", "also write the report as JSON to this file (- for standard output, the table then goes to standard error)")
	cmd.Flags().StringVar(&o.html, "html", "", "also write the report as one HTML page with plots to this file")
	cmd.Flags().Uint64Var(&o.seed, "seed", 0, "draw lots from this seed (default: a random one, which the report tells)")
}

// start chooses the seed when none is given.
func (o *output) start() {
	for o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
}

// command is the line that runs the same again.
func (o *output) command(cmd *cobra.Command, args ...string) string {
	line := append(strings.Fields(cmd.CommandPath()), args...)
	cmd.Flags().Visit(func(f *pflag.Flag) { line = append(line, "--"+f.Name+"="+openly(f)) })
	if !cmd.Flags().Changed("seed") {
		line = append(line, fmt.Sprintf("--seed=%d", o.seed))
	}
	for i, word := range line {
		if strings.ContainsAny(word, " \t\n'\"\\$`&|;<>()*?[]#~!") {
			line[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(line, " ")
}

// openly is the value of a flag as a report may tell it, which is sent to others:
// without what lets one in.
func openly(f *pflag.Flag) string {
	value := f.Value.String()
	if strings.HasSuffix(f.Value.Type(), "Slice") {
		value = strings.Trim(value, "[]") // as it was given
	}
	switch f.Name {
	case "token":
		return "TOKEN"
	case "invite":
		return "CODE"
	case "bus":
		return userinfo.ReplaceAllString(value, "://")
	}
	return value
}

// userinfo is who somebody is, in a URL.
var userinfo = regexp.MustCompile(`://[^@/]*@`)

// finish writes the report, also a partial one, and turns missed goals into an
// error.
func (o *output) finish(cmd *cobra.Command, r *bench.Report, err error) error {
	stopped := context.Cause(cmd.Context())
	if r == nil {
		if stopped != nil && errors.Is(err, context.Canceled) {
			return fmt.Errorf("%w before there was anything to report", stopped)
		}
		return err
	}
	if stopped != nil && r.Partial != "" {
		// Every step that was under way says the same in its own words.
		r.Partial = fmt.Sprintf("%v after %v", stopped, time.Duration(r.Took).Round(time.Second))
		if errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	table := cmd.OutOrStdout()
	if o.json == "-" {
		table = cmd.ErrOrStderr()
		err = errors.Join(err, r.WriteJSON(cmd.OutOrStdout()))
	} else if o.json != "" {
		err = errors.Join(err, writeFile(o.json, r.WriteJSON))
	}
	if o.html != "" {
		err = errors.Join(err, writeFile(o.html, r.WriteHTML))
	}
	if err = errors.Join(err, r.WriteText(table)); err != nil {
		return err
	}
	switch {
	case r.Partial != "":
		return errPartial
	case len(r.Missed()) > 0:
		return errMissed
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return errors.Join(write(f), f.Close())
}
