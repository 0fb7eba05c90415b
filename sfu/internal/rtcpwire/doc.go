// Package rtcpwire reads and writes the RTCP that voice and video need: sender and
// receiver reports with source descriptions (RFC 3550 section 6.4 and 6.5), generic
// NACK (RFC 4585 section 6.2.1) and requests for a key frame (RFC 4585 section
// 6.3.1, RFC 5104 section 4.3.1); and it keeps the statistics of one incoming source
// that a reception report is made of. Nothing here allocates.
package rtcpwire
