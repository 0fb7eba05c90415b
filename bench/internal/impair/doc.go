// Package impair is a UDP proxy in the media path of a run that spoils it in a
// known way: it drops, delays, doubles and reorders RTP by a seed, and counts
// exactly what it did. What a measurement says of such a path can be checked
// against the truth.
//
//	client ──▶ door (one socket per address of the server)
//	             │ by source address: a client, with an upstream socket of its own
//	             ▼
//	           STUN, DTLS, RTCP ────────────────────────────▶ server, at once
//	           RTP ─▶ flow ─┬─ dropped: lost, clipped
//	                        ├─ at once ─────────────────────▶
//	                        └─ pending, by time ─ timer ────▶
//
// and the same way back. Only RTP is impaired (told from the rest by RFC 7983
// section 7 and RFC 5761 section 4), so that a call still comes about and stays;
// only a cut takes everything.
//
// Door: a listening socket; [Proxy.Rewrite] puts its address in the place of the
// server's. Client: a source address at a door; the server sees the upstream
// socket. Flow: the RTP packets of one SSRC of one client in one direction; each
// has its own random numbers, made of the seed and of its number in order of
// appearance, so that the same packets meet the same fate in every run. Rule: what
// happens to the packets of a direction; it may change at any time, and packets
// that are pending keep the time they were given.
//
// One thread does all the work. It keeps time by the kernel's time of arrival and
// a timerfd, so a delay does not depend on when it got to read a packet. On a
// machine whose cores are all busy it can still come late, and it says so
// ([Tally.Late], [Tally.Worst]): it wants the scheduler's favour where it may take
// it (nice -10), and is best run in a process that does little else.
//
// Limits: 64 doors, 4,096 clients, 64 flows per client and direction, 65,536
// pending packets, datagrams of 2,048 bytes. What goes beyond is dropped and
// counted. A packet costs 10 to 15 µs of CPU time and no allocation: two system calls
// and, when it waits, setting the timer.
package impair
