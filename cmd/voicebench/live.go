package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench"
	"voicefleet/bench/live"
)

// target are the flags that say which server, and how to get in.
type target struct {
	live.Target
	up   live.UpConfig
	logs bool
}

func (t *target) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.Server, "server", "", "base URL of a running server, as https://voice.example:8443 (default: start one of our own)")
	f.StringVar(&t.Data, "data", "", "data folder of a server that runs on this machine; bots are made with its admin token")
	f.StringVar(&t.Invite, "invite", "", "invite code or link; bots come as guests")
	f.StringSliceVar(&t.Tokens, "token", nil, "tokens of existing bots, with --guild")
	f.StringVar(&t.Guild, "guild", "", "id of the guild (default: the first, or the invite's)")
	f.StringVar(&t.Channel, "channel", "", "id or name of the voice channel (default: the first that is no echo channel)")
	f.StringVar(&t.CA, "ca", "", "file of certificates to trust, as the server shows at /ca.pem")
	f.BoolVar(&t.Insecure, "insecure", false, "trust every certificate")
	f.StringVar(&t.up.Program, "program", "bin/voicefleet", "the voicefleet program to start without --server and --data")
	f.IntVar(&t.up.MediaPort, "media-port", 0, "first UDP port of the server we start (default: a free one)")
	f.BoolVar(&t.logs, "logs", false, "show what the server we start logs")
}

// own says whether the run starts a server of its own.
func (t *target) own() bool { return t.Server == "" && t.Data == "" }

// with runs a measurement against the target, which is ours if none is named.
func (t *target) with(cmd *cobra.Command, run func(ctx context.Context) (*bench.Report, error)) (report *bench.Report, err error) {
	if !t.own() {
		return run(cmd.Context())
	}
	if t.Invite != "" || len(t.Tokens) > 0 {
		return nil, errors.New("--invite and --token need --server")
	}
	if t.logs {
		t.up.Log = cmd.ErrOrStderr()
	}
	up, err := live.StartUp(cmd.Context(), t.up)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.Stop()) }()
	t.Data = up.Data
	return run(cmd.Context())
}

func callCommand() *cobra.Command {
	var o output
	var t target
	var config live.CallConfig
	cmd := &cobra.Command{
		Use:     "call",
		Short:   "Real WebRTC bots in a call: loss, latency, the right voices",
		Long:    wordsCall,
		Example: "  voicebench call\n  voicebench call --server https://voice.example:8443 --invite CODE --channel Lobby --bots 10 --talkers 3\n  voicebench call --data ./data --length 5m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Validate(); err != nil {
				return err
			}
			o.start()
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), cmd.ErrOrStderr()
			r, err := t.with(cmd, func(ctx context.Context) (*bench.Report, error) {
				config.Target = t.Target
				return live.Call(ctx, config)
			})
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	t.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&config.Bots, "bots", 5, "bots in the channel")
	f.IntVar(&config.Talkers, "talkers", 2, "of them who talk")
	f.DurationVar(&config.Length, "length", 20*time.Second, "length of the measurement, once all are in")
	f.BoolVar(&config.Pauses, "pauses", true, "talk with pauses, after ITU-T P.59")
	f.IntVar(&config.Slots, "slots", 16, "receive streams each bot offers (K)")
	f.IntVar(&config.Ears, "ears", 4, "listeners who decode and judge voices by their sound")
	f.Float64Var(&config.MaxLoss, "max-loss", 0.1, "goal: loss in percent; negative: none")
	f.DurationVar(&config.MaxP99, "max-p99", 0, "goal: one-way latency p99; 0: none")
	return cmd
}

func joinCommand() *cobra.Command {
	var o output
	var t target
	var config live.JoinConfig
	cmd := &cobra.Command{
		Use:     "join",
		Short:   "Time from joining to first sound, stage by stage",
		Long:    wordsJoin,
		Example: "  voicebench join\n  voicebench join --server https://voice.example:8443 --invite CODE --joins 50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Validate(); err != nil {
				return err
			}
			o.start()
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), cmd.ErrOrStderr()
			config.Goals = t.own()
			r, err := t.with(cmd, func(ctx context.Context) (*bench.Report, error) {
				config.Target = t.Target
				return live.Join(ctx, config)
			})
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	t.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&config.Joins, "joins", 200, "joins, one after the other")
	f.IntVar(&config.Accounts, "accounts", 8, "bots that take turns")
	f.IntVar(&config.Slots, "slots", 16, "receive streams each bot offers (K)")
	return cmd
}
