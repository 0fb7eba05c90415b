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
	"voicefleet/textchat"
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
	enrol     bool
	store     string
	files     string
	large     int
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
	fl.StringVar(&f.files, "files", "", wordsFilesFlag)
	fl.StringVar(&f.name, "name", "Voicefleet", "name of the first guild")
	fl.IntVar(&f.large, "large-guild", textchat.LargeGuild, wordsLargeFlag)
	fl.StringVar(&f.domain, "acme-domain", "", "public name of this host: its certificate comes from Let's Encrypt")
	fl.StringVar(&f.busListen, "bus-listen", "", "ADDR:PORT on which more media nodes may join")
	fl.BoolVar(&f.enrol, "enrol", false, "with --bus-listen: let in only machines that were added by voicefleet ctl node add, by TLS")
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
	attached, err := chatserver.ParseFiles(f.files)
	if err != nil {
		return fmt.Errorf("--files: %w", err)
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

	server, access, joinURL, fleet, err := f.startBus(h, log)
	if err != nil {
		return err
	}
	defer server.Shutdown()
	conn, err := bus.Connect(ctx, bus.Config{Embedded: server, Name: "up", Credentials: access, Metrics: shown.registry(), Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	var who *members
	if fleet != nil {
		if who, err = openMembers(ctx, fleet.authority, conn, bus.Config{Embedded: server}, fleet.urls, h.vouch, "", f.port, h.watch.Addrs, log); err != nil {
			return err
		}
	}

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
	bucket, err := attached.Open(ctx)
	if err != nil {
		return fmt.Errorf("--files: %w", err)
	}
	chat, err := newChat(conn, h.folder.path, store, bucket, "", from, h.token, 0, f.large, shown.registry(), log)
	if err != nil {
		return err
	}
	shown.ready("bus", conn.Ready)
	shown.ready("keys", synced(keys))
	doorMetrics := shown.registry()
	door, err := openDoor(h.listener, h.vouch, controlMux(conn, shown, h, voice, chat, who), doorMetrics, log)
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

// startBus starts the embedded server, for this process alone, for a network that is
// trusted, or for machines that were enrolled. join is what a node elsewhere gives
// as --bus.
func (f *upFlags) startBus(h *house, log *slog.Logger) (server *bus.Embedded, access *bus.Credentials, join string, fleet *fleetBus, err error) {
	if f.enrol {
		if f.busListen == "" {
			return nil, nil, "", nil, errors.New("--enrol goes with --bus-listen")
		}
		if fleet, err = startFleetBus(h.folder.path, f.busListen, h.watch.Addrs(), log); err != nil {
			return nil, nil, "", nil, err
		}
		return fleet.server, fleet.central, byEnrolment, fleet, nil
	}
	token := ""
	if f.busListen != "" {
		if token, err = h.folder.token(fileBus); err != nil {
			return nil, nil, "", nil, err
		}
		host, port, err := splitListen("--bus-listen", f.busListen)
		if err != nil {
			return nil, nil, "", nil, err
		}
		if host == "0.0.0.0" || host == "::" {
			host = h.watch.Addrs()[0].String()
		}
		join = busURL(host, port, token)
	}
	server, err = startBus(bus.EmbeddedConfig{StoreDir: filepath.Join(h.folder.path, folderBus), Token: token, Log: log}, f.busListen, "--bus-listen")
	return server, nil, join, nil, err
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
