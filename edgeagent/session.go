package edgeagent

import (
	"errors"
	"net/netip"
	"time"

	"voicefleet/sfu"
)

// The verbs of a node, requested over the bus as JSON; each answers with its
// reply or an [Error]. Subjects stand in internal/bus.

// OpenRequest opens the session of a grant. A session that the same user has in
// the same call ends (Superseded).
type OpenRequest struct {
	Token string `json:"token"`
}

// ResumeRequest finds the live session of a token again.
type ResumeRequest struct {
	Token string `json:"token"`
}

// SessionReply answers OpenRequest and ResumeRequest: the session and everybody
// in its call, itself included, on whichever node.
type SessionReply struct {
	Record Record   `json:"record"`
	Roster []Member `json:"roster"`
	Slots  []Seat   `json:"slots,omitempty"`
	Views  []View   `json:"views,omitempty"`
	// Relay are ways to the node for a client whose network lets no UDP through.
	Relay []RelayServer `json:"relay,omitempty"`
}

// RelayServer is a TURN server and the credentials of one session at it (RFC 8656,
// in the form of an RTCIceServer). They open an allocation for CredentialLife; one
// in use lives for as long as its session.
type RelayServer struct {
	URLs       []string `json:"urls"` // RFC 7065
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// CredentialLife is how long the credentials of a RelayServer may be used first.
const CredentialLife = 5 * time.Minute

// NegotiateRequest passes on a WebRTC offer.
type NegotiateRequest struct {
	Session sfu.SessionID `json:"session"`
	Offer   string        `json:"offer"`
}

// NegotiateReply answers it.
type NegotiateReply struct {
	Answer string     `json:"answer"`
	Slots  []sfu.Slot `json:"slots"`
	Views  []sfu.Slot `json:"views,omitempty"`
}

// UpdateRequest changes a session. With User and Call set instead of Session it
// finds the session itself, which is what a moderator's order needs; with all three
// the session must be theirs.
type UpdateRequest struct {
	Session sfu.SessionID `json:"session,omitempty"`
	Call    sfu.CallID    `json:"call,omitzero"`
	User    sfu.UserID    `json:"user,omitzero"`

	Rights   *sfu.Rights   `json:"rights,omitempty"`
	SelfDeaf *bool         `json:"self_deaf,omitempty"`
	Muted    *[]sfu.UserID `json:"muted,omitempty"`
	// Flags are the client's speaking flags (1 voice, 2 soundshare, 4 priority).
	Flags *int `json:"flags,omitempty"`
	// Hears is the client's own word on whether media reaches it: more came since
	// it was told last, or none for a second or more. Told about every HearsPause at most.
	Hears *bool `json:"hears,omitempty"`
}

// HearsPause is the least time between two words of one session on whether it
// hears, less what a report of the client's may be early; that it does need not be told more often than every HearsKept.
const (
	HearsPause = 2 * time.Second
	HearsKept  = 10 * time.Second
)

// CloseRequest ends a session, named as in UpdateRequest. With Call alone it ends
// every session that the call has on the node.
type CloseRequest struct {
	Session sfu.SessionID `json:"session,omitempty"`
	Call    sfu.CallID    `json:"call,omitzero"`
	User    sfu.UserID    `json:"user,omitzero"`
	Reason  string        `json:"reason,omitempty"`
}

// Record is what the agent keeps of a session.
type Record struct {
	Session    sfu.SessionID `json:"session"`
	Node       NodeID        `json:"node"`
	Guild      string        `json:"guild"`
	Call       sfu.CallID    `json:"call"`
	Epoch      uint64        `json:"epoch"`
	User       sfu.UserID    `json:"user"`
	Gateway    string        `json:"gateway"` // the gateway session of the grant
	Rights     sfu.Rights    `json:"rights"`
	SSRC       sfu.SSRC      `json:"ssrc"`
	Addrs      []netip.Addr  `json:"addrs"`
	Port       uint16        `json:"port"`
	Opened     time.Time     `json:"opened"`
	Negotiated bool          `json:"negotiated"`
	Connected  bool          `json:"connected"`
}

// Member is one user in a call.
type Member struct {
	User  sfu.UserID `json:"user"`
	SSRC  sfu.SSRC   `json:"ssrc"`
	Flags int        `json:"flags"` // speaking flags; 0 = silent now
	// Node is the one the user is on, if not that of the event or reply.
	Node NodeID `json:"node,omitempty"`
}

// Seat is one filled slot of a listener.
type Seat struct {
	Slot int        `json:"slot"`
	MID  string     `json:"mid"`
	User sfu.UserID `json:"user"`
	SSRC sfu.SSRC   `json:"ssrc"`
}

// View is one view of a member, for video: whose camera is in it, or why none is.
type View struct {
	View int        `json:"view"`
	MID  string     `json:"mid"`
	User sfu.UserID `json:"user,omitzero"`
	SSRC sfu.SSRC   `json:"ssrc,omitempty"` // of the user's voice
	Why  sfu.Unseen `json:"why,omitempty"`
}

// CallEvent is a fact about a call, published by its node in order. Exactly one
// of the pointers is set. Nodes with the same epoch of a call share it; one with an
// earlier epoch has a call that was moved away.
type CallEvent struct {
	Call  sfu.CallID `json:"call"`
	Node  NodeID     `json:"node"`
	Epoch uint64     `json:"epoch,omitempty"`

	Joined   *Member       `json:"joined,omitempty"`
	Left     *Left         `json:"left,omitempty"`
	Speaking *Member       `json:"speaking,omitempty"`
	Seated   *Seated       `json:"seated,omitempty"`
	Viewed   *Viewed       `json:"viewed,omitempty"`
	Opened   *SessionStart `json:"opened,omitempty"`
	Deaf     *Deaf         `json:"deaf,omitempty"`
}

// Left tells that a session ended. The user may have another by now: compare
// Session.
type Left struct {
	Session sfu.SessionID `json:"session"`
	User    sfu.UserID    `json:"user"`
	Reason  string        `json:"reason"` // an sfu.EndReason, Superseded, or that of CloseRequest
}

// Superseded is the reason of a session that the same user's next one replaced;
// NodeGone that of all sessions of an agent that shuts down; EngineLost that of
// sessions the media engine took with it when it died; Moved that of sessions
// whose call has another node now; Quarantined that of sessions of a call in whose
// work the media engine failed again and again.
const (
	Superseded = "superseded"
	NodeGone   = "node_gone"
	EngineLost = "engine_lost"
	Moved      = "moved"

	Quarantined = "quarantined"
)

// Viewed tells one member whose camera is in a view.
type Viewed struct {
	Session sfu.SessionID `json:"session"`
	View    View          `json:"view"`
}

// Seated tells one listener who sits in a slot.
type Seated struct {
	Session sfu.SessionID `json:"session"`
	Seat    Seat          `json:"seat"`
}

// Deaf tells that a session ought to hear somebody and shows no sign of it: its
// user is to be seated anew. Like Opened and Left it is for the guilds.
type Deaf struct {
	Session sfu.SessionID `json:"session"`
	User    sfu.UserID    `json:"user"`
}

// SessionStart tells that a grant was used: its session is open.
type SessionStart struct {
	Session sfu.SessionID `json:"session"`
	User    sfu.UserID    `json:"user"`
}

// ErrorCode is the closed list of reasons for which a node refuses a request.
type ErrorCode string

// The codes: those of the engine, and the agent's own.
const (
	CodeGrant       ErrorCode = "grant"       // expired, used, forged or for another node
	CodeNoSession   ErrorCode = "no_session"  // unknown or ended
	CodeBadRequest  ErrorCode = "bad_request" // malformed, or an offer that cannot be answered
	CodeFull        ErrorCode = "full"
	CodeDraining    ErrorCode = "draining"
	CodeUnavailable ErrorCode = "unavailable" // the engine does not answer; try again
)

// Error is a refused request, as it crosses the bus.
type Error struct {
	Code    ErrorCode `json:"code"`
	Message string    `json:"message"`
}

// Error is "code: message".
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// CodeOf is the one place where the errors of this room and of the engine become
// codes. Unknown ones are CodeUnavailable.
func CodeOf(err error) ErrorCode {
	if own := (*Error)(nil); errors.As(err, &own) {
		return own.Code
	}
	for _, g := range []error{ErrGrantForm, ErrGrantKey, ErrGrantSignature, ErrGrantExpired, ErrGrantScope, ErrGrantUsed} {
		if errors.Is(err, g) {
			return CodeGrant
		}
	}
	if engine := (*sfu.Error)(nil); errors.As(err, &engine) {
		switch engine.Code {
		case sfu.CodeNoSession:
			return CodeNoSession
		case sfu.CodeFull:
			return CodeFull
		case sfu.CodeBadOffer, sfu.CodeBadCommand, sfu.CodeExists:
			return CodeBadRequest
		}
	}
	return CodeUnavailable
}
