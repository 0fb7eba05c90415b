package signalingtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// Issuer signs grants with a key of its own.
type Issuer struct{ key ed25519.PrivateKey }

// NewIssuer makes the key from a seed byte.
func NewIssuer(seed byte) *Issuer {
	return &Issuer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

// Keys knows the issuer's key and no other.
func (i *Issuer) Keys(kid string) ed25519.PublicKey {
	if pub := i.key.Public().(ed25519.PublicKey); kid == edgeagent.KeyID(pub) {
		return pub
	}
	return nil
}

// Token signs g; without an expiry it is good from now on.
func (i *Issuer) Token(g edgeagent.Grant) string {
	if g.Expires.IsZero() {
		g.Expires = time.Now().Add(edgeagent.GrantLife)
	}
	token, err := edgeagent.SignGrant(i.key, g)
	if err != nil {
		panic(err) // a Grant is always JSON
	}
	return token
}

// Node is an agent in memory.
type Node struct {
	// Immutable.
	ID    edgeagent.NodeID
	Keys  func(kid string) ed25519.PublicKey
	Addrs []netip.Addr
	Port  uint16
	// Relay, when set, gives the TURN servers that a session is told of.
	Relay func() []edgeagent.RelayServer
	// Opening, Answer, Updated and Ending, when set, take part in the verbs: an error of
	// theirs is the node's. Ending is told of each session that ends.
	Opening func(edgeagent.Grant) (sfu.SSRC, error)
	Answer  func(id sfu.SessionID, offer string) (edgeagent.NegotiateReply, error)
	Updated func(edgeagent.UpdateRequest) error
	Ending  func(sfu.SessionID)

	mu sync.Mutex
	// Guarded by mu.
	used     map[sfu.SessionID]bool
	sessions map[sfu.SessionID]*edgeagent.SessionReply // Record and Slots
	flags    map[sfu.SessionID]int
	watchers map[sfu.CallID]map[*watcher]bool
	ssrc     sfu.SSRC
}

type watcher struct {
	mu sync.Mutex // one event at a time
	on func(edgeagent.CallEvent)
}

// NewNode makes a node that takes the grants of i.
func NewNode(id edgeagent.NodeID, i *Issuer) *Node {
	return &Node{
		ID: id, Keys: i.Keys, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: 50000,
		used:     make(map[sfu.SessionID]bool),
		sessions: make(map[sfu.SessionID]*edgeagent.SessionReply),
		flags:    make(map[sfu.SessionID]int),
		watchers: make(map[sfu.CallID]map[*watcher]bool),
		ssrc:     1000,
	}
}

func refuse(code edgeagent.ErrorCode, format string, args ...any) error {
	return &edgeagent.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (n *Node) grant(node edgeagent.NodeID, token string) (edgeagent.Grant, error) {
	if node != n.ID {
		return edgeagent.Grant{}, refuse(edgeagent.CodeUnavailable, "no node %s", node)
	}
	g, err := edgeagent.ReadGrant(token, n.Keys)
	if err == nil && g.Node != n.ID {
		err = edgeagent.ErrGrantScope
	}
	if err != nil {
		return g, refuse(edgeagent.CodeGrant, "%v", err)
	}
	return g, nil
}

// Open opens the session of a grant once.
func (n *Node) Open(_ context.Context, node edgeagent.NodeID, req edgeagent.OpenRequest) (edgeagent.SessionReply, error) {
	g, err := n.grant(node, req.Token)
	if err != nil {
		return edgeagent.SessionReply{}, err
	}
	n.mu.Lock()
	if err := g.Fresh(time.Now()); err != nil || n.used[g.ID] {
		n.mu.Unlock()
		return edgeagent.SessionReply{}, refuse(edgeagent.CodeGrant, "grant is used or expired")
	}
	n.used[g.ID] = true
	n.ssrc++
	ssrc := n.ssrc
	n.mu.Unlock()
	if n.Opening != nil {
		if ssrc, err = n.Opening(g); err != nil {
			return edgeagent.SessionReply{}, err
		}
	}
	var before *edgeagent.SessionReply
	n.mu.Lock()
	for _, s := range n.sessions {
		if s.Record.Call == g.Call && s.Record.User == g.User {
			before = s
		}
	}
	if before != nil {
		delete(n.sessions, before.Record.Session)
	}
	n.sessions[g.ID] = &edgeagent.SessionReply{Record: edgeagent.Record{
		Session: g.ID, Node: n.ID, Guild: g.Guild, Call: g.Call, Epoch: g.Epoch, User: g.User, Gateway: g.Session,
		Rights: g.Rights, SSRC: ssrc, Addrs: n.Addrs, Port: n.Port, Opened: time.Now(),
	}}
	reply := n.replyLocked(g.ID)
	n.mu.Unlock()
	if before != nil {
		n.ended(before.Record, edgeagent.Superseded)
	}
	n.Publish(edgeagent.CallEvent{Call: g.Call, Joined: &edgeagent.Member{User: g.User, SSRC: ssrc}})
	return reply, nil
}

// Resume finds the session of a grant.
func (n *Node) Resume(_ context.Context, node edgeagent.NodeID, req edgeagent.ResumeRequest) (edgeagent.SessionReply, error) {
	g, err := n.grant(node, req.Token)
	if err != nil {
		return edgeagent.SessionReply{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sessions[g.ID] == nil {
		return edgeagent.SessionReply{}, refuse(edgeagent.CodeNoSession, "session %s has ended", g.ID)
	}
	return n.replyLocked(g.ID), nil
}

func (n *Node) replyLocked(id sfu.SessionID) edgeagent.SessionReply {
	r := *n.sessions[id]
	r.Slots = slices.Clone(r.Slots)
	if n.Relay != nil {
		r.Relay = n.Relay()
	}
	for other, s := range n.sessions {
		if s.Record.Call == r.Record.Call {
			r.Roster = append(r.Roster, edgeagent.Member{User: s.Record.User, SSRC: s.Record.SSRC, Flags: n.flags[other]})
		}
	}
	return r
}

// Negotiate passes the offer to Answer.
func (n *Node) Negotiate(_ context.Context, node edgeagent.NodeID, req edgeagent.NegotiateRequest) (edgeagent.NegotiateReply, error) {
	n.mu.Lock()
	s := n.sessions[req.Session]
	twice := s != nil && s.Record.Negotiated
	if s != nil {
		s.Record.Negotiated = true
	}
	n.mu.Unlock()
	switch {
	case s == nil || node != n.ID:
		return edgeagent.NegotiateReply{}, refuse(edgeagent.CodeNoSession, "session %s has ended", req.Session)
	case twice:
		return edgeagent.NegotiateReply{}, refuse(edgeagent.CodeBadRequest, "second offer")
	case n.Answer == nil:
		return edgeagent.NegotiateReply{Answer: "v=0\r\n"}, nil
	}
	return n.Answer(req.Session, req.Offer)
}

// Update notes flags and tells the call of them.
func (n *Node) Update(_ context.Context, node edgeagent.NodeID, req edgeagent.UpdateRequest) error {
	n.mu.Lock()
	s := n.sessions[req.Session]
	if s == nil || node != n.ID {
		n.mu.Unlock()
		return refuse(edgeagent.CodeNoSession, "session %s has ended", req.Session)
	}
	r := s.Record
	if req.Flags != nil {
		n.flags[r.Session] = *req.Flags
	}
	n.mu.Unlock()
	if n.Updated != nil {
		if err := n.Updated(req); err != nil {
			return err
		}
	}
	if req.Flags != nil {
		n.Publish(edgeagent.CallEvent{Call: r.Call, Speaking: &edgeagent.Member{User: r.User, SSRC: r.SSRC, Flags: *req.Flags}})
	}
	return nil
}

// Close ends a session.
func (n *Node) Close(_ context.Context, node edgeagent.NodeID, req edgeagent.CloseRequest) error {
	if node != n.ID || !n.End(req.Session, req.Reason) {
		return refuse(edgeagent.CodeNoSession, "session %s has ended", req.Session)
	}
	return nil
}

// End ends a session for a reason of the node's own.
func (n *Node) End(id sfu.SessionID, reason string) bool {
	n.mu.Lock()
	s := n.sessions[id]
	delete(n.sessions, id)
	n.mu.Unlock()
	if s == nil {
		return false
	}
	n.ended(s.Record, reason)
	return true
}

func (n *Node) ended(r edgeagent.Record, reason string) {
	if n.Ending != nil {
		n.Ending(r.Session)
	}
	n.Publish(edgeagent.CallEvent{Call: r.Call, Left: &edgeagent.Left{Session: r.Session, User: r.User, Reason: reason}})
}

// Seat puts a speaker into a listener's slot.
func (n *Node) Seat(listener sfu.SessionID, seat edgeagent.Seat) {
	n.mu.Lock()
	s := n.sessions[listener]
	if s != nil {
		s.Slots = append(slices.DeleteFunc(s.Slots, func(old edgeagent.Seat) bool { return old.Slot == seat.Slot }), seat)
	}
	n.mu.Unlock()
	if s != nil {
		n.Publish(edgeagent.CallEvent{Call: s.Record.Call, Seated: &edgeagent.Seated{Session: listener, Seat: seat}})
	}
}

// Publish tells an event to those who subscribed to its call.
func (n *Node) Publish(ev edgeagent.CallEvent) {
	ev.Node = n.ID
	n.mu.Lock()
	var told []*watcher
	for w := range n.watchers[ev.Call] {
		told = append(told, w)
	}
	n.mu.Unlock()
	for _, w := range told {
		w.mu.Lock()
		w.on(ev)
		w.mu.Unlock()
	}
}

// SubscribeCall is told the events of a call.
func (n *Node) SubscribeCall(call sfu.CallID, on func(edgeagent.CallEvent)) (func(), error) {
	w := &watcher{on: on}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers[call] == nil {
		n.watchers[call] = make(map[*watcher]bool)
	}
	n.watchers[call][w] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers[call], w)
		if len(n.watchers[call]) == 0 {
			delete(n.watchers, call)
		}
	}, nil
}

// Sessions lists the live sessions of the node.
func (n *Node) Sessions() []sfu.SessionID {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []sfu.SessionID
	for id := range n.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Watched says whether somebody is subscribed to the call.
func (n *Node) Watched(call sfu.CallID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.watchers[call]) > 0
}
