package signaling

import "strconv"

// Op is the kind of a message.
type Op int

// The ops of the voice gateway. C is sent by clients, S by the server.
const (
	OpIdentify       Op = 0   // C
	OpSelectProtocol Op = 1   // C
	OpReady          Op = 2   // S, numbered
	OpHeartbeat      Op = 3   // C; S as its acknowledgement in versions 1 and 2
	OpDescription    Op = 4   // S, numbered
	OpSpeaking       Op = 5   // C and S, numbered
	OpHeartbeatAck   Op = 6   // S
	OpResume         Op = 7   // C
	OpHello          Op = 8   // S
	OpResumed        Op = 9   // S
	OpClientsConnect Op = 11  // S, numbered
	OpVideo          Op = 12  // C, ignored: a camera is what the offer says it is
	OpDisconnect     Op = 13  // S, numbered
	OpSessionUpdate  Op = 14  // C, ignored: there is one codec
	OpSinkWants      Op = 15  // C
	OpVersion        Op = 16  // C asks, S answers
	OpNoRoute        Op = 32  // C, ignored: WebRTC has no UDP discovery to fail
	OpSlots          Op = 100 // S, numbered; only to WebRTC clients
	OpReceiveReport  Op = 101 // C
	OpViews          Op = 102 // S, numbered; only to clients with views
)

var opNames = map[Op]string{
	OpIdentify: "identify", OpSelectProtocol: "select_protocol", OpReady: "ready", OpHeartbeat: "heartbeat",
	OpDescription: "session_description", OpSpeaking: "speaking", OpHeartbeatAck: "heartbeat_ack", OpResume: "resume",
	OpHello: "hello", OpResumed: "resumed", OpClientsConnect: "clients_connect", OpVideo: "video",
	OpDisconnect: "client_disconnect", OpSessionUpdate: "session_update", OpSinkWants: "media_sink_wants",
	OpVersion: "backend_version", OpNoRoute: "no_route", OpSlots: "slots",
	OpReceiveReport: "receive_report", OpViews: "views",
}

// String is the name of the op as a metric label; unknown ones are "unknown",
// so that a client cannot make labels.
func (op Op) String() string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return "unknown"
}

// Numbered says whether a message of this op carries "seq" from version 8 on,
// and is replayed at a resume.
func (op Op) Numbered() bool {
	switch op {
	case OpReady, OpDescription, OpSpeaking, OpClientsConnect, OpDisconnect, OpSlots, OpViews:
		return true
	}
	return false
}

// Version is the protocol version a client asked for in the query.
type Version int

// The versions. From FirstNumbered on messages are numbered and a heartbeat is
// an object.
const (
	OldestVersion Version = 1
	FirstNumbered Version = 8
	NewestVersion Version = 9
)

// ParseVersion reads the query parameter v. Without one it is the oldest.
func ParseVersion(v string) (Version, bool) {
	if v == "" {
		return OldestVersion, true
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < int(OldestVersion) || n > int(NewestVersion) {
		return 0, false
	}
	return Version(n), true
}
