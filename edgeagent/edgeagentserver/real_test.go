package edgeagentserver

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"voicefleet/edgeagent"
	"voicefleet/edgeagent/edgeagenttest"
	"voicefleet/sfu/sfutest"
)

// engineStream is a real engine's stream: Close returns when the engine has left
// the sockets.
type engineStream struct {
	io.ReadWriteCloser
	ended <-chan struct{}
}

func (s engineStream) Close() error {
	err := s.ReadWriteCloser.Close()
	<-s.ended
	return err
}

// talker is a WebRTC client that joined through the bus.
type talker struct {
	pc    *webrtc.PeerConnection
	mic   *webrtc.TrackLocalStaticRTP
	token string
	heard chan struct{} // gets one for each packet, when there is room
	seq   uint16
	ts    uint32
}

// join opens a session and negotiates it.
func (r *rig) join(t *testing.T, call, user uint64) (*talker, edgeagent.SessionReply) {
	t.Helper()
	return r.joinAt(t, "edge-1", call, user)
}

// joinAt does it on any node.
func (r *rig) joinAt(t *testing.T, node edgeagent.NodeID, call, user uint64) (*talker, edgeagent.SessionReply) {
	t.Helper()
	return r.joinBy(t, node, call, user, "")
}

// joinBy has its media take a way: "ice-tcp", or a relay by a part of its URL.
func (r *rig) joinBy(t *testing.T, node edgeagent.NodeID, call, user uint64, by string) (*talker, edgeagent.SessionReply) {
	t.Helper()
	g := r.grant(call, user)
	g.Node = node
	rep, token := r.open(t, g)
	setting := webrtc.SettingEngine{}
	setting.SetIncludeLoopbackCandidate(true)
	cfg := webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle}
	switch by {
	case "":
		setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	case "ice-tcp":
		setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	default:
		cfg.ICETransportPolicy = webrtc.ICETransportPolicyRelay
		for _, s := range rep.Relay {
			for _, url := range s.URLs {
				if strings.Contains(url, by) {
					cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: []string{url}, Username: s.Username, Credential: s.Credential})
				}
			}
		}
		if len(cfg.ICEServers) == 0 {
			t.Fatalf("no relay by %s among %+v", by, rep.Relay)
		}
	}
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(setting)).
		NewPeerConnection(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	k := &talker{pc: pc, token: token, heard: make(chan struct{}, 1)}
	if k.mic, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "mic", "mic"); err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTransceiverFromTrack(k.mic, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			select {
			case k.heard <- struct{}{}:
			default:
			}
		}
	})
	connected := make(chan struct{})
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	answer, err := r.client.Negotiate(t.Context(), node, edgeagent.NegotiateRequest{Session: rep.Record.Session, Offer: offer.SDP})
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.Answer}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-connected:
	case <-time.After(edgeagenttest.Timeout):
		t.Fatalf("user %d is not connected but %v", user, pc.ConnectionState())
	}
	return k, rep
}

// talk sends a frame every 20 ms until ctx ends.
func (k *talker) talk(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	frame := make([]byte, 80)
	frame[0] = 0xf8 // Opus, CELT, 20 ms
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.seq++
			k.ts += 960
			frame[1]++
			_ = k.mic.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: k.seq, Timestamp: k.ts}, Payload: frame})
		}
	}
}

// TestVoicesSurviveTheDeathOfTheEngine: two WebRTC clients of a real engine hear
// each other again after it was replaced, and notice nothing else.
func TestVoicesSurviveTheDeathOfTheEngine(t *testing.T) {
	for _, by := range []string{"", "transport=udp", "transport=tcp", "ice-tcp"} {
		t.Run("by "+by, func(t *testing.T) { voicesSurvive(t, by) })
	}
}

func voicesSurvive(t *testing.T, by string) {
	r := newRig(t)
	udp, tcp := onePort(t)
	sockets := sfutest.Listen(t, 1)
	var mu sync.Mutex
	var streams []engineStream
	s, _ := r.run(t, Config{
		Advertise: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		Closed:    &Closed{UDP: udp, TCP: tcp},
		Engine: func(context.Context) (io.ReadWriteCloser, error) {
			stream, ended := sfutest.Serve(t, sockets)
			mu.Lock()
			defer mu.Unlock()
			streams = append(streams, engineStream{stream, ended})
			return streams[len(streams)-1], nil
		},
	})
	events := r.events(t, 7)
	a, _ := r.join(t, 7, 1)
	b, _ := r.joinBy(t, "edge-1", 7, 2, by)
	talking, hush := context.WithCancel(t.Context())
	var talk sync.WaitGroup
	talk.Go(func() { a.talk(talking) })
	defer talk.Wait()
	defer hush()

	hears := func(what string) {
		t.Helper()
		for range 20 {
			select {
			case <-b.heard:
			case <-time.After(edgeagenttest.Timeout):
				t.Fatalf("b hears nothing %s", what)
			}
		}
	}
	hears("at all")
	if n := s.closed.count.turnOut.Load() + s.closed.count.iceOut.Load(); (n > 0) != (by != "") {
		t.Errorf("%d bytes went by relay or TCP", n)
	}
	for {
		ev := next(t, events)
		if ev.Left != nil {
			t.Fatalf("somebody left: %+v", ev.Left)
		}
		if ev.Speaking != nil && ev.Speaking.User == userID(1) && ev.Speaking.Flags == 1 {
			break
		}
	}

	mu.Lock()
	first := streams[0]
	mu.Unlock()
	first.ReadWriteCloser.Close()
	<-first.ended
	for len(b.heard) > 0 {
		<-b.heard // what the first engine sent
	}
	began := time.Now()
	hears("from the second engine")
	t.Logf("20 packets heard %v after the death of the engine", time.Since(began).Round(time.Millisecond))
	mu.Lock()
	defer mu.Unlock()
	if len(streams) != 2 {
		t.Errorf("%d engines were started", len(streams))
	}
	for len(events) > 0 {
		if ev := <-events; ev.Left != nil {
			t.Errorf("somebody left: %+v", ev.Left)
		}
	}
}
