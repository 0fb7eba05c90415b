package crypt

import "crypto/cipher"

// Labels of the session keys (RFC 3711 section 4.3.1 and table 1).
const (
	labelRTPKey   = 0
	labelRTPAuth  = 1
	labelRTPSalt  = 2
	labelRTCPKey  = 3
	labelRTCPAuth = 4
	labelRTCPSalt = 5
)

// derive is the AES-CM key derivation with rate zero (RFC 3711 section 4.3.3).
// A salt of 12 bytes is taken as one of 14 that ends in zeros (RFC 7714 section
// 11).
func derive(master cipher.Block, salt []byte, label byte, out []byte) {
	var x [16]byte
	copy(x[:14], salt)
	x[7] ^= label
	var stream [16]byte
	for n := 0; len(out) > 0; n++ {
		x[14], x[15] = byte(n>>8), byte(n)
		master.Encrypt(stream[:], x[:])
		out = out[copy(out, stream[:]):]
	}
}
