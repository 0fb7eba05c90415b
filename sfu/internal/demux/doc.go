// Package demux tells the protocols on a worker's one UDP port apart and names
// the clients on it: the class of a datagram by its first byte (RFC 7983) and
// the remote half of its 5-tuple as a map key. The local half is the worker's
// socket.
package demux
