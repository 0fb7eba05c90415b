// Package edgeagent is the life of an edge node: it joins the fleet, tells how
// full it is, takes orders for its media engine and passes on what the engine
// reports.
//
// In come session requests over the bus and events of the engine ([sfu.Event]);
// out go a [Heartbeat] every second into the nodes bucket, answers, and
// [CallEvent] values for whoever serves the members of a call.
//
// The five nouns:
//
//   - node: one machine with one agent and one media engine;
//   - grant: the signed, short-lived, single-use permission to open one session
//     on one node;
//   - record: what the agent keeps of a session so that its voice WebSocket can
//     be resumed on any signaling instance;
//   - heartbeat: state, capacity and load of the node, a lease of 5 s;
//   - call event: somebody joined, left, began to speak, or sits in a slot.
//
// The agent is the parent of the engine process, or its neighbour in the same
// process; both ways it speaks the coded stream of package sfu to it.
//
//	bus ── requests ──► agent ── sfu.Command ──► sfu
//	bus ◄── heartbeat, call events ── agent ◄── sfu.Event ── sfu
package edgeagent
