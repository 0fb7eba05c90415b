package role

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/pionforward"
	"voicefleet/bench/internal/rawloop"
)

// ServeRaw is the child process of the raw loop.
func ServeRaw(ctx context.Context, in io.Reader, out io.Writer) error {
	return child.Serve(ctx, in, out, map[string]child.Verb{"run": child.On(rawloop.Run)})
}

// Raw is the parent's handle.
type Raw struct{ *child.Process }

// Run sends a plan and returns when it is sent.
func (r Raw) Run(ctx context.Context, plan rawloop.Plan) (rawloop.Sent, error) {
	var s rawloop.Sent
	err := r.Call(ctx, "run", plan, &s)
	return s, err
}

type roomRequest struct {
	Room    string
	Talkers int
}

type joinRequest struct {
	Room   string
	Member int
	Offer  string
}

// ServePion is the child process of the pion forwarder.
func ServePion(ctx context.Context, in io.Reader, out io.Writer, host netip.Addr) error {
	f, err := pionforward.New(host)
	if err != nil {
		return err
	}
	err = child.Serve(ctx, in, out, map[string]child.Verb{
		"room": child.On(func(_ context.Context, r roomRequest) (struct{}, error) {
			return struct{}{}, f.Talkers(r.Room, r.Talkers)
		}),
		"join": child.On(func(ctx context.Context, r joinRequest) (string, error) {
			return f.Join(ctx, r.Room, r.Member, r.Offer)
		}),
		"leave": child.On(func(_ context.Context, r roomRequest) (struct{}, error) {
			return struct{}{}, f.Leave(r.Room)
		}),
	})
	return errors.Join(err, f.Close())
}

// Pion is the parent's handle.
type Pion struct{ *child.Process }

// Room announces a room and how many of its members talk: the first ones.
func (p Pion) Room(ctx context.Context, room string, talkers int) error {
	return p.Call(ctx, "room", roomRequest{Room: room, Talkers: talkers}, nil)
}

// Join answers the offer of a member.
func (p Pion) Join(ctx context.Context, room string, member int, offer string) (string, error) {
	var answer string
	err := p.Call(ctx, "join", joinRequest{Room: room, Member: member, Offer: offer}, &answer)
	return answer, err
}

// Leave ends a room.
func (p Pion) Leave(ctx context.Context, room string) error {
	return p.Call(ctx, "leave", roomRequest{Room: room}, nil)
}
