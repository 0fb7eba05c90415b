package voiceclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

const (
	// moveWait is how long a call that was told to go waits for the gateway to
	// name another server; bots are known to wait for 5 s.
	moveWait = 5 * time.Second
	// retryWait is the first wait after a voice session that could not be
	// opened; it doubles up to retryMax.
	retryWait = 500 * time.Millisecond
	retryMax  = 30 * time.Second
	// leaveWait is how long Close lets the gateway take the good-bye.
	leaveWait = 500 * time.Millisecond
)

// ErrKicked tells that the server took the user out of the channel.
var ErrKicked = errors.New("disconnected from the channel")

// Config of a call. Server, Token, Guild and Channel are required.
type Config struct {
	// Server is the base URL, as https://host:8443. The scheme http is for a
	// server on this machine; its voice is ws then.
	Server string
	// Token of a bot or user, with or without "Bot ".
	Token   string
	Guild   snowflake.ID
	Channel snowflake.ID
	// Mute and Deaf are the user's own, from the beginning.
	Mute, Deaf bool

	Options
}

// Stats of a call: the stages of its join and the traffic of its current voice
// session.
type Stats struct {
	Gateway    time.Duration // dial to READY
	Placed     time.Duration // op 4 to VOICE_SERVER_UPDATE
	Connected  time.Duration // op 4 to connected media
	FirstAudio time.Duration // op 4 to the first packet heard; zero until then
	Moves      int           // voice sessions after the first
	Online     time.Time     // when the gateway last accepted or resumed the session
	Voice      VoiceStats
}

// Call is a user in a voice channel.
type Call struct {
	// Immutable after Join.
	cfg    Config
	server *url.URL
	gw     *gateway
	stop   context.CancelFunc
	done   chan struct{} // closed when all has ended; err is set before
	// What the gateway says, for run: the newest counts.
	servers chan voiceServer
	kicked  chan struct{}
	fresh   chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	voice   *Voice
	channel snowflake.ID
	session string // of the gateway, as the voice state names it
	mute    bool
	deaf    bool
	asked   time.Time // when op 4 was sent first
	stats   Stats
	in      bool // the server has put the user into the channel
	err     error
}

// Join enters a voice channel and returns when media can flow.
func Join(ctx context.Context, cfg Config) (*Call, error) {
	c, err := newCall(cfg)
	if err != nil {
		return nil, fmt.Errorf("join call: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	start := time.Now()
	if err := c.gw.open(ctx); err != nil {
		return nil, fmt.Errorf("join call: %w", err)
	}
	c.stats.Gateway = time.Since(start)
	<-c.fresh // the first session is no news
	runCtx, stop := context.WithCancel(context.Background())
	c.stop = stop
	lost := make(chan error, 1)
	go func() { lost <- c.gw.run(runCtx) }()
	joined := make(chan error, 1)
	go c.run(runCtx, ctx, lost, joined)
	if err := <-joined; err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("join call: %w", err)
	}
	return c, nil
}

func newCall(cfg Config) (*Call, error) {
	if err := cfg.Options.validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Server)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("server %q is no http or https URL", cfg.Server)
	}
	if cfg.Token == "" || cfg.Guild == 0 || cfg.Channel == 0 {
		return nil, errors.New("token, guild and channel are required")
	}
	c := &Call{
		cfg: cfg, server: u, mute: cfg.Mute, deaf: cfg.Deaf,
		channel: cfg.Channel, done: make(chan struct{}),
		servers: make(chan voiceServer, 1), kicked: make(chan struct{}, 1), fresh: make(chan struct{}, 1),
	}
	c.gw = &gateway{
		url: gatewayURL(u), tls: cfg.TLS, token: cfg.Token, out: make(chan wishes, 1),
		onState: c.onState, onServer: c.onServer,
		onFresh: func() { put(c.fresh, struct{}{}) },
		onOpen:  func() { c.note(func(s *Stats) { s.Online = time.Now() }) },
	}
	return c, nil
}

// put leaves v as the newest in a channel that holds one, by its only writer.
func put[T any](ch chan T, v T) {
	select {
	case <-ch:
	default:
	}
	ch <- v
}

func (c *Call) onState(s voiceState) {
	if s.User != c.gw.user || s.Guild != c.cfg.Guild {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.Channel != nil && (!c.in || s.Session == c.session):
		// The channel is another when a moderator moved the user.
		c.channel, c.session, c.in = *s.Channel, s.Session, true
	case c.in: // taken out, or the user joined with another client
		c.in = false
		put(c.kicked, struct{}{})
	}
}

func (c *Call) onServer(s voiceServer) {
	if s.Guild == c.cfg.Guild {
		put(c.servers, s)
	}
}

// ask sends op 4 with what is wanted now.
func (c *Call) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() {
		c.asked = time.Now()
	}
	c.wishLocked(wishes{list: []wish{c.hereLocked()}})
}

func (c *Call) hereLocked() wish {
	channel := c.channel
	return wish{Guild: c.cfg.Guild, Channel: &channel, Mute: c.mute, Deaf: c.deaf}
}

// wishLocked replaces what waits to be sent.
func (c *Call) wishLocked(w wishes) {
	select {
	case <-c.gw.out:
	default:
	}
	select {
	case c.gw.out <- w:
	default: // the gateway has put back what it could not send
	}
}

type dialed struct {
	voice *Voice
	err   error
}

// run keeps the user in the channel until the end.
func (c *Call) run(ctx, join context.Context, lost <-chan error, joined chan<- error) {
	err := c.keep(ctx, join, lost, joined)
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	select {
	case joined <- err: // nobody waits after the first
	default:
	}
	c.stop()
	if v := c.current(); v != nil {
		_ = v.Close()
	}
	if !errors.Is(err, errGateway) {
		<-lost
	}
	close(c.done)
}

var errGateway = errors.New("gateway session ended")

func (c *Call) keep(ctx, join context.Context, lost <-chan error, joined chan<- error) error {
	c.ask()
	var (
		results   = make(chan dialed, 1)
		dialing   bool
		cancel    = func() {}
		next      *voiceServer // came while dialing
		again     = time.NewTimer(time.Hour)
		wait      = retryWait
		connected bool
		failed    error // of the last attempt to open a voice session
		refused   bool  // closed with 4014, and nothing else was said since
	)
	defer again.Stop()
	again.Stop()
	defer func() {
		cancel()
		if dialing {
			if r := <-results; r.voice != nil {
				_ = r.voice.Close()
			}
		}
	}()
	dial := func(s voiceServer) {
		var dialCtx context.Context
		dialCtx, cancel = context.WithCancel(ctx)
		dialing = true
		to := c.endpoint(s)
		c.note(func(s *Stats) {
			if s.Placed == 0 {
				s.Placed = time.Since(c.asked)
			}
		})
		go func() {
			v, err := Dial(dialCtx, to, c.cfg.Options)
			results <- dialed{v, err}
		}()
	}
	for {
		var ended <-chan struct{}
		if v := c.current(); v != nil && !dialing {
			ended = v.Done()
		}
		var late <-chan struct{}
		if !connected {
			late = join.Done()
		}
		select {
		case <-ctx.Done():
			return ErrClosed
		case <-late:
			if failed != nil {
				return failed
			}
			return fmt.Errorf("no voice server was named: %w", join.Err())
		case err := <-lost:
			return errors.Join(errGateway, err)
		case <-c.kicked:
			return ErrKicked
		case <-c.fresh:
			c.mu.Lock()
			c.in = false
			c.mu.Unlock()
			c.ask() // the gateway forgot us: we want to be in the channel still
		case s := <-c.servers:
			refused = false
			again.Stop()
			switch {
			case s.Endpoint == nil && len(s.Endpoints) == 0:
				// The node is gone; another is on its way.
			case dialing:
				next = &s
				cancel()
			default:
				dial(s)
			}
		case r := <-results:
			dialing = false
			cancel()
			switch {
			case r.err == nil:
				wait = retryWait
				c.replace(r.voice, connected)
				if !connected {
					connected = true
					joined <- nil
				}
			case next == nil:
				failed = r.err
				c.cfg.Log.Warn("voice session not opened", "err", r.err)
				again.Reset(wait/2 + rand.N(wait/2))
				wait = min(2*wait, retryMax)
			}
			if next != nil {
				s := *next
				next = nil
				dial(s)
			}
		case <-ended:
			err := c.current().Err()
			c.cfg.Log.Warn("voice session ended", "err", err)
			c.mu.Lock()
			c.voice = nil
			c.mu.Unlock()
			var closed *CloseError
			if errors.As(err, &closed) && closed.Code == signaling.CloseDisconnected {
				// Kicked or moved: the gateway says which, by a voice state or
				// another server.
				refused = true
				again.Reset(moveWait)
			} else {
				again.Reset(backoffMin/2 + rand.N(backoffMin))
			}
		case <-again.C:
			if refused {
				return ErrKicked
			}
			c.rejoin()
		}
	}
}

// rejoin leaves the channel and enters it again, which makes the server place
// the user anew.
func (c *Call) rejoin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = false
	c.wishLocked(wishes{list: []wish{{Guild: c.cfg.Guild}, c.hereLocked()}})
}

// replace makes v the session of the call, then ends the one before it, so that
// no audio is lost in between.
func (c *Call) replace(v *Voice, moved bool) {
	c.mu.Lock()
	before := c.voice
	c.voice = v
	if moved {
		c.stats.Moves++
	} else {
		c.stats.Connected = time.Since(c.asked)
	}
	c.mu.Unlock()
	if before != nil {
		before.mu.Lock()
		muted := make([]sfu.UserID, 0, len(before.muted))
		for user := range before.muted {
			muted = append(muted, user)
		}
		before.mu.Unlock()
		for _, user := range muted {
			v.MuteUser(user, true)
		}
		_ = before.Close()
	}
}

// endpoint is where VOICE_SERVER_UPDATE sends us. Endpoints come as they are
// known in the fleet, an empty host standing for the server's own; a server
// spoken to by http speaks ws on its own address.
func (c *Call) endpoint(s voiceServer) Endpoint {
	c.mu.Lock()
	to := Endpoint{Guild: c.cfg.Guild, User: c.gw.user, Session: c.session, Token: s.Token}
	c.mu.Unlock()
	all := s.Endpoints
	if len(all) == 0 && s.Endpoint != nil {
		all = []string{*s.Endpoint}
	}
	for _, hostport := range all {
		host, port, err := net.SplitHostPort(hostport)
		u := url.URL{Scheme: "wss", Host: hostport}
		if err == nil && host == "" {
			u.Host = net.JoinHostPort(c.server.Hostname(), port)
		}
		if c.server.Scheme == "http" && (host == "" || u.Host == c.server.Host) {
			u.Scheme = "ws"
		}
		if !slices.Contains(to.URLs, u.String()) {
			to.URLs = append(to.URLs, u.String())
		}
	}
	return to
}

func (c *Call) note(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

func (c *Call) current() *Voice {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.voice
}

// ErrNotConnected tells that the call has no voice session just now: it is
// being moved or placed anew.
var ErrNotConnected = errors.New("no voice session just now")

// WriteOpus sends one Opus frame of the given duration. Level is its loudness
// in -dBov: 0 is the loudest, 127 silence. While muted nothing is sent.
func (c *Call) WriteOpus(frame []byte, d time.Duration, level uint8) error {
	c.mu.Lock()
	v, mute := c.voice, c.mute
	c.mu.Unlock()
	switch {
	case v == nil:
		return ErrNotConnected
	case mute:
		return nil
	}
	return v.WriteOpus(frame, d, level)
}

// SetMute mutes or unmutes the user for all.
func (c *Call) SetMute(mute bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = mute
	c.wishLocked(wishes{list: []wish{c.hereLocked()}})
}

// SetDeaf stops or resumes hearing anybody.
func (c *Call) SetDeaf(deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = deaf
	c.wishLocked(wishes{list: []wish{c.hereLocked()}})
}

// MuteUser stops or resumes hearing one user.
func (c *Call) MuteUser(user sfu.UserID, muted bool) {
	if v := c.current(); v != nil {
		v.MuteUser(user, muted)
	}
}

// User is who the token stands for.
func (c *Call) User() sfu.UserID { return c.gw.user }

// Voice is the current voice session; nil while there is none.
func (c *Call) Voice() *Voice { return c.current() }

// Members lists the others in the call.
func (c *Call) Members() []Speaking {
	if v := c.current(); v != nil {
		return v.Members()
	}
	return nil
}

// Stats of the call.
func (c *Call) Stats() Stats {
	c.mu.Lock()
	s, v := c.stats, c.voice
	c.mu.Unlock()
	if v != nil {
		s.Voice = v.Stats()
	}
	if s.FirstAudio == 0 && s.Moves == 0 && s.Voice.FirstAudio != 0 {
		// Dial began when the user was placed.
		s.FirstAudio = s.Placed + s.Voice.FirstAudio
		c.note(func(kept *Stats) { kept.FirstAudio = s.FirstAudio })
	}
	return s
}

// Done is closed when the call is over; Err says why.
func (c *Call) Done() <-chan struct{} { return c.done }

// Err is why the call ended, nil while it goes on.
func (c *Call) Err() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close leaves the channel and waits until everything has ended.
func (c *Call) Close() error {
	c.mu.Lock()
	c.in = false // what follows is no kick
	sent := make(chan struct{})
	c.wishLocked(wishes{list: []wish{{Guild: c.cfg.Guild}}, sent: sent})
	c.mu.Unlock()
	patience := time.NewTimer(leaveWait)
	defer patience.Stop()
	select {
	case <-c.done:
	case <-sent:
	case <-patience.C:
	}
	c.stop()
	<-c.done
	return nil
}
