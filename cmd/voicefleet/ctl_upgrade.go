package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

const (
	// followTime bounds how long ctl upgrade waits for the agent, followEvery is how
	// often it looks.
	followTime  = 15 * time.Second
	followEvery = 100 * time.Millisecond
)

func (c *ctl) upgradeCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "upgrade NODE", Short: "Have a media node go on with the program now on its disk; no call notices",
		Long: wordsUpgrade, Example: "  voicefleet ctl upgrade fra1\n  voicefleet ctl upgrade fra1 --reason \"1.4\"",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.upgrade(cmd.Context(), edgeagent.NodeID(a[0]), reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

// upgraded is what ctl upgrade tells.
type upgraded struct {
	edgeagent.UpgradeReply
	Agent time.Duration `json:"agent"` // from the engine's replacement until the new agent spoke
}

func (c *ctl) upgrade(ctx context.Context, node edgeagent.NodeID, reason string) error {
	before, err := c.node(ctx, node)
	if err != nil {
		return err
	}
	var done upgraded
	err = c.ask(ctx, "POST", fleetPath+"nodes/"+url.PathEscape(string(node))+"/upgrade", allocator.Order{By: whoami(), Reason: reason}, &done.UpgradeReply)
	if err != nil {
		return err
	}
	if !c.json {
		fmt.Fprintln(c.out, wordsEngineUpgraded(node, done.UpgradeReply))
	}
	began := time.Now()
	for {
		if now, err := c.node(ctx, node); err == nil && now.Started.After(before.Started) {
			if now.Version != done.To {
				return fmt.Errorf("the agent of %s is back as version %s, not %s", node, now.Version, done.To)
			}
			done.Agent = time.Since(began)
			return c.show(done, func(w io.Writer) { fmt.Fprintln(w, wordsAgentUpgraded(node, done)) })
		}
		if time.Since(began) > followTime {
			return fmt.Errorf("the agent of %s has not been back for %v: its engine was replaced and serves its calls; look into the log of the node", node, followTime)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// node is one node as the allocator sees it.
func (c *ctl) node(ctx context.Context, id edgeagent.NodeID) (allocator.NodeView, error) {
	var list []allocator.NodeView
	if err := c.ask(ctx, "GET", fleetPath+"nodes", nil, &list); err != nil {
		return allocator.NodeView{}, err
	}
	for _, n := range list {
		if n.Node == id {
			return n, nil
		}
	}
	return allocator.NodeView{}, fmt.Errorf("there is no node %s; voicefleet ctl nodes lists those there are", id)
}
