package sdpanswer_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/dtlsterm"
	"voicefleet/sfu/internal/icelite"
	"voicefleet/sfu/internal/sdpanswer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a pion client with a microphone and so many slots.
func peer(t *testing.T, slots int) (*webrtc.PeerConnection, *webrtc.TrackLocalStaticRTP) {
	t.Helper()
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(engine(t))).
		NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	mic, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "mic", "mic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTransceiverFromTrack(mic,
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
		t.Fatal(err)
	}
	for range slots {
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio,
			webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	return pc, mic
}

func engine(t *testing.T) *webrtc.MediaEngine {
	t.Helper()
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	return m
}

// negotiate has a client's offer answered.
func negotiate(t *testing.T, pc *webrtc.PeerConnection, local sdpanswer.Local) *sdpanswer.Offer {
	t.Helper()
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	o, err := sdpanswer.Parse(offer.SDP)
	if err != nil {
		t.Fatal(err)
	}
	for i := range o.Media.Slots {
		o.Media.Slots[i].SSRC = sfu.SSRC(5000 + i)
	}
	text, err := o.Answer(local)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o
}

// The longest answer there is satisfies pion/webrtc.
func TestPionAccepts(t *testing.T) {
	pc, _ := peer(t, sfu.MaxSlots)
	o := negotiate(t, pc, sdpanswer.Local{
		Ufrag: "serverUfrag1", Pwd: "serverPassword0123456789",
		Candidates: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("[::1]:9")},
		TCP:        []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")},
	})
	if len(o.Media.Slots) != sfu.MaxSlots {
		t.Errorf("%d slots", len(o.Media.Slots))
	}
	for i, tr := range pc.GetTransceivers() {
		want := webrtc.RTPTransceiverDirectionRecvonly
		if i == 0 {
			want = webrtc.RTPTransceiverDirectionSendonly
		}
		if tr.Direction() != want {
			t.Errorf("transceiver %d: %v, want %v", i, tr.Direction(), want)
		}
	}
}

// server is one session on one socket, made of nothing but the leaves of the
// transport. It sends what it hears back in slot 1.
type server struct {
	t       *testing.T
	conn    *net.UDPConn
	creds   icelite.Credentials
	key     *icelite.Key
	term    *dtlsterm.Terminator
	peer    dtlsterm.Fingerprint
	results chan dtlsterm.Result

	// Owned by run.
	remote    demux.Remote
	handshake *dtlsterm.Handshake
	opener    crypt.Opener
	sealer    crypt.Sealer
	window    crypt.Window
	sent      uint64

	reports atomic.Int64 // receiver reports of the client, opened
}

func (s *server) run() {
	buf := make([]byte, sfu.MaxDatagram+1)
	out := make([]byte, 0, sfu.MaxDatagram)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		select {
		case r := <-s.results:
			s.connected(r)
		default:
		}
		d, remote := buf[:n], demux.RemoteFrom(from)
		class := demux.Classify(d)
		if class == demux.STUN {
			if ufrag, ok := icelite.Peek(d); ok && string(ufrag) == s.creds.Ufrag {
				if r, ok := s.key.Check(d); ok {
					s.remote = remote
					s.write(s.key.AppendSuccess(out[:0], r.Transaction, from))
				}
			}
			continue
		}
		if remote != s.remote {
			continue
		}
		switch {
		case class == demux.DTLS && s.opener == nil:
			s.feed(d, from)
		case class == demux.RTP && s.opener != nil:
			s.echo(d, out[:0])
		case class == demux.RTCP && s.opener != nil:
			if plain, _, ok := s.opener.OpenRTCP(d); ok {
				if packets, err := rtcp.Unmarshal(plain); err == nil && len(packets[0].DestinationSSRC()) == 1 {
					s.reports.Add(1)
				}
			}
		}
	}
}

func (s *server) write(d []byte) {
	if _, err := s.conn.WriteToUDPAddrPort(d, s.remote.AddrPort()); err != nil && !errors.Is(err, net.ErrClosed) {
		s.t.Errorf("write: %v", err)
	}
}

func (s *server) feed(d []byte, from netip.AddrPort) {
	if s.handshake == nil {
		s.handshake, _ = s.term.Begin(s.peer, func(d []byte) {
			s.conn.WriteToUDPAddrPort(d, from) //nolint:errcheck // repeated if lost
		}, func(r dtlsterm.Result) { s.results <- r })
	}
	s.handshake.Feed(d)
}

func (s *server) connected(r dtlsterm.Result) {
	if r.Err != nil {
		s.t.Errorf("handshake: %v", r.Err)
		return
	}
	client, ours, err := crypt.Split(r.Profile, r.Keying)
	if err != nil {
		s.t.Error(err)
		return
	}
	if s.opener, err = crypt.NewOpener(r.Profile, client); err != nil {
		s.t.Error(err)
	}
	if s.sealer, err = crypt.NewSealer(r.Profile, ours); err != nil {
		s.t.Error(err)
	}
}

func (s *server) echo(d, out []byte) {
	var h rtp.Header
	length, err := h.Unmarshal(d)
	if err != nil {
		s.t.Errorf("RTP: %v", err)
		return
	}
	index, ok := s.window.Estimate(h.SequenceNumber)
	if !ok || !s.window.Fresh(index) {
		return
	}
	payload, ok := s.opener.OpenRTP(d, length, index)
	if !ok {
		s.t.Error("a packet of the client does not open")
		return
	}
	s.window.Accept(index)
	s.sent++
	head, err := (&rtp.Header{
		Version: 2, PayloadType: h.PayloadType, SequenceNumber: uint16(s.sent), Timestamp: h.Timestamp,
		SSRC: 5001, CSRC: []uint32{h.SSRC},
	}).Marshal()
	if err != nil {
		s.t.Error(err)
	}
	s.write(s.sealer.SealRTP(out, head, payload, s.sent))
	if s.sent%8 == 0 {
		report, err := (&rtcp.SenderReport{SSRC: 5001, PacketCount: uint32(s.sent)}).Marshal()
		if err != nil {
			s.t.Error(err)
		}
		s.write(s.sealer.SealRTCP(out, report, uint32(s.sent)))
	}
}

// A whole pion/webrtc client over a real socket: ICE, DTLS, SRTP both ways and
// SRTCP both ways, with the leaves alone on our side.
func TestPionTalks(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	term, err := dtlsterm.New(dtlsterm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, conn: conn, creds: icelite.Mint(), term: term, results: make(chan dtlsterm.Result, 1)}
	s.key = icelite.NewKey(s.creds.Pwd)

	pc, mic := peer(t, 2)
	heard := make(chan *rtp.Packet, 64)
	senderReports := make(chan struct{}, 64)
	pc.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		if track.StreamID() != "slot-1" || track.SSRC() != 5001 {
			t.Errorf("track %q of SSRC %d", track.StreamID(), track.SSRC())
		}
		go func() {
			for {
				if packets, _, err := receiver.ReadRTCP(); err != nil {
					return
				} else if _, ok := packets[0].(*rtcp.SenderReport); ok {
					senderReports <- struct{}{}
				}
			}
		}()
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			heard <- p
		}
	})
	connected := make(chan struct{})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			close(connected)
		}
	})
	o := negotiate(t, pc, sdpanswer.Local{
		Ufrag: s.creds.Ufrag, Pwd: s.creds.Pwd, Fingerprint: term.Fingerprint(),
		Candidates: []netip.AddrPort{conn.LocalAddr().(*net.UDPAddr).AddrPort()},
	})
	s.peer = o.Fingerprint
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.run()
	}()
	defer func() {
		pc.Close()
		conn.Close()
		<-stopped
		term.Close()
	}()

	deadline := time.After(20 * time.Second)
	select {
	case <-connected:
	case <-deadline:
		t.Fatal("not connected")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	voice := bytes.Repeat([]byte{0xfc}, 80)
	var got, reports int
	for seq := uint16(65520); got < 40 || reports < 2 || s.reports.Load() < 2; seq++ { // over a rollover
		if err := pc.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 5001}}}}); err != nil {
			t.Fatal(err)
		}
		if err := mic.WriteRTP(&rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: uint32(seq) * 960},
			Payload: voice,
		}); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-heard:
			got++
			if !bytes.Equal(p.Payload, voice) || len(p.CSRC) != 1 || p.CSRC[0] != uint32(o.Media.MicSSRC) {
				t.Fatalf("heard %v", p)
			}
		case <-senderReports:
			reports++
		case <-tick.C:
		case <-deadline:
			t.Fatalf("heard %d packets, %d sender reports; the server %d receiver reports", got, reports, s.reports.Load())
		}
	}
}
