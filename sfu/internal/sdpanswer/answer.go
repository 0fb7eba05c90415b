package sdpanswer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/rtcpwire"
)

// Local is our side of a session.
type Local struct {
	Ufrag, Pwd  string            // of icelite.Mint
	Fingerprint [sha256.Size]byte // of the node's certificate
	// Candidates are where the session's worker can be reached, best first.
	Candidates []netip.AddrPort
	// TCP are where it can be reached by ICE-TCP (RFC 6544), best first.
	TCP []netip.AddrPort
	// SessionID makes the o-line unique (RFC 8866 section 5.2); any number.
	SessionID uint64
}

// opusFormat asks clients for in-band FEC and allows 10 ms packets (RFC 7587
// section 6.1). DTX is left to the sender.
const opusFormat = "minptime=10;useinbandfec=1"

// Answer writes the answer to the offer with what stands in Media. Every slot
// must have its SSRC by now.
func (o *Offer) Answer(local Local) (string, error) {
	if len(local.Candidates) == 0 {
		return "", errors.New("answer offer: no address to name")
	}
	for _, streams := range [][]sfu.Slot{o.Media.Slots, o.Media.Views} {
		for i, s := range streams {
			if s.SSRC == 0 {
				return "", fmt.Errorf("answer offer: slot or view %d has no SSRC", i)
			}
		}
	}
	w := &writer{}
	w.line("v=0")
	w.line("o=- %d 1 IN %s", local.SessionID&(1<<63-1), connection(local.Candidates[0].Addr()))
	w.line("s=-")
	w.line("t=0 0")
	w.line("a=ice-lite")
	w.line("a=fingerprint:sha-256 %s", hexColons(local.Fingerprint))
	w.WriteString("a=group:BUNDLE")
	for i := range o.sections {
		if s := &o.sections[i]; s.role != rejected {
			w.WriteString(" " + s.mid)
		}
	}
	w.line("")
	tagged := true // the first section carries the candidates of all
	for i := range o.sections {
		s := &o.sections[i]
		if s.role == rejected {
			w.rejected(s)
			continue
		}
		if s.kind == "video" {
			w.video(s, o, local)
		} else {
			w.audio(s, o, local)
		}
		if tagged {
			w.candidates(local.Candidates, local.TCP)
			tagged = false
		}
	}
	return w.String(), nil
}

// writer writes the lines of an answer.
type writer struct{ strings.Builder }

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(w, format, args...)
	w.WriteString("\r\n")
}

// rejected answers a section that stays unused (RFC 8829 section 5.3.1).
func (w *writer) rejected(s *section) {
	if format, sctp := sctpFormats[s.proto]; sctp {
		w.line("m=%s 0 %s %s", s.kind, s.proto, format)
	} else {
		w.line("m=%s 0 %s %d", s.kind, s.proto, s.payload)
	}
	w.line("c=IN IP4 0.0.0.0")
	w.line("a=mid:%s", s.mid)
	w.line("a=inactive")
}

// media begins the answer to a section that is used.
func (w *writer) media(s *section, local Local) {
	w.line("m=%s %d %s %d", s.kind, local.Candidates[0].Port(), s.proto, s.payload)
	w.line("c=IN %s", connection(local.Candidates[0].Addr()))
	w.line("a=mid:%s", s.mid)
	w.line("a=ice-ufrag:%s", local.Ufrag)
	w.line("a=ice-pwd:%s", local.Pwd)
	w.line("a=setup:passive")
	w.line("a=rtcp-mux")
}

// video answers the camera or a view, without candidates.
func (w *writer) video(s *section, o *Offer, local Local) {
	w.media(s, local)
	w.line("a=rtpmap:%d VP8/90000", s.payload)
	if s.nack && o.Media.VideoNACK {
		w.line("a=rtcp-fb:%d nack", s.payload)
	}
	if s.pli {
		w.line("a=rtcp-fb:%d nack pli", s.payload)
	}
	if s.role == camera {
		w.line("a=recvonly")
		return
	}
	w.line("a=sendonly")
	w.line("a=msid:view-%d view-%d", s.slot, s.slot)
	w.line("a=ssrc:%d cname:%s", o.Media.Views[s.slot].SSRC, rtcpwire.CNAME)
}

// audio answers the microphone or a slot, without candidates.
func (w *writer) audio(s *section, o *Offer, local Local) {
	w.media(s, local)
	w.line("a=rtpmap:%d opus/48000/2", s.payload)
	w.line("a=fmtp:%d %s", s.payload, opusFormat)
	if s.nack && o.Media.NACK {
		w.line("a=rtcp-fb:%d nack", s.payload)
	}
	if w.extension(s.transportCC, o.Media.TransportCC, uriTransportCC) {
		w.line("a=rtcp-fb:%d transport-cc", s.payload)
	}
	w.extension(s.level, o.Media.LevelExt, uriLevel)
	w.extension(s.midExt, o.Media.MIDExt, uriMID)
	if s.role == microphone {
		w.line("a=recvonly")
		return
	}
	w.line("a=sendonly")
	w.line("a=msid:slot-%d slot-%d", s.slot, s.slot)
	w.line("a=ssrc:%d cname:%s", o.Media.Slots[s.slot].SSRC, rtcpwire.CNAME)
}

// extension accepts a header extension if the section offers it under the id
// that the session uses.
func (w *writer) extension(offered, used uint8, uri string) bool {
	if used == 0 || offered != used {
		return false
	}
	w.line("a=extmap:%d %s", used, uri)
	return true
}

// candidates writes one host candidate per address, in falling priority (RFC
// 8445 section 5.1.2.1: type preference 126, component 1). Those of TCP come
// behind all of UDP: type preference 90, direction preference 4 for passive ones
// (RFC 6544 section 4.2).
func (w *writer) candidates(list, tcp []netip.AddrPort) {
	for i, c := range list {
		priority := uint32(126)<<24 | uint32(65535-i)<<8 | 255
		w.line("a=candidate:%d 1 udp %d %s %d typ host", i+1, priority, plain(c.Addr()), c.Port())
	}
	for i, c := range tcp {
		priority := uint32(90)<<24 | uint32(4<<13|8191-i)<<8 | 255
		w.line("a=candidate:%d 1 tcp %d %s %d typ host tcptype passive", len(list)+i+1, priority, plain(c.Addr()), c.Port())
	}
	w.line("a=end-of-candidates")
}

// plain is an address as SDP spells it: no mapped form, no zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// connection is the address with its type, as in o= and c= lines.
func connection(a netip.Addr) string {
	a = plain(a)
	if a.Is4() {
		return "IP4 " + a.String()
	}
	return "IP6 " + a.String()
}

// hexColons is a digest as RFC 8122 section 5 spells it.
func hexColons(sum [sha256.Size]byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}
