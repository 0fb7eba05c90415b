package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"voicefleet/internal/telemetry"
)

// built is set by the Makefile. The linker sets only what has no value of its own,
// so version is made of it.
var (
	built   string
	version = moduleVersion()
)

// moduleVersion is what the Makefile says, or else the module.
func moduleVersion() string {
	if built != "" {
		return built
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "unversioned"
}

func main() {
	if err := root().ExecuteContext(context.Background()); err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintln(os.Stderr, "voicefleet: "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
		}
		os.Exit(1)
	}
}

// errSaid ends the program as failed when everything has been said already.
var errSaid = errors.New("said already")

// common are the flags of every long-running command.
type common struct {
	logFormat string
	logLevel  string
}

func (c *common) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.logFormat, "log-format", "text", "log as text or json, to standard error")
	cmd.Flags().StringVar(&c.logLevel, "log-level", "info", "log from debug, info, warn or error on")
}

func (c *common) logger() (*slog.Logger, error) {
	return telemetry.NewLogger(os.Stderr, c.logFormat, c.logLevel)
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "voicefleet",
		Short:         "Voice for gaming communities, on your own machine",
		Long:          wordsRoot,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(upCommand(), textCommand(), centralCommand(), edgeCommand(), busCommand(), sfuCommand(), fleetCommand(), ctlCommand(), restoreCommand(), copyCommand(), &cobra.Command{
		Use:     "version",
		Short:   "Tell the version",
		Example: "  voicefleet version",
		Args:    cobra.NoArgs,
		Run:     func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	})
	return cmd
}
