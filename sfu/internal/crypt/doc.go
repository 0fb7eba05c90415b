// Package crypt is the one seam through which packets are sealed and opened.
//
// An [Opener] and a [Sealer] each belong to one direction of one session and to
// one goroutine. They hold keys and scratch space and no other state: the 48-bit
// packet index (RFC 3711 section 3.3.1) is the caller's, kept in a [Window] per
// incoming source and in a counter per outgoing one. Nothing here allocates, for
// packets that are refused neither.
//
// Today's implementations are AEAD_AES_128_GCM (RFC 7714) and
// AES_CM_128_HMAC_SHA1_80 (RFC 3711).
package crypt
