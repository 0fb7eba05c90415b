package allocator

import (
	"fmt"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// PlaceRequest asks for a seat for one user in one call.
type PlaceRequest struct {
	Guild   string     `json:"guild"`
	Call    sfu.CallID `json:"call"`
	User    sfu.UserID `json:"user"`
	Session string     `json:"session"` // the gateway session; the grant names it
	Rights  sfu.Rights `json:"rights"`
	Echo    bool       `json:"echo,omitempty"`

	// RTT is what the client measured, in milliseconds, per node or region.
	RTT map[string]float64 `json:"rtt,omitempty"`
	// Region is where the client says it is, when it measured nothing.
	Region string `json:"region,omitempty"`
	// Location is where its address is on the earth, by a GeoIP database; nil: not
	// known.
	Location *edgeagent.Location `json:"location,omitempty"`
	// Expected is the predicted size of the call in sessions (at least 1).
	Expected int `json:"expected,omitempty"`
	// Inside: the user is in the call and asks for its own seat anew, which it gets on
	// a full node too.
	Inside bool `json:"inside,omitempty"`
	// Epoch is the highest epoch the asker knows of this call, as from a Moved: an
	// allocator that has not heard of it yet looks again.
	Epoch uint64 `json:"epoch,omitempty"`
	// Avoid names nodes that just failed this user.
	Avoid []edgeagent.NodeID `json:"avoid,omitempty"`
	// Mend is the node where the user heard nothing, or lost its session, and is
	// seated anew for that. The journal tells of it (DeedMend).
	Mend edgeagent.NodeID `json:"mend,omitempty"`
	// MendWhy is what showed it.
	MendWhy MendWhy `json:"mend_why,omitempty"`
}

// MendWhy is what showed that a user's session is of no use.
type MendWhy string

// What shows it.
const (
	MendDeaf  MendWhy = "deaf"  // the SFU saw that it hears nothing while somebody speaks
	MendAsked MendWhy = "asked" // its client asked: nothing comes from the node
	MendEnded MendWhy = "ended" // its session ended there, and it did not leave
)

// String is how the journal tells of it.
func (w MendWhy) String() string {
	switch w {
	case MendDeaf:
		return "heard nothing while somebody spoke"
	case MendAsked:
		return "got nothing from the node, as its client says"
	case MendEnded:
		return "lost its session"
	default:
		return "heard nothing, or lost its session"
	}
}

// Assignment is the answer to a PlaceRequest.
type Assignment struct {
	Node  edgeagent.NodeID `json:"node"`
	Epoch uint64           `json:"epoch"`
	// Session is the voice session the grant opens.
	Session sfu.SessionID `json:"session"`
	// Token is the signed edgeagent.Grant.
	Token string `json:"token"`
	// Endpoints are the voice gateways, host:port, in random order. An empty host
	// stands for the one the client reached the text gateway at.
	Endpoints []string `json:"endpoints"`
	// New tells that the call was not live before.
	New bool `json:"new,omitempty"`
}

// UpdateRequest changes the rights of a user in a live call. With a Session it does so
// only if that is the user's.
type UpdateRequest struct {
	Call sfu.CallID `json:"call"`
	User sfu.UserID `json:"user"`

	Session sfu.SessionID `json:"session,omitempty"`

	Rights sfu.Rights `json:"rights"`
}

// RemoveRequest ends a user's session in a live call. With a Session it does so only if
// that is the user's: however late it comes, it ends none that began after it.
type RemoveRequest struct {
	Call sfu.CallID `json:"call"`
	User sfu.UserID `json:"user"`

	Session sfu.SessionID `json:"session,omitempty"`

	Reason string `json:"reason"`
}

// CallEntry is the value of a call in the calls bucket.
type CallEntry struct {
	Call sfu.CallID `json:"call"`
	// Guild is whose call it is, as in PlaceRequest; empty: nobody has said it yet.
	Guild string           `json:"guild,omitempty"`
	Node  edgeagent.NodeID `json:"node"`
	Epoch uint64           `json:"epoch"`
	// Spans are further nodes of the call, near members far from Node; all of them
	// relay it to one another. At most sfu.MaxRelayPeers.
	Spans   []edgeagent.NodeID `json:"spans,omitempty"`
	Created time.Time          `json:"created"`
	// Touched is when a seat was last given. A call without sessions is deleted
	// CallIdle after it, so never while a grant for it may still be used.
	Touched time.Time `json:"touched"`
	// Move is how it came from another node, if it did.
	Move *CallMove `json:"move,omitempty"`
	// Near is where its members are, as far as placements told; First is where those
	// were who came first, at most MaxFirst, or what was ordered for it since.
	Near  Near `json:"near,omitzero"`
	First Near `json:"first,omitzero"`
	// Expected is its predicted size, for the other allocators: until heartbeats show
	// its sessions they count so many on its node.
	Expected int `json:"expected,omitempty"`
	// Why the call is where it is, with at most MaxWhy candidates.
	Why Explanation `json:"why,omitzero"`
}

// Belongs says whether the entry is that of the call whose key it was found at: it
// makes a bus.Keyed.
func (e *CallEntry) Belongs(key string) bool { return e.Call.String() == key && e.Node.Valid() }

// Wish is a request for a place for the call, by where its members are.
func (e CallEntry) Wish() PlaceRequest {
	return PlaceRequest{Guild: e.Guild, Call: e.Call, RTT: e.Near.RTT, Region: e.Near.Region, Location: e.Near.Location}
}

// Nodes are all nodes of a call, its home first.
func (e CallEntry) Nodes() []edgeagent.NodeID {
	return append([]edgeagent.NodeID{e.Node}, e.Spans...)
}

// CallMove is kept with a call that was moved: any allocator can tell it again.
type CallMove struct {
	From     edgeagent.NodeID `json:"from"`
	Cause    Cause            `json:"cause"`
	Planned  bool             `json:"planned,omitempty"` // From still serves
	At       time.Time        `json:"at"`
	Sessions int              `json:"sessions"`         // that it had on From
	Before   int              `json:"before,omitempty"` // moves of this call before
}

// Shed says whether its node gave the call away because that was too much for it, or
// heard badly there: so it would again.
func (m *CallMove) Shed() bool {
	return m.Cause == CauseOverload || m.Cause == CauseDegraded || m.Cause == CauseRebalance
}

// Parted says whether the call left a further node for the link to it: it would again.
func (m *CallMove) Parted() bool { return m.Cause == CauseLinkLost || m.Cause == CauseLinkLossy }

// Moved is what is told of the last move of a call.
func (e CallEntry) Moved() Moved {
	m := Moved{Call: e.Call, To: e.Node, Epoch: e.Epoch}
	if e.Move != nil {
		m.From, m.Cause, m.Planned, m.At = e.Move.From, e.Move.Cause, e.Move.Planned, e.Move.At
	}
	return m
}

// Near says where people are: their RTTs as in PlaceRequest, at most MaxNear of
// them, and a region.
type Near struct {
	RTT    map[string]float64 `json:"rtt,omitempty"`
	Region string             `json:"region,omitempty"`
	// Location is that of who came first, as in PlaceRequest.
	Location *edgeagent.Location `json:"location,omitempty"`
	// Of are the users whose RTTs are in it, each once, at most MaxOf: those who came
	// last, or first, no more than were in the call and one.
	Of []sfu.UserID `json:"of,omitempty"`
}

const (
	// MaxNear and MaxOf bound the RTTs kept with a call and the users they are of,
	// MaxFirst the users of First.
	MaxNear  = 16
	MaxOf    = 50
	MaxFirst = 16

	// CallIdle is how long a call without sessions is kept.
	CallIdle = edgeagent.GrantLife + 30*time.Second
	// MaxWhy bounds the candidates kept with a call.
	MaxWhy = 8
)

// Explanation is a decision, spelled out.
type Explanation struct {
	Call   sfu.CallID       `json:"call"`
	At     time.Time        `json:"at"`
	Chosen edgeagent.NodeID `json:"chosen,omitempty"`
	// Span tells that Chosen is not the home of the call, but a further node of it.
	Span bool `json:"span,omitempty"`
	// Sessions is how many Chosen was found to have room for, of a call that begins or
	// moves: of one that begins fewer than were expected, where no node has room for all.
	Sessions   int         `json:"sessions,omitempty"`
	Reason     string      `json:"reason"` // "call is live here", "lowest cost of two", ...
	Candidates []Candidate `json:"candidates"`
}

// Candidate is one node as a decision saw it.
type Candidate struct {
	Node     edgeagent.NodeID `json:"node"`
	Region   string           `json:"region"`
	Zone     string           `json:"zone,omitempty"`
	State    edgeagent.State  `json:"state"`
	RTT      float64          `json:"rtt_ms"`     // milliseconds
	RTTFrom  string           `json:"rtt_from"`   // "client", "coordinates", "geoip", "region", "none"
	Fullness float64          `json:"fullness"`   // the fullest of pps, bps, sessions, 0..1
	Reserved edgeagent.Load   `json:"reserved"`   // placed, not yet in a heartbeat
	Penalty  float64          `json:"penalty_ms"` // for load, milliseconds
	// Domain is what its failure domain costs that lost nodes of late.
	Domain float64 `json:"domain_ms,omitempty"`
	// Share is that of its calls which the node takes while it is new or tried
	// out, omitted when it takes all; Aside is what one costs that is not among
	// them, or whose guild tries a label that the node does not have, in milliseconds.
	Share  float64 `json:"share,omitempty"`
	Aside  float64 `json:"aside_ms,omitempty"`
	Cost   float64 `json:"cost_ms"`           // RTT and all penalties
	WhyNot string  `json:"why_not,omitempty"` // empty: eligible
}

// ErrorCode is the closed list of reasons for which no seat is given.
type ErrorCode string

// The codes.
const (
	CodeNoNodes     ErrorCode = "no_nodes" // none is ready
	CodeFull        ErrorCode = "full"     // all are at their limit
	CodeNoCall      ErrorCode = "no_call"  // update or remove of a call that is not live
	CodeBadRequest  ErrorCode = "bad_request"
	CodeUnavailable ErrorCode = "unavailable" // bus or node does not answer; try again
	CodeRefused     ErrorCode = "refused"     // the node says no to an order, and why
)

// Error is a refused request, as it crosses the bus.
type Error struct {
	Code    ErrorCode `json:"code"`
	Message string    `json:"message"`
	// Full tells more about CodeFull, where more is known.
	Full *Full `json:"full,omitempty"`
}

// Detail is Full, for the bus.
func (e *Error) Detail() any {
	if e.Full == nil {
		return nil
	}
	return e.Full
}

// Full is what a joiner can hope for who gets no seat.
type Full struct {
	// Elsewhere is the nearest node with room for one more, where there is any: the
	// call does not live there, but another one could.
	Elsewhere *Elsewhere `json:"elsewhere,omitempty"`
	// SeatEvery is how often somebody leaves, in seconds, as of late: on the node of
	// the call, or in the whole fleet for a new one; 0: nobody did.
	SeatEvery float64 `json:"seat_every_s,omitempty"`
}

// Elsewhere is a node with room.
type Elsewhere struct {
	Node    edgeagent.NodeID `json:"node"`
	Region  string           `json:"region"`
	RTT     float64          `json:"rtt_ms"`
	RTTFrom string           `json:"rtt_from"` // as in Candidate
}

// Error is "code: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Refuse makes an Error; format as in fmt.
func Refuse(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
