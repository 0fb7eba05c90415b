// Package linkwire is what goes over the link between two nodes, and the arithmetic
// on both sides of it: datagrams that carry relay packets, halves of those that are
// too long for one, and the queue in front of the link. No I/O and no clock.
//
// A datagram, big-endian:
//
//	0  1  Version
//	1  3  zero
//	4  4  number: rises by one per datagram; what is missing was lost on the way
//	8     a list of relay packets (sfu.NextRelay). None: the link is alive
//
// Packets that wait at the same time share a datagram, so a link costs less per
// packet the more it carries, and nobody waits for company.
package linkwire
