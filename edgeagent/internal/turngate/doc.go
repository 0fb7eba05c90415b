// Package turngate stands in front of a TURN server (RFC 8656) and decides what
// of a datagram or frame from a client may reach it. Nothing that is not
// authentic gets through, and nothing unauthentic is answered with more than
// twice its length, more than ten times a second for a source prefix.
//
// The server behind it, pion/turn, would answer a bare header of 20 bytes with 80,
// take its nonces from any address for an hour, and permit any peer. The gate
// makes nonces of its own, which are bound to an address and stand for five
// minutes, checks each request's MESSAGE-INTEGRITY, asks whether its peers are
// media sockets of the fleet, and passes it on with the server's nonce in place of
// its own, signed again. What it refuses it answers itself.
//
// It has no socket, no clock and no lock.
package turngate
