package sdpanswer

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pion/sdp/v3"

	"voicefleet/sfu"
)

var update = flag.Bool("update", false, "write the answers in testdata anew")

// local is our side in every test.
func local() Local {
	l := Local{
		Ufrag: "serverUfrag1", Pwd: "serverPassword0123456789", SessionID: 42,
		Candidates: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.1:50001"),
			netip.MustParseAddrPort("[2001:db8::1]:50001"),
			netip.MustParseAddrPort("[::ffff:203.0.113.9]:50001"),
		},
		TCP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("[2001:db8::1]:3478")},
	}
	for i := range l.Fingerprint {
		l.Fingerprint[i] = byte(i * 11)
	}
	return l
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wire gives a transcript the line ends it has on the wire.
func wire(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func answer(t testing.TB, o *Offer) string {
	t.Helper()
	for i := range o.Media.Slots {
		o.Media.Slots[i].SSRC = sfu.SSRC(1000 + i)
	}
	for i := range o.Media.Views {
		o.Media.Views[i].SSRC = sfu.SSRC(1050 + i)
	}
	a, err := o.Answer(local())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Offers as browsers and pion write them: what is read of each, and the answer
// byte by byte.
func TestTranscripts(t *testing.T) {
	for _, c := range []struct {
		name, ufrag, print, media string
	}{
		{"chromium", "", "", `{"mic_mid":"0","mic_ssrc":%d,"opus_pt":111,"level_ext":1,"mid_ext":4,"nack":true,"transport_cc":3,` +
			`"slots":[{"mid":"1","ssrc":0},{"mid":"2","ssrc":0},{"mid":"3","ssrc":0}],"vp8_pt":96,"video_nack":true,"views":[{"mid":"17","ssrc":0}]}`},
		{"firefox", "cf473467", "BD:C7:B7:52:B4:CC:60:53:D0:33:AB:AE:79:25:FB:2C:BB:C8:FD:2F:2F:2D:87:D6:FA:51:BD:79:54:8F:EF:15",
			`{"mic_mid":"0","mic_ssrc":%d,"opus_pt":109,"level_ext":1,"mid_ext":3,"nack":false,"transport_cc":7,` +
				`"slots":[{"mid":"1","ssrc":0},{"mid":"2","ssrc":0},{"mid":"3","ssrc":0}],"vp8_pt":120,"video_nack":true,"views":[{"mid":"17","ssrc":0}]}`},
		{"pion", "xCFxCKdLOmQvUTqF", "C4:5D:19:0F:84:11:BC:07:D2:69:CB:4F:99:32:53:22:FC:21:14:21:F5:2E:3A:6E:49:D8:80:DD:59:A3:F5:13",
			`{"mic_mid":"0","mic_ssrc":%d,"opus_pt":111,"level_ext":0,"mid_ext":0,"nack":false,"transport_cc":4,` +
				`"slots":[{"mid":"1","ssrc":0},{"mid":"2","ssrc":0},{"mid":"3","ssrc":0}]}`},
		{"awkward", "abcd", "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
			`{"mic_mid":"talk","mic_ssrc":%d,"opus_pt":100,"level_ext":14,"mid_ext":0,"nack":true,"transport_cc":0,` +
				`"slots":[{"mid":"hear-1","ssrc":0},{"mid":"both","ssrc":0}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := read(t, c.name+".offer")
			o, err := Parse(wire(text))
			if err != nil {
				t.Fatal(err)
			}
			ssrc := regexp.MustCompile(`(?m)^a=ssrc:(\d+) `).FindStringSubmatch(text)
			if ssrc == nil {
				ssrc = []string{"", "0"}
			}
			if media, _ := json.Marshal(o.Media); string(media) != strings.Replace(c.media, "%d", ssrc[1], 1) {
				t.Errorf("media %s", media)
			}
			if c.ufrag != "" && (o.Ufrag != c.ufrag || hexColons(o.Fingerprint) != c.print) {
				t.Errorf("ufrag %q, fingerprint %s", o.Ufrag, hexColons(o.Fingerprint))
			}
			if !strings.Contains(text, "a=ice-ufrag:"+o.Ufrag+"\n") || !strings.Contains(text, "a=ice-pwd:"+o.Pwd+"\n") {
				t.Errorf("credentials %q, %q", o.Ufrag, o.Pwd)
			}
			got := strings.ReplaceAll(answer(t, o), "\r\n", "\n")
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", c.name+".answer"), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != read(t, c.name+".answer") {
				t.Errorf("answer\n%s", got)
			}
		})
	}
}

// Candidates of the client change nothing, ten or a thousand.
func TestCandidatesIgnored(t *testing.T) {
	text := read(t, "chromium.offer")
	o, err := Parse(wire(text))
	if err != nil {
		t.Fatal(err)
	}
	want := answer(t, o)
	for _, n := range []int{10, 500} {
		var lines strings.Builder
		for i := range n {
			fmt.Fprintf(&lines, "a=candidate:%d 1 udp 2122260223 198.51.100.%d %d typ host generation 0 network-id 1\n", i, i%250, 40000+i)
		}
		full := strings.Replace(text, "a=ice-ufrag", lines.String()+"a=ice-ufrag", 1)
		o, err := Parse(wire(full))
		if err != nil {
			t.Fatalf("%d candidates: %v", n, err)
		}
		if got := answer(t, o); got != want {
			t.Errorf("%d candidates change the answer:\n%s", n, got)
		}
	}
}

// As many slots as there may be, one more is rejected; an offer without a
// microphone only listens.
func TestSections(t *testing.T) {
	text := read(t, "pion.offer")
	at := strings.LastIndex(text, "m=audio")
	head, receive := text[:at], text[at:]
	var b, mids strings.Builder
	for i := 3; i <= sfu.MaxSlots+1; i++ {
		fmt.Fprintf(&mids, " %d", i)
		b.WriteString(strings.Replace(receive, "a=mid:3", fmt.Sprintf("a=mid:%d", i), 1))
	}
	o, err := Parse(wire(strings.Replace(head, " 0 1 2 3", " 0 1 2"+mids.String(), 1) + b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Media.Slots) != sfu.MaxSlots {
		t.Fatalf("%d slots", len(o.Media.Slots))
	}
	a := answer(t, o)
	if n := strings.Count(a, "\r\na=sendonly\r\n"); n != sfu.MaxSlots {
		t.Errorf("%d sections send", n)
	}
	if !strings.HasSuffix(a, "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:33\r\na=inactive\r\n") {
		t.Errorf("the last section is not rejected:\n%s", a[len(a)-200:])
	}

	o, err = Parse(wire(strings.Replace(text, "a=sendonly", "a=recvonly", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if o.Media.MicMID != "" || o.Media.MicSSRC != 0 || len(o.Media.Slots) != 4 || !strings.Contains(answer(t, o), "a=candidate:") {
		t.Errorf("listening only: %+v", o.Media)
	}
}

// TestVideo: which sections are camera and views. Each is a direction, what else stands
// in it, and what it is taken for.
func TestVideo(t *testing.T) {
	const vp8 = "96 VP8/90000"
	type section struct{ direction, codec, more, want string }
	var nine []section
	for range sfu.MaxViews {
		nine = append(nine, section{"recvonly", vp8, "", "sendonly"})
	}
	for _, c := range []struct {
		name     string
		sections []section
	}{
		{"a camera and a view", []section{{"sendonly", vp8, "a=ssrc:77 cname:x\n", "recvonly"}, {"recvonly", vp8, "", "sendonly"}}},
		{"a camera of no source", []section{{"sendonly", vp8, "", "inactive"}}},
		{"a camera of two sources", []section{{"sendonly", vp8, "a=ssrc:77 cname:x\na=ssrc:78 cname:x\n", "inactive"}}},
		{"one with retransmissions", []section{{"sendonly", vp8, "a=ssrc:77 cname:x\na=ssrc:78 cname:x\na=ssrc-group:FID 77 78\n", "recvonly"}}},
		{"and one more", []section{{"sendonly", vp8, "a=ssrc:77 cname:x\na=ssrc:78 cname:x\na=ssrc:79 cname:x\na=ssrc-group:FID 77 78\n", "inactive"}}},
		{"two cameras", []section{{"sendonly", vp8, "a=ssrc:77 cname:x\n", "recvonly"}, {"sendonly", vp8, "a=ssrc:78 cname:x\n", "inactive"}}},
		{"both ways twice", []section{{"sendrecv", vp8, "a=ssrc:77 cname:x\n", "recvonly"}, {"sendrecv", vp8, "a=ssrc:78 cname:x\n", "sendonly"}}},
		{"another codec", []section{{"recvonly", "96 H264/90000", "", "inactive"}, {"recvonly", "97 VP8/90000", "", "sendonly"}}},
		{"another number", []section{{"recvonly", vp8, "", "sendonly"}, {"recvonly", "97 VP8/90000", "", "inactive"}}},
		{"the number of Opus", []section{{"recvonly", "111 VP8/90000", "", "inactive"}}},
		{"ten views", append(nine, section{"recvonly", vp8, "", "inactive"})},
	} {
		text := read(t, "pion.offer")
		var mids, b strings.Builder
		for i, s := range c.sections {
			number, _, _ := strings.Cut(s.codec, " ")
			fmt.Fprintf(&mids, " v%d", i)
			fmt.Fprintf(&b, "m=video 9 UDP/TLS/RTP/SAVPF %s\nc=IN IP4 0.0.0.0\na=mid:v%d\na=rtpmap:%s\na=rtcp-fb:%s nack\na=rtcp-fb:%s nack pli\n%sa=%s\n",
				number, i, s.codec, number, number, s.more, s.direction)
		}
		o, err := Parse(wire(strings.Replace(text, " 0 1 2 3", " 0 1 2 3"+mids.String(), 1) + b.String()))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(answer(t, o), "m=video ")[1:]
		for i, s := range c.sections {
			if i >= len(got) || !strings.Contains(got[i], "\r\na="+s.want+"\r\n") || s.want != "inactive" && !strings.Contains(got[i], "a=rtcp-fb:"+s.codec[:2]+" nack pli") {
				t.Errorf("%s: section %d is not %s: %v", c.name, i, s.want, got)
			}
		}
	}
}

// What the caller zeroes in Media is declined.
func TestDeclined(t *testing.T) {
	o, err := Parse(wire(read(t, "chromium.offer")))
	if err != nil {
		t.Fatal(err)
	}
	o.Media.LevelExt, o.Media.MIDExt, o.Media.TransportCC, o.Media.NACK, o.Media.VideoNACK = 0, 0, 0, false, false
	if a := answer(t, o); strings.Contains(a, "a=extmap") || strings.Contains(strings.ReplaceAll(a, "a=rtcp-fb:96 nack pli\r\n", ""), "a=rtcp-fb") {
		t.Errorf("answer\n%s", a)
	}
}

func TestAnswerRefused(t *testing.T) {
	o, err := Parse(wire(read(t, "pion.offer")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Answer(local()); err == nil {
		t.Error("answered with slots that have no SSRC")
	}
	answer(t, o)
	nowhere := local()
	nowhere.Candidates = nil
	if _, err := o.Answer(nowhere); err == nil {
		t.Error("answered without an address")
	}
}

// Bad offers, each refused with its code and without an echo of its text.
func TestRefused(t *testing.T) {
	text := read(t, "pion.offer")
	all := func(old, new string) string { return strings.ReplaceAll(text, old, new) }
	drop := func(line string) string {
		return regexp.MustCompile(`(?m)^`+line+`.*\n`).ReplaceAllString(text, "")
	}
	for name, offer := range map[string]string{
		"empty":                "",
		"garbage":              "hello, world",
		"NUL":                  all("s=-", "s=\x00\x00"),
		"too long":             text + strings.Repeat("a=x\n", sfu.MaxOfferBytes/4),
		"no sections":          text[:strings.Index(text, "m=")],
		"65 sections":          text + strings.Repeat("m=audio 9 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\n", sfu.MaxSections-3),
		"no BUNDLE":            drop("a=group"),
		"empty BUNDLE":         all("BUNDLE 0 1 2 3", "BUNDLE"),
		"endless BUNDLE":       all("BUNDLE 0 1 2 3", "BUNDLE"+strings.Repeat(" 0", 1000)),
		"nobody in BUNDLE":     all("BUNDLE 0 1 2 3", "BUNDLE 7"),
		"no ufrag":             drop("a=ice-ufrag"),
		"short ufrag":          all("xCFxCKdLOmQvUTqF", "abc"),
		"spaced ufrag":         all("xCFxCKdLOmQvUTqF", "ab cdef"),
		"endless ufrag":        all("xCFxCKdLOmQvUTqF", strings.Repeat("a", 257)),
		"no password":          drop("a=ice-pwd"),
		"short password":       all("AUmhWxjEAJjmSGcsUCJBNLjpgTAxmFTY", "AUmhWxjEAJjmSGcsUCJBN"),
		"no fingerprint":       drop("a=fingerprint"),
		"sha-1 only":           all("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
		"fingerprint cut":      all(":F5:13", ":F5"),
		"fingerprint no hex":   all(":F5:13", ":F5:XY"),
		"fingerprint dots":     all("C4:5D", "C4.5D"),
		"SDES":                 all("a=fingerprint:sha-256", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"),
		"no setup":             drop("a=setup"),
		"passive":              all("a=setup:actpass", "a=setup:passive"),
		"holdconn":             all("a=setup:actpass", "a=setup:holdconn"),
		"no rtcp-mux":          drop("a=rtcp-mux"),
		"both lite":            strings.Replace(text, "a=group", "a=ice-lite\na=group", 1),
		"no Opus":              all("opus/48000/2", "opus/48000/1"),
		"Opus on an RTCP type": strings.NewReplacer("111", "72").Replace(text),
		"no mid":               drop("a=mid"),
		"mid twice":            all("a=mid:2", "a=mid:1"),
		"mid with a space":     all("a=mid:2", "a=mid:2 2"),
		"mid too long":         all("a=mid:2", "a=mid:"+strings.Repeat("2", maxMID+1)),
		"inactive":             strings.NewReplacer("a=sendonly", "a=inactive", "a=recvonly", "a=inactive").Replace(text),
		"plain RTP":            all("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
		"unknown kind":         all("m=audio", "m=text"),
		"zeroed sections":      all("m=audio 9", "m=audio 0"),
		"formats":              strings.Replace(text, "SAVPF 111", "SAVPF 111"+strings.Repeat(" 111", maxFormats), 1),
	} {
		_, err := Parse(wire(offer))
		var refused *sfu.Error
		if !errors.As(err, &refused) || refused.Code != sfu.CodeBadOffer {
			t.Errorf("%s: error %v", name, err)
		} else if len(refused.Message) > 100 {
			t.Errorf("%s: message of %d bytes", name, len(refused.Message))
		}
	}
}

// grammar is every line an answer may have.
var grammar = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`v=0`, `o=- 42 1 IN IP4 192\.0\.2\.1`, `s=-`, `t=0 0`, `a=ice-lite`, `a=fingerprint:sha-256 (?:[0-9A-F]{2}:){31}[0-9A-F]{2}`,
	`a=group:BUNDLE(?: [A-Za-z0-9_-]{1,16})+`,
	`m=audio (?:50001|0) (?:UDP/TLS/RTP/SAVPF|RTP/SAVPF|TCP/DTLS/RTP/SAVPF) \d{1,3}`,
	`m=video (?:50001|0) (?:UDP/TLS/RTP/SAVPF|RTP/SAVPF|TCP/DTLS/RTP/SAVPF) \d{1,3}`,
	`m=application 0 (?:(?:UDP|TCP)/DTLS/SCTP webrtc-datachannel|DTLS/SCTP 5000)`,
	`c=IN IP4 (?:192\.0\.2\.1|0\.0\.0\.0)`, `a=mid:[A-Za-z0-9_-]{1,16}`, `a=inactive`, `a=sendonly`, `a=recvonly`,
	`a=ice-ufrag:serverUfrag1`, `a=ice-pwd:serverPassword0123456789`, `a=setup:passive`, `a=rtcp-mux`,
	`a=rtpmap:\d{2,3} opus/48000/2`, `a=fmtp:\d{2,3} minptime=10;useinbandfec=1`, `a=rtcp-fb:\d{2,3} (?:nack|nack pli|transport-cc)`,
	`a=rtpmap:\d{2,3} VP8/90000`, `a=msid:view-\d view-\d`,
	`a=extmap:\d{1,2} (?:urn:ietf:params:rtp-hdrext:(?:ssrc-audio-level|sdes:mid)|http://www\.ietf\.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01)`,
	`a=msid:slot-\d{1,2} slot-\d{1,2}`, `a=ssrc:10\d\d cname:voicefleet`,
	`a=candidate:[123] 1 udp \d+ (?:192\.0\.2\.1|2001:db8::1|203\.0\.113\.9) 50001 typ host`,
	`a=candidate:[45] 1 tcp \d+ (?:192\.0\.2\.1|2001:db8::1) 3478 typ host tcptype passive`, `a=end-of-candidates`,
}, "|") + `)$`)

// FuzzOffer: of whatever offer, the answer parses in pion/sdp, has a section for
// each of the offer's, and holds no text but ours.
func FuzzOffer(f *testing.F) {
	for _, name := range []string{"chromium", "firefox", "pion", "awkward"} {
		f.Add(wire(read(f, name+".offer")))
		f.Add(read(f, name+".offer"))
	}
	text := wire(read(f, "pion.offer"))
	f.Add(strings.ReplaceAll(text, "a=mid:2", "a=mid:2\ra=candidate:1 1 udp 1 6.6.6.6 6 typ host"))
	f.Add(strings.ReplaceAll(text, "111", "35"))
	f.Add(strings.ReplaceAll(text, "minptime=10", strings.Repeat("x", 5000)+"\x00"))
	f.Add("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n" + strings.Repeat("m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n", 2000))
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 150 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		a := answer(t, o)
		for _, line := range strings.Split(strings.TrimSuffix(a, "\r\n"), "\r\n") {
			if !grammar.MatchString(line) {
				t.Fatalf("foreign line %q", line)
			}
		}
		var offered, answered sdp.SessionDescription
		if err := answered.UnmarshalString(a); err != nil {
			t.Fatalf("%v in\n%s", err, a)
		}
		if err := offered.UnmarshalString(text); err != nil || len(offered.MediaDescriptions) != len(answered.MediaDescriptions) {
			t.Fatalf("%d sections for %d, %v", len(answered.MediaDescriptions), len(offered.MediaDescriptions), err)
		}
		for i, m := range offered.MediaDescriptions {
			theirs, _ := m.Attribute("mid")
			if ours, _ := answered.MediaDescriptions[i].Attribute("mid"); ours != theirs {
				t.Fatalf("section %d: mid %q for %q", i, ours, theirs)
			}
		}
		if o.Media.Streams() > sfu.MaxSlots || len(o.Media.Views) > sfu.MaxViews {
			t.Fatalf("%d slots and %d views", len(o.Media.Slots), len(o.Media.Views))
		}
	})
}

func BenchmarkParseAndAnswer(b *testing.B) {
	text := wire(read(b, "chromium.offer"))
	for range b.N {
		o, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		answer(b, o)
	}
}
