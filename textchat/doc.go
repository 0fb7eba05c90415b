// Package textchat is the companion of voice: accounts, guilds, channels,
// roles, invites and messages, a REST API and a gateway WebSocket at the shape
// of Discord's public API v9 and v10, so that stock bot libraries work.
//
// In come HTTP requests, gateway frames and call events of edge nodes
// ([voicefleet/edgeagent.CallEvent]); out go JSON answers, gateway events and
// requests to place users into calls.
//
// The five nouns:
//
//   - guild: members, roles, channels and voice states. One goroutine owns each
//     one; every change and every event of it passes there, so all sessions see
//     the same order;
//
//   - session: what an Identify began. It numbers the events of one client and
//     keeps the last ones, so that a client whose connection broke loses none;
//
//   - permission: what a member may do in a channel, a pure function of roles
//     and overwrites ([Resolve]);
//
//   - store: the durable truth ([Store]). What is acknowledged was written;
//
//   - voice state: who is in which voice channel, by which session. It lives in
//     the guild and nowhere else, and dies with the session.
//
// What runs is in chatserver. Routes and bodies that are ours, not Discord's,
// stand in api.md. Limits are in limits.go, close codes in op.go, error codes in
// errors.go.
//
//	REST ──────┐                    ┌──► store (changes first, then events)
//	           ├─► guild owner ─────┤
//	gateway ───┘    (pure core)     ├──► sessions ──► WebSockets
//	call events ───────▲            └──► allocator (place, update, remove)
//	                   └────────────────────┘ (answers, as inputs)
package textchat
