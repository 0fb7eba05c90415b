// Package lightclient is a WebRTC listener and talker that costs a generator a few
// kilobytes and no goroutine, so that one machine can load a node beside it with
// thousands of users.
//
// On loopback all clients of an [Engine] share a few sockets: each has an address
// 127.x.y.z of its own, sends from it (IP_PKTINFO, ipi_spec_dst) and is told by
// it, so a server sees as many 5-tuples as clients. Elsewhere each has a socket.
//
// Three goroutines serve all clients. The reader and the pacer have a thread each;
// their CPU time is known apart ([Pace]).
//
//	reader   recvmmsg → client by destination address → first byte (RFC 7983)
//	           ─┬─ STUN: answer, or our check came back
//	            ├─ DTLS: to the handshake under way
//	            └─ RTP: slot by SSRC, count; a sampled client opens it (RFC 7714)
//	               and lets package meter hear its mark
//	pacer    tick → packets due → Opus with mark → seal → one sendmmsg
//	checker  consent (RFC 7675) of 1/250 of the clients every 10 ms
//
// It is written apart from the server on purpose: ICE by pion/stun, the handshake
// by pion/dtls whose Conn is dropped when the keys are out.
//
// A packet's due time is planned, not observed: after a stall the pacer sends what
// was due in the last second with the marks it would have had, and tells the rest
// as failed, so that a slow generator never looks like a fast server.
//
// All times that come in and go out are those of a coordinator, whose clock may be
// another machine's: [Setup] tells how far ours is ahead, and it is taken off each
// look at the clock and each arrival.
//
// What it does not do: jitter buffer, decoding, RTCP but for receiver reports, roaming, ICE restart, replay
// protection (a duplicate is to be counted).
package lightclient
