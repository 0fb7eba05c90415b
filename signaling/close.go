package signaling

import "fmt"

// CloseCode says why a voice WebSocket was closed.
type CloseCode uint16

// The codes a server sends. Below 4000 they are those of RFC 6455 section 7.4.
const (
	CloseNormal            CloseCode = 1000 // by the client: the session ends
	CloseGoingAway         CloseCode = 1001 // by the client: the session ends
	CloseTooBig            CloseCode = 1009 // a frame over MaxMessage
	CloseSlow              CloseCode = 1013 // the outbox is full: resume
	CloseUnknownOp         CloseCode = 4001
	CloseDecode            CloseCode = 4002 // not JSON, or not what the op wants
	CloseNotAuthenticated  CloseCode = 4003 // something else before Identify
	CloseAuthentication    CloseCode = 4004 // the grant does not permit this
	CloseAlreadyIdentified CloseCode = 4005
	CloseSessionInvalid    CloseCode = 4006 // no such session: ask for a new grant
	CloseTimeout           CloseCode = 4009 // no heartbeat, or no Identify
	CloseNotFound          CloseCode = 4011 // the node or call of the grant cannot be reached
	CloseUnknownProtocol   CloseCode = 4012
	CloseDisconnected      CloseCode = 4014 // kicked, moved, or joined from elsewhere: do not come back by yourself
	CloseCrashed           CloseCode = 4015 // this instance or the engine failed: resume
	CloseBadRequest        CloseCode = 4020 // well formed, but cannot be done
	CloseRateLimited       CloseCode = 4021
)

var closeTexts = map[CloseCode]string{
	CloseNormal:            "closed",
	CloseGoingAway:         "going away",
	CloseTooBig:            "message too big",
	CloseSlow:              "reads too slowly",
	CloseUnknownOp:         "unknown opcode",
	CloseDecode:            "cannot decode message",
	CloseNotAuthenticated:  "not authenticated",
	CloseAuthentication:    "authentication failed",
	CloseAlreadyIdentified: "already identified",
	CloseSessionInvalid:    "session is no longer valid",
	CloseTimeout:           "timed out",
	CloseNotFound:          "voice server not found",
	CloseUnknownProtocol:   "unknown protocol",
	CloseDisconnected:      "disconnected",
	CloseCrashed:           "voice server failed, resume",
	CloseBadRequest:        "bad request",
	CloseRateLimited:       "rate limited",
}

// String is the code with its meaning.
func (c CloseCode) String() string {
	if text, ok := closeTexts[c]; ok {
		return fmt.Sprintf("%d %s", uint16(c), text)
	}
	return fmt.Sprintf("%d", uint16(c))
}

// Text is the reason that goes with the code on the wire.
func (c CloseCode) Text() string { return closeTexts[c] }

// Resumable says whether a client that was closed with c should resume its
// session, on this endpoint or the next. All codes of RFC 6455 but a normal
// closure are: they tell of the connection, not of the session.
func (c CloseCode) Resumable() bool {
	switch c {
	case CloseNormal:
		return false
	case CloseTimeout, CloseCrashed:
		return true
	}
	return c < 4000
}
