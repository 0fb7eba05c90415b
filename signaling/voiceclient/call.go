package voiceclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	// retryMin is the first wait after a voice session that could not be opened;
	// it doubles up to retryMax.
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
	// anewEvery is how long a call waits to be told of another server before it
	// asks for one, and asks again; oftener the gateway does not answer.
	anewEvery = 2 * time.Second
	// anewRelayed is the first such wait where media goes by a relay or by TCP: those end
	// with their node's agent, of which nobody else is told as the node itself lives.
	anewRelayed = 500 * time.Millisecond
	// askPause is the wait of a join that nobody could take just now, from a half to
	// the whole, before it is asked for again.
	askPause = time.Second
	// toldAgain is how long a new gateway session may take to say that the user is in
	// the channel, up to twice that, before it is told again.
	toldAgain = 5 * time.Second
	// lineAgain is how often a place in line is asked for anew: whoever keeps the line
	// may have been replaced.
	lineAgain = 30 * time.Second
	// openPatience is how long a voice session may take to open before another
	// seat is asked for; a join takes less than a second.
	openPatience = 6 * time.Second
	// askedEnough is how often another seat is asked for in vain before the
	// channel is left and entered again.
	askedEnough = 5
	// bothFor is how long two paths are open at most while a call moves; bothMore
	// how long after everybody is on the new one: somebody's session may be open
	// and its media still on the way, and until then it listens on the old one.
	bothFor  = 5 * time.Second
	bothMore = 1500 * time.Millisecond
	// settleEvery is how often it is looked whether the old path is needed.
	settleEvery = 20 * time.Millisecond
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
	// Wait stands in line where every seat is taken, for as long as the context of
	// Join lets it. Without it the join is asked for again and again, and whoever
	// stands in line comes first. OnPlace, when set, is told the place, from 1, and
	// about how long that takes, 0 when nobody knows; it must not block.
	Wait    bool
	OnPlace func(place int, about time.Duration)
	// Unmeasured joins without measuring how far the regions of the server are. It
	// is done beside the gateway's greeting and costs one request, a datagram or three
	// to each region where there are several, and then at most 150 ms of the join.
	Unmeasured bool
	// RTT are round trips in milliseconds that are known beforehand, by region or
	// node; what is measured takes their place.
	RTT map[string]float64

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
	servers  chan voiceServer
	refusals chan voiceError
	kicked   chan struct{}
	fresh    chan struct{}
	cross    *crossing
	settles  sync.WaitGroup

	distances *distances

	// Owned by run.
	paths int // voice sessions so far

	mu sync.Mutex
	// Guarded by mu.
	voice   *Voice
	old     *Voice // the one before, while both are open
	moving  bool   // another session is being opened, or members still come over
	known   map[sfu.UserID]bool
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
	start := time.Now()
	opening, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	runCtx, stop := context.WithCancel(context.Background())
	c.stop = stop
	if !cfg.Unmeasured {
		c.settles.Go(func() { c.measure(runCtx) })
	}
	if err := c.gw.open(opening); err != nil {
		stop()
		c.settles.Wait()
		return nil, fmt.Errorf("join call: %w", err)
	}
	c.stats.Gateway = time.Since(start)
	<-c.fresh // the first session is no news
	c.distances.await(opening)
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
		distances: newDistances(cfg.RTT),
		cross:     newCrossing(), known: make(map[sfu.UserID]bool),
		servers: make(chan voiceServer, 1), refusals: make(chan voiceError, 1), kicked: make(chan struct{}, 1), fresh: make(chan struct{}, 1),
	}
	c.gw = &gateway{
		awaited: func() bool { return c.current() == nil },
		url:     gatewayURL(u), tls: cfg.TLS, token: cfg.Token, out: make(chan wishes, 1), redo: make(chan struct{}, 1),
		onState: c.onState, onServer: c.onServer, onError: c.onError,
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
		c.mu.Lock()
		s.channel = c.channel
		c.mu.Unlock()
		put(c.servers, s)
	}
}

func (c *Call) onError(e voiceError) {
	c.mu.Lock()
	here := e.Channel == c.channel
	c.mu.Unlock()
	if e.Guild == c.cfg.Guild && here {
		put(c.refusals, e)
	}
}

// RefusedError is a join that the server refused for good.
type RefusedError struct{ Code, Message string }

// Error is what the server says.
func (e *RefusedError) Error() string { return "server refuses the join: " + e.Message }

// askAnew asks for another seat in the channel.
func (c *Call) askAnew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.hereLocked()
	w.Anew, w.Holds = true, ""
	c.wishLocked(wishes{list: []wish{w}})
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
	w := wish{Guild: c.cfg.Guild, Channel: &channel, Mute: c.mute, Deaf: c.deaf, Wait: c.cfg.Wait, RTT: c.distances.known()}
	if v := c.voice; v != nil && v.Err() == nil && v.channel == channel {
		w.Holds = v.held
	}
	return w
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
	c.settles.Wait()
	c.mu.Lock()
	open := []*Voice{c.voice, c.old}
	c.mu.Unlock()
	for _, v := range open {
		if v != nil {
			_ = v.Close()
		}
	}
	if !errors.Is(err, errGateway) {
		<-lost
	}
	close(c.done)
}

var errGateway = errors.New("gateway session ended")

// keeping is the state of keep.
type keeping struct {
	results chan dialed
	dialing bool
	cancel  context.CancelFunc
	next    *voiceServer // came while dialing

	grant   *voiceServer // the last one
	granted time.Time
	used    bool // it cannot open a session again
	hurried bool // a join whose session was lost has come anew at once

	again *time.Timer // of a session that could not be opened, or ended
	wait  time.Duration
	asks  int         // for another seat, in vain
	quiet *time.Timer // of a session that reports silence
	ask   *time.Timer // of a join that could not be taken just now, or stands in line
	late  *time.Timer // of a join that neither stands in line nor gets in

	slow     *time.Timer // of a session that does not get open
	patience time.Duration
}

func (c *Call) keep(ctx, join context.Context, lost <-chan error, joined chan<- error) error {
	c.ask()
	k := &keeping{
		results: make(chan dialed, 1), cancel: func() {},
		again: time.NewTimer(time.Hour), quiet: time.NewTimer(time.Hour), slow: time.NewTimer(time.Hour), ask: time.NewTimer(time.Hour),
		late: time.NewTimer(2 * dialTimeout),
		wait: retryMin, patience: openPatience,
	}
	defer k.late.Stop()
	for _, t := range []*time.Timer{k.again, k.quiet, k.slow, k.ask} {
		t.Stop()
		defer t.Stop()
	}
	defer func() {
		k.cancel()
		if k.dialing {
			if r := <-k.results; r.voice != nil {
				_ = r.voice.Close()
			}
		}
	}()
	var connected bool
	var failed error // of the last attempt to open a voice session
	for {
		var ended <-chan struct{}
		var troubled <-chan trouble
		if v := c.current(); v != nil {
			troubled = v.trouble
			if !k.dialing {
				ended = v.Done()
			}
		}
		var left <-chan struct{} // nobody waits for the join any more
		if !connected {
			left = join.Done()
		}
		select {
		case <-ctx.Done():
			return ErrClosed
		case <-left:
			return cmp.Or(failed, fmt.Errorf("no voice server was named: %w", join.Err()))
		case <-k.late.C:
			return cmp.Or(failed, fmt.Errorf("no voice server was named: %w", context.DeadlineExceeded))
		case err := <-lost:
			return errors.Join(errGateway, err)
		case <-c.kicked:
			return ErrKicked
		case <-c.fresh:
			c.mu.Lock()
			c.in = false
			c.mu.Unlock()
			c.ask() // the gateway forgot us: we want to be in the channel still
			k.ask.Reset(toldAgain + rand.N(toldAgain))
		case e := <-c.refusals:
			switch {
			case e.Code == queued:
				failed = &RefusedError{e.Code, e.Message}
				k.late.Stop()
				k.again.Stop() // to leave and come again would be the end of the line
				k.ask.Reset(lineAgain)
				if tell := c.cfg.OnPlace; tell != nil && e.Full != nil {
					tell(e.Full.Place, time.Duration(e.Full.Wait)*time.Second)
				}
			case c.current() != nil || k.dialing:
				// A seat is there; asking for another goes on by its own rules.
			case e.passes():
				failed = &RefusedError{e.Code, e.Message}
				k.ask.Reset(askPause/2 + rand.N(askPause/2))
			case !connected:
				return &RefusedError{e.Code, e.Message}
			}
		case <-k.ask.C:
			c.mu.Lock()
			in, seated := c.in, c.voice != nil
			c.mu.Unlock()
			if seated && in {
				break
			}
			c.ask()
			if seated {
				k.ask.Reset(toldAgain + rand.N(toldAgain))
			}
		case s := <-c.servers:
			k.ask.Stop()
			k.again.Stop()
			k.quiet.Stop()
			switch {
			case s.Endpoint == nil && len(s.Endpoints) == 0:
				// The node is gone; another is on its way.
				k.again.Reset(moveWait)
			case k.dialing:
				k.next = &s
				k.cancel()
			default:
				k.grant, k.granted, k.used, k.asks = &s, time.Now(), false, 0
				c.dial(ctx, k)
			}
		case <-k.slow.C:
			// The node may be one that has just died. Twice as long next time: the
			// fault may be that everything is slow.
			if k.dialing {
				c.askAnew()
				k.patience *= 2
			}
		case r := <-k.results:
			k.dialing = false
			k.cancel()
			k.slow.Stop()
			switch {
			case r.err == nil:
				k.wait, k.used, k.patience = retryMin, true, openPatience
				c.replace(ctx, r.voice, connected)
				if !connected {
					connected = true
					k.late.Stop()
					joined <- nil
				}
			default:
				c.cross.abandon(c.paths)
				c.tellGone(c.current())
				if k.next == nil {
					failed = r.err
					c.cfg.Log.Warn("voice session not opened", "err", r.err)
					k.used = spent(r.err)
					k.retry()
					if !connected && !k.hurried && sessionLost(r.err) {
						k.hurried = true
						c.rejoin()
						k.again.Reset(anewEvery)
					}
				}
			}
			if k.next != nil {
				k.grant, k.granted, k.used, k.asks = k.next, time.Now(), false, 0
				k.next = nil
				c.dial(ctx, k)
			}
		case what := <-troubled:
			switch what {
			case pathMoved:
				// Nothing that was open is of use from another address.
				c.cfg.Log.Info("network is another: asking for another seat")
				put(c.gw.redo, struct{}{})
				c.askAnew()
			case pathStuck:
				c.cfg.Log.Info("no way to the node is left: asking for another seat")
				c.askAnew()
			}
			k.quiet.Reset(c.patience())
		case <-k.quiet.C:
			if v := c.current(); v != nil && v.Quiet() >= lostAfter {
				if !k.dialing {
					c.cfg.Log.Info("nothing comes from the node: asking for another seat", "node", v.ready.Node, "for", v.Quiet())
					c.askAnew()
				}
				k.quiet.Reset(anewEvery + rand.N(anewEvery/2))
			}
		case <-ended:
			err := c.current().Err()
			c.cfg.Log.Warn("voice session ended", "err", err)
			if c.fallBack() {
				c.tellGone(c.current())
				k.again.Reset(0)
				break
			}
			var closed *CloseError
			if errors.As(err, &closed) && closed.Code == signaling.CloseDisconnected {
				// Kicked or moved: the gateway says which, by a voice state or
				// another server.
				k.again.Reset(moveWait)
			} else {
				k.again.Reset(rand.N(retryMin))
			}
		case <-k.again.C:
			switch {
			case k.dialing:
			case k.grant != nil && !k.used && time.Since(k.granted) < anewEvery:
				c.dial(ctx, k) // the gateway gives no other so soon
			case k.used && !connected:
				// Nobody misses who was never heard: it need not wait until the gateway
				// gives another grant to one who is in the channel.
				c.rejoin()
				k.again.Reset(max(k.wait, anewEvery))
			default:
				k.used = true
				if k.asks++; k.asks%askedEnough == 0 {
					c.rejoin()
				} else {
					c.askAnew()
				}
				k.again.Reset(anewEvery/2 + rand.N(anewEvery))
			}
		}
	}
}

// spent says whether an attempt to open a session has used up its grant. A grant that
// is not believed may be so in a moment: the key of an allocator that has just begun
// is on its way to the voice gateways.
func spent(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && !closed.Code.Resumable() && closed.Code != signaling.CloseAuthentication
}

// sessionLost says whether a session is gone that had begun to open: the voice gateway
// that had the answer to the offer has died with it.
func sessionLost(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && closed.Code == signaling.CloseSessionInvalid
}

// patience is how long a silent path is left to who may name another server.
func (c *Call) patience() time.Duration {
	if c.current().way() != wayUDP {
		return anewRelayed
	}
	return anewEvery
}

// retry has the voice session opened again, after a while.
func (k *keeping) retry() {
	k.again.Reset(k.wait/2 + rand.N(k.wait/2))
	k.wait = min(2*k.wait, retryMax)
}

// dial opens the session of the last grant.
func (c *Call) dial(ctx context.Context, k *keeping) {
	ctx, k.cancel = context.WithCancel(ctx)
	k.dialing = true
	to := c.endpoint(*k.grant)
	c.mu.Lock()
	if c.stats.Placed == 0 {
		c.stats.Placed = time.Since(c.asked)
	}
	old := c.old
	c.old = nil
	c.moving = true
	current := c.voice
	c.mu.Unlock()
	if old != nil { // a third path: the first one is of no use any more
		c.settles.Go(func() { _ = old.Close() })
	}
	k.slow.Reset(k.patience)
	before := c.paths
	c.paths++
	path := c.paths
	c.cross.begin(path)
	if current == nil {
		c.cross.end(before)
	}
	opts, way := c.options(path), current.way()
	channel := k.grant.channel
	go func() {
		v, err := dialPath(ctx, to, opts, path, way)
		if err == nil {
			v.channel = channel
		}
		k.results <- dialed{v, err}
	}()
}

// options are those of one voice session: of two that are open, each packet is
// heard from one.
func (c *Call) options(path int) Options {
	opts := c.cfg.Options
	if hear := opts.OnAudio; hear != nil {
		opts.OnAudio = func(p Packet) {
			if c.cross.admit(path, p.User, p.Opus, p.Arrived) {
				hear(p)
			}
		}
	}
	opts.OnMember = func(m Member) { c.onMember(path, m) }
	if speaks := opts.OnSpeaking; speaks != nil {
		opts.OnSpeaking = func(s Speaking) {
			c.mu.Lock()
			counts := c.countsLocked(path)
			c.mu.Unlock()
			if counts {
				speaks(s)
			}
		}
	}
	return opts
}

// countsLocked says whether what is said of the others on a path is news: not on
// one that was left.
func (c *Call) countsLocked(path int) bool { return c.voice == nil || path >= c.voice.path }

// onMember passes on who comes. Who goes while the call moves may only be on its
// way; settle tells of those that have not come.
func (c *Call) onMember(path int, m Member) {
	c.mu.Lock()
	if !c.countsLocked(path) || m.Left && c.moving {
		c.mu.Unlock()
		return
	}
	if m.Left {
		delete(c.known, m.User)
	} else {
		c.known[m.User] = true
	}
	c.mu.Unlock()
	if c.cfg.OnMember != nil {
		c.cfg.OnMember(m)
	}
}

// fallBack makes the path that was to be let go the current one again, because
// the current one has ended.
func (c *Call) fallBack() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ended := c.voice
	c.voice, c.old = c.old, nil
	if c.voice == nil {
		return false
	}
	c.cross.abandon(ended.path)
	return true
}

// rejoin leaves the channel and enters it again, which makes the server place
// the user anew.
func (c *Call) rejoin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = false
	again := c.hereLocked()
	again.Holds = ""
	c.wishLocked(wishes{list: []wish{{Guild: c.cfg.Guild}, again}})
}

// replace makes v the session of the call. The one before it stays open until
// everybody has come over, if it still carries anything.
func (c *Call) replace(ctx context.Context, v *Voice, moved bool) {
	c.mu.Lock()
	before := c.voice
	c.voice, c.old = v, before
	if moved {
		c.stats.Moves++
	} else {
		c.stats.Connected = time.Since(c.asked)
	}
	c.mu.Unlock()
	if before != nil {
		before.mu.Lock()
		muted := slices.Collect(maps.Keys(before.muted))
		before.mu.Unlock()
		for _, user := range muted {
			v.MuteUser(user, true)
		}
	}
	c.settles.Go(func() { c.settle(ctx, before, v) })
}

// settle lets go of the session before v, if there is one, when it is not needed
// any more: each of its members is on the new path and who is audible is heard
// there. Then it tells who has not come over.
func (c *Call) settle(ctx context.Context, before, v *Voice) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	start, over := time.Now(), time.Time{} // since when all are over
	open := before != nil
	if open && before.Quiet() >= reportFrom {
		c.letGo(before)
		open = false
	}
	for {
		c.mu.Lock()
		known := slices.Collect(maps.Keys(c.known))
		newest := c.voice == v
		c.mu.Unlock()
		if !newest {
			// The next settle tells of members; a fallBack has taken before.
			return
		}
		now := time.Now()
		late := now.Sub(start) >= bothFor
		here := len(v.lacks(known)) == 0
		if open {
			known = before.users()
			here = here && len(v.lacks(known)) == 0 && c.cross.settled(now)
		}
		switch {
		case !here:
			over = time.Time{}
		case over.IsZero():
			over = now
		}
		var ended <-chan struct{}
		if open {
			ended = before.Done()
		}
		if late || here && (!open || now.Sub(over) >= bothMore) {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
			c.letGo(before)
			open = false
		case <-tick.C:
		}
	}
	if open {
		c.letGo(before)
	}
	c.tellGone(v)
}

// tellGone ends a move to v, and tells of those who are not there.
func (c *Call) tellGone(v *Voice) {
	c.mu.Lock()
	var gone []sfu.UserID
	if c.voice == v {
		c.moving = false
	}
	if c.voice == v && v != nil {
		gone = v.lacks(slices.Collect(maps.Keys(c.known)))
		for _, user := range gone {
			delete(c.known, user)
		}
	}
	c.mu.Unlock()
	if c.cfg.OnMember == nil {
		return
	}
	slices.SortFunc(gone, func(a, b sfu.UserID) int { return cmp.Compare(a.ID, b.ID) })
	for _, user := range gone {
		c.cfg.OnMember(Member{User: user, Left: true})
	}
}

// letGo ends a session that another has replaced.
func (c *Call) letGo(v *Voice) {
	c.mu.Lock()
	if c.old != v {
		c.mu.Unlock()
		return // it is the current one again, or ends already
	}
	c.old = nil
	c.mu.Unlock()
	c.cross.end(v.path)
	_ = v.Close()
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
	v, old, mute := c.voice, c.old, c.mute
	c.mu.Unlock()
	switch {
	case v == nil:
		return ErrNotConnected
	case mute:
		return nil
	}
	if old != nil { // some may listen there still
		_ = old.WriteOpus(frame, d, level)
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
	c.mu.Lock()
	v, old := c.voice, c.old
	c.mu.Unlock()
	if v != nil {
		v.MuteUser(user, muted)
	}
	if old != nil {
		old.MuteUser(user, muted)
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
