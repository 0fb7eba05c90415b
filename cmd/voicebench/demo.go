package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"voicefleet/bench/fleet"
)

// demoEvery is how often the picture is painted anew; demoLine how often those without
// a terminal are told how it stands.
const (
	demoEvery = 250 * time.Millisecond
	demoLine  = 10 * time.Second
)

// deeds are the keys of a demo.
var deeds = map[byte]fleet.Deed{'k': fleet.Kill, 'f': fleet.Freeze, 'd': fleet.Drain, 'u': fleet.Upgrade}

func demoCommand() *cobra.Command {
	var log string
	config := fleet.Config{Kind: "fleet demo", Seed: 1}
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "A fleet to look at, and keys to kill, freeze, drain and upgrade its nodes",
		Long:    wordsFleetDemo,
		Example: wordsFleetDemoExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			closeLog, err := openLog(log, &config)
			if err != nil {
				return err
			}
			defer closeLog()
			return demo(cmd.Context(), config, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.Program, "program", "bin/voicefleet", "the program to show")
	f.IntVar(&config.Calls, "calls", 6, "calls of bots; the first is in the channel that the page opens with")
	f.IntVar(&config.Members, "members", 5, "bots in each; two of them talk at any time")
	f.IntVar(&config.Edges, "edges", 3, "media nodes")
	f.IntVar(&config.Centrals, "centrals", 2, "voice gateways, each with an allocator")
	f.StringVar(&log, "log", "", "write what the fleet's programs and its clients log to this file")
	return cmd
}

// display shows a demo: painted in place on a terminal, as lines elsewhere.
type display struct {
	// Immutable.
	out      io.Writer
	terminal bool

	// Owned by demo.
	painted int // lines that are painted anew
	told    time.Time
	shown   int // number of the last deed that was told as a line
}

func demo(ctx context.Context, config fleet.Config, in io.Reader, out io.Writer) error {
	s := &display{out: out}
	keys, restore := readKeys(in)
	defer restore()
	if f, ok := out.(*os.File); ok {
		s.terminal = term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	}
	s.say("starting %d edges, %d central, text and a bus on loopback addresses ...", config.Edges, config.Centrals)
	d, err := fleet.OpenDemo(ctx, config)
	if err != nil {
		return err
	}
	s.say("\n  Talk      %s\n            with the bots, in the first voice channel\n  Console   %s\n\n  k kill a node · f freeze one · d drain one · u upgrade one · q quit\n", d.Page, d.Console)
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { d.Watch(ctx) })
	s.serve(ctx, d, keys)
	stop()
	watching.Wait()
	s.say("ending ...")
	return d.Close()
}

// serve shows the demo and does what keys say, until q or the end of ctx.
func (s *display) serve(ctx context.Context, d *fleet.Demo, keys <-chan byte) {
	look := time.NewTicker(demoEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.show(d.Picture())
		case key := <-keys:
			const interrupt, end = 3, 4 // Ctrl-C and Ctrl-D, which a raw terminal gives as they are
			if key == 'q' || key == interrupt || key == end {
				return
			}
			deed, known := deeds[key]
			if !known {
				continue
			}
			if node, err := d.Do(ctx, deed); err != nil {
				s.say("%v", err)
			} else if !s.terminal {
				s.say("%s %s ...", deed, node)
			}
		}
	}
}

// readKeys gives what is typed, each key by itself where that can be had; without a
// terminal, all that comes. restore puts the terminal back.
func readKeys(in io.Reader) (keys <-chan byte, restore func()) {
	restore = func() {}
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if before, err := term.MakeRaw(int(f.Fd())); err == nil {
			restore = func() { _ = term.Restore(int(f.Fd()), before) }
		}
	}
	typed := make(chan byte)
	go func() { // ends with the program: a read of a terminal cannot be given up
		one := make([]byte, 1)
		for {
			if n, err := in.Read(one); n == 1 {
				typed <- one[0]
			} else if err != nil {
				return
			}
		}
	}()
	return typed, restore
}

// say shows a line that stays. A raw terminal wants its carriage returned.
func (s *display) say(format string, args ...any) {
	s.wipe()
	text := fmt.Sprintf(format, args...) + "\n"
	if s.terminal {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	_, _ = io.WriteString(s.out, text)
}

func (s *display) wipe() {
	if s.painted > 0 {
		_, _ = fmt.Fprintf(s.out, "\r\x1b[%dA\x1b[J", s.painted)
		s.painted = 0
	}
}

// show shows how the demo stands.
func (s *display) show(p fleet.Picture) {
	if s.terminal {
		lines := strings.Split(strings.TrimRight(paint(p), "\n"), "\n")
		s.wipe()
		_, _ = io.WriteString(s.out, strings.Join(lines, "\r\n")+"\r\n")
		s.painted = len(lines)
		return
	}
	for _, one := range p.Done {
		if one.Number > s.shown {
			s.say("%s", doneLine(one))
			s.shown = one.Number
		}
	}
	if now := time.Now(); now.Sub(s.told) >= demoLine {
		s.told = now
		s.say("%s", strings.ReplaceAll(standing(p), "\n", "; "))
	}
}

// standing is one line on the whole.
func standing(p fleet.Picture) string {
	text := fmt.Sprintf("%d listeners, %d of them hear nothing right now", p.Listeners, p.Quiet)
	if p.Busy != "" {
		text += "; " + p.Busy + " ..."
	}
	return text
}

// doneLine is a deed that is over.
func doneLine(d fleet.Done) string {
	text := fmt.Sprintf("%s  %s %s", d.At.Format(time.TimeOnly), d.Deed, d.Node)
	if d.Listeners > 0 {
		text += fmt.Sprintf(": audible gap median %.3f s, worst %.3f s (listener %d), %d of %d hear again", d.Median.Seconds(), d.Worst.Seconds(), d.Listener, d.Recovered, d.Listeners)
	}
	if d.Err != nil {
		text += ": " + d.Err.Error()
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// paint is the picture for a terminal.
func paint(p fleet.Picture) string {
	b := &strings.Builder{}
	tab := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tab, "  node\tstate\tcalls\tlisteners")
	for _, n := range p.Nodes {
		fmt.Fprintf(tab, "  %s\t%s\t%d\t%d\n", n.Node, n.State, n.Calls, n.Listeners)
	}
	_ = tab.Flush() // into memory
	fmt.Fprintf(b, "\n  %s\n", standing(p))
	if len(p.Done) > 0 {
		fmt.Fprintln(b)
	}
	for _, one := range p.Done {
		fmt.Fprintf(b, "  %s\n", cut(printable(doneLine(one)), 110))
	}
	return b.String()
}
