// Package rtpwire reads and writes RTP packets (RFC 3550 section 5.1) as far as
// forwarding voice needs: the fixed header, where header and payload end, the
// audio level of RFC 6464 in one-byte and two-byte header extensions (RFC 8285),
// and the length of an Opus frame's payload (RFC 6716 section 3.1). Nothing here
// allocates.
package rtpwire
