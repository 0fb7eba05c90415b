// Package oneport lets http and https live on one TCP port: the first byte a
// client sends tells them apart. A TLS record of a ClientHello begins with 22
// (RFC 8446 section 5.1); no method of HTTP does.
//
// A connection that has not yet said its first byte costs one goroutine and is
// held for five seconds at most; their number is bounded in all and per source
// prefix, so that silent connections can fill neither memory nor the table of
// file descriptors. What comes beyond waits, bounded too, for the place of one
// that has spoken; silent ones are held for a second only while others wait.
// Places go to sources in random order, so a crowd behind one address does not
// hold up the others.
package oneport
