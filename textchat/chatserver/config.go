package chatserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/textchat"
)

// Placer gives users a seat in a call. The allocator's client is one.
type Placer interface {
	Place(context.Context, allocator.PlaceRequest) (allocator.Assignment, error)
	Update(context.Context, allocator.UpdateRequest) error
	Remove(context.Context, allocator.RemoveRequest) error
}

// Presence tells which voice sessions opened, ended and hear nothing. The callback
// must not block. cancel ends the subscription and waits for a running callback.
type Presence interface {
	SubscribePresence(func(edgeagent.CallEvent)) (cancel func(), err error)
}

// Moves tells which calls have another node now, and has one moved whose channel
// has another region. The allocator's client is one.
// The callback must not block. cancel ends the subscription and waits for a running
// callback.
type Moves interface {
	SubscribeMoved(func(allocator.Moved)) (cancel func(), err error)
	Move(context.Context, allocator.MoveRequest) (allocator.MoveReply, error)
}

// Config turns a Server. Only DataDir (or Store and Files) must be set.
type Config struct {
	// DataDir is where the embedded store and attachments lie; it is made when
	// missing. With Store and Files set it is not used, and they stay the caller's to
	// close.
	DataDir string
	// patience is how long the embedded store waits for the disk; zero: its default.
	patience time.Duration
	// toldNow is the clock of what is in Told; nil: time.Now.
	toldNow func() time.Time
	Store   textchat.Store
	// Files keeps attachments; nil: the folder attachments in DataDir.
	Files Files

	// Placer and Presence lead to the voice side. Without a Placer joining a voice
	// channel fails with VOICE_ERROR; without Presence a voice state ends only
	// with its gateway session; without Moves nobody is told that a call has
	// another node.
	Placer   Placer
	Presence Presence
	Moves    Moves

	// Bus, when set, joins this server to others on the same store; Instance is its
	// name among them. The store must then be one that several may use.
	Bus      *bus.Conn
	Instance string
	// Told is a folder for what the sessions of a server that is alone were told of late:
	// with it they go on after the server was killed, and each thing that they missed comes
	// once (see alone.go). It costs two small writes that wait for no disk for each thing
	// told, and 10 MiB or so; 256 MiB at most. Empty: they end with the server. With Bus
	// it is not used.
	Told string

	// Page is the built web client, index.html at its root; nil serves none.
	Page fs.FS
	// PublicURL is how clients reach this server (scheme and host:port), for
	// GET /gateway and READY. Empty: as each request says itself.
	PublicURL string
	// AdminToken opens /api/admin; empty closes it.
	AdminToken string
	// TrustedProxies may name the client's address in X-Forwarded-For and the
	// scheme in X-Forwarded-Proto.
	TrustedProxies []netip.Prefix
	// Regions is asked for the list of GET /voice/regions. Nil, or a list without
	// entries: one, "automatic".
	Regions func(context.Context) ([]allocator.Region, error)
	// Locate finds where on the earth an address is, nil if that is not known. It is
	// asked when a client enters voice.
	Locate func(netip.Addr) *edgeagent.Location
	// Worker is this process's number in minted ids, 0..1023; no two running
	// processes may share one.
	Worker uint16
	// Large is how many members a guild may have of which everybody is told everything
	// (default textchat.LargeGuild): of larger ones a client that can do so is told what
	// it looks at.
	Large int
	// WithheldIntents are privileged intents that bots may not ask for (default:
	// they may ask for all): those that do are closed with CloseDisallowedIntents.
	WithheldIntents textchat.Intents
	// Limits are the rates for strangers.
	Limits Limits

	// Metrics takes the collectors; nil keeps them private. Log takes what an
	// operator must know; nil discards it.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Limits are the rates at which strangers may try. Each counts per address (IPv4)
// or /64 (IPv6), so everybody behind one router shares it.
type Limits struct {
	// Guests and Registers are new accounts a minute (default 60 and 10).
	Guests    int
	Registers int
	// Logins are password tries a minute (default 20), per account name 10 from
	// anywhere; owner codes count here too.
	Logins int
	// Invites are looked-up invites a minute (default 60).
	Invites int
	// Connections are gateway connections open at once (default 1,024, some 2 KiB each
	// over plain TCP), Attempts new ones a minute (default 3,000: everybody behind one
	// router comes back at once).
	Connections int
	Attempts    int
	// Strangers are connections of all addresses that did not identify yet (default
	// 65,536).
	Strangers int
	// Identifying are sessions that begin, or come from another instance, at once
	// (default 64); as many again may wait. Those beyond are told when to come back, and
	// the store is not asked for them.
	Identifying int
	// Starts are sessions that one bot may begin in a day on one instance (default
	// 1,000).
	Starts int
	// Streams are gateway connections with a compressor of their own (default 64,
	// some 650 KiB each); streams beyond compress less.
	Streams int
	// Requests are REST requests a second of one user or address (default 50).
	Requests int
	// Messages are those one user may send, and edit, in one channel in 5 s
	// (default 10).
	Messages int
	// File is the largest attachment in MiB (default 25); Files are the MiB one user
	// may attach in an hour (default 1,024).
	File  int
	Files int
	// Hashers are passwords hashed at once (default 2, each 19 MiB and ~30 ms of
	// one core); HashQueue is how many more may wait (default 32).
	Hashers   int
	HashQueue int
}

func orDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// validate checks the config and fills in what is zero.
func (c *Config) validate() error {
	if c.DataDir == "" && (c.Store == nil || c.Files == nil) {
		return errors.New("DataDir must be set")
	}
	if c.Bus != nil && (c.Instance == "" || c.Store == nil) {
		return errors.New("with Bus, Instance and Store must be set")
	}
	if c.Worker > 1023 {
		return fmt.Errorf("worker is %d, at most 1023", c.Worker)
	}
	for _, f := range []struct {
		v *int
		d int
	}{
		{&c.Large, textchat.LargeGuild}, {&c.Limits.Guests, 60}, {&c.Limits.Registers, 10}, {&c.Limits.Logins, 20}, {&c.Limits.Invites, 60},
		{&c.Limits.Connections, 1024}, {&c.Limits.Strangers, 65_536}, {&c.Limits.Attempts, 3000}, {&c.Limits.Requests, 50}, {&c.Limits.Messages, 10},
		{&c.Limits.File, 25}, {&c.Limits.Files, 1024}, {&c.Limits.Identifying, 64}, {&c.Limits.Starts, 1000}, {&c.Limits.Streams, 64}, {&c.Limits.Hashers, 2}, {&c.Limits.HashQueue, 32},
	} {
		if *f.v < 0 {
			return errors.New("limits, and Large, must not be negative")
		}
		orDefault(f.v, f.d)
	}
	if c.WithheldIntents&^textchat.IntentsPrivileged != 0 {
		return fmt.Errorf("withheld intents are %d, only those of %d are privileged", c.WithheldIntents, textchat.IntentsPrivileged)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// HTTP time-outs for whoever serves Handler: ReadHeaderTimeout bounds slow
// headers, the handlers bound bodies themselves.
const ReadHeaderTimeout = 10 * time.Second
