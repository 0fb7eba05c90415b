package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/addrs"
	"voicefleet/internal/bus"
	"voicefleet/signaling/signalingserver"
)

// leaseEvery is how often an instance of signaling says that it lives; its lease
// is 5 s.
const leaseEvery = time.Second

// newSignaling makes a voice gateway that is known on the bus under endpoint, if that is
// not empty, and the keys it checks grants with, which have to run before it.
func newSignaling(conn *bus.Conn, endpoint string, metrics prometheus.Registerer, log *slog.Logger) (*signalingserver.Server, *bus.Keys, error) {
	keys := bus.NewKeys()
	id := make([]byte, 8)
	rand.Read(id) // never fails
	cfg := signalingserver.Config{
		Nodes: edgeagentserver.NewClient(conn),
		Keys:  keys.Key,
		Silent: func(s edgeagent.Silence) {
			_ = bus.Publish(conn, bus.SilenceSubject, s) // the bus counts what it cannot take
		},
		Build:   "voicefleet " + version,
		Metrics: metrics,
		Log:     log,
	}
	if endpoint != "" {
		cfg.Announce = func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-keys.Synced(): // before it could refuse good grants
			}
			b, err := bus.OpenBucket[string](ctx, conn, bus.SignalingBucket)
			if err != nil {
				return err
			}
			bus.Lease(ctx, b, hex.EncodeToString(id), endpoint, leaseEvery)
			return nil
		}
	}
	s, err := signalingserver.New(cfg)
	return s, keys, err
}

// synced says whether the keys of the bus have been read.
func synced(keys *bus.Keys) func() error {
	return func() error {
		select {
		case <-keys.Synced():
			return nil
		default:
			return errors.New("the keys of grants have not been read yet")
		}
	}
}

// checkEndpoint refuses what no client could dial. Without a host it stands for
// the host at which the client reached the text gateway.
func checkEndpoint(flag, s string) error {
	_, port, err := net.SplitHostPort(s)
	if n, _ := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s %q: want HOST:PORT, or :PORT for the host that the page came from", flag, s)
	}
	return nil
}

// endpointOf is the address of a voice gateway that was told none.
func endpointOf(list []netip.Addr, port int) string {
	host := "localhost"
	if len(list) > 0 {
		host = list[0].String()
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func centralCommand() *cobra.Command {
	var c common
	var at busAt
	var data, endpoint, advertise, domain string
	var port int
	var noClients bool
	cmd := &cobra.Command{
		Use:     "central",
		Short:   "Run a voice gateway and an allocator",
		Long:    wordsCentral,
		Example: wordsCentralExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			first, err := addrs.ParseAdvertise(advertise)
			if err != nil {
				return fmt.Errorf("--advertise: %w", err)
			}
			if endpoint != "" {
				if err := checkEndpoint("--advertise-endpoint", endpoint); err != nil {
					return err
				}
			}
			ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
			defer stop()
			folder, err := openFolder(data)
			if err != nil {
				return err
			}
			defer folder.Close()
			token, err := folder.token(fileToken)
			if err != nil {
				return err
			}
			watch, err := addrs.Watch(first, nil)
			if err != nil {
				return err
			}
			vouch, err := vouch(folder.path, domain, watch.Addrs)
			if err != nil {
				return err
			}
			l, err := listenTCP(port, "--port")
			if err != nil {
				return err
			}
			defer l.Close()
			if endpoint == "" {
				endpoint = endpointOf(watch.Addrs(), port)
			}
			shown := newShown()
			if err := at.enter(ctx, bus.RoleCentral, "authority"); err != nil {
				return err
			}
			conn, err := at.join(ctx, bus.ClientName(bus.RoleCentral, endpoint), shown.registry(), log)
			if err != nil {
				return err
			}
			defer conn.Close()
			place, err := allocatorserver.New(allocatorserver.Config{Bus: conn, Metrics: shown.registry(), Log: log})
			if err != nil {
				return err
			}
			known := endpoint
			if noClients {
				known = ""
			}
			voice, keys, err := newSignaling(conn, known, shown.registry(), log)
			if err != nil {
				return err
			}
			shown.ready("bus", conn.Ready)
			shown.ready("keys", synced(keys))
			mux := http.NewServeMux()
			doorMetrics := shown.registry()
			shown.mount(mux, token)
			mux.HandleFunc("GET /ca.pem", vouch.servePEM)
			mux.Handle("/{$}", voice)
			members, err := at.members(ctx, conn, vouch, endpoint, port, watch.Addrs, log)
			if err != nil {
				return err
			}
			members.mount(mux, token)
			calls := allocatorserver.NewClient(conn)
			mountFleet(mux, calls, calls, token)
			if err := folder.announce(fmt.Sprintf("http://127.0.0.1:%d", port)); err != nil {
				return err
			}
			door, err := openDoor(l, vouch, mux, doorMetrics, log)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), wordsCentralUp(endpoint))
			return live(ctx, log, append(at.parts(conn, log),
				part{"addresses", watch.Run},
				part{"keys", func(ctx context.Context) error { return keys.Run(ctx, conn) }},
				part{"allocator", place.Run},
				part{"signaling", voice.Run},
				part{"control port", door.run},
			)...)
		},
	}
	c.flags(cmd)
	at.flags(cmd)
	at.authorityFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&port, "port", 8444, "TCP port of the voice gateway, http and https")
	f.StringVar(&endpoint, "advertise-endpoint", "", "HOST:PORT that clients are sent to; :PORT for the host that their page came from (default: the first address of this host)")
	f.BoolVar(&noClients, "no-clients", false, "send no clients here: it places calls, and with --authority lets members in")
	f.StringVar(&advertise, "advertise", "auto", "addresses to name in the certificate first, separated by commas")
	f.StringVar(&domain, "acme-domain", "", "public name of this host: its certificate comes from Let's Encrypt")
	f.StringVar(&data, "data", "./data-central", "data folder: admin token and certificates")
	return cmd
}
