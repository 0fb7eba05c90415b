package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/internal/bus"
	"voicefleet/internal/enrol"
)

// busEnv may hold the address of the bus, so that its token need not stand in
// the list of processes.
const busEnv = "VOICEFLEET_BUS"

// busAt is where a role finds the bus, how it gets in, and how long it waits for it.
type busAt struct {
	url      string
	wait     time.Duration
	replicas int
	joinURL  string
	folder   string // of the identity
	// fleet is the folder of the authority, for roles that may hold it.
	fleet string

	// Set by enter.
	identity  *enrol.Identity
	authority *enrol.Authority
	creds     *bus.Credentials
}

func (b *busAt) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.url, "bus", os.Getenv(busEnv), "NATS servers, nats://[TOKEN@]HOST:PORT, separated by commas (or $"+busEnv+"); an enrolled machine knows them")
	cmd.Flags().DurationVar(&b.wait, "bus-wait", 30*time.Second, "how long to wait for the bus at the start; later it is waited for as long as it takes")
	cmd.Flags().IntVar(&b.replicas, "bus-replicas", 0, "servers that hold each piece of the bus's state (default: 3 with three servers in --bus, else 1)")
	cmd.Flags().StringVar(&b.joinURL, "join", "", "enrol this machine, once: what voicefleet ctl node add shows, or @FILE that holds it")
	cmd.Flags().StringVar(&b.folder, "identity", "./identity", "folder of what this machine has of the fleet it was enrolled in")
}

// authorityFlag is for roles that may hold the fleet's authority.
func (b *busAt) authorityFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.fleet, "authority", "", "folder of the fleet's authority, as voicefleet fleet init made it: enrols machines here")
}

// enter finds out how this machine gets in: by the authority it holds, by its
// identity, which it may have to get first, or, with neither, because the network
// is trusted.
func (b *busAt) enter(ctx context.Context, role, name string) (err error) {
	if b.fleet != "" {
		if !enrol.Exists(b.fleet) {
			return fmt.Errorf("--authority %s: there is none; make it with: voicefleet fleet init", b.fleet)
		}
		if b.authority, err = enrol.Open(b.fleet); err != nil {
			return err
		}
		urls, err := b.authority.Bus()
		if err != nil {
			return err
		}
		if b.url == "" {
			b.url = strings.Join(urls, ",")
		}
		b.creds, err = b.authority.Credentials(enrol.Member{Role: role, Name: name})
		return err
	}
	if b.identity, err = identityOf(ctx, b.folder, b.joinURL, role); err != nil || b.identity == nil {
		return err
	}
	if b.url == "" {
		b.url = b.identity.BusURL()
	}
	b.creds = b.identity.Credentials()
	return nil
}

// join connects a role to the bus; enter comes first.
func (b *busAt) join(ctx context.Context, name string, metrics prometheus.Registerer, log *slog.Logger) (*bus.Conn, error) {
	if b.url == "" {
		return nil, errors.New("needs --bus nats://HOST:PORT, or --join; try one with: voicefleet bus")
	}
	if b.identity != nil {
		if err := b.identity.Refresh(ctx); err != nil {
			log.Warn("what this machine may do on the bus is as when it was enrolled, for now", "err", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	return bus.Connect(ctx, bus.Config{URL: b.url, Name: name, Replicas: b.replicas, Credentials: b.creds, Metrics: metrics, Log: log})
}

// members starts enrolment where this program holds the authority; else nil.
func (b *busAt) members(ctx context.Context, conn *bus.Conn, v *vouching, endpoint string, port int, addrs func() []netip.Addr, log *slog.Logger) (*members, error) {
	if b.authority == nil {
		return nil, nil
	}
	urls, err := b.authority.Bus()
	if err != nil {
		return nil, err
	}
	return openMembers(ctx, b.authority, conn, bus.Config{URL: b.url}, urls, v, endpoint, port, addrs, log)
}

// parts are what an enrolled program runs beside its role.
func (b *busAt) parts(conn *bus.Conn, log *slog.Logger) []part {
	if b.identity == nil {
		return nil
	}
	return []part{{"certificate", func(ctx context.Context) error {
		return b.identity.Renew(ctx, conn.Renew, func(err error) { log.Warn("certificate is not renewed", "err", err) })
	}}}
}

// splitListen reads HOST:PORT of a flag.
func splitListen(flag, s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%s %q: want ADDR:PORT", flag, s)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// startBus starts the embedded server; listen (of flag) may be empty: then only
// this process reaches it.
func startBus(cfg bus.EmbeddedConfig, listen, flag string) (*bus.Embedded, error) {
	if listen != "" {
		host, port, err := splitListen(flag, listen)
		if err != nil {
			return nil, err
		}
		cfg.Host, cfg.Port = host, port
	}
	e, err := bus.StartEmbedded(cfg)
	if err != nil && (errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, os.ErrPermission)) {
		return nil, portError("TCP", cfg.Port, flag, err)
	}
	return e, err
}

// busURL is what nodes elsewhere give as --bus.
func busURL(host string, port int, token string) string {
	u := url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(port))}
	if token != "" {
		u.User = url.User(token)
	}
	return u.String()
}

// busFlags are the flags of bus.
type busFlags struct {
	common
	listen, token, name, store string
	clusterListen              string
	routes                     []string
	config                     string
}

func busCommand() *cobra.Command {
	var f busFlags
	cmd := &cobra.Command{
		Use:     "bus",
		Short:   "Run the built-in NATS server alone, or three of them as a cluster",
		Long:    wordsBus,
		Example: wordsBusExamples,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.common.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4222", "address and port to listen on")
	fl.StringVar(&f.token, "token", "", "token that every program must give, as nats://TOKEN@HOST:PORT, and other servers, too")
	fl.StringVar(&f.name, "name", "", "name of this server, unique in its cluster")
	fl.StringVar(&f.store, "store", "", "folder of what must last (default: a temporary one)")
	fl.StringVar(&f.clusterListen, "cluster-listen", "", "address and port at which the other servers of the cluster join")
	fl.StringSliceVar(&f.routes, "routes", nil, "HOST:PORT of the other servers' --cluster-listen, separated by commas")
	fl.StringVar(&f.config, "config", "", "file of nats-server's own syntax, as voicefleet fleet bus writes it; instead of all flags above")
	return cmd
}

// check refuses flags that cannot be meant.
func (f *busFlags) check(cmd *cobra.Command) error {
	switch {
	case f.config != "":
		for _, name := range []string{"listen", "token", "name", "store", "cluster-listen", "routes"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--config has all of it: leave out --%s", name)
			}
		}
	case f.clusterListen == "" && len(f.routes) > 0:
		return errors.New("--routes goes with --cluster-listen")
	case f.clusterListen != "" && (f.name == "" || f.store == ""):
		return errors.New("--cluster-listen wants a --name of this server's own, and a --store folder")
	}
	for _, r := range append(f.routes, f.clusterListen) {
		if r != "" {
			if _, _, err := splitListen("--cluster-listen and --routes", r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *busFlags) run(cmd *cobra.Command) error {
	log, err := f.logger()
	if err != nil {
		return err
	}
	if err := f.check(cmd); err != nil {
		return err
	}
	cfg := bus.EmbeddedConfig{
		Name: f.name, StoreDir: f.store, Token: f.token, ClusterListen: f.clusterListen, Routes: f.routes, Log: log,
	}
	if f.config != "" {
		text, err := os.ReadFile(f.config)
		if err != nil {
			return fmt.Errorf("--config: %w", err)
		}
		cfg.ServerConfig, f.listen = string(text), ""
	}
	e, err := startBus(cfg, f.listen, "--listen")
	if err != nil {
		return err
	}
	defer e.Shutdown()
	if f.config != "" {
		fmt.Fprintln(cmd.OutOrStdout(), wordsFleetBusUp(e.URL()))
	} else {
		host, port, _ := splitListen("--listen", f.listen)
		fmt.Fprintln(cmd.OutOrStdout(), wordsBusUp(busURL(host, port, f.token)))
	}
	ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
	defer stop()
	<-ctx.Done()
	return nil
}
