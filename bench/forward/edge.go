package forward

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/freeport"
	"voicefleet/bench/internal/procstat"
	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagentserver"
	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// EdgeConfig says how the node under test is started.
type EdgeConfig struct {
	// Program is the voicefleet binary.
	Program string
	// Workers is its flag (default 1).
	Workers int
	// MediaPort is its first UDP port, HTTPPort where it shows its metrics (default:
	// free ones).
	MediaPort, HTTPPort int
	// Log gets what it writes; nil keeps the last of it for errors.
	Log io.Writer
}

// validate fills the zero fields and looks for the program.
func (c *EdgeConfig) validate() error {
	if c.Program == "" {
		c.Program = "bin/voicefleet"
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Workers < 1 || c.Workers > 128 {
		return fmt.Errorf("%d workers, want 1 to 128", c.Workers)
	}
	if _, err := os.Stat(c.Program); err != nil {
		return fmt.Errorf("no program to measure: %w (make build makes it)", err)
	}
	return nil
}

const (
	// readyTimeout is how long the node may take to be ready.
	readyTimeout = 20 * time.Second
	// endTimeout is how long it may take to end after SIGTERM.
	endTimeout = 15 * time.Second
	// askTimeout bounds one request to it.
	askTimeout = 10 * time.Second
	// logKept is how much of its log is kept for an error.
	logKept = 16 << 10
	nodeID  = edgeagent.NodeID("bench")
)

// edge is the node under test with the bus it lives on.
type edge struct {
	// Immutable.
	config   EdgeConfig
	embedded *bus.Embedded
	conn     *bus.Conn
	client   *edgeagentserver.Client
	key      ed25519.PrivateKey
	token    string // for its profiles
	cmd      *exec.Cmd
	log      *kept
	ended    chan struct{} // closed when the process has
	// children are the node's processes, agent first; known once it is ready.
	children []int

	mint snowflake.Mint

	mu sync.Mutex
	// Guarded by mu.
	calls    map[int]sfu.CallID
	sessions map[int][]sfu.SessionID
}

// startEdge starts a bus and a node on it, and returns when the node is ready.
func startEdge(ctx context.Context, config EdgeConfig) (_ *edge, err error) {
	e := &edge{
		config: config, ended: make(chan struct{}), log: &kept{also: config.Log}, token: rand.Text(),
		calls: make(map[int]sfu.CallID), sessions: make(map[int][]sfu.SessionID),
	}
	port, err := freeport.TCP()
	if err == nil && e.config.MediaPort == 0 {
		e.config.MediaPort, err = freeport.UDP(e.config.Workers)
	}
	if err == nil && e.config.HTTPPort == 0 {
		e.config.HTTPPort, err = freeport.TCP()
	}
	if err != nil {
		return nil, err
	}
	if e.embedded, err = bus.StartEmbedded(bus.EmbeddedConfig{Port: port}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	if e.conn, err = bus.Connect(ctx, bus.Config{Embedded: e.embedded, Name: "voicebench"}); err != nil {
		return nil, err
	}
	if err := e.publishKey(ctx); err != nil {
		return nil, err
	}
	e.client = edgeagentserver.NewClient(e.conn)
	if err := e.spawn(); err != nil {
		return nil, err
	}
	if err := e.await(ctx); err != nil {
		return nil, fmt.Errorf("start node: %w\n%s", err, e.log.text())
	}
	return e, nil
}

// publishKey makes our grants good: the harness is the allocator of this fleet.
func (e *edge) publishKey(ctx context.Context) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make grant key: %w", err)
	}
	e.key = private
	keys, err := bus.OpenBucket[ed25519.PublicKey](ctx, e.conn, bus.KeysBucket)
	if err != nil {
		return err
	}
	_, err = keys.Put(ctx, edgeagent.KeyID(public), public)
	return err
}

func (e *edge) httpAddr() string {
	return net.JoinHostPort(loopback.String(), strconv.Itoa(e.config.HTTPPort))
}

// spawn starts the process.
func (e *edge) spawn() error {
	e.cmd = exec.Command(e.config.Program, "edge",
		"--bus", e.embedded.URL(),
		"--node", string(nodeID),
		"--advertise", loopback.String(),
		"--workers", strconv.Itoa(e.config.Workers),
		"--media-port", strconv.Itoa(e.config.MediaPort),
		"--http", e.httpAddr(),
		"--log-level", "warn")
	// Profiles need a token; on the command line any user of the machine saw it.
	e.cmd.Env = append(os.Environ(), "VOICEFLEET_ADMIN_TOKEN="+e.token)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	// The signal comes when the thread ends that started the process, so that one
	// must stay.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() { // ends with the process; stop waits for it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(e.ended)
		err := e.cmd.Start()
		started <- err
		if err == nil {
			_ = e.cmd.Wait() // how it ended is told by whoever misses it
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	return nil
}

// await follows the heartbeats until the node takes calls.
func (e *edge) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("no heartbeat says ready within %v", readyTimeout))
	defer cancel()
	nodes, err := bus.OpenBucket[edgeagent.Heartbeat](ctx, e.conn, bus.NodesBucket)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var once sync.Once
		nodes.Watch(watching, func(ch bus.Change[edgeagent.Heartbeat]) {
			if ch.Key == string(nodeID) && ch.Value.State == edgeagent.Ready {
				once.Do(func() { close(ready) })
			}
		})
	}()
	defer func() { stop(); <-watched }()
	select {
	case <-ready:
	case <-e.ended:
		return errors.New("it ended at once")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.children, err = procstat.Tree(e.cmd.Process.Pid)
	if err == nil && len(e.children) < 2 {
		err = errors.New("it has no engine process")
	}
	return err
}

// join opens a session and negotiates it, as the voice gateway does.
func (e *edge) join(ctx context.Context, room int, _ Case, _ int, offer string) (string, error) {
	call := e.call(room)
	session := sfu.SessionID("b" + e.mint.Next(time.Now()).String())
	token, err := edgeagent.SignGrant(e.key, edgeagent.Grant{
		ID: session, Node: nodeID, Guild: "1", Call: call, Epoch: 1,
		User: sfu.UserID{ID: e.mint.Next(time.Now())}, Session: "bench",
		Rights: sfu.Rights{Speak: true}, Expires: time.Now().Add(edgeagent.GrantLife / 2),
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := e.client.Open(ctx, nodeID, edgeagent.OpenRequest{Token: token}); err != nil {
		return "", fmt.Errorf("open session: %w", err)
	}
	e.mu.Lock()
	e.sessions[room] = append(e.sessions[room], session)
	e.mu.Unlock()
	reply, err := e.client.Negotiate(ctx, nodeID, edgeagent.NegotiateRequest{Session: session, Offer: offer})
	if err != nil {
		return "", fmt.Errorf("negotiate: %w", err)
	}
	return reply.Answer, nil
}

func (e *edge) call(room int) sfu.CallID {
	e.mu.Lock()
	defer e.mu.Unlock()
	call, ok := e.calls[room]
	if !ok {
		call = sfu.CallID{ID: e.mint.Next(time.Now())}
		e.calls[room] = call
	}
	return call
}

func (e *edge) leave(ctx context.Context, room int) error {
	e.mu.Lock()
	sessions := e.sessions[room]
	delete(e.sessions, room)
	delete(e.calls, room)
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 3*askTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joinAtOnce)
	for _, s := range sessions {
		group.Go(func() error {
			if err := e.client.Close(ctx, nodeID, edgeagent.CloseRequest{Session: s, Reason: "bench"}); err != nil && edgeagent.CodeOf(err) != edgeagent.CodeNoSession {
				return fmt.Errorf("close session: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// pids are the agent and the engine. A restarted engine would be another one:
// then the run is worth nothing.
func (e *edge) pids() ([]int, error) {
	now, err := procstat.Tree(e.cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("node is gone: %w\n%s", err, e.log.text())
	}
	if !slices.Equal(now, e.children) {
		return nil, fmt.Errorf("node's processes were %v and are %v\n%s", e.children, now, e.log.text())
	}
	return now, nil
}

// stop ends the node, then the bus.
func (e *edge) stop() error {
	var err error
	if e.cmd != nil {
		if e.cmd.Process != nil {
			_ = e.cmd.Process.Signal(syscall.SIGTERM)
		}
		select {
		case <-e.ended:
		case <-time.After(endTimeout):
			_ = e.cmd.Process.Kill()
			<-e.ended
			err = fmt.Errorf("node did not end within %v of SIGTERM", endTimeout)
		}
	}
	if e.conn != nil {
		e.conn.Close()
	}
	e.embedded.Shutdown()
	return err
}

// kept keeps the last of a log, and counts the goroutines of stack dumps in it.
type kept struct {
	also io.Writer

	mu sync.Mutex
	// Guarded by mu.
	buf        []byte
	line       []byte // not ended yet, at most lineKept of it
	goroutines int
	written    time.Time
}

// lineKept is how much of a line is looked at.
const lineKept = 256

// dumped is the head of a goroutine in a stack dump of the Go runtime.
var dumped = regexp.MustCompile(`^goroutine [0-9]+ .*\[.*\]:$`)

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written = time.Now()
	k.buf = append(k.buf, b...)
	if over := len(k.buf) - logKept; over > 0 {
		k.buf = append(k.buf[:0], k.buf[over:]...)
	}
	for _, c := range b {
		switch {
		case c == '\n':
			if dumped.Match(k.line) {
				k.goroutines++
			}
			k.line = k.line[:0]
		case len(k.line) < lineKept:
			k.line = append(k.line, c)
		}
	}
	if k.also != nil {
		_, _ = k.also.Write(b)
	}
	return len(b), nil
}

func (k *kept) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(bytes.TrimSpace(k.buf))
}

// count is the goroutines seen since the last reset, and since when the log has
// been quiet.
func (k *kept) count() (goroutines int, quiet time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.goroutines, time.Since(k.written)
}

func (k *kept) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.goroutines, k.buf = 0, nil
}
