package lightclient

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// tagSize is what sealing adds (RFC 7714 section 12: AEAD_AES_128_GCM).
const tagSize = 16

// Labels of the key derivation, RFC 3711 section 4.3.2.
const (
	labelKey      = 0
	labelSalt     = 2
	labelRTCPKey  = 3
	labelRTCPSalt = 5
)

// transform is SRTP with AEAD_AES_128_GCM in one direction. It allocates nothing
// once it is made.
type transform struct {
	aead cipher.AEAD
	salt [12]byte
	iv   [12]byte // of the packet under way
}

// newTransform derives the session key and salt of a direction (RFC 3711 section
// 4.3.1 with a key derivation rate of zero, salt padded as RFC 7714 section 11).
func newTransform(masterKey, masterSalt []byte) (*transform, error) {
	return deriveTransform(masterKey, masterSalt, labelKey, labelSalt)
}

// newControl is newTransform for SRTCP.
func newControl(masterKey, masterSalt []byte) (*transform, error) {
	return deriveTransform(masterKey, masterSalt, labelRTCPKey, labelRTCPSalt)
}

func deriveTransform(masterKey, masterSalt []byte, forKey, forSalt byte) (*transform, error) {
	t := &transform{}
	if len(masterKey) != 16 || len(masterSalt) != len(t.salt) {
		return nil, fmt.Errorf("SRTP keys of %d and %d bytes, want 16 and 12", len(masterKey), len(masterSalt))
	}
	master, err := aes.NewCipher(masterKey)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	derive := func(label byte) (out [16]byte) {
		var in [16]byte
		copy(in[:], masterSalt)
		in[7] ^= label
		master.Encrypt(out[:], in[:])
		return out
	}
	key, salt := derive(forKey), derive(forSalt)
	copy(t.salt[:], salt[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	if t.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return t, nil
}

// nonce fills iv (RFC 7714 section 8.1): two zero bytes, SSRC, roll-over counter,
// sequence number, all exclusive-or the salt.
func (t *transform) nonce(ssrc, roc uint32, seq uint16) {
	t.iv = [12]byte{}
	binary.BigEndian.PutUint32(t.iv[2:], ssrc)
	binary.BigEndian.PutUint32(t.iv[6:], roc)
	binary.BigEndian.PutUint16(t.iv[10:], seq)
	for i := range t.iv {
		t.iv[i] ^= t.salt[i]
	}
}

// seal encrypts what is behind head bytes of header, in place: packet has room for
// the tag behind it.
func (t *transform) seal(packet []byte, head int, roc uint32) []byte {
	t.nonce(binary.BigEndian.Uint32(packet[8:]), roc, binary.BigEndian.Uint16(packet[2:]))
	sealed := t.aead.Seal(packet[head:head], t.iv[:], packet[head:], packet[:head])
	return packet[:head+len(sealed)]
}

// open decrypts an RTP packet into dst, which has room for it, and returns the
// payload; head is the length of its header.
func (t *transform) open(dst, packet []byte, head int, roc uint32) ([]byte, bool) {
	t.nonce(binary.BigEndian.Uint32(packet[8:]), roc, binary.BigEndian.Uint16(packet[2:]))
	plain, err := t.aead.Open(dst[:0], t.iv[:], packet[head:], packet[:head])
	return plain, err == nil
}

// sealControl encrypts an RTCP compound in place and appends tag and index (RFC
// 7714 section 9.2): packet has room for both behind it.
func (t *transform) sealControl(packet []byte, index uint32) []byte {
	const clear, encrypted = 8, 1 << 31 // header and SSRC; the E flag
	t.iv = [12]byte{}
	copy(t.iv[2:], packet[4:8])
	binary.BigEndian.PutUint32(t.iv[8:], index)
	for i := range t.iv {
		t.iv[i] ^= t.salt[i]
	}
	var aad [clear + 4]byte
	copy(aad[:], packet[:clear])
	binary.BigEndian.PutUint32(aad[clear:], encrypted|index)
	sealed := t.aead.Seal(packet[clear:clear], t.iv[:], packet[clear:], aad[:])
	return append(packet[:clear+len(sealed)], aad[clear:]...)
}

// headerSize is the length of an RTP header with its sources and extension (RFC
// 3550 section 5.1); false when the packet is shorter.
func headerSize(packet []byte) (int, bool) {
	n := 12 + 4*int(packet[0]&15)
	if packet[0]&0x10 != 0 {
		if len(packet) < n+4 {
			return 0, false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(packet[n+2:]))
	}
	return n, len(packet) >= n+tagSize
}

// rollover is the receiver's estimate of a stream's roll-over counter.
type rollover struct {
	roc   uint32
	top   uint16 // highest sequence number that was authentic
	begun bool
}

// guess is the counter of a packet, RFC 3711 section 3.3.1 and appendix A.
func (r rollover) guess(seq uint16) uint32 {
	switch {
	case !r.begun:
		return 0
	case r.top < 1<<15 && int(seq)-int(r.top) > 1<<15:
		return r.roc - 1
	case r.top >= 1<<15 && int(r.top)-1<<15 > int(seq):
		return r.roc + 1
	}
	return r.roc
}

// took tells of an authentic packet.
func (r *rollover) took(seq uint16, roc uint32) {
	if !r.begun || roc == r.roc+1 || roc == r.roc && seq > r.top {
		r.roc, r.top, r.begun = roc, seq, true
	}
}
