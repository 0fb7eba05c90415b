// Package cache keeps what NACK (RFC 4585 section 6.2.1) may ask for again: the
// payloads of one speaker, once for all listeners ([Arena]), and what was sent in
// one slot of one listener ([Sent]). Together they are enough to build the same
// packet again, byte for byte. Both are bounded and overwrite the oldest.
package cache
