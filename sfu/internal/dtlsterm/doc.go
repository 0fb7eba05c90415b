// Package dtlsterm terminates the DTLS 1.2 handshakes of a node (RFC 6347, RFC
// 5764) and leaves nothing running behind them.
//
// In come the datagrams of one client, whose address ICE has validated, and the
// fingerprint from its offer; out go our datagrams and, once, a [Result]: the
// SRTP keying material or why there is none. Three goroutines and about 40 KiB
// live from [Terminator.Begin] to the Result; how many at once is bounded. What
// remains of a finished handshake is its [LastFlight], bytes that answer a
// client which did not get them.
//
// No alert ever leaves: a stranger who guessed a client's address learns
// nothing and can end nothing, and a client whose handshake failed learns it
// over signaling.
package dtlsterm
