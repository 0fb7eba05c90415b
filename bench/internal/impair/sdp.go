package impair

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxSDP bounds a description; 33 sections take about 15 KiB.
const maxSDP = 256 << 10

const candidatePrefix = "a=candidate:"

// rewrite puts through(address) in the place of each UDP candidate's address, and
// takes out those that would lead around a proxy: TCP candidates and names.
func rewrite(answer string, through func(netip.AddrPort) (netip.AddrPort, error)) (string, error) {
	if len(answer) > maxSDP {
		return "", fmt.Errorf("rewrite answer: %d bytes, at most %d are read", len(answer), maxSDP)
	}
	var w strings.Builder
	w.Grow(len(answer) + 256)
	found := false
	for line := range strings.Lines(answer) {
		body := strings.TrimRight(line, "\r\n")
		rest, ok := strings.CutPrefix(body, candidatePrefix)
		if !ok {
			w.WriteString(line)
			continue
		}
		f := strings.Fields(rest)
		server, ok := udpCandidate(f)
		if !ok {
			continue
		}
		door, err := through(server)
		if err != nil {
			return "", fmt.Errorf("rewrite answer: %w", err)
		}
		found = true
		f[4], f[5], f[7] = door.Addr().String(), strconv.Itoa(int(door.Port())), "host"
		// What follows are pairs (RFC 8839 section 5.1). The related address of a
		// reflexive or relayed candidate makes no sense in a host candidate.
		w.WriteString(candidatePrefix + strings.Join(f[:8], " "))
		for i := 8; i+1 < len(f); i += 2 {
			if f[i] != "raddr" && f[i] != "rport" {
				w.WriteString(" " + f[i] + " " + f[i+1])
			}
		}
		w.WriteString(line[len(body):])
	}
	if !found {
		return "", errors.New("rewrite answer: it has no UDP candidate with an address; the server must send its candidates in the answer")
	}
	return w.String(), nil
}

// udpCandidate reads "foundation component transport priority address port typ
// type ..." (RFC 8839 section 5.1).
func udpCandidate(f []string) (netip.AddrPort, bool) {
	if len(f) < 8 || !strings.EqualFold(f[2], "udp") || f[6] != "typ" {
		return netip.AddrPort{}, false
	}
	addr, err1 := netip.ParseAddr(f[4])
	port, err2 := strconv.ParseUint(f[5], 10, 16)
	if err1 != nil || err2 != nil || port == 0 || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), true
}

// Hide takes the candidates out of a client's offer, so that a server with full
// ICE cannot check the client's own addresses, around the proxy.
func Hide(offer string) string {
	var w strings.Builder
	w.Grow(len(offer))
	for line := range strings.Lines(offer) {
		if !strings.HasPrefix(line, candidatePrefix) {
			w.WriteString(line)
		}
	}
	return w.String()
}
