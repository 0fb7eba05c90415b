package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"voicefleet/bench"
)

func htmlCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "html REPORT.json OUT.html",
		Short:   "Make the HTML page of a report that was written as JSON",
		Long:    wordsHTML,
		Example: "  voicebench html report.json report.html",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := bench.ReadFile(args[0])
			if err != nil {
				return err
			}
			if args[1] == "-" {
				return r.WriteHTML(cmd.OutOrStdout())
			}
			if same(args[0], args[1]) {
				return fmt.Errorf("%s is the report itself; name another file for the page", args[1])
			}
			return writeFile(args[1], r.WriteHTML)
		},
	}
}

// same says whether two names are one file.
func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
