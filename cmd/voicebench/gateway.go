package main

import (
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/gateway"
)

func gatewayCommand() *cobra.Command {
	var o output
	var t target
	var config gateway.Config
	cmd := &cobra.Command{
		Use:     "gateway",
		Short:   "Sessions of the text gateway: arrivals, fan-out, message rate, resumes",
		Long:    wordsGateway,
		Example: wordsGatewayExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// In the library zero is the default; who types 0 wants none.
			if config.FanOuts == 0 {
				config.FanOuts = -1
			}
			for _, v := range []*float64{&config.Messages, &config.Drop} {
				if *v == 0 {
					*v = -1
				}
			}
			config.Target = gateway.Target{Server: t.Server, Data: t.Data, Invite: t.Invite, Tokens: t.Tokens, Guild: t.Guild, Channel: t.Channel, CA: t.CA, Insecure: t.Insecure}
			config.Up = gateway.UpConfig{Program: t.up.Program, MediaPort: t.up.MediaPort}
			if t.logs {
				config.Up.Log = cmd.ErrOrStderr()
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			r, err := gateway.Run(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	t.flags(cmd)
	f := cmd.Flags()
	f.Lookup("channel").Usage = "id or name of a text channel that everybody may read and write (default: the first)"
	f.IntVar(&config.PID, "pid", 0, "process of a server on this machine that is not ours, to read its CPU and memory")
	f.IntVar(&config.Sessions, "sessions", 500, "gateway sessions")
	f.Float64Var(&config.Rate, "rate", 100, "sessions that arrive a second")
	f.IntVar(&config.Accounts, "accounts", 0, "accounts the sessions share, at most 15 each (default: one each up to 500; of guests as few as can be)")
	f.IntVar(&config.Sources, "sources", 0, "local addresses 127.0.0.x to connect from (default: one for 100 sessions)")
	f.DurationVar(&config.Patience, "patience", 30*time.Second, "how long a connection may take until READY or RESUMED")
	f.DurationVar(&config.Settle, "settle", 2*time.Second, "how long sessions rest before memory is read")
	f.IntVar(&config.FanOuts, "fan-outs", 10, "single messages, one every 500 ms; 0: none")
	f.Float64Var(&config.Messages, "messages-per-second", 20, "messages a second, each to all sessions; 0: none")
	f.DurationVar(&config.Length, "length", 20*time.Second, "how long messages are posted at that rate")
	f.IntVar(&config.Writers, "writers", 0, "accounts that post in turn (default: so many that each posts once a second)")
	f.Float64Var(&config.Drop, "drop", 0.5, "share of the connections (0 to 1) that is cut and resumes; 0: none")
	f.DurationVar(&config.Away, "away", 2*time.Second, "how long they are away")
	f.Float64Var(&config.MaxFailed, "max-failed", 0, "goal: sessions that did not get in, or did not resume, in percent; negative: none")
	f.Float64Var(&config.MaxLost, "max-lost", 0, "goal: deliveries lost, in percent, and none twice or out of order; negative: none")
	f.Float64Var(&config.MaxRefused, "max-refused", 0, "goal: posts answered with 429, or not taken, in percent; negative: none")
	f.DurationVar(&config.MaxReady, "max-ready", 0, "goal: p99 from arrival to READY; 0: none")
	f.DurationVar(&config.MaxDelivery, "max-delivery", 0, "goal: p99 from a post to each session, at the rate; 0: none")
	f.DurationVar(&config.MaxLast, "max-last", 0, "goal: p99 from a post to the last session, at the rate; 0: none")
	f.DurationVar(&config.MaxResumed, "max-resumed", 0, "goal: p99 from the moment of the resume to RESUMED; 0: none")
	f.DurationVar(&config.MaxCPU, "max-cpu", 0, "goal: CPU of the server for each delivery; 0: none")
	f.Float64Var(&config.MaxMemory, "max-memory", 0, "goal: memory of the server for each session, in KiB; 0: none")
	return cmd
}
