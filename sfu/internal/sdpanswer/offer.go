package sdpanswer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"voicefleet/sfu"
)

// Offer is what an offer says that matters here.
type Offer struct {
	// Of the client: ICE credentials, and the SHA-256 of its certificate.
	Ufrag, Pwd  string
	Fingerprint [sha256.Size]byte
	// Media is what can be negotiated; slots are still without SSRC. What the
	// caller zeroes of extensions and feedback is declined by the answer.
	Media sfu.Media

	sections []section // in the order of the m-lines
}

// section is one m-line, as far as its answer needs it.
type section struct {
	role    role
	kind    string // of mediaKinds
	proto   string // of protocols
	mid     string
	payload uint8 // Opus or VP8, or of a rejected section any of its own
	slot    int   // of Media.Slots, or of Media.Views

	// What the section offers, 0 or false if it does not.
	level, midExt, transportCC uint8
	nack, pli                  bool
}

type role uint8

const (
	rejected role = iota
	microphone
	slot
	camera
	view
)

// The words of an m-line that may come back in an answer.
var (
	mediaKinds = []string{"audio", "video", "application"}
	// rtpProtocols all mean the first (RFC 8829 section 5.1.2).
	rtpProtocols  = []string{"UDP/TLS/RTP/SAVPF", "RTP/SAVPF", "TCP/DTLS/RTP/SAVPF"}
	sctpProtocols = []string{"UDP/DTLS/SCTP", "TCP/DTLS/SCTP", "DTLS/SCTP"}
	// sctpFormats are the formats of the data channel protocols (RFC 8841
	// section 4.3 and the draft before it).
	sctpFormats = map[string]string{
		"UDP/DTLS/SCTP": "webrtc-datachannel", "TCP/DTLS/SCTP": "webrtc-datachannel", "DTLS/SCTP": "5000",
	}
)

const (
	maxMID     = 16  // characters; browsers write one or two digits
	maxFormats = 128 // of an m-line: there are no more payload types
	// Header extension ids fit the one-byte form (RFC 8285 section 4.2).
	maxExtID = 14

	uriLevel       = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	uriMID         = "urn:ietf:params:rtp-hdrext:sdes:mid"
	uriTransportCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
)

// Parse reads an offer. The error is an *sfu.Error of sfu.CodeBadOffer and
// quotes nothing of the offer.
func Parse(text string) (*Offer, error) {
	if len(text) > sfu.MaxOfferBytes {
		return nil, refuse("%d bytes, at most %d are read", len(text), sfu.MaxOfferBytes)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\r' && r != '\n' && r != '\t' }) {
		return nil, refuse("control characters")
	}
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(text); err != nil {
		return nil, refuse("not a session description")
	}
	switch n := len(desc.MediaDescriptions); {
	case n == 0:
		return nil, refuse("no m-section")
	case n > sfu.MaxSections:
		return nil, refuse("%d m-sections, at most %d are read", n, sfu.MaxSections)
	}
	if _, lite := desc.Attribute(sdp.AttrKeyICELite); lite {
		return nil, refuse("both sides ICE-lite: nobody would send checks")
	}
	bundle, err := bundleOf(&desc)
	if err != nil {
		return nil, err
	}
	o := &Offer{sections: make([]section, 0, len(desc.MediaDescriptions))}
	transport := false
	for i, m := range desc.MediaDescriptions {
		s, err := readSection(i, m)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(o.sections, func(other section) bool { return other.mid == s.mid }) {
			return nil, refuse("m-section %d: mid used twice", i)
		}
		if slices.Contains(bundle, s.mid) {
			o.assign(&s, m)
		}
		// The first section that is not rejected carries the transport of all
		// (RFC 9143 section 7.3.1).
		if s.role != rejected && !transport {
			if err := o.readTransport(i, &desc, m); err != nil {
				return nil, err
			}
			transport = true
		}
		o.sections = append(o.sections, s)
	}
	if !transport {
		return nil, refuse("no audio m-section in the BUNDLE group that sends or receives Opus")
	}
	return o, nil
}

func refuse(format string, args ...any) *sfu.Error {
	return sfu.Refuse(sfu.CodeBadOffer, "offer: "+format, args...)
}

// bundleOf is the mids of the first BUNDLE group.
func bundleOf(desc *sdp.SessionDescription) ([]string, error) {
	for _, a := range desc.Attributes {
		if words := strings.Fields(a.Value); a.Key == sdp.AttrKeyGroup && len(words) > 1 && words[0] == "BUNDLE" {
			if len(words) > 1+sfu.MaxSections {
				return nil, refuse("BUNDLE group of %d", len(words)-1)
			}
			return words[1:], nil
		}
	}
	return nil, refuse("no BUNDLE group")
}

// readSection reads of an m-section what every answer repeats.
func readSection(i int, m *sdp.MediaDescription) (section, error) {
	kind := slices.Index(mediaKinds, m.MediaName.Media)
	if kind < 0 {
		return section{}, refuse("m-section %d: of unknown kind", i)
	}
	s := section{kind: mediaKinds[kind]}
	known := rtpProtocols
	if s.kind == "application" {
		known = sctpProtocols
	}
	proto := slices.Index(known, strings.Join(m.MediaName.Protos, "/"))
	if proto < 0 {
		return section{}, refuse("m-section %d: transport is not DTLS-SRTP", i)
	}
	s.proto = known[proto]
	mid, _ := m.Attribute(sdp.AttrKeyMID)
	if !validMID(mid) {
		return section{}, refuse("m-section %d: mid is missing, longer than %d or not alphanumeric", i, maxMID)
	}
	s.mid = mid
	if len(m.MediaName.Formats) > maxFormats {
		return section{}, refuse("m-section %d: more than %d formats", i, maxFormats)
	}
	if s.kind != "application" {
		if n, err := strconv.ParseUint(first(m.MediaName.Formats), 10, 7); err == nil {
			s.payload = uint8(n)
		}
	}
	return s, nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func validMID(mid string) bool {
	return len(mid) > 0 && len(mid) <= maxMID && strings.Trim(mid, alphanumeric+"-_") == ""
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// assign gives a section its role, if it can have one.
func (o *Offer) assign(s *section, m *sdp.MediaDescription) {
	_, bundleOnly := m.Attribute("bundle-only")
	if m.MediaName.Port.Value == 0 && !bundleOnly {
		return
	}
	switch s.kind {
	case "audio":
		o.assignAudio(s, m)
	case "video":
		o.assignVideo(s, m)
	}
}

// assignVideo makes a section the camera or a view. It needs a microphone or a slot
// before it, which carries the transport.
func (o *Offer) assignVideo(s *section, m *sdp.MediaDescription) {
	list := payloads(m, "vp8/90000")
	if o.Media.VP8PT != 0 && slices.Contains(list, o.Media.VP8PT) {
		list = []uint8{o.Media.VP8PT}
	}
	if len(list) == 0 || o.Media.OpusPT == 0 || o.Media.VP8PT != 0 && list[0] != o.Media.VP8PT || list[0] == o.Media.OpusPT {
		return
	}
	sends, receives := directionOf(m)
	switch {
	case sends && o.Media.CameraSSRC == 0 && cameraOf(m) != 0 && cameraOf(m) != o.Media.MicSSRC:
		s.role = camera
		o.Media.CameraSSRC = cameraOf(m)
	case receives && len(o.Media.Views) < sfu.MaxViews && o.Media.Streams() < sfu.MaxSlots:
		s.role = view
		s.slot = len(o.Media.Views)
		o.Media.Views = append(o.Media.Views, sfu.Slot{MID: s.mid})
	default:
		return
	}
	s.payload = list[0]
	o.Media.VP8PT = list[0]
	s.nack, s.pli = feedback(m, s.payload, "nack"), feedback(m, s.payload, "nack pli")
	o.Media.VideoNACK = o.Media.VideoNACK || s.role == view && s.nack
}

// assignAudio makes a section the microphone or a slot.
func (o *Offer) assignAudio(s *section, m *sdp.MediaDescription) {
	opus := payloads(m, "opus/48000/2")
	if o.Media.OpusPT != 0 {
		// A payload type means the same in the whole group (RFC 9143 section
		// 9.1), so the sections after the first must know it too.
		if !slices.Contains(opus, o.Media.OpusPT) {
			return
		}
		opus = []uint8{o.Media.OpusPT}
	}
	if len(opus) == 0 {
		return
	}
	sends, receives := directionOf(m)
	switch {
	case sends && o.Media.MicMID == "":
		s.role = microphone
		o.Media.MicMID = s.mid
		o.Media.MicSSRC = ssrcOf(m)
	case receives && o.Media.Streams() < sfu.MaxSlots:
		s.role = slot
		s.slot = len(o.Media.Slots)
		o.Media.Slots = append(o.Media.Slots, sfu.Slot{MID: s.mid})
	default:
		return
	}
	s.payload = opus[0]
	o.Media.OpusPT = opus[0]
	s.readExtensions(m)
	s.nack = feedback(m, s.payload, "nack")
	// Only what we send is stamped: a client that stamps its own would take our
	// lack of feedback for congestion.
	if s.role != slot || !feedback(m, s.payload, "transport-cc") {
		s.transportCC = 0
	}
	// Ids are those of the first section that has the extension.
	o.Media.LevelExt = cmp.Or(o.Media.LevelExt, s.level)
	o.Media.MIDExt = cmp.Or(o.Media.MIDExt, s.midExt)
	o.Media.TransportCC = cmp.Or(o.Media.TransportCC, s.transportCC)
	o.Media.NACK = o.Media.NACK || s.nack
}

// directionOf is sendrecv when a section does not say (RFC 8866 section 6.7).
func directionOf(m *sdp.MediaDescription) (sends, receives bool) {
	for _, a := range m.Attributes {
		switch a.Key {
		case sdp.AttrKeySendRecv:
			return true, true
		case sdp.AttrKeySendOnly:
			return true, false
		case sdp.AttrKeyRecvOnly:
			return false, true
		case sdp.AttrKeyInactive:
			return false, false
		}
	}
	return true, true
}

// payloads lists the payload types of an encoding, as opus/48000/2 (RFC 7587 section
// 7) and VP8/90000 (RFC 7741 section 6.2.1) spell theirs, in the offer's order of
// preference, without those that RTCP multiplexing forbids (RFC 5761 section 4).
func payloads(m *sdp.MediaDescription, encoding string) []uint8 {
	var list []uint8
	for _, format := range m.MediaName.Formats {
		pt, err := strconv.ParseUint(format, 10, 7)
		if err != nil || pt < 35 || 64 <= pt && pt <= 95 {
			continue
		}
		for _, a := range m.Attributes {
			if a.Key != "rtpmap" {
				continue
			}
			number, of, _ := strings.Cut(a.Value, " ")
			if number == format && strings.EqualFold(strings.TrimSpace(of), encoding) {
				list = append(list, uint8(pt))
				break
			}
		}
	}
	return list
}

// readExtensions finds the ids of the header extensions we know (RFC 8285
// section 8).
func (s *section) readExtensions(m *sdp.MediaDescription) {
	for _, a := range m.Attributes {
		if a.Key != sdp.AttrKeyExtMap {
			continue
		}
		words := strings.Fields(a.Value)
		if len(words) < 2 {
			continue
		}
		number, _, _ := strings.Cut(words[0], "/")
		n, err := strconv.ParseUint(number, 10, 8)
		if err != nil || n == 0 || n > maxExtID {
			continue
		}
		switch id := uint8(n); words[1] {
		case uriLevel:
			s.level = cmp.Or(s.level, id)
		case uriMID:
			s.midExt = cmp.Or(s.midExt, id)
		case uriTransportCC:
			s.transportCC = cmp.Or(s.transportCC, id)
		}
	}
}

// feedback tells whether a kind of RTCP feedback is offered for a payload type
// (RFC 4585 section 4.2).
func feedback(m *sdp.MediaDescription, pt uint8, kind string) bool {
	for _, a := range m.Attributes {
		if a.Key != "rtcp-fb" {
			continue
		}
		number, value, _ := strings.Cut(a.Value, " ")
		if (number == "*" || number == strconv.Itoa(int(pt))) && strings.TrimSpace(value) == kind {
			return true
		}
	}
	return false
}

// ssrcOf is the one source a section announces (RFC 5576 section 4.1), zero if
// it announces none or several.
func ssrcOf(m *sdp.MediaDescription) sfu.SSRC {
	var only sfu.SSRC
	for _, a := range m.Attributes {
		if a.Key != sdp.AttrKeySSRC {
			continue
		}
		number, _, _ := strings.Cut(a.Value, " ")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || only != 0 && only != sfu.SSRC(n) {
			return 0
		}
		only = sfu.SSRC(n)
	}
	return only
}

// cameraOf is the source of a video section: the one it announces, or the first of two
// of which the second is for its retransmissions (RFC 4588 section 8.1), which nobody is
// to use here.
func cameraOf(m *sdp.MediaDescription) sfu.SSRC {
	group, _ := m.Attribute("ssrc-group")
	words := strings.Fields(group)
	if len(words) != 3 || words[0] != "FID" {
		return ssrcOf(m)
	}
	var first sfu.SSRC
	for _, a := range m.Attributes {
		if a.Key != sdp.AttrKeySSRC {
			continue
		}
		switch number, _, _ := strings.Cut(a.Value, " "); number {
		case words[1]:
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				return 0
			}
			first = sfu.SSRC(n)
		case words[2]:
		default:
			return 0
		}
	}
	return first
}

// readTransport reads the attributes that hold for the whole group, each from
// section m or else from the session.
func (o *Offer) readTransport(i int, desc *sdp.SessionDescription, m *sdp.MediaDescription) error {
	attribute := func(key string) string {
		if v, ok := m.Attribute(key); ok {
			return v
		}
		v, _ := desc.Attribute(key)
		return v
	}
	o.Ufrag, o.Pwd = attribute("ice-ufrag"), attribute("ice-pwd")
	if !iceChars(o.Ufrag, 4) || !iceChars(o.Pwd, 22) {
		return refuse("m-section %d: ice-ufrag or ice-pwd is missing or malformed", i)
	}
	switch attribute(sdp.AttrKeyConnectionSetup) {
	case "actpass", "active":
	default:
		return refuse("m-section %d: setup must be actpass or active", i)
	}
	if _, mux := m.Attribute(sdp.AttrKeyRTCPMux); !mux {
		return refuse("m-section %d: rtcp-mux is required", i)
	}
	for _, a := range slices.Concat(m.Attributes, desc.Attributes) {
		if a.Key == "fingerprint" && parseFingerprint(a.Value, &o.Fingerprint) {
			return nil
		}
	}
	return refuse("m-section %d: no sha-256 fingerprint", i)
}

// iceChars checks a value of RFC 8839 section 5.4.
func iceChars(v string, least int) bool {
	return len(v) >= least && len(v) <= 256 && strings.Trim(v, alphanumeric+"+/") == ""
}

// parseFingerprint reads "sha-256 AB:CD:..." (RFC 8122 section 5).
func parseFingerprint(v string, out *[sha256.Size]byte) bool {
	hash, digest, _ := strings.Cut(v, " ")
	if !strings.EqualFold(hash, "sha-256") || len(digest) != 3*len(out)-1 {
		return false
	}
	for i := range out {
		if i > 0 && digest[3*i-1] != ':' {
			return false
		}
		if _, err := hex.Decode(out[i:i+1], []byte(digest[3*i:3*i+2])); err != nil {
			return false
		}
	}
	return true
}
