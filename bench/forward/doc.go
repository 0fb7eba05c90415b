// Package forward measures what a node costs: CPU time per forwarded packet
// beside a raw sendmmsg loop, the same with encryption, and a forwarder of stock
// pion/webrtc ([Run]), and memory per session ([Memory]).
//
// The node is the real program (voicefleet edge: agent and engine), a process of
// its own, opened and negotiated with over the bus as the voice gateway does it.
// Its clients are light clients in processes of their own. CPU is utime and stime
// of /proc/<pid>/stat, memory is Rss of /proc/<pid>/smaps_rollup.
//
// What is expected does not come from the node: with at most 33 talkers who never
// pause and K = 32, everybody hears everybody else, so a window of n intervals
// with t talkers among m members is n·t·(m-1) packets. Packets of the window are
// longer than those of the warm-up and the tail, so that none is counted at the
// wrong side of an edge.
package forward
