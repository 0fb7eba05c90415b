package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/doctor"
)

func doctorCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "What to change on this machine before it serves or measures",
		Long:    wordsDoctor,
		Example: "  voicebench doctor\n  voicebench doctor --json=doctor.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			started := time.Now()
			found, err := doctor.Examine(cmd.Context())
			if err != nil {
				return err
			}
			r := doctor.ResultOf(started, found)
			table := cmd.OutOrStdout()
			if file == "-" {
				table = cmd.ErrOrStderr()
				err = r.WriteJSON(cmd.OutOrStdout())
			} else if file != "" {
				err = writeFile(file, r.WriteJSON)
			}
			if err = errors.Join(err, r.WriteText(table)); err != nil {
				return err
			}
			if r.Count(doctor.Bad) > 0 {
				return errMissed
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "json", "", "also write the findings as JSON, to --json=FILE or to standard output; the table then goes to standard error")
	cmd.Flags().Lookup("json").NoOptDefVal = "-"
	return cmd
}
