// Package bustest is for tests on a real bus: three NATS servers as one cluster, each
// in a process of its own, so that one can die or stand still as a machine does; and
// requests that no client of ours would make. It knows nothing of package bus: whose
// tests it serves starts the servers.
package bustest
