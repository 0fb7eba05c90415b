package main

import (
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/forward"
)

func memoryCommand() *cobra.Command {
	var o output
	var config forward.MemoryConfig
	var logs bool
	cmd := &cobra.Command{
		Use:     "memory",
		Short:   "Memory and goroutines per connected session",
		Long:    wordsMemory,
		Example: "  voicebench memory\n  voicebench memory --sessions 1000,3000 --talk\n  voicebench memory --sessions 100 --settle 3s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if config.Self, err = self(); err != nil {
				return err
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			if logs {
				config.Edge.Log = cmd.ErrOrStderr()
			}
			r, err := forward.Memory(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	edgeFlags(cmd, &config.Edge, &logs)
	cmd.Flags().IntSliceVar(&config.Sessions, "sessions", []int{1000}, "connected sessions at each reading, rising; several tell the slope")
	cmd.Flags().BoolVar(&config.Talk, "talk", false, "one member of each call talks all the time, so that sessions are active")
	cmd.Flags().IntVar(&config.CallSize, "call", 10, "sessions in each call")
	cmd.Flags().IntVar(&config.Slots, "slots", 16, "receive streams each client offers (K)")
	cmd.Flags().IntVar(&config.Generators, "generators", 2, "processes of light clients")
	cmd.Flags().DurationVar(&config.Settle, "settle", 15*time.Second, "memory is settled when it has not fallen for so long")
	return cmd
}
