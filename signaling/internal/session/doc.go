// Package session decides what happens on one voice connection and in the
// session behind it: who may identify, what is answered, what is kept for a
// resume, when it ends. It has no socket, clock, goroutine or log: a shell
// passes frames, replies and call events to [Session.Handle], and does what
// [Out] says.
//
// A Session begins with a connection and outlives it once it is open: without a
// connection it goes on numbering and keeping messages until ReplayKept is over
// or a new connection is attached.
package session
