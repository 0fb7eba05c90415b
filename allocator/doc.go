// Package allocator places calls: on the closest and emptiest node, once.
//
// In come heartbeats of all nodes (the discovery snapshot) and requests to
// place a user into a call; out goes an [Assignment]: the node, the voice
// endpoints and a signed grant. The truth it owns is call → node, one entry of
// the calls bucket per live call, written by compare-and-swap, so that two
// allocators never split one call.
//
// The five nouns:
//
//   - snapshot: the nodes as their last heartbeats show them;
//
//   - candidate: a node with its distance, its headroom and its cost;
//
//   - reservation: load that was placed but does not show in a heartbeat yet;
//
//   - assignment: the answer, with the grant;
//
//   - explanation: every candidate with its numbers and why it was not chosen.
//
// Which nodes live, and where the calls of those go that do not, is decided in
// package keeper; which node a call gets, in package placement.
//
//	nodes bucket ──► snapshot ─┐
//	place request ────────────►├─ cost, two random choices ──► calls bucket (CAS) ──► assignment
//	reservations ─────────────►┘
package allocator
