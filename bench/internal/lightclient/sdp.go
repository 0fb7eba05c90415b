package lightclient

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// opusPT is the payload type we offer; Chromium's.
const opusPT = 111

// levelExt is the id we offer for ssrc-audio-level (RFC 6464).
const levelExt = 1

// offer writes the SDP of a client: one microphone and slots sections to listen
// on, one bundle, no candidates (the server learns our address from our checks).
func offer(ufrag, pwd string, fingerprint [sha256.Size]byte, mic uint32, slots int) string {
	w := &strings.Builder{}
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\r\n", args...) }
	line("v=0")
	line("o=- %d 1 IN IP4 127.0.0.1", uint64(mic)<<20|1)
	line("s=-")
	line("t=0 0")
	w.WriteString("a=group:BUNDLE")
	for i := range slots + 1 {
		fmt.Fprintf(w, " %d", i)
	}
	line("")
	line("a=msid-semantic: WMS *")
	for i := range slots + 1 {
		line("m=audio 9 UDP/TLS/RTP/SAVPF %d", opusPT)
		line("c=IN IP4 0.0.0.0")
		line("a=mid:%d", i)
		line("a=ice-ufrag:%s", ufrag)
		line("a=ice-pwd:%s", pwd)
		line("a=fingerprint:sha-256 %s", strings.ReplaceAll(fmt.Sprintf("% X", fingerprint), " ", ":"))
		line("a=setup:actpass")
		line("a=rtcp-mux")
		line("a=rtpmap:%d opus/48000/2", opusPT)
		line("a=fmtp:%d minptime=10;useinbandfec=1", opusPT)
		line("a=extmap:%d urn:ietf:params:rtp-hdrext:ssrc-audio-level", levelExt)
		if i > 0 {
			line("a=recvonly")
			continue
		}
		line("a=sendonly")
		line("a=msid:mic mic")
		line("a=ssrc:%d cname:light", mic)
	}
	return w.String()
}

// answer is what we need of the server's SDP.
type answer struct {
	ufrag, pwd  string
	fingerprint [sha256.Size]byte
	remote      netip.AddrPort // the first UDP candidate with an IPv4 address
	level       bool           // ssrc-audio-level was accepted for the microphone
	slots       []uint32       // SSRC per receive section, zero when not announced
}

// maxAnswer bounds an answer; 33 sections take about 15 KiB.
const maxAnswer = 64 << 10

// readAnswer reads it; sections counts the microphone too. It accepts the order
// and the levels (session or section) that servers use, and nothing of the
// attributes it does not know.
func readAnswer(text string, sections int) (answer, error) {
	var a answer
	if len(text) > maxAnswer {
		return a, fmt.Errorf("answer of %d bytes, at most %d are read", len(text), maxAnswer)
	}
	section, seen := -1, false
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r"), "=")
		if key == "m" {
			section++
			if section > 0 {
				a.slots = append(a.slots, 0)
			}
			continue
		}
		if key != "a" {
			continue
		}
		name, rest, _ := strings.Cut(value, ":")
		switch name {
		case "ice-ufrag":
			a.ufrag = first(a.ufrag, rest)
		case "ice-pwd":
			a.pwd = first(a.pwd, rest)
		case "fingerprint":
			hash, digest, _ := strings.Cut(rest, " ")
			sum, err := hex.DecodeString(strings.ReplaceAll(digest, ":", ""))
			if strings.EqualFold(hash, "sha-256") && err == nil && len(sum) == sha256.Size {
				a.fingerprint, seen = [sha256.Size]byte(sum), true
			}
		case "extmap":
			if section == 0 && rest == fmt.Sprintf("%d urn:ietf:params:rtp-hdrext:ssrc-audio-level", levelExt) {
				a.level = true
			}
		case "candidate":
			if c, ok := readCandidate(rest); ok && !a.remote.IsValid() {
				a.remote = c
			}
		case "ssrc":
			number, _, _ := strings.Cut(rest, " ")
			n, err := strconv.ParseUint(number, 10, 32)
			if section > 0 && err == nil && a.slots[section-1] == 0 {
				a.slots[section-1] = uint32(n)
			}
		}
	}
	switch {
	case section+1 != sections:
		return a, fmt.Errorf("answer of %d sections to an offer of %d", section+1, sections)
	case a.ufrag == "" || a.pwd == "":
		return a, errors.New("answer without ICE credentials")
	case !seen:
		return a, errors.New("answer without a sha-256 fingerprint")
	case !a.remote.IsValid():
		return a, errors.New("answer without a UDP candidate of IPv4")
	}
	return a, nil
}

func first(have, got string) string {
	if have != "" {
		return have
	}
	return got
}

// readCandidate reads "foundation component transport priority address port typ
// type" (RFC 8839 section 5.1).
func readCandidate(v string) (netip.AddrPort, bool) {
	f := strings.Fields(v)
	if len(f) < 8 || f[1] != "1" || !strings.EqualFold(f[2], "udp") {
		return netip.AddrPort{}, false
	}
	addr, err1 := netip.ParseAddr(f[4])
	port, err2 := strconv.ParseUint(f[5], 10, 16)
	if err1 != nil || err2 != nil || !addr.Is4() || port == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}
