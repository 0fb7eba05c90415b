package voiceclient

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// The ops of the text gateway, version 10, that a call needs.
const (
	gwDispatch   = 0
	gwHeartbeat  = 1
	gwIdentify   = 2
	gwVoiceState = 4
	gwResume     = 6
	gwReconnect  = 7
	gwInvalid    = 9
	gwHello      = 10
	gwAck        = 11
)

// intents are GUILDS and GUILD_VOICE_STATES.
const intents = 1<<0 | 1<<7

// identifyAfter is how long after an identify that was refused without a hint the next
// one comes, at least: the public API asks for 1 to 5 s.
const identifyAfter = time.Second

// ErrRefused tells that the gateway does not take the token.
var ErrRefused = errors.New("gateway refused the token")

// voiceServer is VOICE_SERVER_UPDATE. Endpoint is nil when the server is gone
// and another will follow.
type voiceServer struct {
	channel snowflake.ID // where the user was when it came

	Token     string       `json:"token"`
	Guild     snowflake.ID `json:"guild_id"`
	Endpoint  *string      `json:"endpoint"`
	Endpoints []string     `json:"endpoints"`
}

// voiceError is VOICE_ERROR: why a join did not happen.
type voiceError struct {
	Guild   snowflake.ID `json:"guild_id"`
	Channel snowflake.ID `json:"channel_id"`
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Full    *struct {
		Place int `json:"place"`
		Wait  int `json:"wait"` // seconds
	} `json:"full"`
}

// queued is the code of one who stands in line.
const queued = "queued"

// passes says whether it may be otherwise in a moment: nobody can take the call
// just now.
func (e voiceError) passes() bool {
	return e.Code == "unavailable" || e.Code == "no_nodes" || e.Code == "full"
}

// voiceState is VOICE_STATE_UPDATE.
type voiceState struct {
	Guild   snowflake.ID  `json:"guild_id"`
	Channel *snowflake.ID `json:"channel_id"`
	User    sfu.UserID    `json:"user_id"`
	Session string        `json:"session_id"`
}

// wish is op 4: where the user wants to be, and how.
type wish struct {
	Guild   snowflake.ID  `json:"guild_id"`
	Channel *snowflake.ID `json:"channel_id"`
	Mute    bool          `json:"self_mute"`
	Deaf    bool          `json:"self_deaf"`
	// Anew: nothing comes from the voice server any more.
	Anew bool `json:"anew,omitempty"`
	// Holds is the voice session by which the user is in the channel.
	Holds string `json:"holds,omitempty"`
	// Wait: where every seat is taken, the user stands in line.
	Wait bool `json:"wait,omitempty"`
	// RTT is what was measured, in milliseconds by region.
	RTT map[string]float64 `json:"rtt,omitempty"`
}

// wishes are sent one after the other.
type wishes struct {
	list []wish
	sent chan struct{} // closed when they were, if not nil
}

// gateway is one session of the text gateway, over as many WebSockets as it
// takes.
type gateway struct {
	// Immutable.
	url   string
	tls   *tls.Config
	token string
	out   chan wishes   // to be sent; the newest counts
	redo  chan struct{} // asks for another connection: the network is another
	// heard is given what concerns voice, from run.
	onState  func(voiceState)
	onServer func(voiceServer)
	onError  func(voiceError)
	onFresh  func() // a new session: the server knows nothing of the wish
	onOpen   func() // accepted, be it a session that is resumed
	// awaited says whether somebody waits to be in a channel.
	awaited func() bool

	// Owned by open, then run.
	ws       *socket
	interval time.Duration
	last     *int64
	session  string
	user     sfu.UserID
	acked    bool
}

type gwFrame struct {
	Op int             `json:"op"`
	D  json.RawMessage `json:"d"`
	S  *int64          `json:"s"`
	T  string          `json:"t"`
	// RetryAfter is when to come again, in seconds, of gwInvalid.
	RetryAfter float64 `json:"retry_after"`
}

// gatewayURL is where a server has its gateway.
func gatewayURL(server *url.URL) string {
	scheme := "wss"
	if server.Scheme == "http" {
		scheme = "ws"
	}
	return scheme + "://" + server.Host + "/gateway?v=10&encoding=json"
}

func (g *gateway) say(op int, d any) error {
	b, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err != nil {
		return fmt.Errorf("encode gateway op %d: %w", op, err)
	}
	return g.ws.send(b)
}

// open connects and identifies, or resumes when there is a session, and returns
// when the gateway has accepted that.
func (g *gateway) open(ctx context.Context) error {
	ws, err := dialSocket(ctx, g.url, g.tls)
	if err != nil {
		return err
	}
	g.ws, g.acked, g.interval = ws, true, 0
	if err := g.greet(ctx); err != nil {
		ws.close(0)
		return err
	}
	g.onOpen()
	return nil
}

func (g *gateway) greet(ctx context.Context) error {
	for {
		select {
		case frame := <-g.ws.frames:
			f, err := g.take(frame)
			if err != nil {
				return err
			}
			switch {
			case f.Op == gwHello && g.session != "":
				seq := int64(0)
				if g.last != nil {
					seq = *g.last
				}
				err = g.say(gwResume, map[string]any{"token": g.token, "session_id": g.session, "seq": seq})
			case f.Op == gwHello:
				err = g.identify()
			case f.Op == gwInvalid:
				err = g.invalid(ctx, f)
			case f.Op == gwDispatch && (f.T == "READY" || f.T == "RESUMED"):
				return nil
			case f.Op == gwReconnect:
				err = errors.New("gateway asks for another connection")
			}
			if err != nil {
				return err
			}
		case <-g.ws.done:
			if len(g.ws.frames) > 0 {
				continue
			}
			return g.ended()
		case <-ctx.Done():
			return fmt.Errorf("wait for gateway: %w", ctx.Err())
		}
	}
}

func (g *gateway) identify() error {
	g.last = nil
	return g.say(gwIdentify, map[string]any{
		"token": g.token, "intents": intents,
		"properties": map[string]string{"os": "go", "browser": "voiceclient", "device": "voiceclient"},
	})
}

// invalid starts over on the same WebSocket, as the protocol allows: after a resume
// at once, after an identify, for which there was no room yet, when the server says.
func (g *gateway) invalid(ctx context.Context, f gwFrame) error {
	wait := time.Duration(min(max(f.RetryAfter, 0), maxHint) * float64(time.Second))
	if g.session == "" && wait == 0 {
		wait = identifyAfter
	}
	if string(f.D) != "true" {
		g.session = ""
	}
	if until, ok := ctx.Deadline(); ok && time.Until(until) < wait+2*backoffMin {
		return &busyError{fmt.Sprintf("gateway has no room yet: come again in %v", wait.Round(time.Second)), wait}
	}
	select {
	case <-time.After(wait + backoffMin + rand.N(backoffMin)):
	case <-ctx.Done():
		return fmt.Errorf("wait for gateway: %w", ctx.Err())
	}
	if g.session != "" {
		return errors.New("gateway wants the resume again")
	}
	return g.identify()
}

func (g *gateway) ended() error {
	if g.ws.code == 4004 {
		return ErrRefused
	}
	if g.ws.code >= 4010 && g.ws.code <= 4014 {
		return fmt.Errorf("%w: closed with %d", ErrRefused, g.ws.code)
	}
	return fmt.Errorf("gateway connection lost: %w", g.ws.err)
}

// take handles what the gateway says at any time.
func (g *gateway) take(frame []byte) (gwFrame, error) {
	var f gwFrame
	if err := json.Unmarshal(frame, &f); err != nil {
		return f, fmt.Errorf("read gateway message: %w", err)
	}
	if f.S != nil && f.Op == gwDispatch {
		g.last = f.S
	}
	var into any
	var ready struct {
		Session string `json:"session_id"`
		User    struct {
			ID sfu.UserID `json:"id"`
		} `json:"user"`
	}
	var hello struct {
		Interval int64 `json:"heartbeat_interval"`
	}
	var state voiceState
	var server voiceServer
	var refused voiceError
	switch {
	case f.Op == gwHello:
		into = &hello
	case f.Op == gwHeartbeat:
		return f, g.say(gwHeartbeat, g.last)
	case f.Op == gwAck:
		g.acked = true
		return f, nil
	case f.Op != gwDispatch:
		return f, nil
	case f.T == "READY":
		into = &ready
	case f.T == "VOICE_STATE_UPDATE":
		into = &state
	case f.T == "VOICE_SERVER_UPDATE":
		into = &server
	case f.T == "VOICE_ERROR":
		into = &refused
	default:
		return f, nil
	}
	if err := json.Unmarshal(f.D, into); err != nil {
		return f, fmt.Errorf("read gateway %d %s: %w", f.Op, f.T, err)
	}
	switch into {
	case &hello:
		if hello.Interval <= 0 {
			return f, errors.New("gateway asks for heartbeats without an interval")
		}
		g.interval = time.Duration(hello.Interval) * time.Millisecond
	case &ready:
		g.session, g.user = ready.Session, ready.User.ID
		g.onFresh()
	case &state:
		g.onState(state)
	case &server:
		g.onServer(server)
	case &refused:
		g.onError(refused)
	}
	return f, nil
}

// run serves the session until ctx ends or the gateway refuses it for good.
func (g *gateway) run(ctx context.Context) error {
	defer func() { g.ws.part(1000) }()
	for {
		lost := g.serve(ctx)
		if ctx.Err() != nil {
			return ErrClosed
		}
		if errors.Is(lost, ErrRefused) {
			return lost
		}
		g.ws.close(0) // no closing frame: it would end the session
		wait := backoffFirst
		if errors.Is(lost, errNetwork) {
			wait = 0
		}
		for ; ; wait = longer(wait, g.most()) {
			select {
			case <-time.After(pause(wait, lost)):
			case <-g.redo:
			case <-ctx.Done():
				return ErrClosed
			}
			attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
			err := g.open(attempt)
			cancel()
			if err == nil {
				break
			}
			if errors.Is(err, ErrRefused) {
				return err
			}
			lost = err
		}
	}
}

// most bounds the waits between attempts just now.
func (g *gateway) most() time.Duration {
	if g.awaited() {
		return joinMost
	}
	return backoffMax
}

// errNetwork tells that this host has another address now.
var errNetwork = errors.New("the network is another")

func (g *gateway) serve(ctx context.Context) error {
	beat := time.NewTimer(rand.N(g.interval))
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ErrClosed
		case <-g.redo:
			return errNetwork
		case w := <-g.out:
			for _, one := range w.list {
				if err := g.say(gwVoiceState, one); err != nil {
					select {
					case g.out <- w: // for the next connection
					default: // there is a newer one
					}
					return err
				}
			}
			if w.sent != nil {
				close(w.sent)
			}
		case <-beat.C:
			if !g.acked {
				return errors.New("gateway heartbeat was not acknowledged")
			}
			g.acked = false
			if err := g.say(gwHeartbeat, g.last); err != nil {
				return err
			}
			beat.Reset(g.interval)
		case frame := <-g.ws.frames:
			f, err := g.take(frame)
			if err != nil {
				return err
			}
			switch f.Op {
			case gwReconnect:
				return errors.New("gateway asks for another connection")
			case gwInvalid:
				if err := g.invalid(ctx, f); err != nil {
					return err
				}
			}
		case <-g.ws.done:
			if len(g.ws.frames) > 0 {
				continue
			}
			return g.ended()
		}
	}
}
