package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelp holds that every command says what it does, at length and by example, that
// every flag has its words, and that examples are commands with flags that exist.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" {
				walk(sub)
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Hidden {
			return
		}
		if cmd.Long == "" && cmd.Example == "" {
			t.Errorf("%s has neither long text nor example", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Long, "\n") {
			if len([]rune(line)) > 100 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), len([]rune(line)), line)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: text %q", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			tryExample(t, cmd, line)
		}
	}
	walk(root())
}

// tryExample reads the flags of an example without running it.
func tryExample(t *testing.T, of *cobra.Command, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, "#")
	line, _, _ = strings.Cut(line, " > ")
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	if words[0] != "voicebench" {
		t.Errorf("%s: example %q", of.CommandPath(), line)
		return
	}
	cmd, rest, err := root().Find(words[1:])
	if err != nil {
		t.Errorf("%q: %v", line, err)
		return
	}
	if !strings.HasPrefix(cmd.CommandPath(), of.CommandPath()) {
		t.Errorf("%s: an example of %s", of.CommandPath(), cmd.CommandPath())
	}
	var out bytes.Buffer
	cmd.SetOut(&out)
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%q: %v", line, err)
	} else if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%q: %v", line, err)
	}
}

// TestCommandLine holds that the command in a report runs the same again, and tells
// nobody how to get in.
func TestCommandLine(t *testing.T) {
	cmd, rest, err := root().Find([]string{"call", "--invite", "secret1", "--token", "secret2", "--bus", "nats://secret3@192.0.2.1:4222,nats://192.0.2.2:4222",
		"--on", "east1,east2", "--channel", "The 'big' room", "--bots", "3"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	o := output{seed: 7}
	const want = `voicebench call --bots=3 --bus=nats://192.0.2.1:4222,nats://192.0.2.2:4222 '--channel=The '\''big'\'' room' --invite=CODE --on=east1,east2 --token=TOKEN --seed=7`
	if got := o.command(cmd); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
