// Package vivaldi keeps network coordinates: places in a made-up space between
// which the distance is about the round trip time. A few measurements of each
// node tell those to all others (Dabek et al., "Vivaldi: a decentralized network
// coordinate system", SIGCOMM 2004). It is arithmetic without clock or I/O; the
// only chance in it is the direction in which two nodes at one spot part, and
// comes from the caller.
package vivaldi
