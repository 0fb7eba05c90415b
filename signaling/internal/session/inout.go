package session

import (
	"crypto/ed25519"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

// Settings are what all sessions of an instance have in common.
type Settings struct {
	// Heartbeat is the interval asked of clients.
	Heartbeat time.Duration
	// Keys gives the public key of a key id, or nil.
	Keys func(kid string) ed25519.PublicKey
	// Build is the version named in answers to op 16.
	Build string
}

// In is one input. Exactly one field is set.
type In struct {
	Frame  []byte // a text frame, lent until return
	Binary bool   // a binary frame came
	Ping   bool   // a ping came; Out.Pong answers
	// Gone tells that the connection ended from the other side.
	Gone *Gone
	// Attach gives the session a new connection, authenticated by the Session
	// whose Out.Take it answers.
	Attach *Attach
	// NotHeld answers Out.Take: this instance does not hold the session.
	NotHeld bool

	// Answers to Out.Calls. Session answers Open and Resume.
	Session    *SessionResult
	Negotiated *NegotiateResult
	Updated    *UpdateResult

	Event *edgeagent.CallEvent
	// Lost tells that call events were dropped on the way.
	Lost bool
	// Shutdown tells that the instance stops.
	Shutdown bool
}

// Gone says how a connection ended: Clean with a closing code 1000 or 1001.
type Gone struct{ Clean bool }

// Attach is a new connection for an open session.
type Attach struct {
	Version signaling.Version
	Seen    uint64
}

// SessionResult is the outcome of an Open or Resume call.
type SessionResult struct {
	Reply edgeagent.SessionReply
	Err   error
}

// NegotiateResult is the outcome of a Negotiate call.
type NegotiateResult struct {
	Reply edgeagent.NegotiateReply
	Err   error
}

// UpdateResult is the outcome of an Update call.
type UpdateResult struct{ Err error }

// Out is what the shell has to do, in the order of the fields. Handle and Tick
// add to it.
type Out struct {
	// Subscribe to the events of this call before any of Calls is made.
	Subscribe sfu.CallID
	// Take asks for the connection to be attached to this session, if the
	// instance holds it: In.NotHeld answers if not. If it does, this Session
	// is over.
	Take   sfu.SessionID
	Attach Attach // for Take
	// Hold names the session this Session stands for from now on.
	Hold  sfu.SessionID
	Calls []Call
	Send  [][]byte // frames, given
	Pong  bool
	// Close the connection with this code, if not zero.
	Close signaling.CloseCode
	// Authenticated tells that the connection has proved a grant.
	Authenticated bool
	// End tells that the Session is over.
	End bool

	// Report is what the client says of its media, if not nil.
	Report *Report

	// What was observed, for metrics.
	Op    signaling.Op // of the frame, when GotOp
	GotOp bool
	Took  []Took
}

// Call is one request to a node. Exactly one of the pointers is set.
type Call struct {
	Node      edgeagent.NodeID
	Open      *edgeagent.OpenRequest
	Resume    *edgeagent.ResumeRequest
	Negotiate *edgeagent.NegotiateRequest
	Update    *edgeagent.UpdateRequest
	Close     *edgeagent.CloseRequest
}

// Report is a client's word on what reaches it from its node.
type Report struct {
	Node     edgeagent.NodeID
	Session  sfu.SessionID
	Received uint64
	Silent   time.Duration
}

// Stage is a part of a join that is timed.
type Stage string

// The stages.
const (
	StageReady       Stage = "identify_to_ready"
	StageDescription Stage = "select_to_description"
)

// Took is the duration of a stage.
type Took struct {
	Stage Stage
	For   time.Duration
}
