// Package signaling is the voice gateway: the WebSocket on which a client that
// holds a grant opens its voice session, agrees on a transport and hears who
// speaks.
//
// In come frames of clients and call events ([edgeagent.CallEvent]) of nodes;
// out go messages to clients and requests to nodes. No media passes here, and
// nothing durable lives here: a killed instance costs its clients a resume on
// another one and the media nothing.
//
// The five nouns:
//
//   - message: {"op", "d"} and, from version 8 on, "seq";
//   - grant: the token of VOICE_SERVER_UPDATE, the only permission there is;
//   - session: what a grant opened on a node. It outlives its WebSocket;
//   - replay: the numbered messages a session may have missed, kept for a
//     resume on the same instance;
//   - roster: the members of the call with their SSRC and speaking flags.
//
// What a client and a server say to each other stands in protocol.md. Limits are
// in limits.go, close codes in close.go. What runs is in signalingserver; the Go
// client is voiceclient.
//
//	client ══ WebSocket ══ reader ─► session core ─► outbox ─► writer
//	                                  │       ▲
//	                     requests ────┘       └──── call events, replies
//	                         ▼                             │
//	                        node ◄──────── bus ────────────┘
package signaling
