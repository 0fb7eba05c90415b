package voiceclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/transport/v4"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

const (
	// dialTimeout bounds a join from the first byte to connected media when
	// the context has no deadline.
	dialTimeout = 15 * time.Second
	// attemptTimeout bounds one attempt to resume.
	attemptTimeout = 5 * time.Second
	// dialStagger is how long an endpoint is waited for before the next one is
	// tried as well.
	dialStagger = 300 * time.Millisecond
	// backoffMin and backoffMax bound the waits between attempts, each taken
	// anywhere from zero on: when all servers were gone, a fifth of the clients
	// tries in each second. backoffFirst is that before the first attempt:
	// thousands lose an instance at once.
	backoffFirst = 250 * time.Millisecond
	backoffMin   = 100 * time.Millisecond
	backoffMax   = 5 * time.Second
	// joinMost is backoffMax while somebody waits to be in: within 2 s of the end of an
	// outage, however long it was, they are.
	joinMost = 1500 * time.Millisecond
	// resumeFor is how long a session without its WebSocket is tried to be
	// resumed, since something was heard of its node.
	resumeFor = 60 * time.Second
	// resumeMost is backoffMax of a session whose media go on: nobody waits for its
	// WebSocket, and each that comes back is a request to its node.
	resumeMost = 20 * time.Second
)

// ErrClosed tells that the call was closed by its user.
var ErrClosed = errors.New("call is closed")

// CloseError is a voice WebSocket closed by the server for good.
type CloseError struct{ Code signaling.CloseCode }

// Error is the code with its meaning.
func (e *CloseError) Error() string { return "voice server closed: " + e.Code.String() }

// Options are what a client wants of its calls. The zero value hears nothing
// and offers the default number of slots.
type Options struct {
	// TLS is used for https and wss servers; nil: the system's roots.
	TLS *tls.Config
	// Slots is the number of speakers heard at once (default sfu.DefaultSlots,
	// at most sfu.MaxSlots; each adds some 310 bytes to the offer).
	Slots int
	// OnAudio is given each packet heard. It is called from one goroutine per
	// path and slot, should not block, and must not call Close; Packet.Opus is lent
	// until it returns.
	OnAudio func(Packet)
	// OnSpeaking and OnMember are told what the server says of the others, in
	// order. They must not block. A call that was moved is told all its
	// members again.
	OnSpeaking func(Speaking)
	OnMember   func(Member)
	// Net makes the sockets of the media; nil: the system's. A measurement can
	// look at the datagrams so.
	Net transport.Net
	// Transport makes the media of a voice session, one for each; nil: a
	// PeerConnection of pion/webrtc. With it Slots, OnAudio and Net say nothing,
	// frames are not written here, and VoiceStats counts no packets and knows of
	// no FirstAudio: whoever brings the media hears and speaks by it.
	Transport func() Transport
	Log       *slog.Logger
}

func (o *Options) validate() error {
	if o.Slots == 0 {
		o.Slots = sfu.DefaultSlots
	}
	if o.Slots < 0 || o.Slots > sfu.MaxSlots {
		return fmt.Errorf("slots: %d, not 1 to %d", o.Slots, sfu.MaxSlots)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Packet is one Opus packet heard.
type Packet struct {
	User      sfu.UserID // zero while the server has not said whose SSRC it is
	SSRC      sfu.SSRC   // of the speaker
	Path      int        // the voice sessions of a call, counted: two while it moves
	Slot      int
	Opus      []byte // lent until OnAudio returns
	Seq       uint16 // gapless per path and slot: a gap is loss
	Timestamp uint32 // 48 kHz
	Marker    bool
	Arrived   time.Time
}

// Speaking says that a user begins (flags) or ceases (0) to speak.
type Speaking struct {
	User  sfu.UserID
	SSRC  sfu.SSRC
	Flags signaling.Flags
}

// Member says that a user came or left.
type Member struct {
	User sfu.UserID
	Left bool
}

// Endpoint is a voice session to be opened.
type Endpoint struct {
	// URLs of voice gateways, ws:// or wss://, best first.
	URLs []string
	// Node the grant is for is found in it; these are echoed to prove whose
	// it is.
	Guild   snowflake.ID
	User    sfu.UserID
	Session string // the gateway session
	Token   string // the grant
}

// Voice is one voice session: its WebSocket and its media.
type Voice struct {
	// Immutable after Dial.
	to    Endpoint
	opts  Options
	ready signaling.Ready
	held  string // the session, as the gateway is told that it lives

	channel snowflake.ID // of a Call: where its session is; set before it is the call's
	media   Transport
	pion    *media // the same, unless the options brought another
	path    int    // its number in a call
	known   string // the way of the path before it
	stop    context.CancelFunc
	done    chan struct{} // closed when it has ended; err is set before
	// What watch says: the newest counts.
	reports chan signaling.ReceiveReport
	trouble chan trouble
	quiet   atomic.Int64 // how long nothing has come, in nanoseconds

	// Owned by run.
	ws       *socket
	seq      uint64
	interval time.Duration

	mu sync.Mutex
	// Guarded by mu.
	members map[sfu.UserID]Speaking
	sources map[sfu.SSRC]sfu.UserID
	seats   map[int]signaling.Seat
	muted   map[sfu.UserID]bool
	stats   VoiceStats
	err     error

	wishes chan struct{} // holds one token when the muted users changed
}

// VoiceStats are the durations of a join and the traffic since. A duration is
// zero until its stage is over.
type VoiceStats struct {
	Connect     time.Duration // TCP, TLS and upgrade
	Ready       time.Duration // Identify to Ready
	Description time.Duration // offer to answer
	ICE         time.Duration // answer to a working path
	DTLS        time.Duration // from then to keys
	FirstAudio  time.Duration // Dial to the first packet heard

	Sent, Received, ReceivedBytes uint64
	Resumes                       int
	Node                          string
	SSRC                          sfu.SSRC
	Remote                        netip.AddrPort
	Way                           string // udp, ice-tcp or turn: what carries the media now
}

// Dial opens the session of an endpoint and returns when media can flow. When
// ctx ends before that, so does the attempt.
func Dial(ctx context.Context, to Endpoint, opts Options) (*Voice, error) {
	return dialPath(ctx, to, opts, 1, wayUDP)
}

// dialPath is Dial for the session of a call that has this number.
func dialPath(ctx context.Context, to Endpoint, opts Options, path int, way string) (*Voice, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("dial voice: %w", err)
	}
	if len(to.URLs) == 0 {
		return nil, errors.New("dial voice: no URL")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	v := &Voice{
		to: to, opts: opts, path: path, known: way, done: make(chan struct{}),
		members: make(map[sfu.UserID]Speaking),
		sources: make(map[sfu.SSRC]sfu.UserID),
		seats:   make(map[int]signaling.Seat),
		muted:   make(map[sfu.UserID]bool),
		wishes:  make(chan struct{}, 1),
		reports: make(chan signaling.ReceiveReport, 1),
		trouble: make(chan trouble, 1),
	}
	if err := v.open(ctx); err != nil {
		if v.ws != nil {
			v.ws.close(uint16(signaling.CloseNormal)) // a session that was opened ends
		}
		if v.media != nil {
			v.media.Close()
		}
		return nil, fmt.Errorf("dial voice: %w", err)
	}
	runCtx, stop := context.WithCancel(context.Background())
	v.stop = stop
	go v.run(runCtx)
	return v, nil
}

// open goes through the stages of a join.
func (v *Voice) open(ctx context.Context) error {
	start := time.Now()
	var firstAudio sync.Once
	hear := func(slot int, p *rtp.Packet, at time.Time) {
		firstAudio.Do(func() {
			v.mu.Lock()
			v.stats.FirstAudio = at.Sub(start)
			v.mu.Unlock()
		})
		v.hear(slot, p, at)
	}
	ws, err := v.dialAny(ctx)
	if err != nil {
		return err
	}
	v.ws = ws
	v.note(func(s *VoiceStats) { s.Connect = time.Since(start) })
	identified := time.Now()
	v.identify()
	// Made while the server opens the session.
	if v.opts.Transport != nil {
		v.media = v.opts.Transport()
	} else {
		if v.pion, err = newMedia(v.opts.Slots, v.opts.Net, hear); err != nil {
			return err
		}
		v.media = v.pion
	}
	offer, err := v.media.Offer(ctx)
	if err != nil {
		return err
	}
	if err := v.steadily(ctx, func() error { return v.until(ctx, signaling.OpReady, &v.ready) }); err != nil {
		return err
	}
	if v.pion != nil {
		v.pion.net.detour.offer(v.ready.ICEServers, v.opts.TLS, v.known)
	}
	selected := time.Now()
	v.note(func(s *VoiceStats) {
		s.Ready = selected.Sub(identified)
		s.Node, s.SSRC = v.ready.Node, v.ready.SSRC
		if ip, err := netip.ParseAddr(v.ready.IP); err == nil {
			s.Remote = netip.AddrPortFrom(ip, v.ready.Port)
		}
	})
	var d signaling.Description
	if err := v.steadily(ctx, func() error {
		v.must(signaling.OpSelectProtocol, signaling.Select{Protocol: signaling.ProtocolWebRTC, Offer: offer})
		return v.until(ctx, signaling.OpDescription, &d)
	}); err != nil {
		return err
	}
	described := time.Now()
	v.held = d.MediaSession
	v.note(func(s *VoiceStats) { s.Description = described.Sub(selected) })
	if err := v.connectMedia(ctx, d.SDP); err != nil {
		return err
	}
	if staged, ok := v.media.(Staged); ok {
		ice, dtls := staged.Stages()
		v.note(func(s *VoiceStats) { s.ICE, s.DTLS = ice, dtls })
	}
	return nil
}

// must says something without which the connection is of no use: where it cannot be
// said the connection ends, as it does for whoever reads it.
func (v *Voice) must(op signaling.Op, payload any) {
	if v.say(op, payload) != nil {
		v.ws.close(0)
	}
}

func (v *Voice) identify() {
	v.must(signaling.OpIdentify, signaling.Identify{Server: v.to.Guild, User: v.to.User, Session: v.to.Session, Token: v.to.Token})
}

// steadily does a step of the join, again on another endpoint whenever the one that has
// the session is lost meanwhile.
func (v *Voice) steadily(ctx context.Context, step func() error) error {
	for {
		err := step()
		if err == nil || !v.cut() || ctx.Err() != nil {
			return err
		}
		if err := v.reenter(ctx, err); err != nil {
			return err
		}
	}
}

// cut says whether the connection is lost of which the session may live on.
func (v *Voice) cut() bool {
	select {
	case <-v.ws.done:
		return v.ws.code == 0 || signaling.CloseCode(v.ws.code).Resumable()
	default:
		return false
	}
}

// reenter goes on with a join whose connection was lost. A grant opens its session
// once, so that session is looked for first; where no node has it the grant still
// holds.
func (v *Voice) reenter(ctx context.Context, lost error) error {
	for wait := backoffFirst; ; wait = longer(wait, joinMost) {
		select {
		case <-time.After(pause(wait, lost)):
		case <-ctx.Done():
			return errors.Join(lost, ctx.Err())
		}
		ws, err := v.dialAny(ctx)
		if err != nil {
			lost = err
			continue
		}
		v.ws = ws
		seen := int64(v.seq)
		v.must(signaling.OpResume, signaling.Resume{Server: v.to.Guild, Session: v.to.Session, Token: v.to.Token, SeqAck: &seen})
		err = v.until(ctx, signaling.OpResumed, nil)
		var closed *CloseError
		if errors.As(err, &closed) && closed.Code == signaling.CloseSessionInvalid && v.seq == 0 {
			if v.ws, err = v.dialAny(ctx); err == nil {
				v.identify()
				return nil
			}
			v.ws = ws // ended
		}
		if err == nil || !v.cut() {
			return err
		}
		lost = err
	}
}

// connectMedia gives the answer to the media and listens to the server while
// that connects. Media need no server by then: whoever has lost it resumes later.
func (v *Voice) connectMedia(ctx context.Context, answer string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	accepted := make(chan error, 1)
	go func() { accepted <- v.media.Accept(ctx, answer) }() // waited for in every return
	giveUp := func(err error) error {
		cancel()
		<-accepted
		return err
	}
	over := v.ws.done
	for {
		select {
		case err := <-accepted:
			return err
		case frame := <-v.ws.frames:
			if err := v.take(frame); err != nil {
				return giveUp(err)
			}
		case <-over:
			if !v.cut() {
				return giveUp(v.ended())
			}
			over = nil
		}
	}
}

// dialAny connects to the endpoint that answers first, the best given a start of
// dialStagger before each next one.
func (v *Voice) dialAny(ctx context.Context) (*socket, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		ws  *socket
		err error
	}
	results := make(chan result)
	dial := func(url string) {
		ws, err := dialSocket(ctx, withVersion(url), v.opts.TLS)
		results <- result{ws, err}
	}
	var (
		won     *socket
		errs    []error
		waiting int
		next    = v.to.URLs
		start   = time.NewTimer(0)
	)
	defer start.Stop()
	for waiting > 0 || len(next) > 0 && won == nil {
		select {
		case <-start.C:
			if len(next) == 0 || won != nil {
				continue
			}
			go dial(next[0])
			waiting++
			next = next[1:]
			start.Reset(dialStagger)
		case r := <-results:
			waiting--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				start.Reset(0)
			case won == nil:
				won = r.ws
				cancel() // the others give up
			default:
				r.ws.close(0)
			}
		}
	}
	if won == nil {
		return nil, errors.Join(errs...)
	}
	return won, nil
}

func withVersion(url string) string {
	return fmt.Sprintf("%s/?v=%d", strings.TrimSuffix(url, "/"), signaling.FirstNumbered)
}

func (v *Voice) note(f func(*VoiceStats)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.stats)
}

func (v *Voice) say(op signaling.Op, payload any) error {
	frame, err := signaling.AppendMessage(nil, op, 0, payload)
	if err != nil {
		return err
	}
	return v.ws.send(frame)
}

// until takes messages up to one of the op, which is decoded into payload when
// that is not nil.
func (v *Voice) until(ctx context.Context, op signaling.Op, payload any) error {
	for {
		select {
		case frame := <-v.ws.frames:
			m, err := signaling.ReadFrame(frame)
			if err != nil {
				return fmt.Errorf("read voice message: %w", err)
			}
			if err := v.take(frame); err != nil {
				return err
			}
			if m.Op != op {
				continue
			}
			if payload == nil {
				return nil
			}
			return m.Payload(payload)
		case <-v.ws.done:
			// What came before the end counts.
			if len(v.ws.frames) > 0 {
				continue
			}
			return v.ended()
		case <-ctx.Done():
			return fmt.Errorf("wait for %v: %w", op, ctx.Err())
		}
	}
}

// ended is the error of a WebSocket that has ended.
func (v *Voice) ended() error {
	if v.ws.code != 0 {
		return &CloseError{signaling.CloseCode(v.ws.code)}
	}
	return fmt.Errorf("voice connection lost: %w", v.ws.err)
}

// take handles what the server says at any time.
func (v *Voice) take(frame []byte) error {
	m, err := signaling.ReadFrame(frame)
	if err != nil {
		return fmt.Errorf("read voice message: %w", err)
	}
	if m.Seq != 0 {
		v.seq = m.Seq
	}
	switch m.Op {
	case signaling.OpHello:
		var h signaling.Hello
		if err := m.Payload(&h); err != nil {
			return err
		}
		if h.Interval <= 0 {
			return errors.New("server asks for heartbeats without an interval")
		}
		v.interval = time.Duration(h.Interval) * time.Millisecond
	case signaling.OpClientsConnect:
		var c signaling.ClientsConnect
		if err := m.Payload(&c); err != nil {
			return err
		}
		v.connect(c)
	case signaling.OpDisconnect:
		var d signaling.Disconnect
		if err := m.Payload(&d); err != nil {
			return err
		}
		v.disconnect(d.User)
	case signaling.OpSpeaking:
		var s signaling.Speaking
		if err := m.Payload(&s); err != nil {
			return err
		}
		v.speak(Speaking{User: s.User, SSRC: s.SSRC, Flags: s.Flags})
	case signaling.OpSlots:
		var s signaling.Slots
		if err := m.Payload(&s); err != nil {
			return err
		}
		v.mu.Lock()
		if s.All {
			clear(v.seats)
		}
		for _, seat := range s.Slots {
			v.seats[seat.Slot] = seat
		}
		v.mu.Unlock()
	}
	return nil
}

func (v *Voice) connect(c signaling.ClientsConnect) {
	var news []Member
	v.mu.Lock()
	if c.All {
		for user := range v.members {
			if !slices.Contains(c.Users, user) {
				delete(v.members, user)
				news = append(news, Member{User: user, Left: true})
			}
		}
	}
	for _, user := range c.Users {
		if _, known := v.members[user]; !known {
			v.members[user] = Speaking{User: user}
			news = append(news, Member{User: user})
		}
	}
	v.mu.Unlock()
	v.tell(news...)
}

func (v *Voice) disconnect(user sfu.UserID) {
	v.mu.Lock()
	was, known := v.members[user]
	delete(v.members, user)
	if v.sources[was.SSRC] == user {
		delete(v.sources, was.SSRC)
	}
	v.mu.Unlock()
	if known {
		v.tell(Member{User: user, Left: true})
	}
}

func (v *Voice) tell(news ...Member) {
	if v.opts.OnMember == nil {
		return
	}
	slices.SortFunc(news, func(a, b Member) int { return cmp.Compare(a.User.ID, b.User.ID) })
	for _, m := range news {
		v.opts.OnMember(m)
	}
}

func (v *Voice) speak(s Speaking) {
	v.mu.Lock()
	was, known := v.members[s.User]
	if known {
		if was.SSRC != s.SSRC && v.sources[was.SSRC] == s.User {
			delete(v.sources, was.SSRC)
		}
		v.members[s.User] = s
		v.sources[s.SSRC] = s.User
	}
	again := known && was.SSRC != s.SSRC && v.muted[s.User]
	v.mu.Unlock()
	if again {
		v.wish()
	}
	if known && v.opts.OnSpeaking != nil {
		v.opts.OnSpeaking(s)
	}
}

// hear is called by the slot's reader.
func (v *Voice) hear(slot int, p *rtp.Packet, at time.Time) {
	if v.opts.OnAudio == nil {
		return
	}
	ssrc := source(p)
	v.mu.Lock()
	if ssrc == 0 {
		ssrc = v.seats[slot].SSRC
	}
	user, ok := v.sources[ssrc]
	if !ok && v.seats[slot].SSRC == ssrc {
		user = v.seats[slot].User
	}
	v.mu.Unlock()
	v.opts.OnAudio(Packet{
		User: user, SSRC: ssrc, Path: v.path, Slot: slot, Opus: p.Payload,
		Seq: p.SequenceNumber, Timestamp: p.Timestamp, Marker: p.Marker, Arrived: at,
	})
}

// run serves the WebSocket until the session is over, resuming as needed.
func (v *Voice) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		v.watch(ctx)
	}()
	err := v.serve(ctx)
	cancel()
	<-watched
	if errors.Is(err, ErrClosed) {
		v.ws.part(uint16(signaling.CloseNormal))
	} else { // another session is waited for
		v.ws.close(uint16(signaling.CloseNormal))
	}
	v.media.Close()
	v.mu.Lock()
	v.err = err
	v.mu.Unlock()
	close(v.done)
}

func (v *Voice) serve(ctx context.Context) error {
	if v.interval == 0 {
		v.interval = signaling.DefaultHeartbeatInterval
	}
	beat := time.NewTimer(v.interval)
	defer beat.Stop()
	acked := true
	for {
		var lost error
		select {
		case <-ctx.Done():
			return ErrClosed
		case <-v.media.Lost():
			return errors.New("media path lost")
		case <-v.wishes:
			lost = v.sayWants()
		case r := <-v.reports:
			lost = v.say(signaling.OpReceiveReport, r)
		case <-beat.C:
			if !acked {
				lost = errors.New("heartbeat was not acknowledged")
				break
			}
			acked = false
			seen := int64(v.seq)
			lost = v.say(signaling.OpHeartbeat, signaling.Heartbeat{T: signaling.Integer(fmt.Sprint(time.Now().UnixMilli())), SeqAck: &seen})
			beat.Reset(v.interval)
		case frame := <-v.ws.frames:
			if m, err := signaling.ReadFrame(frame); err == nil && m.Op == signaling.OpHeartbeatAck {
				acked = true
			}
			if err := v.take(frame); err != nil {
				v.opts.Log.Warn("voice message not understood", "err", err)
			}
		case <-v.ws.done:
			if len(v.ws.frames) > 0 {
				continue
			}
			lost = v.ended()
		}
		if lost == nil {
			continue
		}
		if err := v.resume(ctx, lost); err != nil {
			return err
		}
		acked = true
		beat.Reset(v.interval)
	}
}

// resume finds the session again on the endpoints in turn, while the media goes
// on.
func (v *Voice) resume(ctx context.Context, lost error) error {
	var closed *CloseError
	if errors.As(lost, &closed) && !closed.Code.Resumable() {
		return lost
	}
	v.ws.close(0) // no closing frame: it would end the session
	wait := backoffFirst
	for until := time.Now().Add(resumeFor); ; {
		for _, url := range v.to.URLs {
			select {
			case <-time.After(pause(wait, lost)):
			case <-ctx.Done():
				return ErrClosed
			case <-v.media.Lost():
				return fmt.Errorf("media path lost, after: %w", lost)
			}
			err := v.resumeAt(ctx, url)
			if err == nil {
				v.mu.Lock()
				v.stats.Resumes++
				v.mu.Unlock()
				return nil
			}
			if errors.As(err, &closed) && !closed.Code.Resumable() {
				return err
			}
			lost = err
			most := backoffMax
			if v.hears() {
				most = resumeMost
			}
			wait = longer(wait, most)
		}
		if v.hears() { // its node keeps the session, however long nobody answers here
			until = time.Now().Add(resumeFor)
		}
		if time.Now().After(until) {
			return fmt.Errorf("voice session not resumed: %w", lost)
		}
	}
}

func (v *Voice) resumeAt(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	ws, err := dialSocket(ctx, withVersion(url), v.opts.TLS)
	if err != nil {
		return err
	}
	v.ws = ws
	seen := int64(v.seq)
	err = v.say(signaling.OpResume, signaling.Resume{Server: v.to.Guild, Session: v.to.Session, Token: v.to.Token, SeqAck: &seen})
	if err == nil {
		err = v.until(ctx, signaling.OpResumed, nil)
	}
	if err != nil {
		ws.close(0)
		return err
	}
	v.mu.Lock()
	again := len(v.muted) > 0
	v.mu.Unlock()
	if again { // another instance does not know
		v.wish()
	}
	return nil
}

// WriteOpus sends one Opus frame of the given duration. Level is its loudness
// in -dBov: 0 is the loudest, 127 silence. It refuses when Options.Transport
// brought the media.
func (v *Voice) WriteOpus(frame []byte, d time.Duration, level uint8) error {
	if v.pion == nil {
		return errors.New("media of another transport takes no frames here: send them by that transport")
	}
	return v.pion.write(frame, d, level, time.Now())
}

// Members lists the others in the call with their last speaking flags.
func (v *Voice) Members() []Speaking {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]Speaking, 0, len(v.members))
	for _, s := range v.members {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Speaking) int { return cmp.Compare(a.User.ID, b.User.ID) })
	return list
}

// MuteUser stops or resumes hearing one user. It holds for the whole session,
// whatever SSRC the user speaks with.
func (v *Voice) MuteUser(user sfu.UserID, muted bool) {
	v.mu.Lock()
	if muted {
		v.muted[user] = true
	} else {
		delete(v.muted, user)
	}
	v.mu.Unlock()
	v.wish()
}

// wish has what this client wants told to the server.
func (v *Voice) wish() {
	select {
	case v.wishes <- struct{}{}:
	default:
	}
}

func (v *Voice) sayWants() error {
	wants := signaling.SinkWants{Sources: make(map[sfu.SSRC]int), Any: 100}
	v.mu.Lock()
	for user := range v.muted {
		if m, ok := v.members[user]; ok && m.SSRC != 0 {
			wants.Sources[m.SSRC] = 0
		}
	}
	v.mu.Unlock()
	return v.say(signaling.OpSinkWants, wants)
}

// way is the kind of way that media takes; by UDP if nothing else is known.
func (v *Voice) way() string {
	if v == nil || v.pion == nil {
		return wayUDP
	}
	return v.pion.net.detour.kind()
}

// Stats are the stages of the join and the traffic so far.
func (v *Voice) Stats() VoiceStats {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.stats
	if v.pion != nil {
		s.Way = v.pion.net.detour.kind()
		s.Sent, s.Received, s.ReceivedBytes = v.pion.sent.Load(), v.pion.received.Load(), v.pion.bytes.Load()
	}
	return s
}

// Quiet is for how long nothing has come from the node; zero for a Transport
// that does not say.
func (v *Voice) Quiet() time.Duration { return time.Duration(v.quiet.Load()) }

// hears says whether anything has come of the node of late.
func (v *Voice) hears() bool {
	media, ok := v.media.(Watched)
	if !ok {
		return false
	}
	_, last := media.Heard()
	return time.Since(last) < lostAfter
}

// lacks are those of users who are not in the call.
func (v *Voice) lacks(users []sfu.UserID) []sfu.UserID {
	v.mu.Lock()
	defer v.mu.Unlock()
	var missing []sfu.UserID
	for _, user := range users {
		if _, ok := v.members[user]; !ok {
			missing = append(missing, user)
		}
	}
	return missing
}

// users are those in the call.
func (v *Voice) users() []sfu.UserID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Keys(v.members))
}

// Done is closed when the session has ended; Err says why.
func (v *Voice) Done() <-chan struct{} { return v.done }

// Err is why the session ended, nil while it has not.
func (v *Voice) Err() error {
	select {
	case <-v.done:
	default:
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// Close leaves the call and waits until everything has ended.
func (v *Voice) Close() error {
	v.stop()
	<-v.done
	return nil
}
