// Package netns is a private network on one machine: hosts in network namespaces of
// their own, each on a veth pair to a bridge that lives in one more namespace. The
// machine's own interfaces, routes and filters are left alone.
//
//	vf-RUN-hub      bridge ─┬─ veth ─ eth0 of vf-RUN-edge1   10.77.0.2
//	                        ├─ veth ─ eth0 of vf-RUN-edge2   10.77.0.3
//	                        └─ veth ─ eth0 of vf-RUN-clients 10.77.0.4, this process
//
// A process enters by [Isolate], which starts it again in a namespace of its own;
// programs are started on a host by a thread that went there ([Host.Enter]). Names
// hold the process id and its start, so that [Sweep] knows what a run left behind
// that did not get to its end, and never touches one that goes on.
//
// It works by ip(8) and nft(8), and needs root.
package netns
