// Package edgeagentserver runs the agent of an edge node, and speaks to such
// agents over the bus.
//
// [Server] is the node's side: it keeps the media engine alive, answers the verbs
// of its node, publishes call events and writes the heartbeat. [Client] is
// everybody else's. [Closed] are the node's ways in for clients whose network lets
// no UDP through: they are the agent's, so that they outlive an engine.
package edgeagentserver
