package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"voicefleet/allocator"
	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/textchat/chatserver"
)

// upWorkers bounds the workers of a house by default: each is a port to forward,
// and one carries some hundred people.
const upWorkers = 2

// upFlags are the flags of up.
type upFlags struct {
	common
	media
	data      string
	name      string
	port      int
	domain    string
	busListen string
	store     string
	clients   whereabouts
}

func upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Start everything in one process",
		Long:    wordsUp,
		Example: wordsUpExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := f.logger()
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
			defer stop()
			if err := f.run(ctx, cmd.OutOrStdout(), log); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), wordsEnded)
			return nil
		},
	}
	f.common.flags(cmd)
	f.clients.flags(cmd)
	f.media.flags(cmd, min(runtime.NumCPU(), upWorkers))
	fl := cmd.Flags()
	fl.IntVar(&f.port, "port", 8443, "TCP port of page, REST and WebSockets, http and https")
	fl.StringVar(&f.data, "data", "./data", "data folder; made when missing")
	fl.StringVar(&f.store, "store", "", "where guilds and messages are kept: cql://HOST,HOST/KEYSPACE (default: in the data folder)")
	fl.StringVar(&f.name, "name", "Voicefleet", "name of the first guild")
	fl.StringVar(&f.domain, "acme-domain", "", "public name of this host: its certificate comes from Let's Encrypt")
	fl.StringVar(&f.busListen, "bus-listen", "", "ADDR:PORT on which more media nodes may join")
	return cmd
}

// run is the order of living; what is deferred, and live, the order of dying.
func (f *upFlags) run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	first, err := f.media.check()
	if err != nil {
		return err
	}
	if f.name == "" || len(f.name) > maxName {
		return fmt.Errorf("--name: want 1 to %d characters", maxName)
	}
	address := f.store
	if address == "" {
		address = "sqlite:" + filepath.Clean(f.data)
	}
	where, err := chatserver.ParseStore(address)
	if err == nil && f.store != "" && where.Folder() != "" {
		err = errors.New("want cql://HOST,HOST/KEYSPACE; the folder of an embedded store is --data")
	}
	if err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	from, err := f.clients.open(log)
	if err != nil {
		return err
	}
	defer from.close()
	h, err := openHouse(f.data, f.port, f.domain, first)
	if err != nil {
		return err
	}
	defer h.close()
	sockets, err := listenMedia(f.media.port, f.workers, "--media-port")
	if err != nil {
		return err
	}
	media, err := newEngines(sockets, false, log)
	if err != nil {
		return err
	}
	defer media.close()
	closed, err := f.media.turn.listen(h.vouch.relay(), h.vouch.name, log)
	if err != nil {
		return err
	}
	shown := newShown()

	busToken, joinURL := "", ""
	if f.busListen != "" {
		if busToken, err = h.folder.token(fileBus); err != nil {
			return err
		}
		host, port, err := splitListen("--bus-listen", f.busListen)
		if err != nil {
			return err
		}
		if host == "0.0.0.0" || host == "::" {
			host = h.watch.Addrs()[0].String()
		}
		joinURL = busURL(host, port, busToken)
	}
	server, err := startBus(bus.EmbeddedConfig{StoreDir: filepath.Join(h.folder.path, "bus"), Token: busToken, Log: log}, f.busListen, "--bus-listen")
	if err != nil {
		return err
	}
	defer server.Shutdown()
	conn, err := bus.Connect(ctx, bus.Config{Embedded: server, Name: "up", Metrics: shown.registry(), Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()

	agent, err := f.media.start(conn, media, closed, h.watch, shown.registry(), log)
	if err != nil {
		return err
	}
	place, err := allocatorserver.New(allocatorserver.Config{Bus: conn, Metrics: shown.registry(), Log: log})
	if err != nil {
		return err
	}
	// An endpoint without a host is the one the client came to.
	voice, keys, err := newSignaling(conn, fmt.Sprintf(":%d", f.port), shown.registry(), log)
	if err != nil {
		return err
	}
	store, closeStore, err := openStore(ctx, where, shown.registry(), log)
	if err != nil {
		return err
	}
	defer closeStore()
	chat, err := newChat(conn, h.folder.path, store, from, h.token, 0, shown.registry(), log)
	if err != nil {
		return err
	}
	shown.ready("bus", conn.Ready)
	shown.ready("keys", synced(keys))
	doorMetrics := shown.registry()
	door, err := openDoor(h.listener, h.vouch, controlMux(conn, shown, h, voice, chat), doorMetrics, log)
	if err != nil {
		return err
	}
	return live(ctx, log,
		part{"addresses", h.watch.Run},
		part{"agent", agent.Run},
		part{"keys", func(ctx context.Context) error { return keys.Run(ctx, conn) }},
		part{"allocator", place.Run},
		part{"signaling", voice.Run},
		part{"textchat", chat.Run},
		part{"control port", door.run},
		part{"banner", func(ctx context.Context) error {
			awaitSeats(ctx, allocatorserver.NewClient(conn), log)
			if err := h.greet(ctx, out, chat, f.name, joinURL); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		}},
	)
}

const (
	// seatsTime is how long the banner waits for a place to talk; then it is
	// shown anyway, and joins say what is wrong.
	seatsTime = 10 * time.Second
	seatsLook = 50 * time.Millisecond
)

// awaitSeats returns when a node takes calls: whoever opens a link of the banner
// can talk.
func awaitSeats(ctx context.Context, ask fleetAsk, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, seatsTime)
	defer cancel()
	look := time.NewTicker(seatsLook)
	defer look.Stop()
	for {
		nodes, err := ask.Nodes(ctx)
		if slices.ContainsFunc(nodes, func(n allocator.NodeView) bool { return n.State == edgeagent.Ready }) {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				log.Warn("no media node is ready", "err", err)
			}
			return
		}
	}
}
