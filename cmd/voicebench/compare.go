package main

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"voicefleet/bench"
)

func compareCommand() *cobra.Command {
	var jsonFile, htmlFile string
	var percent float64
	cmd := &cobra.Command{
		Use:     "compare A.json B.json",
		Short:   "What changed from one report to another, with confidence intervals",
		Long:    wordsCompare,
		Example: "  voicebench compare before.json after.json\n  voicebench compare before.json after.json --html change.html --fail-worse 25",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			failing := cmd.Flags().Changed("fail-worse")
			if math.IsNaN(percent) || percent < 0 {
				return fmt.Errorf("--fail-worse %v: want percent, 0 or more", percent)
			}
			a, err := bench.ReadFile(args[0])
			if err != nil {
				return err
			}
			b, err := bench.ReadFile(args[1])
			if err != nil {
				return err
			}
			c, err := bench.Compare(a, b)
			if err != nil {
				return err
			}
			table := cmd.OutOrStdout()
			if jsonFile == "-" {
				table = cmd.ErrOrStderr()
				err = c.WriteJSON(cmd.OutOrStdout())
			} else if jsonFile != "" {
				err = writeFile(jsonFile, c.WriteJSON)
			}
			if htmlFile != "" {
				err = errors.Join(err, writeFile(htmlFile, c.WriteHTML))
			}
			if err = errors.Join(err, c.WriteText(table)); err != nil || !failing {
				return err
			}
			worse := c.Worse(percent)
			if len(worse) == 0 {
				return nil
			}
			var names []string
			for _, w := range worse {
				names = append(names, w.Name)
			}
			fmt.Fprintf(table, "\nWORSE by more than %g %%: %s\n", percent, strings.Join(names, ", "))
			return errMissed
		},
	}
	f := cmd.Flags()
	f.StringVar(&jsonFile, "json", "", "also write the comparison as JSON to this file (- for standard output, the table then goes to standard error)")
	f.StringVar(&htmlFile, "html", "", "also write the comparison as one HTML page to this file")
	f.Float64Var(&percent, "fail-worse", 0, "end with status 2 when a figure got worse, beyond chance, by more than so many percent")
	return cmd
}
