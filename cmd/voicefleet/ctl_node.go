package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
)

// nodeCommand is ctl node: who belongs to the fleet.
func (c *ctl) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Let machines into the fleet, and keep them out", Long: wordsNode, Example: wordsNodeExamples}
	order := invitation{Role: bus.RoleEdge}
	role := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringVar(&order.Role, "role", bus.RoleEdge, "what the machine is: edge, central or text")
		return cmd
	}
	add := role(&cobra.Command{
		Use: "add NAME", Short: "Show the one command to run on a new machine",
		Example: "  voicefleet ctl node add fra1 --region eu-west\n  voicefleet ctl node add central2 --role central --ttl 24h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			order.Name = a[0]
			return c.addNode(cmd.Context(), order)
		},
	})
	add.Flags().StringVar(&order.Region, "region", "", "region of an edge, unless it is started with its own --region")
	add.Flags().DurationVar(&order.TTL, "ttl", enrol.DefaultTTL, "how long the command is good for, at most a week")
	cmd.AddCommand(add,
		role(&cobra.Command{
			Use: "revoke NAME", Short: "Shut a machine out, at once",
			Example: "  voicefleet ctl node revoke fra1",
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, a []string) error {
				order.Name = a[0]
				return c.revokeNode(cmd.Context(), order)
			},
		}),
		&cobra.Command{
			Use: "list", Short: "List who was invited, enrolled and revoked", Example: "  voicefleet ctl node list",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.listMembers(cmd.Context()) },
		},
	)
	return cmd
}

func (c *ctl) addNode(ctx context.Context, order invitation) error {
	order.By = whoami()
	var answer invited
	if err := c.ask(ctx, "POST", fleetPath+"members", order, &answer); err != nil {
		return err
	}
	return c.show(answer, func(w io.Writer) { fmt.Fprintln(w, wordsInvited(answer)) })
}

func (c *ctl) revokeNode(ctx context.Context, order invitation) error {
	order.By = whoami()
	var answer enrol.Entry
	path := fleetPath + "members/" + url.PathEscape(order.Role) + "/" + url.PathEscape(order.Name) + "/revoke"
	if err := c.ask(ctx, "POST", path, order, &answer); err != nil {
		return err
	}
	return c.show(answer, func(w io.Writer) { fmt.Fprintln(w, wordsRevoked(answer)) })
}

func (c *ctl) listMembers(ctx context.Context) error {
	list := []enrol.Entry{}
	if err := c.ask(ctx, "GET", fleetPath+"members", nil, &list); err != nil {
		return err
	}
	return c.show(list, func(w io.Writer) {
		fmt.Fprintln(w, "ROLE\tNAME\tSTATE\tREGION\tSINCE\tCERTIFICATE UNTIL\tBY")
		for _, e := range list {
			until, by := "", e.By
			if !e.Until.IsZero() {
				until = e.Until.Local().Format(time.DateOnly)
			}
			if e.State == enrol.Revoked {
				by = e.RevokedBy
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Role, e.Name, e.State, e.Region, e.At.Local().Format(time.DateTime), until, by)
		}
	})
}
