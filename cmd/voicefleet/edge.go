package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"voicefleet/allocator/allocatorserver"
	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/addrs"
	"voicefleet/internal/bus"
	"voicefleet/internal/telemetry"
	"voicefleet/sfu"
)

// media are the flags of whatever runs a media node.
type media struct {
	node      string
	region    string
	zone      string
	location  string
	label     string
	weight    float64
	port      int
	workers   int
	advertise string
	capacity  float64
	sessions  int
	shed      float64
	noGate    bool
	turn      turnFlags
	link      int
	linkMTU   int
	links     *net.UDPConn // for links to other edges; nil: none
	trust     *fleetTrust  // on links; nil: no authority vouches for edges
}

// maxWorkers bounds the workers of a node: one UDP port each.
const maxWorkers = 128

func (m *media) flags(cmd *cobra.Command, workers int) {
	f := cmd.Flags()
	f.StringVar(&m.node, "node", nodeName(), "id of the media node, unique in the fleet: a-z 0-9 -")
	f.StringVar(&m.region, "region", "local", "region of the node, as clients may ask for it")
	f.StringVar(&m.zone, "zone", "", "failure domain within the region")
	f.StringVar(&m.location, "location", "", "where the node stands, LAT,LON in degrees, for users of whom a GeoIP database alone tells where they are")
	f.StringVar(&m.label, "label", "", "name of a group of nodes, as those that try a new version out")
	f.Float64Var(&m.weight, "weight", 0, "with --label: the share the node takes of calls whose guild does not try the label (voicefleet ctl label), 0.01 to 1 (default: all)")
	f.IntVar(&m.port, "media-port", 50000, "first UDP port for voice; each worker takes one more")
	f.IntVar(&m.workers, "workers", workers, "workers of the media engine, one UDP port and one core each")
	f.StringVar(&m.advertise, "advertise", "auto", "addresses to name first to clients, separated by commas: the public one behind NAT")
	f.Float64Var(&m.capacity, "capacity-pps", 0, "packets/s the node can send (default: measured at the start)")
	f.IntVar(&m.sessions, "max-sessions", 0, "sessions the node takes (default 4000)")
	f.Float64Var(&m.shed, "shed-video", 0, "share of its time (0 to 1) that a worker may be busy before it forwards voices only, until there is room for video again; 1: never (default 0.85)")
	f.BoolVar(&m.noGate, "no-silence-gate", false, "forward silence too; for measurements")
	f.Lookup("no-silence-gate").Hidden = true
	m.turn.flags(cmd)
}

// nodeName makes a node id of the host name.
func nodeName() string {
	host, _ := os.Hostname() // without one: "node"
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	if id = strings.Trim(id, "-"); id == "" {
		id = "node"
	}
	return id[:min(len(id), 63)]
}

// check refuses flags that cannot be meant, before anything is opened.
func (m *media) check() ([]netip.Addr, error) {
	switch {
	case !edgeagent.NodeID(m.node).Valid():
		return nil, fmt.Errorf("--node %q: want 1 to 64 of a-z 0-9 -", m.node)
	case m.workers < 1 || m.workers > maxWorkers:
		return nil, fmt.Errorf("--workers %d: want 1 to %d", m.workers, maxWorkers)
	case m.port < 1 || m.port+m.workers-1 > 65535:
		return nil, fmt.Errorf("--media-port %d: want 1 to %d, for %d workers", m.port, 65536-m.workers, m.workers)
	case m.weight < 0 || m.weight > 1 || m.weight > 0 && m.label == "":
		return nil, fmt.Errorf("--weight %v: want 0 to 1, and a --label", m.weight)
	case len(m.label) > edgeagent.MaxLabel:
		return nil, fmt.Errorf("--label: %d characters, at most %d", len(m.label), edgeagent.MaxLabel)
	case m.link < 0 || m.link > 65535:
		return nil, fmt.Errorf("--link-port %d: want 1 to 65535", m.link)
	case m.linkMTU != 0 && (m.linkMTU < edgeagentserver.MinLinkPacket || m.linkMTU > sfu.MaxDatagram):
		return nil, fmt.Errorf("--link-packet %d: want %d to %d", m.linkMTU, edgeagentserver.MinLinkPacket, sfu.MaxDatagram)
	case m.capacity < 0 || m.sessions < 0:
		return nil, fmt.Errorf("--capacity-pps and --max-sessions cannot be negative")
	case m.shed < 0 || m.shed > 1:
		return nil, fmt.Errorf("--shed-video %v: want 0 to 1", m.shed)
	}
	if m.location != "" {
		if _, err := edgeagent.ParseLocation(m.location); err != nil {
			return nil, fmt.Errorf("--location: %w", err)
		}
	}
	if err := m.turn.check(); err != nil {
		return nil, err
	}
	list, err := addrs.ParseAdvertise(m.advertise)
	if err != nil {
		return nil, fmt.Errorf("--advertise: %w", err)
	}
	return list, nil
}

// node makes the agent of this process, with engines on the sockets.
func (m *media) start(conn *bus.Conn, e *engines, closed *edgeagentserver.Closed, watch *addrs.Watcher, metrics prometheus.Registerer, log *slog.Logger) (*edgeagentserver.Server, error) {
	ports := make([]uint16, len(e.custody.sockets))
	for i := range ports {
		ports[i] = uint16(m.port + i)
	}
	var location *edgeagent.Location
	if at, err := edgeagent.ParseLocation(m.location); err == nil { // checked before
		location = &at
	}
	var trust edgeagentserver.PeerTrust
	if m.trust != nil {
		trust = m.trust
	}
	var program func(context.Context) (edgeagentserver.Program, error)
	if e.child { // otherwise engine and agent are parts of a program with more to it
		program = e.program
	}
	return edgeagentserver.New(edgeagentserver.Config{
		Location:      location,
		Label:         m.label,
		Weight:        m.weight,
		Bus:           conn,
		Node:          edgeagent.NodeID(m.node),
		Region:        m.region,
		Zone:          m.zone,
		Version:       version,
		Ports:         ports,
		Advertise:     watch.Addrs,
		Limits:        sfu.Limits{Sessions: m.sessions, ShedVideo: m.shed},
		NoSilenceGate: m.noGate,
		CapacityPPS:   m.capacity,
		Peers:         allocatorserver.NewClient(conn).Peers,
		Engine:        e.start,
		Program:       program,
		Closed:        closed,
		Link:          m.links,
		Trust:         trust,
		LinkPacket:    m.linkMTU,
		Metrics:       metrics,
		Log:           log,
	})
}

func edgeCommand() *cobra.Command {
	var c common
	var m media
	var at busAt
	var listen, token string
	var drain time.Duration
	cmd := &cobra.Command{
		Use:     "edge",
		Short:   "Run one media node",
		Long:    wordsEdge,
		Example: wordsEdgeExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			return runEdge(cmd, &m, &at, listen, token, drain, log)
		},
	}
	c.flags(cmd)
	m.flags(cmd, min(runtime.NumCPU(), maxWorkers))
	at.flags(cmd)
	m.turn.certFlags(cmd)
	cmd.Flags().IntVar(&m.link, "link-port", 0, "UDP port for links to other edges (default: the one before --media-port, if it is free)")
	cmd.Flags().IntVar(&m.linkMTU, "link-packet", edgeagentserver.DefaultLinkPacket, "bytes of UDP payload of a packet on links; every path to other edges must take it")
	cmd.Flags().StringVar(&listen, "http", "127.0.0.1:9443", "address and port for /metrics, /healthz and /readyz; empty: none")
	cmd.Flags().DurationVar(&drain, "drain-time", 30*time.Second, "how long the end of the program waits for its calls to move to other nodes; 0: not at all")
	cmd.Flags().StringVar(&token, "admin-token", os.Getenv(tokenEnv), "token for /metrics from afar and for profiles (or $"+tokenEnv+")")
	return cmd
}

// tokenEnv may hold the admin token of a role without a data folder.
const tokenEnv = "VOICEFLEET_ADMIN_TOKEN"

func runEdge(cmd *cobra.Command, m *media, at *busAt, listen, token string, drain time.Duration, log *slog.Logger) error {
	ctx, stop := untilSignal(cmd.Context(), func() { fmt.Fprintln(cmd.ErrOrStderr(), wordsEnding) })
	defer stop()
	if err := at.enter(ctx, bus.RoleEdge, m.node); err != nil {
		return err
	}
	if id := at.identity; id != nil {
		if m.node = id.Name; id.Region != "" && !cmd.Flags().Changed("region") {
			m.region = id.Region
		}
	}
	first, err := m.check()
	if err != nil {
		return err
	}
	watch, err := addrs.Watch(first, nil)
	if err != nil {
		return err
	}
	secure, host, err := m.turn.certificate()
	if err != nil {
		return err
	}
	media, err := childEngines(ctx, m, log)
	if err != nil {
		return err
	}
	defer media.close()
	closed, err := m.turn.listen(secure, host, log)
	if err != nil {
		return err
	}
	if m.links, err = m.listenLink(log); err != nil {
		return err
	}
	defer m.links.Close()
	shown := newShown()
	conn, err := at.join(ctx, bus.ClientName(bus.RoleEdge, m.node), shown.registry(), log)
	if err != nil {
		return err
	}
	defer conn.Close()
	if at.identity != nil {
		m.trust = newFleetTrust(at.identity)
	}
	agent, err := m.start(conn, media, closed, watch, shown.registry(), log)
	if err != nil {
		return err
	}
	shown.ready("bus", conn.Ready)
	parts := append([]part{{"addresses", watch.Run}, {"processors", fitProcessors}}, at.parts(conn, log)...)
	if m.trust != nil {
		parts = append(parts, part{"revocations", func(ctx context.Context) error { return m.trust.follow(ctx, conn, log) }})
	}
	if listen != "" {
		side, err := sideDoor(listen, "--http", shown, token)
		if err != nil {
			return err
		}
		parts = append(parts, side)
	}
	parts = append(parts, part{"agent", agent.Run})
	ctx, stop = drainFirst(ctx, agent, drain)
	defer stop()
	fmt.Fprintln(cmd.OutOrStdout(), wordsEdgeUp(m.node, m.port, m.port+m.workers-1, watch.Addrs()))
	return live(ctx, log, parts...)
}

// drainFirst is a context that ends after ctx has, when the node is empty or may
// not be waited for any longer. A second signal ends the process at once.
func drainFirst(ctx context.Context, agent *edgeagentserver.Server, limit time.Duration) (context.Context, context.CancelFunc) {
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer end()
		select {
		case <-ctx.Done():
		case <-living.Done(): // a part has failed
			return
		}
		if limit > 0 {
			emptying, cancel := context.WithTimeout(living, limit)
			defer cancel()
			agent.Empty(emptying, "agent", "the program was told to end")
		}
	})
	return living, func() { end(); waiting.Wait() }
}

// sideDoor serves what a role shows of itself where it has no other door.
func sideDoor(listen, flag string, s *shown, token string) (part, error) {
	host, port, err := splitListen(flag, listen)
	if err != nil {
		return part{}, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return part{}, portError("TCP", port, flag+" "+host+":PORT", err)
	}
	mux := http.NewServeMux()
	s.mount(mux, token)
	return part{"side door", func(ctx context.Context) error { return servePlain(ctx, l, mux) }}, nil
}

// servePlain answers by http until ctx ends.
func servePlain(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(telemetry.Discard().Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	if s.Shutdown(grace) != nil {
		s.Close()
	}
	<-ended
	return nil
}
