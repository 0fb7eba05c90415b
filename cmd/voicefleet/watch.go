package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"voicefleet/allocator"
)

// lookEvery is how often top and journal --follow ask.
const lookEvery = time.Second

// journalCommand shows who did what in the fleet, when and why.
func (c *ctl) journalCommand() *cobra.Command {
	var node, call string
	var limit int
	var follow bool
	cmd := &cobra.Command{
		Use: "journal", Short: "Show who did what in the fleet, when and why",
		Example: "  voicefleet ctl journal\n  voicefleet ctl journal --follow\n  voicefleet ctl journal --node fra1 --limit 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, v := range map[string]string{"node": node, "call": call} {
				if v != "" {
					q.Set(name, v)
				}
			}
			return c.journal(cmd.Context(), q, follow)
		},
	}
	f := cmd.Flags()
	f.StringVar(&node, "node", "", "only what concerns this node")
	f.StringVar(&call, "call", "", "only what concerns the call of this channel")
	f.IntVar(&limit, "limit", 100, fmt.Sprintf("the newest so many, 1 to %d", allocator.JournalPage))
	f.BoolVar(&follow, "follow", false, "go on with what happens, until Ctrl-C")
	return cmd
}

func (c *ctl) journal(ctx context.Context, q url.Values, follow bool) error {
	var seen uint64
	for {
		list := []allocator.NumberedEntry{}
		if err := c.ask(ctx, "GET", fleetPath+"journal?"+q.Encode(), nil, &list); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !follow && c.json {
			return c.show(list, nil)
		}
		slices.Reverse(list) // as one reads, the newest last
		for _, e := range list {
			if follow && e.Seq <= seen {
				continue
			}
			seen = max(seen, e.Seq)
			if c.json {
				if err := c.show(e, nil); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintln(c.out, wordsJournal(e.JournalEntry))
		}
		if !follow {
			if len(list) == 0 {
				fmt.Fprintln(c.out, "nothing has happened yet")
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// topCommand shows the nodes, again and again.
func (c *ctl) topCommand() *cobra.Command {
	return &cobra.Command{
		Use: "top", Short: "Watch the media nodes, the fullest first", Example: "  voicefleet ctl top\n  voicefleet ctl top | head -20    # once, without a terminal",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.top(cmd.Context()) },
	}
}

func (c *ctl) top(ctx context.Context) error {
	f, ok := c.out.(*os.File)
	live := ok && term.IsTerminal(int(f.Fd())) && !c.json
	for {
		list := []allocator.NodeView{}
		if err := c.ask(ctx, "GET", fleetPath+"nodes", nil, &list); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		slices.SortStableFunc(list, func(a, b allocator.NodeView) int {
			switch {
			case a.Fullness > b.Fullness:
				return -1
			case a.Fullness < b.Fullness:
				return 1
			}
			return 0
		})
		if !live {
			return c.show(list, func(w io.Writer) { showTop(w, list) })
		}
		var page bytes.Buffer
		page.WriteString("\x1b[H\x1b[2J") // home, clear
		w := tabwriter.NewWriter(&page, 0, 0, 3, ' ', 0)
		showTop(w, list)
		w.Flush()
		if _, err := c.out.Write(page.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

func showTop(w io.Writer, list []allocator.NodeView) {
	var sessions, seats, calls int
	var pps float64
	for _, n := range list {
		sessions, seats, calls, pps = sessions+n.Load.Sessions, seats+n.Capacity.Sessions, calls+n.CallCount, pps+n.Load.PPS
	}
	fmt.Fprintf(w, "%d nodes, %d of %d sessions, %d calls, %.0f packets/s\n\n", len(list), sessions, seats, calls, pps)
	fmt.Fprintln(w, "NODE\tSTATE\tREGION\tFULL\tSESSIONS\tCOMING\tCALLS\tPACKETS/S\tMBIT/S\tLOSS\tCPU")
	for _, n := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f %%\t%d\t%d\t%d\t%.0f\t%.1f\t%.1f %%\t%.0f %%\n", n.Node, n.Standing(), n.Region, 100*n.Fullness, n.Load.Sessions, n.Reserved.Sessions, n.CallCount, n.Load.PPS, n.Load.BPS/1e6, 100*n.Load.Loss, 100*n.Load.CPU)
	}
}
