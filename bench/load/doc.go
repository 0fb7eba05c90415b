// Package load runs scenarios: it starts a server or goes to one that runs,
// brings members in through its doors, lets them talk, does to it what the
// scenario's steps say, and tells what every listener heard and what it cost.
//
//	arrive ── warm up ── window (steps, churn) ── tail ── collect
//
// Members are light clients in generator processes, faithful bots on pion/webrtc
// in this one, or both in the same room. What is expected of a listener follows
// from the plan alone: everybody in a room hears everybody else who talks.
//
// The window is told from what surrounds it by size: packets due in it are longer,
// so that clients that only count headers count it exactly. Clients that are
// sampled open what they get and judge it by the marks (package mark, package
// meter).
//
// A figure stands only if those who made it kept up: when a generator sent late,
// stalled, or lost datagrams in its own receive buffers, every goal is void and
// the report says which machine was the bottleneck.
package load
