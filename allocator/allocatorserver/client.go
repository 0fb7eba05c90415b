package allocatorserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

// Client asks the allocators. A request that is refused, or that none answers
// before ctx ends (5 s without a deadline), returns an *allocator.Error. Safe for
// concurrent use.
type Client struct {
	bus *bus.Conn
}

// NewClient asks over c.
func NewClient(c *bus.Conn) *Client { return &Client{bus: c} }

// placeTry is how long an answer to Place is waited for before an allocator is asked
// once more, placeTries times in all: a request ends with the server of the bus or the
// allocator that has it. The first answer counts; the seat of another is held in vain
// for as long as that of one who does not come.
const (
	placeTry   = time.Second
	placeTries = 2
)

// Place asks for a seat for one user in one call.
func (c *Client) Place(ctx context.Context, req allocator.PlaceRequest) (allocator.Assignment, error) {
	type answer struct {
		seat allocator.Assignment
		err  error
	}
	answers := make(chan answer, placeTries)
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithTimeout(ctx, bus.RequestTimeout)
	defer cancel()
	try := func(ask func(context.Context, *Client, string, allocator.PlaceRequest) (allocator.Assignment, error)) {
		asking.Go(func() {
			a, err := ask(ctx, c, "place", req)
			answers <- answer{a, err}
		})
	}
	again := time.NewTicker(placeTry)
	defer again.Stop()
	try(ask)
	for tried, waiting := 1, 1; ; {
		select {
		case <-again.C:
			if tried < placeTries && c.bus.Ready() == nil { // while it is away the first waits for it
				try(askOnce)
				tried++
				waiting++
			}
		case a := <-answers:
			waiting--
			refused := (*allocator.Error)(nil)
			if waiting == 0 || !errors.As(a.err, &refused) || refused.Code != allocator.CodeUnavailable {
				return a.seat, a.err
			}
		}
	}
}

// Update changes the rights of a user in a live call.
func (c *Client) Update(ctx context.Context, req allocator.UpdateRequest) error {
	_, err := ask[bus.Done](ctx, c, "update", req)
	return err
}

// Remove ends a user's session in a live call.
func (c *Client) Remove(ctx context.Context, req allocator.RemoveRequest) error {
	_, err := ask[bus.Done](ctx, c, "remove", req)
	return err
}

// Explain tells why a call is where it is.
func (c *Client) Explain(ctx context.Context, call sfu.CallID) (allocator.ExplainReply, error) {
	return ask[allocator.ExplainReply](ctx, c, "explain", allocator.ExplainRequest{Call: call})
}

// Nodes lists all nodes by id.
func (c *Client) Nodes(ctx context.Context) ([]allocator.NodeView, error) {
	var all []allocator.NodeView
	for after := ""; ; {
		page, err := ask[allocator.NodePage](ctx, c, "nodes", allocator.PageRequest{After: after})
		all = append(all, page.Nodes...)
		if err != nil || !page.More || len(page.Nodes) == 0 {
			return all, err
		}
		after = string(all[len(all)-1].Node)
	}
}

// Calls lists all live calls by id.
func (c *Client) Calls(ctx context.Context) ([]allocator.CallEntry, error) {
	var all []allocator.CallEntry
	for after := ""; ; {
		page, err := ask[allocator.CallPage](ctx, c, "calls", allocator.PageRequest{After: after})
		all = append(all, page.Calls...)
		if err != nil || !page.More || len(page.Calls) == 0 {
			return all, err
		}
		after = all[len(all)-1].Call.String()
	}
}

// SubscribeMoved calls fn with every move of a call from now on, one at a time,
// until cancel is called, which waits for a running fn. fn must be quick.
func (c *Client) SubscribeMoved(fn func(allocator.Moved)) (cancel func(), err error) {
	ctx, done := context.WithTimeout(context.Background(), bus.RequestTimeout)
	defer done()
	sub, err := bus.Subscribe(ctx, c.bus, bus.AllMoved, func(_ string, m allocator.Moved) { fn(m) })
	if err != nil {
		return nil, &allocator.Error{Code: allocator.CodeUnavailable, Message: err.Error()}
	}
	return sub.Unsubscribe, nil
}

// Drain has a node take no new calls and its calls moved elsewhere; a dry run
// tells where each would go.
func (c *Client) Drain(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	return ask[allocator.Progress](ctx, c, "drain", o)
}

// Cordon has a node take no new calls and keep those it has.
func (c *Client) Cordon(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	return ask[allocator.Progress](ctx, c, "cordon", o)
}

// Undrain has a node take calls again.
func (c *Client) Undrain(ctx context.Context, o allocator.Order) (allocator.Progress, error) {
	return ask[allocator.Progress](ctx, c, "undrain", o)
}

// Upgrade has a node go on with the program on its disk.
func (c *Client) Upgrade(ctx context.Context, o allocator.Order) (edgeagent.UpgradeReply, error) {
	return ask[edgeagent.UpgradeReply](ctx, c, "upgrade", o)
}

// Progress tells how a drain goes.
func (c *Client) Progress(ctx context.Context, node edgeagent.NodeID) (allocator.Progress, error) {
	return ask[allocator.Progress](ctx, c, "progress", allocator.ProgressRequest{Node: node})
}

// Move moves one live call, as one whose channel has another region now.
func (c *Client) Move(ctx context.Context, req allocator.MoveRequest) (allocator.MoveReply, error) {
	return ask[allocator.MoveReply](ctx, c, "move", req)
}

// Label has the calls of a guild try nodes of a label, or no more.
func (c *Client) Label(ctx context.Context, o allocator.LabelOrder) (allocator.GuildLabel, error) {
	return ask[allocator.GuildLabel](ctx, c, "label", o)
}

// Labels lists the guilds whose calls try a label.
func (c *Client) Labels(ctx context.Context) ([]allocator.GuildLabel, error) {
	rep, err := ask[allocator.LabelsReply](ctx, c, "labels", allocator.LabelsRequest{})
	return rep.Labels, err
}

// Journal reads what happened, newest first.
func (c *Client) Journal(ctx context.Context, req allocator.JournalRequest) (allocator.JournalReply, error) {
	return ask[allocator.JournalReply](ctx, c, "journal", req)
}

// Peers tells a node which others to measure.
func (c *Client) Peers(ctx context.Context, req edgeagent.PeersRequest) ([]edgeagent.Peer, error) {
	rep, err := ask[edgeagent.PeersReply](ctx, c, "peers", req)
	return rep.Peers, err
}

// Regions lists the regions by name.
func (c *Client) Regions(ctx context.Context) ([]allocator.Region, error) {
	rep, err := ask[allocator.RegionsReply](ctx, c, "regions", allocator.RegionsRequest{})
	return rep.Regions, err
}

// askAgain is the pause before asking again while no allocator is up: one that
// restarts or takes over is there within a second or two.
const askAgain = 100 * time.Millisecond

// ask asks until an allocator is there.
func ask[Rep, Req any](ctx context.Context, c *Client, verb string, req Req) (Rep, error) {
	ctx, cancel := context.WithTimeout(ctx, bus.RequestTimeout)
	defer cancel()
	for {
		rep, err := bus.Request[Req, Rep](ctx, c.bus, bus.AllocatorSubject+verb, req)
		if errors.Is(err, bus.ErrNobody) {
			select {
			case <-time.After(askAgain):
				continue
			case <-ctx.Done():
			}
		}
		return rep, refused(err)
	}
}

func askOnce[Rep, Req any](ctx context.Context, c *Client, verb string, req Req) (Rep, error) {
	rep, err := bus.Request[Req, Rep](ctx, c.bus, bus.AllocatorSubject+verb, req)
	return rep, refused(err)
}

// refused is an error of the bus as one of the allocator's; nil of nil.
func refused(err error) error {
	if err == nil {
		return nil
	}
	refused := (*bus.Error)(nil)
	if !errors.As(err, &refused) {
		return &allocator.Error{Code: allocator.CodeUnavailable, Message: fmt.Sprintf("no allocator answers, try again in a moment (%v)", err)}
	}
	out := &allocator.Error{Code: allocator.ErrorCode(refused.Code), Message: refused.Message}
	// Of an allocator of another version it may be another thing: then nothing more is
	// known.
	if len(refused.Detail) > 0 && json.Unmarshal(refused.Detail, &out.Full) != nil {
		out.Full = nil
	}
	return out
}
