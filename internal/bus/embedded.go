package bus

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// EmbeddedConfig says what the NATS server of this process is like.
type EmbeddedConfig struct {
	// StoreDir keeps the file buckets. Empty: a temporary folder that ends with
	// the server.
	StoreDir string
	// Port to listen on for other processes; 0 or less: none, connections are
	// made within the process only.
	Port int
	// Host to listen on (default 127.0.0.1).
	Host string
	// Token that every connection must give, in-process ones excepted from
	// saying it themselves. Empty: whoever reaches Port is trusted.
	Token string
	// MaxMemory and MaxStore bound the memory and file buckets, in bytes
	// (default 256 MiB and 1 GiB).
	MaxMemory, MaxStore int64
	// Name of the server, unique in its cluster (default voicefleet).
	Name string
	// ClusterListen is the HOST:PORT at which other servers of the cluster join;
	// empty: it stays alone. Routes are those of the others, HOST:PORT. Replicas
	// want three servers.
	ClusterListen string
	Routes        []string
	// ServerConfig is a configuration as nats-server reads it from its file. With
	// it nothing above counts but Token, which is not looked at.
	ServerConfig string
	// Log gets the server's warnings and errors; its notices become debug lines.
	Log *slog.Logger
}

// startTimeout bounds how long the server may take to be ready.
const startTimeout = 10 * time.Second

// Embedded is a NATS server with JetStream in this process.
type Embedded struct {
	// Immutable.
	token string
	tls   bool                          // it speaks TLS only
	temp  string                        // removed on Shutdown
	srv   atomic.Pointer[server.Server] // tests put another in its place
}

// StartEmbedded starts the server and returns when it takes connections.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	e := &Embedded{token: cfg.Token}
	if cfg.StoreDir == "" && cfg.ServerConfig == "" {
		dir, err := os.MkdirTemp("", "voicefleet-bus-")
		if err != nil {
			return nil, fmt.Errorf("start bus: %w", err)
		}
		e.temp, cfg.StoreDir = dir, dir
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = 256 << 20
	}
	if cfg.MaxStore == 0 {
		cfg.MaxStore = 1 << 30
	}
	if cfg.Port > 0 && cfg.ServerConfig == "" {
		// The server gives up on a taken port only after a long while, and says
		// it in its log alone.
		l, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)))
		if err != nil {
			e.removeTemp()
			return nil, fmt.Errorf("start bus: %w", err)
		}
		_ = l.Close()
	}
	opts, err := cfg.options()
	if err != nil {
		e.removeTemp()
		return nil, fmt.Errorf("start bus: %w", err)
	}
	e.tls = opts.TLSConfig != nil
	electQuickly()
	srv, err := server.NewServer(opts)
	if err != nil {
		e.removeTemp()
		return nil, fmt.Errorf("start bus: %w", err)
	}
	e.srv.Store(srv)
	if cfg.ServerConfig == "" {
		if err := tellDisconnects(srv); err != nil {
			e.removeTemp()
			return nil, fmt.Errorf("start bus: %w", err)
		}
	}
	if cfg.Log != nil {
		srv.SetLoggerV2(serverLog{cfg.Log.With("part", "nats")}, false, false, false)
	}
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		e.Shutdown()
		return nil, fmt.Errorf("start bus: not ready after %v", startTimeout)
	}
	return e, nil
}

// options are those of the server.
func (cfg *EmbeddedConfig) options() (*server.Options, error) {
	if cfg.ServerConfig != "" {
		opts := &server.Options{NoLog: true, NoSigs: true}
		if err := opts.ProcessConfigString(cfg.ServerConfig); err != nil {
			return nil, err
		}
		return opts, nil
	}
	opts := &server.Options{
		ServerName: cfg.Name,
		Host:       cfg.Host,
		Port:       cfg.Port,
		DontListen: cfg.Port <= 0,
		// Not Authorization: with Accounts given, the server asks nobody for it.
		CustomClientAuthentication: doorman{cfg.Token},
		Accounts:                   []*server.Account{server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)},
		SystemAccount:              server.DEFAULT_SYSTEM_ACCOUNT,
		NoLog:                      true,
		NoSigs:                     true,
		JetStream:                  true,
		StoreDir:                   cfg.StoreDir,
		JetStreamMaxMemory:         cfg.MaxMemory,
		JetStreamMaxStore:          cfg.MaxStore,
	}
	if opts.ServerName == "" {
		opts.ServerName = "voicefleet"
	}
	if cfg.ClusterListen != "" {
		host, port, err := net.SplitHostPort(cfg.ClusterListen)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		// One connection between two servers, not a pool: when all three start at
		// once, nats-server 2.15 now and then brings up a part of a pool only, and
		// then loses everything between two servers for 25 s and more.
		opts.Cluster = server.ClusterOpts{Name: "voicefleet", Host: host, Port: n, PoolSize: -1}
		if cfg.Token != "" {
			opts.Cluster.Username, opts.Cluster.Password = "server", cfg.Token
		}
		for _, r := range cfg.Routes {
			u := &url.URL{Scheme: "nats", Host: r}
			if cfg.Token != "" {
				u.User = url.UserPassword("server", cfg.Token)
			}
			opts.Routes = append(opts.Routes, u)
		}
	}
	return opts, nil
}

// doorman lets in who gives the token; without one, everybody.
type doorman struct{ token string }

// Check serves [server.Authentication].
func (d doorman) Check(c server.ClientAuthentication) bool {
	return d.token == "" || subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(d.token)) == 1
}

// tellDisconnects lets our account hear of closed connections.
func tellDisconnects(srv *server.Server) error {
	// Before the server starts: subscriptions hear only of imports that they find.
	ours := srv.GlobalAccount()
	system, err := srv.LookupAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	if err != nil {
		return err
	}
	if err := system.AddStreamExport("$SYS.ACCOUNT.*.DISCONNECT", nil); err != nil {
		return err
	}
	return ours.AddMappedStreamImport(system, "$SYS.ACCOUNT."+ours.GetName()+".DISCONNECT", DisconnectSubject)
}

// URL is where other processes connect to; empty without a Port.
func (e *Embedded) URL() string {
	addr := e.srv.Load().Addr()
	if addr == nil {
		return ""
	}
	if e.tls {
		return "tls://" + addr.String()
	}
	return "nats://" + addr.String()
}

// InProcessConn makes a connection without a socket; nats.go calls it.
func (e *Embedded) InProcessConn() (net.Conn, error) {
	srv := e.srv.Load()
	if srv == nil {
		return nil, errors.New("bus is away")
	}
	return srv.InProcessConn()
}

// Shutdown ends the server and returns when it has.
func (e *Embedded) Shutdown() {
	srv := e.srv.Load()
	srv.Shutdown()
	srv.WaitForShutdown()
	e.removeTemp()
}

func (e *Embedded) removeTemp() {
	if e.temp != "" {
		_ = os.RemoveAll(e.temp)
	}
}

// serverLog passes the server's lines on.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Tracef(string, ...any)           {}
