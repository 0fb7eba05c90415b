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

// sfuCommand is the child process of edge: stream on fd 3, ledger on fd 4, media
// sockets from fd 5 on. It ends when the stream does.
func sfuCommand() *cobra.Command {
	var c common
	var sockets int
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
			if sockets < 1 || sockets > 1024 {
				return fmt.Errorf("--sockets %d: is started by voicefleet edge, not by hand", sockets)
			}
			stream, err := asStream(os.NewFile(streamFD, "agent"))
			if err != nil {
				return fmt.Errorf("is started by voicefleet edge, not by hand: %w", err)
			}
			var socks []*net.UDPConn
			for i := range sockets {
				f := os.NewFile(uintptr(firstSocketFD+i), "media")
				s, err := asSocket(f)
				f.Close()
				if err != nil {
					return err
				}
				socks = append(socks, s)
			}
			ledger := os.NewFile(ledgerFD, "ledger")
			defer ledger.Close()
			debug.SetGCPercent(engineGC)
			// A processor for each worker, and one for handshakes and the stream.
			runtime.GOMAXPROCS(sockets + 1)
			// The agent decides about our end, by ending the stream.
			signal.Ignore(os.Interrupt, syscall.SIGHUP)
			s, err := sfuserver.New(sfuserver.Config{Stream: stream, Sockets: socks, Ledger: ledger, Log: log})
			if err != nil {
				return fmt.Errorf("start media engine: %w", err)
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			return s.Run(ctx)
		},
	}
	c.flags(cmd)
	cmd.Flags().IntVar(&sockets, "sockets", 0, "number of media sockets")
	return cmd
}
