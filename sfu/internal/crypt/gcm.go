package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// gcm is AEAD_AES_128_GCM for one direction (RFC 7714).
type gcm struct {
	// Immutable.
	rtp, rtcp         cipher.AEAD
	rtpSalt, rtcpSalt [gcmSaltLen]byte

	// Scratch of the call under way: what is handed to an interface escapes, so
	// it lives here and not on the stack.
	nonce [gcmSaltLen]byte
	aad   [rtcpPrefix + rtcpIndexLen]byte
}

func newGCM(k Keys) (*gcm, error) {
	master, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	g := new(gcm)
	derive(master, k.Salt, labelRTPSalt, g.rtpSalt[:])
	derive(master, k.Salt, labelRTCPSalt, g.rtcpSalt[:])
	if g.rtp, err = sessionGCM(master, k.Salt, labelRTPKey); err != nil {
		return nil, err
	}
	if g.rtcp, err = sessionGCM(master, k.Salt, labelRTCPKey); err != nil {
		return nil, err
	}
	return g, nil
}

func sessionGCM(master cipher.Block, salt []byte, label byte) (cipher.AEAD, error) {
	var key [keyLen]byte
	derive(master, salt, label, key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return aead, nil
}

// rtpNonce is 00 00 ‖ SSRC ‖ ROC ‖ SEQ, masked with the salt (RFC 7714 section
// 8.1).
func (g *gcm) rtpNonce(header []byte, index uint64) {
	s := &g.rtpSalt
	binary.BigEndian.PutUint32(g.nonce[0:], binary.BigEndian.Uint32(s[0:])^uint32(binary.BigEndian.Uint16(header[8:])))
	lower := uint64(binary.BigEndian.Uint16(header[10:]))<<48 | index&MaxIndex
	binary.BigEndian.PutUint64(g.nonce[4:], binary.BigEndian.Uint64(s[4:])^lower)
}

// rtcpNonce is 00 00 ‖ SSRC ‖ 00 00 ‖ index, masked with the salt (RFC 7714
// section 9.1).
func (g *gcm) rtcpNonce(packet []byte, index uint32) {
	s := &g.rtcpSalt
	binary.BigEndian.PutUint32(g.nonce[0:], binary.BigEndian.Uint32(s[0:])^uint32(binary.BigEndian.Uint16(packet[4:])))
	lower := uint64(binary.BigEndian.Uint16(packet[6:]))<<48 | uint64(index)
	binary.BigEndian.PutUint64(g.nonce[4:], binary.BigEndian.Uint64(s[4:])^lower)
}

func (g *gcm) Overhead() int { return gcmTagLen }

func (g *gcm) SealRTP(dst, header, payload []byte, index uint64) []byte {
	g.rtpNonce(header, index)
	start := len(dst)
	dst = append(dst, header...)
	return g.rtp.Seal(dst, g.nonce[:], payload, dst[start:])
}

func (g *gcm) OpenRTP(packet []byte, header int, index uint64) ([]byte, bool) {
	if header < 12 || len(packet) < header+gcmTagLen {
		return nil, false
	}
	g.rtpNonce(packet, index)
	sealed := packet[header:]
	payload, err := g.rtp.Open(sealed[:0], g.nonce[:], sealed, packet[:header])
	return payload, err == nil
}

func (g *gcm) SealRTCP(dst, compound []byte, index uint32) []byte {
	index &= MaxRTCPIndex
	g.rtcpNonce(compound, index)
	// What is authenticated: the clear header and the trailer (RFC 7714 section
	// 9.2).
	copy(g.aad[:], compound[:rtcpPrefix])
	binary.BigEndian.PutUint32(g.aad[rtcpPrefix:], rtcpE|index)
	dst = append(dst, compound[:rtcpPrefix]...)
	dst = g.rtcp.Seal(dst, g.nonce[:], compound[rtcpPrefix:], g.aad[:])
	return append(dst, g.aad[rtcpPrefix:]...)
}

func (g *gcm) RTCPIndex(packet []byte) (uint32, bool) {
	if len(packet) < rtcpPrefix+gcmTagLen+rtcpIndexLen {
		return 0, false
	}
	return binary.BigEndian.Uint32(packet[len(packet)-rtcpIndexLen:]) &^ rtcpE, true
}

// OpenRTCP refuses packets without the E flag: they are authenticated but not
// encrypted, which no WebRTC endpoint sends (RFC 8827 section 6.5).
func (g *gcm) OpenRTCP(packet []byte) ([]byte, uint32, bool) {
	index, ok := g.RTCPIndex(packet)
	trailer := len(packet) - rtcpIndexLen
	if !ok || packet[trailer]&0x80 == 0 {
		return nil, 0, false
	}
	g.rtcpNonce(packet, index)
	copy(g.aad[:], packet[:rtcpPrefix])
	copy(g.aad[rtcpPrefix:], packet[trailer:])
	sealed := packet[rtcpPrefix:trailer]
	plain, err := g.rtcp.Open(sealed[:0], g.nonce[:], sealed, g.aad[:])
	if err != nil {
		return nil, 0, false
	}
	return packet[:rtcpPrefix+len(plain)], index, true
}
