package target

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"voicefleet/bench/internal/procstat"
	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/bus"
	"voicefleet/internal/freeport"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// NodeConfig says how a media node is started.
type NodeConfig struct {
	// Program is the voicefleet binary (default bin/voicefleet).
	Program string
	// Workers of its engine (default 1): a core and a UDP port each.
	Workers int
	// NoSilenceGate has it forward silence too: for windows in which every packet
	// counts.
	NoSilenceGate bool
	// MaxSessions is its limit of sessions (default: its own, 4,000).
	MaxSessions int
	// Faults are to come: its engine may be replaced, PIDs and Engine are those of
	// the moment. Without it a replaced engine is an error.
	Faults bool
	// MediaPort is its first UDP port, HTTPPort where it shows its metrics (default:
	// free ones).
	MediaPort, HTTPPort int
	// Shape bounds the requests of CloseRoom.
	Shape Shape
	// Log gets what it writes; nil keeps the last of it for errors.
	Log io.Writer
}

// Validate fills the zero fields and looks for the program.
func (c *NodeConfig) Validate() error {
	if c.Workers == 0 {
		c.Workers = 1
	}
	switch {
	case c.Workers < 1 || c.Workers > 128:
		return fmt.Errorf("%d workers, want 1 to 128", c.Workers)
	case c.MaxSessions < 0:
		return fmt.Errorf("at most %d sessions, want 1 or more", c.MaxSessions)
	}
	if err := c.Shape.validate(); err != nil {
		return err
	}
	return lookFor(&c.Program)
}

const nodeID = edgeagent.NodeID("bench")

// Node is a media node with the bus it lives on.
type Node struct {
	// Immutable after StartNode.
	config   NodeConfig
	embedded *bus.Embedded
	conn     *bus.Conn
	client   *edgeagentserver.Client
	http     *http.Client
	key      ed25519.PrivateKey
	token    string // for its profiles
	process  *process

	mint snowflake.Mint // safe for concurrent use

	mu sync.Mutex
	// Guarded by mu.
	children []int // agent and engine that were last seen, known once it is ready
	rooms    map[int]*room
}

// room is a call of a Node.
type room struct {
	call     sfu.CallID
	sessions map[sfu.SessionID]struct{}
}

// StartNode starts a bus and a node on it, and returns when the node is ready.
func StartNode(ctx context.Context, config NodeConfig) (_ *Node, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	n := &Node{config: config, token: rand.Text(), rooms: make(map[int]*room), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	port, err := freeport.TCP()
	if err == nil && n.config.MediaPort == 0 {
		n.config.MediaPort, err = freeport.UDP(n.config.Workers)
	}
	if err == nil && n.config.HTTPPort == 0 {
		n.config.HTTPPort, err = freeport.TCP()
	}
	if err != nil {
		return nil, err
	}
	if n.embedded, err = bus.StartEmbedded(bus.EmbeddedConfig{Port: port}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Stop())
		}
	}()
	if n.conn, err = bus.Connect(ctx, bus.Config{Embedded: n.embedded, Name: "voicebench"}); err != nil {
		return nil, err
	}
	if err := n.publishKey(ctx); err != nil {
		return nil, err
	}
	n.client = edgeagentserver.NewClient(n.conn)
	// Profiles need a token; on the command line any user of the machine saw it.
	n.process, err = begin("node", n.config.Program, []string{"VOICEFLEET_ADMIN_TOKEN=" + n.token}, n.config.Log, n.arguments()...)
	if err != nil {
		return nil, err
	}
	err = n.await(ctx, edgeagent.Ready)
	if err == nil {
		err = n.meet()
	}
	if err != nil {
		return nil, fmt.Errorf("start node: %w\n%s", err, n.process.log.tail())
	}
	return n, nil
}

func (n *Node) arguments() []string {
	args := []string{"edge",
		"--bus", n.embedded.URL(),
		"--node", string(nodeID),
		"--advertise", loopback.String(),
		"--workers", strconv.Itoa(n.config.Workers),
		"--media-port", strconv.Itoa(n.config.MediaPort),
		"--http", n.httpAddr(),
		"--drain-time", "0", // there is no other node for its calls
		"--log-level", "warn",
	}
	if n.config.NoSilenceGate {
		args = append(args, "--no-silence-gate")
	}
	if n.config.MaxSessions > 0 {
		args = append(args, "--max-sessions", strconv.Itoa(n.config.MaxSessions))
	}
	return args
}

// publishKey makes our grants good: the harness is the allocator of this fleet.
func (n *Node) publishKey(ctx context.Context) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make grant key: %w", err)
	}
	n.key = private
	keys, err := bus.OpenBucket[ed25519.PublicKey](ctx, n.conn, bus.KeysBucket)
	if err != nil {
		return err
	}
	_, err = keys.Put(ctx, edgeagent.KeyID(public), public)
	return err
}

func (n *Node) httpAddr() string {
	return net.JoinHostPort(loopback.String(), strconv.Itoa(n.config.HTTPPort))
}

// meet notes agent and engine.
func (n *Node) meet() error {
	children, err := procstat.Tree(n.process.pid())
	if err == nil && len(children) < 2 {
		err = errors.New("it has no engine process")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.children = children
	return err
}

// await follows the heartbeats until one says the state.
func (n *Node) await(ctx context.Context, state edgeagent.State) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("no heartbeat says %s within %v", state, readyTimeout))
	defer cancel()
	nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, n.conn, bus.NodesBucket)
	if err != nil {
		return err
	}
	said := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var once sync.Once
		nodes.Watch(watching, func(ch bus.Change[edgeagent.Heartbeat]) {
			if ch.Key == string(nodeID) && ch.Value.State == state {
				once.Do(func() { close(said) })
			}
		})
	}()
	defer func() { stop(); <-watched }()
	select {
	case <-said:
		return nil
	case <-n.process.ended:
		return fmt.Errorf("it ended at once: %w", n.process.how)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Session is one member's seat in a room of a Node.
type Session struct {
	ID     sfu.SessionID
	Room   int
	Answer string // SDP
	Stages Stages
}

// Stages are how long the node took to take a session in.
type Stages struct {
	Open      time.Duration `json:"open_ns"`      // grant to session
	Negotiate time.Duration `json:"negotiate_ns"` // offer to answer
}

// Open opens a session and negotiates it, as the voice gateway does. It does not
// hold back: as many as are asked for are under way at once.
func (n *Node) Open(ctx context.Context, room int, offer string) (Session, error) {
	s := Session{ID: n.name(), Room: room}
	token, err := n.grant(s.ID, n.enter(room, s.ID))
	if err != nil {
		n.forget(s)
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	begun := time.Now()
	if _, err := n.client.Open(ctx, nodeID, edgeagent.OpenRequest{Token: token}); err != nil {
		// It stays known: a request without an answer may have been heard.
		return s, n.process.because(fmt.Errorf("open session: %w", err))
	}
	opened := time.Now()
	s.Stages.Open = opened.Sub(begun)
	reply, err := n.client.Negotiate(ctx, nodeID, edgeagent.NegotiateRequest{Session: s.ID, Offer: offer})
	if err != nil {
		return s, n.process.because(fmt.Errorf("negotiate: %w", err))
	}
	s.Stages.Negotiate = time.Since(opened)
	s.Answer = reply.Answer
	return s, nil
}

// name is that of another session.
func (n *Node) name() sfu.SessionID {
	return sfu.SessionID("b" + n.mint.Next(time.Now()).String())
}

// grant lets a session in.
func (n *Node) grant(s sfu.SessionID, call sfu.CallID) (string, error) {
	return edgeagent.SignGrant(n.key, edgeagent.Grant{
		ID: s, Node: nodeID, Guild: "1", Call: call, Epoch: 1,
		User: sfu.UserID{ID: n.mint.Next(time.Now())}, Session: "bench",
		Rights: sfu.Rights{Speak: true}, Expires: time.Now().Add(edgeagent.GrantLife / 2),
	})
}

// takes says whether there is an engine that takes sessions in: one is opened and
// closed. Any refusal but for want of an engine is another matter.
func (n *Node) takes(ctx context.Context) (bool, error) {
	s := n.name()
	token, err := n.grant(s, sfu.CallID{ID: n.mint.Next(time.Now())})
	if err != nil {
		return false, err
	}
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err = n.client.Open(asked, nodeID, edgeagent.OpenRequest{Token: token}); err != nil {
		return edgeagent.CodeOf(err) != edgeagent.CodeUnavailable, nil
	}
	return true, n.end(ctx, s)
}

// enter notes a session of a room.
func (n *Node) enter(number int, s sfu.SessionID) sfu.CallID {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.rooms[number]
	if r == nil {
		r = &room{call: sfu.CallID{ID: n.mint.Next(time.Now())}, sessions: make(map[sfu.SessionID]struct{})}
		n.rooms[number] = r
	}
	r.sessions[s] = struct{}{}
	return r.call
}

func (n *Node) forget(s Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.rooms[s.Room]; r != nil {
		delete(r.sessions, s.ID)
	}
}

// Close ends a session; one that has ended already is no error.
func (n *Node) Close(ctx context.Context, s Session) error {
	n.forget(s)
	return n.end(ctx, s.ID)
}

func (n *Node) end(ctx context.Context, s sfu.SessionID) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := n.client.Close(ctx, nodeID, edgeagent.CloseRequest{Session: s, Reason: "bench"})
	if err != nil && edgeagent.CodeOf(err) != edgeagent.CodeNoSession {
		return n.process.because(fmt.Errorf("close session: %w", err))
	}
	return nil
}

// CloseRoom ends all sessions of a room. Who comes into it later is in another
// call.
func (n *Node) CloseRoom(ctx context.Context, number int) error {
	n.mu.Lock()
	r := n.rooms[number]
	delete(n.rooms, number)
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	sessions := make([]sfu.SessionID, 0, len(r.sessions))
	for s := range r.sessions {
		sessions = append(sessions, s)
	}
	return n.config.Shape.Each(ctx, len(sessions), func(ctx context.Context, i int) error { return n.end(ctx, sessions[i]) })
}

// PIDs are the agent and the engine. A restarted engine is another one: then what
// was measured is worth nothing, unless NextEngine was told of it. Where faults are
// to come they are those that live now, without an engine the agent alone.
func (n *Node) PIDs() ([]int, error) {
	now, err := procstat.Tree(n.process.pid())
	if err != nil {
		return nil, n.process.because(fmt.Errorf("node is gone: %w", err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config.Faults {
		if now = slices.DeleteFunc(now, procstat.Ended); len(now) > 1 {
			n.children = now
		}
		return slices.Clone(now), nil
	}
	if !slices.Equal(now, n.children) {
		return nil, fmt.Errorf("node's processes were %v and are %v\n%s", n.children, now, n.process.log.tail())
	}
	return now, nil
}

// CPU is the time of agent and engine, and of the engines before it.
func (n *Node) CPU() (procstat.CPU, error) {
	spent, err := procstat.TreeCPU(n.process.pid())
	return spent, n.process.because(err)
}

// Agent is the process that the bus speaks to.
func (n *Node) Agent() (int, error) {
	if err := n.process.err(); err != nil {
		return 0, err
	}
	return n.process.pid(), nil
}

// Engine is the process that forwards.
func (n *Node) Engine() (int, error) {
	if err := n.process.err(); err != nil {
		return 0, err
	}
	if !n.config.Faults {
		return n.lastEngine(), nil
	}
	pids, err := n.PIDs()
	if err == nil && len(pids) < 2 {
		err = errors.New("node has no engine just now, its agent is starting the next: leave more time between the steps")
	}
	if err != nil {
		return 0, err
	}
	return pids[1], nil
}

// lastEngine is the one that was last seen.
func (n *Node) lastEngine() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.children[1]
}

// NextEngine waits for the agent's next engine, after the last one has ended, until it
// takes sessions in, and takes it for the node's.
func (n *Node) NextEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.process.err(); err != nil {
		return err
	}
	old := n.lastEngine()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		now, err := procstat.Tree(n.process.pid())
		if err != nil {
			return n.process.because(fmt.Errorf("node is gone: %w", err))
		}
		if len(now) > 1 && !slices.Contains(now, old) {
			switch ready, err := n.takes(ctx); {
			case err != nil:
				return err
			case ready:
				n.mu.Lock()
				n.children = now
				n.mu.Unlock()
				return nil
			}
		}
		select {
		case <-look.C:
		case <-n.process.ended:
			return n.process.because(errors.New("wait for the next engine"))
		case <-ctx.Done():
			return fmt.Errorf("agent started no new engine: %w\n%s", ctx.Err(), n.process.log.tail())
		}
	}
}

// Drain has the node take no new calls, and returns when its heartbeat says so.
func (n *Node) Drain(ctx context.Context) error {
	_, err := n.client.Drain(ctx, nodeID, edgeagent.DrainRequest{By: drainedBy, Reason: drainedFor})
	if err == nil {
		err = n.await(ctx, edgeagent.Draining)
	}
	if ended := context.Cause(ctx); err != nil && ended != nil {
		err = ended // what the bus says of it hides that
	}
	if err != nil {
		return n.process.because(fmt.Errorf("drain node: %w", err))
	}
	return nil
}

// Metrics are what it shows of itself.
func (n *Node) Metrics(ctx context.Context) (Metrics, error) {
	m, err := readMetrics(ctx, n.http, "http://"+n.httpAddr(), n.token)
	return m, n.process.because(err)
}

// Done is closed when it has ended.
func (n *Node) Done() <-chan struct{} { return n.process.ended }

// Err is why it ended, with the last of its log; nil while it runs, and after
// Stop.
func (n *Node) Err() error { return n.process.err() }

// Stop ends the node, then the bus.
func (n *Node) Stop() error {
	var err error
	if n.process != nil {
		err = errors.Join(n.process.stop(), n.endEngine())
	}
	if n.conn != nil {
		n.conn.Close()
	}
	n.embedded.Shutdown()
	return err
}

// endEngine kills the engine of an agent that died: it would wait for the next
// agent, and there will be none.
func (n *Node) endEngine() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, pid := range n.children {
		if err := killOurs(pid, n.config.Program); err != nil {
			return fmt.Errorf("end engine: %w", err)
		}
	}
	return nil
}
