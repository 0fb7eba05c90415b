package cql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"voicefleet/textchat"
)

const (
	// lwtSuffix names the keyspace of lightweight transactions: on ScyllaDB one
	// without tablets.
	lwtSuffix = "_lwt"
	// pageRows is how many rows come at once: history is read by 50 to 100.
	pageRows = 100
	// guildRows is the same when a whole guild is loaded: rows of some 300 bytes.
	guildRows = 1000
	// fanOut is how many queries one operation has under way.
	fanOut = 32
	// longTimeout bounds operations of many queries; each query has its own bound.
	longTimeout = 30 * time.Second
	// speculateNodes is how many nodes there must be for a read or plain write to be
	// asked of a second one when the first is slow. The driver takes it for failed when
	// that second try finds no node left; it may have had two already, by a retry.
	speculateNodes = 3
	// usualReplicas is in how many nodes a row lies where there are as many.
	usualReplicas = 3
	// nodesTime is how long a cluster may take to know the nodes that were named, settleTime
	// how long one that is not of one schema keeps Open trying, and nodesLook how often.
	nodesTime  = 10 * time.Second
	settleTime = 45 * time.Second
	nodesLook  = 250 * time.Millisecond
	// openTimeout bounds Open: 30 changes of the schema, each agreed on.
	openTimeout = 2 * time.Minute
	// casTries bounds how often a lightweight transaction is tried anew when others
	// came first; each round one of them succeeds.
	casTries = 32
	// Remembered buckets: 16 bytes each.
	knownBuckets = 1 << 16
	emptyBuckets = 1 << 18
)

// Store is a keyspace of a cluster.
type Store struct {
	// Immutable.
	session *gocql.Session
	lwt     string // keyspace of lightweight transactions, with its dot
	timeout time.Duration
	second  gocql.SpeculativeExecutionPolicy // when another node is asked, too
	log     *slog.Logger
	metrics *metrics
	once    sync.Once

	// Safe for concurrent use.
	clock   atomic.Int64 // last time stamp given
	gens    generations
	known   *bucketSet // whose row in channel_buckets was written
	empty   *bucketSet // closed and found empty
	breaker breaker
	nodes   *nodes
	lanes   lanes
	flights flights
}

var _ textchat.Store = (*Store)(nil)

// Open connects, and brings the keyspace to the newest schema.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open store %s%s/%s: %w", Scheme, strings.Join(c.Hosts, ","), c.Keyspace, err)
	}
	return s, nil
}

func open(ctx context.Context, c Config) (*Store, error) {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	b, err := prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{
		lwt: c.Keyspace + lwtSuffix + ".", timeout: c.Timeout, log: c.Log, second: gocql.NonSpeculativeExecution{},
		lanes: lanes{busy: make(map[uint64]*lane)},
		// Twice as long as a read waits before it asks another node, too: a short pause, as
		// of a garbage collection, moves nothing.
		nodes: newNodes(c.Timeout / 4),
	}
	s.flights.init()
	if b.nodes >= speculateNodes {
		s.second = &gocql.SimpleSpeculativeExecution{NumAttempts: 1, TimeoutDelay: c.Timeout / 8}
	}
	if s.metrics, err = newMetrics(c.Metrics, s); err != nil {
		return nil, err
	}
	remembered := func(set string, most int) *bucketSet {
		return newBucketSet(most, s.metrics.hits.WithLabelValues(set), s.metrics.misses.WithLabelValues(set))
	}
	s.known, s.empty = remembered("known", knownBuckets), remembered("empty", emptyBuckets)
	cluster := c.cluster()
	cluster.Keyspace = c.Keyspace
	cluster.QueryObserver, cluster.BatchObserver = s.metrics, s.metrics
	near := gocql.DCAwareRoundRobinPolicy(b.dc, gocql.HostPolicyOptionDisableDCFailover)
	if c.Rack != "" {
		near = gocql.RackAwareRoundRobinPolicy(b.dc, c.Rack, gocql.HostPolicyOptionDisableDCFailover)
	}
	cluster.StreamObserver, cluster.FrameHeaderObserver = listener{s.nodes}, listener{s.nodes}
	cluster.PoolConfig.HostSelectionPolicy = choice{gocql.TokenAwareHostPolicy(near, gocql.ShuffleReplicas()), s.nodes, s.metrics.passed}
	if s.session, err = cluster.CreateSession(); err != nil {
		return nil, unreachable(err)
	}
	if err := s.sweep(ctx); err != nil {
		s.session.Close()
		return nil, err
	}
	return s, nil
}

// prepare migrates over a session that is in no keyspace yet. A cluster that has just begun
// may not know all of its nodes: it is waited for until it knows as many as were named. Nor
// may all nodes know at once what one of them was told to make.
func prepare(ctx context.Context, c Config) (b backend, err error) {
	said := ""
	for begun := time.Now(); ; {
		b, err = prepareOver(ctx, c, time.Since(begun) > nodesTime)
		var invalid gocql.RequestError
		unsettled := errors.Is(err, errFewNodes) || errors.As(err, &invalid) && invalid.Code() == gocql.ErrCodeInvalid
		if !unsettled || time.Since(begun) > settleTime {
			return b, err
		}
		if why := err.Error(); why != said {
			said = why
			c.Log.Info("the cluster is waited for", "err", err)
		}
		select {
		case <-ctx.Done():
			return b, err
		case <-time.After(nodesLook):
		}
	}
}

var errFewNodes = errors.New("fewer nodes are known than were named")

// prepareOver does it over one session, of which the driver asks for the nodes once; fewer
// nodes than were named are enough if few is set.
func prepareOver(ctx context.Context, c Config, few bool) (backend, error) {
	setup, err := c.cluster().CreateSession()
	if err != nil {
		return backend{}, unreachable(err)
	}
	defer setup.Close()
	b, err := inspect(ctx, setup, c.DC)
	if err != nil {
		return b, err
	}
	if !few && len(setup.GetHosts()) < len(c.Hosts) {
		return b, errFewNodes
	}
	m := migrator{session: setup, backend: b, keyspace: c.Keyspace}
	if err := m.run(ctx, c.replicas(b.nodes)); err != nil {
		return b, err
	}
	if c.Replicas > 0 || b.nodes < usualReplicas {
		return b, nil // it is meant so, or cannot be otherwise
	}
	has, err := m.replicas(ctx)
	if err != nil {
		return b, err
	}
	if has < usualReplicas {
		c.Log.Warn("each row lies on few nodes: what they lose is lost, and while they are away it cannot be read. Give both keyspaces more (ALTER KEYSPACE ... WITH replication) and repair them, "+
			"or say replicas=N in the address that it is meant so", "keyspace", c.Keyspace, "replicas", has, "nodes", b.nodes)
	}
	return b, nil
}

// replicas is in how many nodes each row is to lie, of so many that are known: those that
// are named are nodes, too, though the one that was asked may not know them yet.
func (c Config) replicas(nodes int) int {
	switch {
	case c.Replicas > 0:
		return c.Replicas
	case max(nodes, len(c.Hosts)) >= usualReplicas:
		return usualReplicas
	}
	return 1
}

// unreachable says in one line why there is no connection, and what to do. The driver
// passes on the words of its errors only.
func unreachable(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	todo := "is a node up there, and do tls, user and dc fit?"
	for _, c := range [...]struct{ says, todo string }{
		{"certificate signed by unknown authority", "ca=FILE names the authority of the nodes' certificates"},
		{"x509: certificate is valid for", "name the node as its certificate does, or give it one for this address"},
		{"x509: cannot validate certificate for", "name the node as its certificate does, or give it one for this address"},
		{"certificate has expired", "the node wants a new certificate, or one of the clocks is wrong"},
		{"tls: certificate required", "the cluster wants a certificate of ours: cert=FILE and key=FILE"},
		{"tls: bad certificate", "the cluster does not take our certificate: cert=FILE and key=FILE name one of its authority"},
		{"tls: unknown certificate authority", "the cluster does not take our certificate: cert=FILE and key=FILE name one of its authority"},
		{"first record does not look like a TLS handshake", "that node does not encrypt: tls=off, or its port for TLS"},
	} {
		if strings.Contains(text, c.says) {
			todo = c.todo
			break
		}
	}
	return fmt.Errorf("%s; %s", text, todo)
}

// cluster is how the driver is set. Its own defaults wait 11 s for an answer, 60 s
// for a lost node, and do not check whose certificate it is.
func (c Config) cluster() *gocql.ClusterConfig {
	var hosts []string
	port := 9042
	for _, h := range c.Hosts {
		hosts = append(hosts, h)
		if _, p, err := net.SplitHostPort(h); err == nil {
			_, _ = fmt.Sscan(p, &port) // of nodes that are found through these
		}
	}
	cluster := gocql.NewCluster(hosts...)
	cluster.Port = port
	cluster.Consistency = gocql.LocalQuorum
	cluster.SerialConsistency = gocql.LocalSerial
	cluster.Timeout = c.Timeout
	cluster.ReadTimeout = c.Timeout
	cluster.WriteTimeout = c.Timeout
	cluster.ConnectTimeout = max(2*time.Second, c.Timeout)
	cluster.ReconnectInterval = time.Second
	cluster.ReconnectionPolicy = &gocql.ExponentialReconnectionPolicy{MaxRetries: 10, InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second}
	cluster.MaxWaitSchemaAgreement = ddlTimeout
	cluster.MetadataSchemaRequestTimeout = ddlTimeout
	// The driver would hold what it writes for 0.2 ms, for more to go with it; of a
	// process that has nothing else to do, the runtime's timers make 1 ms of that.
	cluster.WriteCoalesceWaitTime = 0
	cluster.PageSize = pageRows
	cluster.RetryPolicy = &gocql.SimpleRetryPolicy{NumRetries: 1} // what is not idempotent is not retried
	cluster.DefaultTimestamp = false                              // ours only grow
	cluster.Logger = driverLog{c.Log}
	if c.User != "" {
		cluster.Authenticator = gocql.PasswordAuthenticator{Username: c.User, Password: c.Password}
	}
	if c.TLS {
		cluster.SslOpts = &gocql.SslOptions{
			Config: &tls.Config{MinVersion: tls.VersionTLS12}, CaPath: c.CA, CertPath: c.Cert, KeyPath: c.Key, EnableHostVerification: true,
		}
	}
	return cluster
}

// driverLog passes on what the driver says about lost nodes and the like.
type driverLog struct{ log *slog.Logger }

func (d driverLog) Print(v ...any)                 { d.log.Debug(fmt.Sprint(v...)) }
func (d driverLog) Printf(format string, v ...any) { d.log.Debug(fmt.Sprintf(format, v...)) }
func (d driverLog) Println(v ...any)               { d.log.Debug(fmt.Sprint(v...)) }

// Close waits for reads under way and disconnects.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.flights.tasks.Wait()
		s.session.Close()
	})
	return nil
}

// stamp is a time stamp for a write, in microseconds as CQL counts: now, and
// later than all before. n is how many are taken at once; the first is returned.
func (s *Store) stamp(n int) int64 {
	for {
		last := s.clock.Load()
		t := max(time.Now().UnixMicro(), last+1)
		if s.clock.CompareAndSwap(last, t+int64(n)-1) {
			return t
		}
	}
}

// query is a read, or what else may be asked of two nodes.
func (s *Store) query(ctx context.Context, stmt string, args ...any) *gocql.Query {
	return s.session.Query(stmt, args...).WithContext(ctx).Idempotent(true).SetSpeculativeExecutionPolicy(s.second)
}

// write is a plain write; by its time stamp it may be done twice, and by two nodes.
func (s *Store) write(ctx context.Context, stmt string, args ...any) error {
	return s.query(ctx, stmt, args...).WithTimestamp(s.stamp(1)).Exec()
}

// batch is for plain writes of one partition. Each entry must be marked as idempotent.
func (s *Store) batch(ctx context.Context) *gocql.Batch {
	return s.session.BatchWithContext(ctx, gocql.UnloggedBatch).SpeculativeExecutionPolicy(s.second)
}

// cas is a lightweight transaction on a table that is named lwt.NAME. When it was
// not applied, row holds what is there, by column: the two backends order columns
// differently.
func (s *Store) cas(ctx context.Context, stmt string, args ...any) (applied bool, row map[string]any, err error) {
	row = make(map[string]any)
	applied, err = s.session.Query(s.inLWT(stmt), args...).WithContext(ctx).MapScanCAS(row)
	return applied, row, err
}

// settledRead reads a row of a lightweight transaction; it sees those that were
// decided.
func (s *Store) settledRead(ctx context.Context, stmt string, args ...any) *gocql.Query {
	return s.query(ctx, s.inLWT(stmt), args...).Consistency(gocql.LocalSerial)
}

func (s *Store) inLWT(stmt string) string { return strings.Replace(stmt, " lwt.", " "+s.lwt, 1) }

// do runs one operation: through the lane of key, if it is not zero, past the
// breaker, within the time.
func (s *Store) do(ctx context.Context, verb string, key textchat.ID, f func(context.Context) error) error {
	return s.doFor(ctx, s.timeout, verb, key, f)
}

func (s *Store) doFor(ctx context.Context, timeout time.Duration, verb string, key textchat.ID, f func(context.Context) error) error {
	inner, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if key != 0 {
		if err := s.lanes.enter(inner, uint64(key)); err != nil {
			s.metrics.refused.WithLabelValues("lane").Inc()
			if ctx.Err() == nil {
				err = textchat.ErrBusy
			}
			return fmt.Errorf("%s: %w", verb, err)
		}
		defer s.lanes.leave(uint64(key))
	}
	begun := time.Now()
	if !s.breaker.allow(begun) {
		s.metrics.refused.WithLabelValues("breaker").Inc()
		return fmt.Errorf("%s: %w", verb, textchat.ErrBusy)
	}
	err := f(inner)
	silent := silence(err)
	if silent && ctx.Err() != nil {
		s.breaker.pass()
	} else {
		s.breaker.note(begun, time.Now(), silent)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
	case errors.Is(err, gocql.ErrNotFound):
		err = textchat.ErrNoRecord
	case silent:
		s.metrics.refused.WithLabelValues("silent").Inc()
		err = fmt.Errorf("%w: %v", textchat.ErrUnsure, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// silence says whether the cluster failed to do what it was asked, for now.
func silence(err error) bool {
	for _, answer := range []error{nil, gocql.ErrNotFound, textchat.ErrNoRecord, textchat.ErrNameTaken, textchat.ErrUsedUp, textchat.ErrTooMany, textchat.ErrBusy} {
		if errors.Is(err, answer) {
			return false
		}
	}
	var refused interface {
		error
		GetCode() int
	}
	if errors.As(err, &refused) {
		switch refused.GetCode() {
		case gocql.ErrCodeSyntax, gocql.ErrCodeUnauthorized, gocql.ErrCodeInvalid, gocql.ErrCodeConfig, gocql.ErrCodeCredentials:
			return false
		}
		return true
	}
	// The connection broke after it was sent, for whatever reason.
	var sent *gocql.QueryError
	if errors.As(err, &sent) && sent.PotentiallyExecuted() {
		return true
	}
	var network net.Error
	for _, kind := range []error{context.DeadlineExceeded, context.Canceled, gocql.ErrTimeoutNoResponse, gocql.ErrNoConnections, gocql.ErrConnectionClosed,
		gocql.ErrNoStreams, gocql.ErrHostDown, gocql.ErrNoPool, gocql.ErrNoConnectionsInPool, gocql.ErrUnavailable, gocql.ErrSessionClosed, io.EOF} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return errors.As(err, &network)
}

// share runs a read through coalescing; args name what is read, with the first of
// them counted by its generation.
func (s *Store) share(ctx context.Context, verb string, args [4]uint64, read func(context.Context) (any, error)) (any, error) {
	key := flightKey{verb: verb, a: args[0], b: args[1], c: args[2], d: args[3], generation: s.gens.of(args[0]).Load()}
	value, joined, err := s.flights.share(ctx, key, func(depart func()) (value any, err error) {
		// The reader is its own: it ends by the time-out of do.
		err = s.do(context.Background(), verb, textchat.ID(args[0]), func(ctx context.Context) error {
			depart()
			value, err = read(ctx)
			return err
		})
		return value, err
	})
	if joined {
		s.metrics.joined.Inc()
	}
	return value, err
}

// changed ends the sharing of reads begun before a write to key.
func (s *Store) changed(key textchat.ID) { s.gens.of(uint64(key)).Add(1) }

// each runs f for 0 to n-1, some of them at once.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	return eachOf(ctx, fanOut, n, f)
}

// eachOf is each with another bound of how many at once.
func eachOf(ctx context.Context, atOnce, n int, f func(ctx context.Context, i int) error) error {
	if n == 1 {
		return f(ctx, 0)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own plain structs
	}
	return string(b)
}

func decode[T any](data string) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return v, fmt.Errorf("read record: %w", err)
	}
	return v, nil
}
