package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"voicefleet/sfu/sfuserver"
)

// engineGC is the engine's garbage collection target in percent. Its packet path
// allocates nothing, so collections are rare at any setting; half the usual
// slack keeps a session small.
const engineGC = 50

// sfuCommand is the child process of edge, with its stream on fd 3, over which it
// is given ledger and media sockets. It ends by SIGTERM; when the stream ends
// without, the agent has died, and it goes on while it has sessions.
func sfuCommand() *cobra.Command {
	var c common
	cmd := &cobra.Command{
		Use:    "sfu",
		Short:  "Run a media engine as the child of an edge",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			stream, err := asStream(os.NewFile(streamFD, "agent"))
			if err != nil {
				return fmt.Errorf("is started by voicefleet edge, not by hand: %w", err)
			}
			// The agent decides about our end, by signal; and what it reads of our
			// log may end with it.
			signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			held, err := take(stream)
			if err != nil {
				return fmt.Errorf("is started by voicefleet edge, not by hand: %w", err)
			}
			defer held.close()
			var socks []*net.UDPConn
			for _, f := range held.sockets {
				s, err := asSocket(f)
				if err != nil {
					return err
				}
				socks = append(socks, s)
			}
			debug.SetGCPercent(engineGC)
			// A processor for each worker, and one for handshakes and the stream.
			runtime.GOMAXPROCS(len(socks) + 1)
			cfg := sfuserver.Config{Stream: stream, Sockets: socks, Ledger: held.ledger, Log: log}
			if l, err := net.ListenUnix("unix", doorName(socks[0].LocalAddr().(*net.UDPAddr).Port)); err == nil {
				defer l.Close()
				cfg.NextAgent = (&hatch{listener: l, custody: held}).next
			} else {
				log.Warn("no door for the next agent: this engine ends with the one it has", "err", err)
			}
			s, err := sfuserver.New(cfg)
			if err != nil {
				return fmt.Errorf("start media engine: %w", err)
			}
			return s.Run(ctx)
		},
	}
	c.flags(cmd)
	return cmd
}
