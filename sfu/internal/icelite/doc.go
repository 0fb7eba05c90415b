// Package icelite answers the connectivity checks of clients as an ICE-lite
// agent (RFC 8445 section 2.5): no address a client writes anywhere is ever
// contacted. Only one that an authentic check came from is asked whether it receives
// what is sent there ([Key.AppendRequest], [Key.Answers]).
//
// In comes a datagram; [Peek] finds the user name fragment it is meant for
// without any cryptography, [Limiter] bounds how many are verified per source
// prefix, [Key.Check] verifies MESSAGE-INTEGRITY and [Key.AppendSuccess] writes
// the answer. A [Prober] does all of it for requests that belong to no session.
// Whatever fails gets no answer at all. Nothing here allocates per
// datagram.
package icelite
