package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/addrs"
	"voicefleet/internal/bus"
	"voicefleet/textchat"
	"voicefleet/textchat/chatserver"
	"voicefleet/textchat/web"
)

// newChat makes guilds, accounts and the page, joined to the fleet by the bus. A store
// that is nil is the embedded one, files that are nil lie in a folder, both in dir.
// Instances that are named share their store.
func newChat(conn *bus.Conn, dir string, store textchat.Store, files chatserver.Files, instance string, from *known, token string, worker uint16, large int, metrics prometheus.Registerer, log *slog.Logger) (*chatserver.Server, error) {
	calls := allocatorserver.NewClient(conn)
	var others *bus.Conn
	told := filepath.Join(dir, folderTold)
	if instance != "" {
		others, told = conn, ""
	}
	return chatserver.New(chatserver.Config{
		Bus:        others,
		Instance:   instance,
		Told:       told,
		DataDir:    dir,
		Store:      store,
		Files:      files,
		Placer:     calls,
		Moves:      calls,
		Presence:   edgeagentserver.NewClient(conn),
		Regions:    calls.Regions,
		Locate:     from.locate,
		Page:       web.Page(),
		AdminToken: token,

		TrustedProxies: from.proxies,

		Worker:  worker,
		Large:   large,
		Metrics: metrics,
		Log:     log,
	})
}

// controlMux is the control side of up and text: the fleet for the operator, the
// authority, what the program shows, and textchat for all the rest. voice is nil
// where the voice gateway runs elsewhere, who where the fleet's authority does.
func controlMux(conn *bus.Conn, s *shown, h *house, voice http.Handler, chat *chatserver.Server, who *members) http.Handler {
	mux := http.NewServeMux()
	s.mount(mux, h.token)
	mountFleet(mux, allocatorserver.NewClient(conn), allocatorserver.NewClient(conn), h.token)
	mux.HandleFunc("POST /api/admin/backup", serveBackup(h.folder.path, chat, h.token))
	who.mount(mux, h.token)
	mux.HandleFunc("GET /ca.pem", h.vouch.servePEM)
	mux.Handle("/", chat.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if voice != nil && isVoice(r) {
			voice.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// joined says whether an instance knows what the others do.
func joined(chat *chatserver.Server) func() error {
	return func() error {
		select {
		case <-chat.Joined():
			return nil
		default:
			return errors.New("what the other instances know has not been learnt yet")
		}
	}
}

// openStore opens a store that is not embedded; of an embedded one, which the
// server opens itself, it is nil. close is never nil.
func openStore(ctx context.Context, at chatserver.StoreAddress, metrics prometheus.Registerer, log *slog.Logger) (store textchat.Store, closeStore func(), err error) {
	if at.Folder() != "" {
		return nil, func() {}, nil
	}
	if store, err = at.Open(ctx, metrics, log); err != nil {
		return nil, func() {}, err
	}
	return store, func() {
		if err := store.Close(); err != nil {
			log.Error("close store", "err", err)
		}
	}, nil
}

// storeFolder is the data folder that goes with a store.
func storeFolder(at chatserver.StoreAddress, data string) (string, error) {
	switch {
	case at.Folder() == "" && data == "":
		return "./data", nil
	case at.Folder() == "":
		return data, nil
	case data != "":
		return "", errors.New("--data goes with a cql:// store; with sqlite:FOLDER everything lies in FOLDER")
	}
	return at.Folder(), nil
}

func textCommand() *cobra.Command {
	var c common
	var at busAt
	var store, files, data, name, domain, advertise string
	var port int
	var worker uint16
	var large int
	var clients whereabouts
	cmd := &cobra.Command{
		Use:     "text",
		Short:   "Run guilds, accounts, text and the page",
		Long:    wordsText,
		Example: wordsTextExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			where, err := chatserver.ParseStore(store)
			if err != nil {
				return fmt.Errorf("--store: %w", err)
			}
			attached, err := chatserver.ParseFiles(files)
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			dir, err := storeFolder(where, data)
			if err != nil {
				return err
			}
			first, err := addrs.ParseAdvertise(advertise)
			if err != nil {
				return fmt.Errorf("--advertise: %w", err)
			}
			from, err := clients.open(log)
			if err != nil {
				return err
			}
			defer from.close()
			ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
			defer stop()
			h, err := openHouse(dir, port, domain, first)
			if err != nil {
				return err
			}
			defer h.close()
			shown := newShown()
			if err := at.enter(ctx, bus.RoleText, "authority"); err != nil {
				return err
			}
			conn, err := at.join(ctx, bus.ClientName(bus.RoleText, strconv.Itoa(int(worker))), shown.registry(), log)
			if err != nil {
				return err
			}
			defer conn.Close()
			kept, closeStore, err := openStore(ctx, where, shown.registry(), log)
			if err != nil {
				return err
			}
			defer closeStore()
			bucket, err := attached.Open(ctx)
			if err != nil {
				return fmt.Errorf("--files: %w", err)
			}
			instance := ""
			if kept != nil {
				instance = strconv.Itoa(int(worker))
			}
			chat, err := newChat(conn, dir, kept, bucket, instance, from, h.token, worker, large, shown.registry(), log)
			if err != nil {
				return err
			}
			shown.ready("bus", conn.Ready)
			shown.ready("instances", joined(chat))
			doorMetrics := shown.registry()
			who, err := at.members(ctx, conn, h.vouch, "", port, h.watch.Addrs, log)
			if err != nil {
				return err
			}
			door, err := openDoor(h.listener, h.vouch, controlMux(conn, shown, h, nil, chat, who), doorMetrics, log)
			if err != nil {
				return err
			}
			return live(ctx, log, append(at.parts(conn, log),
				part{"addresses", h.watch.Run},
				part{"textchat", chat.Run},
				part{"control port", door.run},
				part{"banner", func(ctx context.Context) error {
					select {
					case <-chat.Joined():
					case <-ctx.Done():
						return nil
					}
					if err := h.greet(ctx, cmd.OutOrStdout(), chat, name, "$"+busEnv); err != nil {
						return err
					}
					<-ctx.Done()
					return nil
				}},
			)...)
		},
	}
	c.flags(cmd)
	at.flags(cmd)
	at.authorityFlag(cmd)
	clients.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&store, "store", "sqlite:./data", "where guilds and messages are kept: sqlite:FOLDER, or cql://HOST,HOST/KEYSPACE")
	f.StringVar(&files, "files", "", wordsFilesFlag)
	f.StringVar(&data, "data", "", "data folder with a cql:// store: admin token and certificates (default ./data)")
	f.IntVar(&port, "port", 8443, "TCP port of page, REST and gateway, http and https")
	f.StringVar(&name, "name", "Voicefleet", "name of the first guild")
	f.StringVar(&advertise, "advertise", "auto", "addresses to name first, separated by commas: the public one behind NAT")
	f.StringVar(&domain, "acme-domain", "", "public name of this host: its certificate comes from Let's Encrypt")
	f.Uint16Var(&worker, "worker", 0, "number of this instance, 0 to 1023: of several on one store each has its own")
	f.IntVar(&large, "large-guild", textchat.LargeGuild, wordsLargeFlag)
	return cmd
}
