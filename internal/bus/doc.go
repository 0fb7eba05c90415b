// Package bus is the one way rooms reach each other across processes: NATS, in
// the same process (embedded) or a cluster. It lists every subject and bucket
// (subjects.go), and holds what every room needs of it: connecting, starting
// the embedded server, requests with a deadline and typed JSON, leases.
package bus
