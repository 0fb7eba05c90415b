package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/bench/doctor"
)

const wordsDoctor = `Doctor looks at this machine as one that is to serve voice or to load a server:
kernel buffers, limits of files and ports, the clock and who keeps it, the cores and
what else they do, and what a datagram costs in a bare loop. It takes two seconds
and changes nothing.

For each it tells what was found, what is wanted, and the command that changes it.
Status 2 means that something is bad: figures of this machine would be about that.`

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
