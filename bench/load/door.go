package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"voicefleet/bench/internal/target"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// door is the way members come in: a node's bus, or the gateways of a server.
type door interface {
	// enter brings a member in and returns when media can flow.
	enter(ctx context.Context, m *member) error
}

// nodeDoor opens sessions at a media node, as the voice gateway does.
type nodeDoor struct {
	run  *run
	node *target.Node
}

func (d nodeDoor) enter(ctx context.Context, m *member) error {
	if m.Faithful {
		return errors.New("faithful bots need a server with gateways: kind up")
	}
	t := &transport{run: d.run, member: m}
	offer, err := t.Offer(ctx)
	if err != nil {
		return err
	}
	s, err := d.node.Open(ctx, m.Room, offer)
	if err != nil {
		t.Close()
		return err
	}
	m.stages.Ready, m.stages.Description = s.Stages.Open, s.Stages.Negotiate
	if err := t.Accept(ctx, s.Answer); err != nil {
		t.Close()
		return errors.Join(err, d.node.Close(context.WithoutCancel(ctx), s))
	}
	m.leave = func(ctx context.Context) error {
		t.Close()
		return d.node.Close(ctx, s)
	}
	return nil
}

// serverDoor goes through the gateways of a server: accounts, op 4, the voice
// WebSocket.
type serverDoor struct {
	run    *run
	server *target.Remote
	// Immutable once opened.
	rooms    []target.Room
	accounts []target.Account // by member
}

// openServerDoor makes the rooms and accounts that a plan needs.
func openServerDoor(ctx context.Context, r *run, server *target.Remote) (*serverDoor, error) {
	d := &serverDoor{run: r, server: server}
	var err error
	if d.rooms, err = server.Rooms(ctx, len(r.plan.Rooms)); err != nil {
		return nil, err
	}
	seats := make([]target.Room, len(r.members))
	for i, m := range r.members {
		seats[i] = d.rooms[m.Room]
	}
	if d.accounts, err = server.Accounts(ctx, seats); err != nil {
		return nil, err
	}
	r.say("%d rooms and %d accounts on %s", len(d.rooms), len(d.accounts), server.URL())
	return d, nil
}

func (d *serverDoor) enter(ctx context.Context, m *member) error {
	options := voiceclient.Options{Slots: d.run.plan.Scenario.Server.Slots}
	var b *bot
	if m.Faithful {
		b = &bot{ears: m.ears, voice: d.voice, count: max(d.run.voices, 1), streams: make(map[uint32]*stream)}
		options.OnAudio = b.hear
	} else {
		options.Transport = func() voiceclient.Transport { return &transport{run: d.run, member: m} }
	}
	call, err := d.server.Join(ctx, d.rooms[m.Room], d.accounts[m.id-1], options)
	if err != nil {
		return err
	}
	s := call.Stats()
	m.stages.Placed, m.stages.Connect, m.stages.Ready, m.stages.Description = s.Placed, s.Voice.Connect, s.Voice.Ready, s.Voice.Description
	m.stages.ICE, m.stages.DTLS = s.Voice.ICE, s.Voice.DTLS
	m.ended = func() error {
		select {
		case <-call.Done():
			return cmp.Or(call.Err(), errors.New("call ended"))
		default:
			return nil
		}
	}
	if b == nil {
		m.leave = func(context.Context) error { return call.Close() }
		return nil
	}
	b.mu.Lock()
	b.call = call
	b.mu.Unlock()
	m.bot = b
	m.leave = func(context.Context) error { return b.leave() }
	return nil
}

// voice is whose a mark is.
func (d *serverDoor) voice(talker uint32) (voice int, user sfu.UserID, ok bool) {
	if talker == 0 || int(talker) > len(d.run.members) {
		return 0, sfu.UserID{}, false
	}
	return d.run.members[talker-1].voice, sfu.UserID{ID: d.accounts[talker-1].User}, true
}

// transport is the media of a light member: a client of a generator.
type transport struct {
	run    *run
	member *member

	mu sync.Mutex
	// Guarded by mu.
	seat   seat
	closed bool

	ice, dtls time.Duration // set by Accept
}

var (
	_ voiceclient.Transport = (*transport)(nil)
	_ voiceclient.Staged    = (*transport)(nil)
)

// Offer adds a client to a generator.
func (t *transport) Offer(ctx context.Context) (string, error) {
	s, offer, err := t.run.light.add(ctx, t.member.Room, t.run.plan.Scenario.Server.Slots, t.member.Sampled)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.seat = s
	t.mu.Unlock()
	return offer, nil
}

// Accept connects it, through the proxy if there is one.
func (t *transport) Accept(ctx context.Context, answer string) error {
	if t.run.proxy != nil {
		var err error
		if answer, err = t.run.proxy.Rewrite(answer); err != nil {
			return fmt.Errorf("lead media through the proxy: %w", err)
		}
	}
	stages, err := t.run.light.connect(ctx, t.seat, answer)
	if err != nil {
		return err
	}
	t.ice, t.dtls = stages.Check, stages.Handshake
	t.member.seat = t.seat
	t.member.stages.ICE, t.member.stages.DTLS, t.member.stages.Server = stages.Check, stages.Handshake, stages.Server
	return nil
}

// Stages are those of Accept.
func (t *transport) Stages() (ice, dtls time.Duration) { return t.ice, t.dtls }

// Lost is never closed: a light client does not watch its path, so that what a
// fault does to it shows as loss.
func (t *transport) Lost() <-chan struct{} { return nil }

// Close ends the client. What it heard is kept until the crowd is asked for it.
func (t *transport) Close() {
	t.mu.Lock()
	s, closed := t.seat, t.closed
	t.closed = true
	t.mu.Unlock()
	if closed || s == (seat{}) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanup)
	defer cancel()
	t.run.light.close(ctx, s)
}
