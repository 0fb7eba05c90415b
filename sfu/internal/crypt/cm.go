package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
)

// cm is AES_CM_128_HMAC_SHA1_80 for one direction (RFC 3711 sections 4.1.1 and
// 4.2.1).
type cm struct {
	// Immutable.
	rtp, rtcp         cipher.Block
	rtpSalt, rtcpSalt [cmSaltLen]byte

	// Scratch of the call under way.
	rtpMAC, rtcpMAC hash.Hash
	counter, stream [aes.BlockSize]byte
	roc             [4]byte
	sum             [sha1.Size]byte
}

func newCM(k Keys) (*cm, error) {
	master, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	c := new(cm)
	derive(master, k.Salt, labelRTPSalt, c.rtpSalt[:])
	derive(master, k.Salt, labelRTCPSalt, c.rtcpSalt[:])
	var key [keyLen]byte
	derive(master, k.Salt, labelRTPKey, key[:])
	if c.rtp, err = aes.NewCipher(key[:]); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	derive(master, k.Salt, labelRTCPKey, key[:])
	if c.rtcp, err = aes.NewCipher(key[:]); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	var auth [sha1.Size]byte
	derive(master, k.Salt, labelRTPAuth, auth[:])
	c.rtpMAC = hmac.New(sha1.New, auth[:])
	derive(master, k.Salt, labelRTCPAuth, auth[:])
	c.rtcpMAC = hmac.New(sha1.New, auth[:])
	return c, nil
}

// xor encrypts or decrypts text in place. The counter block is
// salt·2^16 ⊕ SSRC·2^64 ⊕ index·2^16 (RFC 3711 section 4.1.1).
func (c *cm) xor(block cipher.Block, salt *[cmSaltLen]byte, ssrc []byte, index uint64, text []byte) {
	clear(c.counter[:])
	copy(c.counter[:], salt[:])
	subtle.XORBytes(c.counter[4:8], c.counter[4:8], ssrc)
	lower := binary.BigEndian.Uint64(c.counter[8:])
	binary.BigEndian.PutUint64(c.counter[8:], lower^index<<16)
	for n := uint16(0); len(text) > 0; n++ {
		binary.BigEndian.PutUint16(c.counter[14:], n)
		block.Encrypt(c.stream[:], c.counter[:])
		text = text[subtle.XORBytes(text, text, c.stream[:]):]
	}
}

// tag leaves the first 80 bits of HMAC-SHA1 over authenticated and then suffix
// in sum.
func (c *cm) tag(mac hash.Hash, authenticated, suffix []byte) []byte {
	mac.Reset()
	mac.Write(authenticated)
	mac.Write(suffix)
	return mac.Sum(c.sum[:0])[:cmTagLen]
}

func (c *cm) Overhead() int { return cmTagLen }

func (c *cm) SealRTP(dst, header, payload []byte, index uint64) []byte {
	start := len(dst)
	dst = append(append(dst, header...), payload...)
	c.xor(c.rtp, &c.rtpSalt, header[8:12], index, dst[start+len(header):])
	binary.BigEndian.PutUint32(c.roc[:], uint32(index>>16))
	return append(dst, c.tag(c.rtpMAC, dst[start:], c.roc[:])...)
}

func (c *cm) OpenRTP(packet []byte, header int, index uint64) ([]byte, bool) {
	if header < 12 || len(packet) < header+cmTagLen {
		return nil, false
	}
	end := len(packet) - cmTagLen
	binary.BigEndian.PutUint32(c.roc[:], uint32(index>>16))
	if subtle.ConstantTimeCompare(c.tag(c.rtpMAC, packet[:end], c.roc[:]), packet[end:]) != 1 {
		return nil, false
	}
	payload := packet[header:end]
	c.xor(c.rtp, &c.rtpSalt, packet[8:12], index, payload)
	return payload, true
}

func (c *cm) SealRTCP(dst, compound []byte, index uint32) []byte {
	index &= MaxRTCPIndex
	start := len(dst)
	dst = append(dst, compound...)
	c.xor(c.rtcp, &c.rtcpSalt, compound[4:8], uint64(index), dst[start+rtcpPrefix:])
	dst = binary.BigEndian.AppendUint32(dst, rtcpE|index)
	return append(dst, c.tag(c.rtcpMAC, dst[start:], nil)...)
}

func (c *cm) RTCPIndex(packet []byte) (uint32, bool) {
	if len(packet) < rtcpPrefix+rtcpIndexLen+cmTagLen {
		return 0, false
	}
	return binary.BigEndian.Uint32(packet[len(packet)-cmTagLen-rtcpIndexLen:]) &^ rtcpE, true
}

// OpenRTCP refuses packets without the E flag, as gcm does.
func (c *cm) OpenRTCP(packet []byte) ([]byte, uint32, bool) {
	index, ok := c.RTCPIndex(packet)
	end := len(packet) - cmTagLen
	if !ok || packet[end-rtcpIndexLen]&0x80 == 0 {
		return nil, 0, false
	}
	if subtle.ConstantTimeCompare(c.tag(c.rtcpMAC, packet[:end], nil), packet[end:]) != 1 {
		return nil, 0, false
	}
	compound := packet[:end-rtcpIndexLen]
	c.xor(c.rtcp, &c.rtcpSalt, packet[4:8], uint64(index), compound[rtcpPrefix:])
	return compound, index, true
}
