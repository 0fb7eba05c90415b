package edgeagentserver

import (
	"context"
	"errors"
	"fmt"

	"voicefleet/edgeagent"
	"voicefleet/internal/bus"
	"voicefleet/sfu"
)

// Client asks the agents of nodes, whichever process they live in. A request
// that a node refuses, or that no node answers before ctx ends (5 s without a
// deadline), returns an *edgeagent.Error. Safe for concurrent use.
type Client struct {
	bus *bus.Conn
}

// NewClient asks over c.
func NewClient(c *bus.Conn) *Client { return &Client{bus: c} }

// Open opens the session of a grant.
func (c *Client) Open(ctx context.Context, node edgeagent.NodeID, req edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	return ask[edgeagent.SessionReply](ctx, c, node, "open", req)
}

// Resume finds the live session of a token again.
func (c *Client) Resume(ctx context.Context, node edgeagent.NodeID, req edgeagent.ResumeRequest) (edgeagent.SessionReply, error) {
	return ask[edgeagent.SessionReply](ctx, c, node, "resume", req)
}

// Negotiate passes on a WebRTC offer.
func (c *Client) Negotiate(ctx context.Context, node edgeagent.NodeID, req edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	return ask[edgeagent.NegotiateReply](ctx, c, node, "negotiate", req)
}

// Update changes a session.
func (c *Client) Update(ctx context.Context, node edgeagent.NodeID, req edgeagent.UpdateRequest) error {
	_, err := ask[bus.Done](ctx, c, node, "update", req)
	return err
}

// Close ends a session, or all of a call.
func (c *Client) Close(ctx context.Context, node edgeagent.NodeID, req edgeagent.CloseRequest) error {
	_, err := ask[bus.Done](ctx, c, node, "close", req)
	return err
}

// Drain has a node take no new calls. When it returns, the node refuses them; its
// heartbeat follows within milliseconds.
func (c *Client) Drain(ctx context.Context, node edgeagent.NodeID, req edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
	return ask[edgeagent.DrainReply](ctx, c, node, "drain", req)
}

// Undrain has a node take new calls again.
func (c *Client) Undrain(ctx context.Context, node edgeagent.NodeID, req edgeagent.DrainRequest) (edgeagent.DrainReply, error) {
	return ask[edgeagent.DrainReply](ctx, c, node, "undrain", req)
}

// Relay tells a node which other nodes a call is on.
func (c *Client) Relay(ctx context.Context, node edgeagent.NodeID, req edgeagent.RelayRequest) error {
	_, err := ask[bus.Done](ctx, c, node, "relay", req)
	return err
}

// Roster asks a node who is in a call there.
func (c *Client) Roster(ctx context.Context, node edgeagent.NodeID, req edgeagent.RosterRequest) (edgeagent.RosterReply, error) {
	return ask[edgeagent.RosterReply](ctx, c, node, "roster", req)
}

// Upgrade has a node go on with the program on its disk. When it returns, the
// engine has been replaced.
func (c *Client) Upgrade(ctx context.Context, node edgeagent.NodeID, req edgeagent.UpgradeRequest) (edgeagent.UpgradeReply, error) {
	return ask[edgeagent.UpgradeReply](ctx, c, node, "upgrade", req)
}

func ask[Rep, Req any](ctx context.Context, c *Client, node edgeagent.NodeID, verb string, req Req) (Rep, error) {
	if !node.Valid() {
		var none Rep
		return none, &edgeagent.Error{Code: edgeagent.CodeBadRequest, Message: fmt.Sprintf("%s: %.70q is no node id", verb, node)}
	}
	rep, err := bus.Request[Req, Rep](ctx, c.bus, bus.NodeSubject(string(node), verb), req)
	if err == nil {
		return rep, nil
	}
	if refused := (*bus.Error)(nil); errors.As(err, &refused) {
		return rep, &edgeagent.Error{Code: edgeagent.ErrorCode(refused.Code), Message: refused.Message}
	}
	return rep, &edgeagent.Error{Code: edgeagent.CodeUnavailable, Message: fmt.Sprintf("node %s: %v", node, err)}
}

// subscribeTimeout bounds how long the bus may take to know of a subscription.
const subscribeTimeout = bus.RequestTimeout

// SubscribeCall calls fn with every event of a call, in order, from now on: what
// happens after SubscribeCall has returned is not missed. fn must be quick; it may
// call unsubscribe.
func (c *Client) SubscribeCall(call sfu.CallID, fn func(edgeagent.CallEvent)) (unsubscribe func(), err error) {
	return c.subscribe(bus.CallEvents(call.String()), fn)
}

// SubscribePresence calls fn with every event of the kinds Opened, Left and Deaf
// of all calls, as SubscribeCall does.
func (c *Client) SubscribePresence(fn func(edgeagent.CallEvent)) (unsubscribe func(), err error) {
	return c.subscribe(bus.AllPresence, fn)
}

func (c *Client) subscribe(pattern string, fn func(edgeagent.CallEvent)) (func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), subscribeTimeout)
	defer cancel()
	sub, err := bus.SubscribeIf(ctx, c.bus, pattern, credible, func(_ string, ev edgeagent.CallEvent) { fn(ev) })
	if err != nil {
		return nil, &edgeagent.Error{Code: edgeagent.CodeUnavailable, Message: err.Error()}
	}
	return sub.Unsubscribe, nil
}

// credible refuses an event that another than its node published, of a call that
// its subject does not name, or that is not exactly one fact.
func credible(subject string, ev edgeagent.CallEvent) error {
	facts := 0
	for _, is := range []bool{ev.Joined != nil, ev.Left != nil, ev.Speaking != nil, ev.Seated != nil, ev.Viewed != nil, ev.Opened != nil, ev.Deaf != nil} {
		if is {
			facts++
		}
	}
	call := ev.Call.String()
	switch {
	case !ev.Node.Valid() || subject != bus.CallSubject(call, string(ev.Node)) && subject != bus.PresenceSubject(call, string(ev.Node)):
		return fmt.Errorf("an event of call %s and node %.70q", call, ev.Node)
	case facts != 1:
		return fmt.Errorf("an event with %d facts", facts)
	}
	return nil
}
