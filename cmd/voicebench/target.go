package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"voicefleet/bench/join"
)

// target are the flags that say which server, and how to get in.
type target struct {
	join.Target
	up   join.UpConfig
	logs bool
}

func (t *target) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.Server, "server", "", "base URL of a running server, as https://voice.example:8443 (default: start one of our own)")
	f.StringVar(&t.Data, "data", "", "data folder of a server that runs on this machine; bots are made with its admin token")
	f.StringVar(&t.Invite, "invite", "", "invite code or link; bots come as guests")
	f.StringSliceVar(&t.Tokens, "token", nil, "tokens of existing bots, with --guild")
	f.StringVar(&t.Guild, "guild", "", "id of the guild (default: the first, or the invite's)")
	f.StringVar(&t.Channel, "channel", "", "id or name of the voice channel (default: the first that is no echo channel)")
	f.StringVar(&t.CA, "ca", "", "file of certificates to trust, as the server shows at /ca.pem")
	f.BoolVar(&t.Insecure, "insecure", false, "trust every certificate")
	f.StringVar(&t.up.Program, "program", "bin/voicefleet", "the voicefleet program to start without --server and --data")
	f.IntVar(&t.up.MediaPort, "media-port", 0, "first UDP port of the server we start (default: a free one)")
	f.BoolVar(&t.logs, "logs", false, "show what the server we start logs")
}

// own says whether the run starts a server of its own.
func (t *target) own() bool { return t.Server == "" && t.Data == "" }

// check refuses flags that say something about a server that is not named.
func (t *target) check(cmd *cobra.Command) error {
	if !t.own() {
		return nil
	}
	for _, name := range []string{"invite", "token", "guild", "channel", "ca", "insecure"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s is about a server that runs, and none is named; --server URL or --data FOLDER need to go with it", name)
		}
	}
	return nil
}
