package main

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/generator"
	"voicefleet/internal/telemetry"
)

// busEnv is voicefleet's: a token need not stand in the list of processes.
const busEnv = "VOICEFLEET_BUS"

func generatorCommand() *cobra.Command {
	var config generator.Config
	var host string
	cmd := &cobra.Command{
		Use:     "generator --bus nats://HOST:4222",
		Short:   "Offer this machine's light clients to a coordinator elsewhere",
		Long:    wordsGenerator,
		Example: "  voicebench generator --bus nats://192.0.2.10:4222 --name east1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if host != "" {
				if config.Host, err = netip.ParseAddr(host); err != nil {
					return fmt.Errorf("--host %q: want an IP address of this machine", host)
				}
			}
			if config.Self, err = self(); err != nil {
				return err
			}
			if config.Log, err = telemetry.NewLogger(cmd.ErrOrStderr(), "text", "info"); err != nil {
				return err
			}
			config.Ready = func(name string, host netip.Addr) {
				fmt.Fprintf(cmd.OutOrStdout(), "generator %s waits for a coordinator; its clients are at %s (Ctrl-C ends it)\n", name, host)
			}
			return generator.Run(cmd.Context(), config)
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.Bus, "bus", os.Getenv(busEnv), "NATS servers, nats://[TOKEN@]HOST:PORT, separated by commas (or $"+busEnv+")")
	f.DurationVar(&config.Wait, "bus-wait", 30*time.Second, "how long to wait for the bus at the start")
	f.StringVar(&config.Name, "name", "", "what coordinators call it (default: of the machine and the process)")
	f.StringVar(&host, "host", "", "address of the clients (default: the one that reaches the bus; 127.0.0.1 gives each client an address of its own)")
	return cmd
}
