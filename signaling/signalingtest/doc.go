// Package signalingtest holds a node in memory: what signaling asks of an agent,
// answered without bus and engine, and an issuer of grants for it.
package signalingtest
