// Package sfu is the media engine: it forwards the voices and cameras of a call to
// its members and does nothing else (selective forwarding middlebox, RFC 7667
// section 3.7).
//
// In come datagrams of clients and a stream of [Command] from the node's agent;
// out go datagrams to clients and a stream of [Event] to the agent. The engine
// holds no policy: who may join, speak or be heard is told to it.
//
// The five nouns:
//
//   - session: one client in one call: an ICE-lite address, a pair of SRTP keys,
//     one SSRC to speak with and K slots to listen on, and maybe a camera and
//     views of those of others;
//   - call: the sessions that hear one another. A call lives on one worker;
//   - worker: one UDP port, one goroutine, the only owner of its calls and
//     sessions, so that the packet path takes no lock;
//   - stage: the at most 33 speakers of a call that are forwarded now, chosen
//     by loudness (RFC 6464) among those the silence gate lets through;
//   - slot: one of a listener's K receive streams; a speaker on stage is
//     switched into a slot with gapless sequence numbers, named by CSRC.
//
// The way of a packet:
//
//	recvmmsg → demux (RFC 7983, 5-tuple) → open in place → forward core ─┐
//	   sendmmsg ← egress ring ← seal per receiver ← slot, seq, ts ◄──────┘
//
// Limits stand in limits.go, drop reasons in drop.go, the command stream in
// command.go and stream.go. What runs is in sfuserver.
package sfu
