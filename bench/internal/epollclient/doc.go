// Package epollclient holds gateway sessions by the ten thousand: plain WebSockets
// of one server, read by one loop over epoll, without a goroutine or a buffer for
// each.
//
// A session connects from an address of its own choice, identifies, sends its
// heartbeats and takes note of every post it hears. A post says in its text which
// one it is and when it was due: "MARK NUMBER DUE ", DUE in Unix nanoseconds, so
// nobody has to be told of it before. Times end when the kernel had the bytes
// (SO_TIMESTAMPNS). It resumes at the server that its READY names.
//
// A raw session is the same without the gateway: after the upgrade it only listens.
// The yardstick of package rawfan writes to such ones.
//
// Everything is owned by the goroutine of Run; the other methods have it do things
// there, and wait.
package epollclient
