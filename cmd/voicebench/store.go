package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/store"
)

func storeCommand() *cobra.Command {
	var o output
	var config store.Config
	var short bool
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Stores of messages: durable writes, latency at a rate, equal reads, long histories",
		Long:    wordsStore,
		Example: wordsStoreExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if short {
				for name, value := range map[string]string{"length": "4s", "warm": "4s", "history": "0"} {
					if f := cmd.Flags().Lookup(name); !f.Changed {
						if err := f.Value.Set(value); err != nil {
							return err
						}
					}
				}
			}
			// In the library zero is the default; who types 0 wants none.
			if config.History == 0 {
				config.History = 1
			}
			o.start()
			p := newProgress(cmd.ErrOrStderr())
			defer p.done()
			config.Seed, config.Command, config.Progress = o.seed, o.command(cmd), p
			r, err := store.Run(cmd.Context(), config)
			p.done()
			return o.finish(cmd, r, err)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&config.Only, "only", nil, "engines to measure, of "+strings.Join([]string{store.SQLite, store.CQL}, ", ")+" (default: both)")
	f.StringVar(&config.Dir, "dir", "", "where their data lie while it runs, on the disk that is to be measured (default: the folder for temporary files)")
	f.StringVar(&config.Address, "cql", "", "measure this store, cql://HOST/KEYSPACE, in place of a node of its own; what is written stays there")
	f.BoolVar(&short, "short", false, "steps of 4 s and no history (half a minute in all)")
	f.IntVar(&config.Writers, "writers", 64, "writers at once in the step writes")
	f.DurationVar(&config.Length, "length", 20*time.Second, "length of the steps writes and steady")
	f.DurationVar(&config.Warm, "warm", 60*time.Second, "load on CQL before anything is measured, for the node's compiler")
	f.IntVar(&config.Rate, "rate", 2000, "messages a second in the step steady, a tenth as many pages and look-ups of users")
	f.IntVar(&config.History, "history", 10_000_000, "messages loaded for the step history, looked at at a hundredth, a tenth and all of them; 0: none")
	f.Float64Var(&config.MinWrites, "min-writes", 15_000, "goal: durable messages a second of SQLite; negative: none")
	f.DurationVar(&config.MaxInsert, "max-insert", 5*time.Millisecond, "goal: p99 of an insert on CQL at the rate; negative: none")
	f.DurationVar(&config.MaxPage, "max-page", 15*time.Millisecond, "goal: p99 of a page of 50, on CQL at the rate, on both in the history at any depth; negative: none")
	f.DurationVar(&config.MaxLookUp, "max-lookup", 5*time.Millisecond, "goal: p99 of finding a user at the rate; negative: none")
	f.Float64Var(&config.MaxDeep, "max-deep", 2, "goal: how many times as long the oldest pages of the history may take as the newest, and all of them as those of a short history, p50; negative: none")
	f.Float64Var(&config.MaxRefused, "max-refused", 0, "goal: operations refused at the rate, in percent; negative: none")
	return cmd
}
