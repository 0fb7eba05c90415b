package main

import (
	"github.com/spf13/cobra"

	"voicefleet/bench/join"
)

func joinCommand() *cobra.Command {
	var o output
	var t target
	var config join.Config
	cmd := &cobra.Command{
		Use:     "join",
		Short:   "Time from joining to first sound, stage by stage",
		Long:    wordsJoin,
		Example: "  voicebench join\n  voicebench join --server https://voice.example:8443 --invite CODE --joins 50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd); err != nil {
				return err
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			config.Target, config.Up = t.Target, t.up
			if t.logs {
				config.Up.Log = cmd.ErrOrStderr()
			}
			r, err := join.Run(cmd.Context(), config)
			p.done()
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
