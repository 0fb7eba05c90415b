// Package lightclient is a WebRTC listener and talker that costs a generator tens
// of kilobytes and no goroutine, so that one machine can load a node beside it.
//
// A client has one UDP socket, because a server tells its peers apart by their
// 5-tuple. All sockets of an [Engine] are read by one goroutine (epoll and
// recvmmsg), all timers are one goroutine, all talkers are one goroutine. It is
// written apart from the server on purpose: ICE by pion/stun, the handshake by
// pion/dtls whose Conn is dropped when the keys are out, SRTP by pion/srtp.
//
//	epoll → recvmmsg → first byte (RFC 7983) ─┬─ STUN: answer, or our check came back
//	                                          ├─ DTLS: to the handshake under way
//	                                          └─ RTP: slot by SSRC, count; a sample is
//	                                             opened and its mark read
//
// What it does not do: jitter buffer, decoding, RTCP, roaming, ICE restart.
package lightclient
