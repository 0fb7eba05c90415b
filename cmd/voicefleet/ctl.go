package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/textchat"
)

// ctl is the operator's command line: a client of /api/admin.
type ctl struct {
	data  string
	url   string
	token string
	json  bool
	out   io.Writer
}

// answerTime bounds one request; maxAnswer its answer: 100,000 calls fit.
const (
	answerTime = 15 * time.Second
	maxAnswer  = 64 << 20
)

func ctlCommand() *cobra.Command {
	c := &ctl{}
	cmd := &cobra.Command{
		Use:     "ctl",
		Short:   "Ask or change a running house",
		Long:    wordsCtl,
		Example: wordsCtlExamples,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			c.out = cmd.OutOrStdout()
			return c.find()
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&c.data, "data", "./data", "data folder of the running program")
	f.StringVar(&c.url, "url", "", "its address, when it runs elsewhere")
	f.StringVar(&c.token, "token", "", "its admin token, when it runs elsewhere")
	f.BoolVar(&c.json, "json", false, "answer in JSON")

	var guild string
	guildFlag := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringVar(&guild, "guild", "", "id of the guild (default: the first)")
		return cmd
	}
	bot := &cobra.Command{Use: "bot", Short: "Bot accounts", Example: "  voicefleet ctl bot create Parrot"}
	bot.AddCommand(guildFlag(&cobra.Command{
		Use: "create NAME", Short: "Make a bot account and show its token, once",
		Example: "  voicefleet ctl bot create Parrot\n  voicefleet ctl bot create Parrot --guild 1234567890123456789 --json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, a []string) error { return c.createBot(cmd.Context(), a[0], guild) },
	}))
	cmd.AddCommand(
		c.nodeCommand(),
		&cobra.Command{
			Use: "status", Short: "Tell what is running and how full it is", Example: "  voicefleet ctl status",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.status(cmd.Context()) },
		},
		&cobra.Command{
			Use: "nodes", Short: "List the media nodes", Example: "  voicefleet ctl nodes\n  voicefleet ctl nodes --json",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.nodes(cmd.Context()) },
		},
		&cobra.Command{
			Use: "calls", Short: "List the live calls", Example: "  voicefleet ctl calls",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.calls(cmd.Context()) },
		},
		&cobra.Command{
			Use: "console", Short: "Print the link of the console: nodes, calls and the journal in a browser",
			Example: "  voicefleet ctl console\n  xdg-open $(voicefleet ctl console)",
			Args:    cobra.NoArgs, RunE: func(_ *cobra.Command, _ []string) error { return c.console() },
		},
		&cobra.Command{
			Use: "explain CHANNEL", Short: "Tell why a call is where it is", Example: "  voicefleet ctl explain 1234567890123456789",
			Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, a []string) error { return c.explain(cmd.Context(), a[0]) },
		},
		&cobra.Command{
			Use: "users", Short: "List the accounts", Example: "  voicefleet ctl users",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.users(cmd.Context()) },
		},
		&cobra.Command{
			Use: "reset-password USER", Short: "Give an account a new random password; it is logged out everywhere",
			Example: "  voicefleet ctl reset-password ada",
			Args:    cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, a []string) error { return c.resetPassword(cmd.Context(), a[0]) },
		},
		&cobra.Command{
			Use: "backup", Short: "Make a copy of all that is kept, while the program runs, and print its folder",
			Example: "  voicefleet ctl backup\n  rsync -a \"$(voicefleet ctl backup)\" backup.example.org:voicefleet/",
			Args:    cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.backupHouse(cmd.Context()) },
		},
		c.journalCommand(),
		c.userCommand(),
		c.topCommand(),
		c.drainCommand(),
		c.orderCommand("cordon", "Have a media node take no new calls and keep those it has", wordsCordon),
		c.orderCommand("undrain", "Have a drained or cordoned media node take calls again", ""),
		c.upgradeCommand(),
		c.labelCommand(),
		guildFlag(&cobra.Command{
			Use: "invite", Short: "Show the invite links of a guild", Example: "  voicefleet ctl invite",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.invite(cmd.Context(), guild) },
		}),
		bot,
	)
	return cmd
}

// find reads address and token from the data folder, unless they were given.
func (c *ctl) find() error {
	for _, f := range []struct {
		to   *string
		file string
	}{{&c.url, fileURL}, {&c.token, fileToken}} {
		if *f.to != "" {
			continue
		}
		body, err := os.ReadFile(filepath.Join(c.data, f.file))
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New(wordsNotRunning(c.data))
		}
		if err != nil {
			return fmt.Errorf("read data folder: %w", err)
		}
		*f.to = strings.TrimSpace(string(body))
	}
	u, err := url.Parse(c.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--url %q: want http://HOST:PORT", c.url)
	}
	c.url = strings.TrimSuffix(c.url, "/")
	return nil
}

// ask sends body (nil: none) and reads the answer into v (nil: ignored).
func (c *ctl) ask(ctx context.Context, method, path string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask %s: %w", path, err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.url, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		var refusal struct{ Message string }
		if json.Unmarshal(answer, &refusal) != nil || refusal.Message == "" {
			refusal.Message = resp.Status
		}
		return errors.New(refusal.Message)
	}
	if v == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// show prints v as JSON, or calls table.
func (c *ctl) show(v any, table func(w io.Writer)) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
	table(w)
	return w.Flush()
}

// console prints a link that lets its reader in: what stands behind # is kept from
// servers, proxies and their logs.
func (c *ctl) console() error {
	_, err := fmt.Fprintf(c.out, "%s/fleet#token=%s\n", c.url, url.QueryEscape(c.token))
	return err
}

// guildInfo is a guild as /api/admin/guilds shows it.
type guildInfo struct {
	ID      textchat.ID `json:"id"`
	Name    string      `json:"name"`
	OwnerID textchat.ID `json:"owner_id"`
	Members int         `json:"members"`
	Online  int         `json:"online"`
	InVoice int         `json:"in_voice"`
	Leader  string      `json:"leader,omitempty"`
	Given   bool        `json:"given,omitempty"`
}

func (c *ctl) guilds(ctx context.Context) ([]guildInfo, error) {
	var list []guildInfo
	return list, c.ask(ctx, "GET", "/api/admin/guilds", nil, &list)
}

// guild is the id the operator named, or the first guild's.
func (c *ctl) guild(ctx context.Context, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	list, err := c.guilds(ctx)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", errors.New("there is no guild yet")
	}
	return list[0].ID.String(), nil
}

func (c *ctl) status(ctx context.Context) error {
	var st struct {
		URL    string                `json:"url"`
		Ready  bool                  `json:"ready"`
		Why    string                `json:"why,omitempty"`
		Guilds []guildInfo           `json:"guilds"`
		Nodes  []allocator.NodeView  `json:"nodes"`
		Calls  []allocator.CallEntry `json:"calls"`
	}
	st.URL = c.url
	err := c.ask(ctx, "GET", "/readyz", nil, nil)
	if st.Ready = err == nil; err != nil {
		st.Why = err.Error()
	}
	if st.Guilds, err = c.guilds(ctx); err != nil {
		return err
	}
	if err := c.ask(ctx, "GET", fleetPath+"nodes", nil, &st.Nodes); err != nil {
		return err
	}
	if err := c.ask(ctx, "GET", fleetPath+"calls", nil, &st.Calls); err != nil {
		return err
	}
	return c.show(st, func(w io.Writer) {
		fmt.Fprintf(w, "address\t%s\n", st.URL)
		ready := "yes"
		if !st.Ready {
			ready = "no: " + st.Why
		}
		fmt.Fprintf(w, "ready\t%s\n", ready)
		sessions := 0
		for _, n := range st.Nodes {
			sessions += n.Load.Sessions
		}
		fmt.Fprintf(w, "nodes\t%d with %d sessions\n", len(st.Nodes), sessions)
		fmt.Fprintf(w, "calls\t%d\n", len(st.Calls))
		for _, g := range st.Guilds {
			led := ""
			if g.Leader != "" {
				led = ", led by " + g.Leader
			}
			if g.Given {
				led += ", which was given it"
			}
			fmt.Fprintf(w, "guild\t%s (%s): %d members, %d online, %d in voice%s\n", g.Name, g.ID, g.Members, g.Online, g.InVoice, led)
		}
	})
}

func (c *ctl) nodes(ctx context.Context) error {
	list := []allocator.NodeView{}
	if err := c.ask(ctx, "GET", fleetPath+"nodes", nil, &list); err != nil {
		return err
	}
	return c.show(list, func(w io.Writer) { showNodes(w, list) })
}

func showNodes(w io.Writer, list []allocator.NodeView) {
	fmt.Fprintln(w, "NODE\tSTATE\tREGION\tSESSIONS\tPACKETS/S\tLOSS\tCPU\tCALLS\tUP\tADDRESSES")
	for _, n := range list {
		up := n.At.Sub(n.Started).Round(time.Second)
		addrs := make([]string, len(n.Addrs))
		for i, a := range n.Addrs {
			addrs[i] = a.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%.0f/%.0f\t%.1f %%\t%.0f %%\t%d\t%s\t%s %v\n", n.Node, n.Standing(), n.Region, n.Load.Sessions, n.Capacity.Sessions,
			n.Load.PPS, n.Capacity.PPS, 100*n.Load.Loss, 100*n.Load.CPU, n.CallCount, up, strings.Join(addrs, " "), n.Ports)
	}
}

// orderCommand makes cordon or undrain.
func (c *ctl) orderCommand(verb, short, long string) *cobra.Command {
	var o allocator.Order
	cmd := &cobra.Command{
		Use: verb + " NODE", Short: short, Long: long,
		Example: "  voicefleet ctl " + verb + " fra1\n  voicefleet ctl " + verb + " fra1 --reason \"new kernel\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			p, err := c.order(cmd.Context(), verb, a[0], o)
			if err != nil {
				return err
			}
			return c.show(p, func(w io.Writer) { fmt.Fprintln(w, wordsOrdered(p)) })
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for the log of the node and the journal")
	return cmd
}

// order gives an order and reads how the node stands.
func (c *ctl) order(ctx context.Context, verb, node string, o allocator.Order) (p allocator.Progress, err error) {
	o.By = whoami()
	return p, c.ask(ctx, "POST", fleetPath+"nodes/"+url.PathEscape(node)+"/"+verb, o, &p)
}

func (c *ctl) drainCommand() *cobra.Command {
	var o allocator.Order
	var deadline time.Duration
	var leave bool
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Empty a media node: its calls move to others, and nobody hears it", Long: wordsDrain,
		Example: wordsDrainExamples,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if deadline <= 0 {
				return fmt.Errorf("--deadline %v: want more than nothing", deadline)
			}
			o.Deadline = time.Now().Add(deadline)
			return c.drain(cmd.Context(), a[0], o, leave)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Reason, "reason", "", "why, for the log of the node and the journal")
	f.DurationVar(&deadline, "deadline", allocator.DrainTime, "when the node must be empty; the nearer, the faster calls move")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing and tell where each call would go")
	f.BoolVar(&leave, "no-wait", false, "do not wait until the node is empty")
	return cmd
}

const (
	// drainLook is how often a drain is looked at.
	drainLook = 500 * time.Millisecond
	// drainDoubts is how many looks in a row must find the node not draining: an allocator
	// that has just lost the bus hears late what the node says.
	drainDoubts = 7
)

// drain empties a node and tells how it goes until it is empty or the time is over.
func (c *ctl) drain(ctx context.Context, node string, o allocator.Order, leave bool) error {
	p, err := c.order(ctx, "drain", node, o)
	if err != nil {
		return err
	}
	if o.DryRun {
		return c.show(p, func(w io.Writer) { showPlan(w, p) })
	}
	look := time.NewTicker(drainLook)
	defer look.Stop()
	doubts := 0
	for last := ""; !leave && (p.Sessions > 0 || doubts > 0); {
		if line := wordsDraining(p); !c.json && line != last && doubts == 0 {
			fmt.Fprintln(c.out, line)
			last = line
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		p = allocator.Progress{} // what is not said again is over
		if err := c.ask(ctx, "GET", fleetPath+"nodes/"+url.PathEscape(node)+"/progress", nil, &p); err != nil {
			return err
		}
		if p.State == edgeagent.Draining {
			doubts = 0
		} else if doubts++; doubts == drainDoubts {
			return fmt.Errorf("%s is not drained any more: it is %s", node, p.State)
		}
		if time.Now().After(o.Deadline) && p.Sessions > 0 {
			return errors.New(wordsNotEmpty(p))
		}
	}
	return c.show(p, func(w io.Writer) { fmt.Fprintln(w, wordsOrdered(p)) })
}

func showPlan(w io.Writer, p allocator.Progress) {
	fmt.Fprintln(w, wordsPlan(p))
	if len(p.Plan) == 0 {
		return
	}
	fmt.Fprintln(w, "CHANNEL\tPEOPLE\tTO\tWHY")
	for _, m := range p.Plan {
		to := string(m.To)
		if to == "" {
			to = "nowhere"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", m.Call, m.Sessions, to, m.Why)
	}
}

// whoami is the person at the keyboard, as this machine knows them.
func whoami() string {
	who := "somebody"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		who += "@" + host
	}
	return who
}

func (c *ctl) calls(ctx context.Context) error {
	list := []allocator.CallEntry{}
	if err := c.ask(ctx, "GET", fleetPath+"calls", nil, &list); err != nil {
		return err
	}
	return c.show(list, func(w io.Writer) {
		fmt.Fprintln(w, "CHANNEL\tNODE\tEPOCH\tSINCE")
		for _, e := range list {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", e.Call, e.Node, e.Epoch, e.Created.Local().Format(time.DateTime))
		}
	})
}

func (c *ctl) explain(ctx context.Context, channel string) error {
	var x allocator.ExplainReply
	if err := c.ask(ctx, "GET", fleetPath+"explain/"+url.PathEscape(channel), nil, &x); err != nil {
		return err
	}
	return c.show(x, func(w io.Writer) {
		if x.Entry != nil {
			fmt.Fprintf(w, "call %s lives on %s since %s\n", x.Entry.Call, x.Entry.Node, x.Entry.Created.Local().Format(time.DateTime))
			if m := x.Entry.Move; m != nil {
				fmt.Fprintln(w, wordsMoved(*m))
			}
		} else {
			fmt.Fprintf(w, "call %s is not live\n", channel)
		}
		if x.Entry != nil && !x.Entry.Why.At.IsZero() {
			fmt.Fprintln(w)
			showDecision(w, "decided "+x.Entry.Why.At.Local().Format(time.DateTime), x.Entry.Why)
		}
		fmt.Fprintln(w)
		showDecision(w, "if it began now", x.Now)
	})
}

func showDecision(w io.Writer, title string, x allocator.Explanation) {
	chosen := string(x.Chosen)
	if chosen == "" {
		chosen = "no node"
	}
	fmt.Fprintf(w, "%s: %s, because %s\n", title, chosen, x.Reason)
	fmt.Fprintln(w, "NODE\tREGION\tSTATE\tRTT\tFULL\tRESERVED\tPENALTY\tCOST\tWHY NOT")
	for _, n := range x.Candidates {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f ms by %s\t%.0f %%\t%d\t%s\t%.0f ms\t%s\n",
			n.Node, n.Region, n.State, n.RTT, n.RTTFrom, 100*n.Fullness, n.Reserved.Sessions, penalties(n), n.Cost, n.WhyNot)
	}
}

// penalties are what a candidate costs beside its distance: for load, and where
// there is such, for losses in its failure domain, and because the call is not of
// the share that the node takes, or its guild tries a label that it does not have.
func penalties(n allocator.Candidate) string {
	s := fmt.Sprintf("%.0f ms", n.Penalty)
	if n.Domain > 0 {
		s += fmt.Sprintf(" + %.0f ms domain", n.Domain)
	}
	if n.Aside > 0 {
		s += fmt.Sprintf(" + %.0f ms aside", n.Aside)
	}
	if n.Share > 0 {
		s += fmt.Sprintf(", takes %.0f %%", 100*n.Share)
	}
	return s
}

// usersPage is how many accounts are asked for at once.
const usersPage = 1000

func (c *ctl) users(ctx context.Context) error {
	all := []textchat.User{}
	for after := textchat.ID(0); ; after = all[len(all)-1].ID {
		var page []textchat.User
		if err := c.ask(ctx, "GET", fmt.Sprintf("/api/admin/users?after=%d&limit=%d", after, usersPage), nil, &page); err != nil {
			return err
		}
		if all = append(all, page...); len(page) == 0 {
			break
		}
	}
	return c.show(all, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tNAME\tSHOWN AS\tKIND\tSINCE")
		for _, u := range all {
			kind := "account"
			switch {
			case u.Bot:
				kind = "bot"
			case u.Guest:
				kind = "guest"
			}
			shown := ""
			if u.GlobalName != nil {
				shown = *u.GlobalName
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.ID, u.Username, shown, kind, u.ID.Time().Local().Format(time.DateTime))
		}
	})
}

func (c *ctl) resetPassword(ctx context.Context, user string) error {
	var answer struct {
		User     textchat.User `json:"user"`
		Password string        `json:"password"`
	}
	if err := c.ask(ctx, "POST", "/api/admin/reset-password", map[string]string{"username": user}, &answer); err != nil {
		return err
	}
	return c.show(answer, func(w io.Writer) { fmt.Fprintf(w, "new password of %s: %s\n", answer.User.Username, answer.Password) })
}

func (c *ctl) createBot(ctx context.Context, name, guild string) error {
	guild, err := c.guild(ctx, guild)
	if err != nil {
		return err
	}
	var answer struct {
		Token string        `json:"token"`
		User  textchat.User `json:"user"`
		Guild textchat.ID   `json:"guild_id"`
	}
	if err := c.ask(ctx, "POST", "/api/admin/bots", map[string]string{"name": name, "guild_id": guild}, &answer); err != nil {
		return err
	}
	return c.show(answer, func(w io.Writer) {
		fmt.Fprintf(w, "token of %s, shown this once: %s\n", answer.User.Username, answer.Token)
	})
}

func (c *ctl) invite(ctx context.Context, guild string) error {
	guild, err := c.guild(ctx, guild)
	if err != nil {
		return err
	}
	type invite struct {
		Code    string      `json:"code"`
		Channel textchat.ID `json:"channel_id"`
		Uses    int         `json:"uses"`
		MaxUses int         `json:"max_uses"`
		MaxAge  int         `json:"max_age"`
		Link    string      `json:"link"`
	}
	list := []invite{}
	if err := c.ask(ctx, "GET", "/api/admin/guilds/"+url.PathEscape(guild)+"/invites", nil, &list); err != nil {
		return err
	}
	for i := range list {
		list[i].Link = c.url + "/invite/" + list[i].Code
	}
	return c.show(list, func(w io.Writer) {
		fmt.Fprintln(w, "LINK\tUSED\tOF\tFOR")
		for _, i := range list {
			of, age := "any", "ever"
			if i.MaxUses > 0 {
				of = fmt.Sprint(i.MaxUses)
			}
			if i.MaxAge > 0 {
				age = (time.Duration(i.MaxAge) * time.Second).String()
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", i.Link, i.Uses, of, age)
		}
	})
}
