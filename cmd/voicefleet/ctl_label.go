package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/allocator"
)

// labelCommand is ctl label: which guilds try the nodes of a label.
func (c *ctl) labelCommand() *cobra.Command {
	var o allocator.LabelOrder
	cmd := &cobra.Command{
		Use: "label [GUILD LABEL]", Short: "Have the calls of a guild try nodes of a label, or list who does", Long: wordsLabel,
		Example: wordsLabelExamples,
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch {
			case len(a) == 0 && !o.Clear:
				return c.labels(cmd.Context())
			case o.Clear != (len(a) == 1):
				return errors.New("want GUILD LABEL, or GUILD --clear, or nothing")
			case !o.Clear:
				o.Label = a[1]
			}
			return c.label(cmd.Context(), a[0], o)
		},
	}
	cmd.Flags().BoolVar(&o.Clear, "clear", false, "the guild tries no label any more")
	return cmd
}

func (c *ctl) label(ctx context.Context, guild string, o allocator.LabelOrder) error {
	o.By = whoami()
	var l allocator.GuildLabel
	if err := c.ask(ctx, "POST", fleetPath+"labels/"+url.PathEscape(guild), o, &l); err != nil {
		return err
	}
	return c.show(l, func(w io.Writer) { fmt.Fprintln(w, wordsLabelled(l)) })
}

func (c *ctl) labels(ctx context.Context) error {
	list := []allocator.GuildLabel{}
	if err := c.ask(ctx, "GET", fleetPath+"labels", nil, &list); err != nil {
		return err
	}
	return c.show(list, func(w io.Writer) {
		fmt.Fprintln(w, "GUILD\tLABEL\tREADY NODES\tSINCE\tBY")
		for _, l := range list {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", l.Guild, l.Label, l.Nodes, l.At.Local().Format(time.DateTime), l.By)
		}
	})
}
