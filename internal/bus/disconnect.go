package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// Roles, as the first word of the name that a program connects with. The second
// is what distinguishes it from others of its role: an edge gives its node id.
// The name of a program with credentials is the one they were issued for,
// whatever it says itself.
const (
	RoleEdge    = "edge"
	RoleCentral = "central"
	RoleText    = "text"
)

// ClientName is the name to connect with (Config.Name).
func ClientName(role, id string) string { return role + " " + id }

// TextOf is the text instance that a client's name tells of.
func TextOf(name string) (instance string, ok bool) {
	role, instance, ok := strings.Cut(name, " ")
	return instance, ok && role == RoleText && instance != ""
}

// NodeOf is the node id in the name of an edge's connection; false: the name of
// another role.
func NodeOf(name string) (node string, ok bool) {
	role, node, ok := strings.Cut(name, " ")
	return node, ok && role == RoleEdge && node != ""
}

// probeName is the name of the short connection with which Disconnects finds out
// whether the servers tell of such things.
const probeName = "disconnect-probe"

// probeWait is how long the end of that connection may take to be told.
const probeWait = 3 * time.Second

// disconnected is what a server says in its system account; of it only what is
// used here.
type disconnected struct {
	Client struct {
		Name string     `json:"name"`
		JWT  string     `json:"jwt"`
		Stop *time.Time `json:"stop"`
	} `json:"client"`
	Reason string `json:"reason"`
}

// shutdownReason is why connections end whose server is going: nobody behind
// them is in trouble, they are at another server within milliseconds.
const shutdownReason = "Server Shutdown"

// ended is the name of who was disconnected, and when by the server's clock.
func (d disconnected) ended() (name string, at time.Time, ok bool) {
	name = d.Client.Name
	if d.Client.JWT != "" { // the server has verified it
		claims, err := jwt.DecodeUserClaims(d.Client.JWT)
		if err != nil {
			return "", time.Time{}, false
		}
		name = claims.Name
	}
	if name == "" || d.Client.Stop == nil || d.Reason == shutdownReason {
		return "", time.Time{}, false
	}
	return name, *d.Client.Stop, true
}

// Disconnects calls fn with the name of every client whose connection to the bus
// has closed, until ctx ends: within milliseconds of the death of its process,
// for the kernel closes its sockets. It is a reason to look, not more: the same
// is told of a client that says good-bye, one that was cut off and is back
// already, or one that was slow. A server that shuts down or dies tells nothing
// of its clients. Servers tell it where DisconnectSubject is imported from their
// system account, as the embedded one does and deploy/fleet.md has it for others; where
// it is not, nothing is told, and the log says so once.
func Disconnects(ctx context.Context, c *Conn, fn func(name string, at time.Time)) error {
	var told atomic.Bool
	probed := make(chan struct{}, 1)
	sub, err := Subscribe(ctx, c, DisconnectSubject, func(_ string, d disconnected) {
		name, at, ok := d.ended()
		switch {
		case d.Client.Name == probeName:
			told.Store(true)
			select {
			case probed <- struct{}{}:
			default:
			}
		case ok:
			told.Store(true)
			fn(name, at)
		}
	})
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := c.probe(); err != nil {
		c.log.Log(slog.LevelDebug, "probe", "cannot tell whether the bus tells of disconnects", "err", err)
		<-ctx.Done()
		return nil
	}
	wait := time.NewTimer(probeWait)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-probed:
	case <-wait.C:
		if !told.Load() {
			c.log.Log(slog.LevelWarn, "disconnects", "the bus does not tell of closed connections: dead nodes are noticed by their missing heartbeats only", "subject", DisconnectSubject)
		}
	}
	<-ctx.Done()
	return nil
}

// probe connects once more and ends that connection.
func (c *Conn) probe() error {
	nc, err := nats.Connect(c.url, append(c.access, nats.Name(probeName), nats.Timeout(probeWait), nats.NoReconnect())...)
	if err != nil {
		return fmt.Errorf("probe bus: %w", err)
	}
	nc.Close()
	return nil
}
