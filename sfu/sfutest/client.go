package sfutest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// levelURI is the audio level of RFC 6464.
const levelURI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

// Call and User make ids of small numbers.
func Call(n uint64) sfu.CallID { return sfu.CallID{ID: snowflake.ID(n)} }

// User makes an id of a small number.
func User(n uint64) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

// Peer says who a client is. Zero fields are chosen: slots 4.
type Peer struct {
	Session sfu.SessionID
	Call    sfu.CallID
	User    sfu.UserID
	Rights  *sfu.Rights // nil: may speak
	Echo    bool
	Slots   int
	NACK    bool // ask for lost packets again
	// Views is how many cameras it can see at once; with any it has a camera of its own.
	Views int
	// TransportCC answers packets that ask for transport-wide feedback.
	TransportCC bool
	// Setting tunes the client's transports; nil leaves them.
	Setting *webrtc.SettingEngine
}

// Heard is a packet that came to a client.
type Heard struct {
	Slot   int
	Packet *rtp.Packet
	At     time.Time
}

// Client is a WebRTC client of pion, connected to an engine.
type Client struct {
	Peer   Peer
	Opened sfu.Opened
	Slots  []sfu.Slot
	Views  []sfu.Slot
	PC     *webrtc.PeerConnection

	track   *webrtc.TrackLocalStaticRTP
	camera  *webrtc.TrackLocalStaticRTP
	filmed  uint16 // sequence number
	levelID uint8
	seq     uint16
	ts      uint32

	mu sync.Mutex
	// Guarded by mu.
	heard   []Heard
	seen    []Heard       // in views
	keys    int           // key frames its camera is to send
	changed chan struct{} // closed and replaced when a packet comes
}

// Dial opens a session, negotiates and connects. The client hangs up at the end
// of the test.
func Dial(t testing.TB, e *Engine, p Peer) *Client {
	t.Helper()
	c, err := dial(e, p)
	if err != nil {
		t.Fatalf("dial %s: %v", p.Session, err)
	}
	t.Cleanup(func() { c.PC.Close() })
	connected := make(chan struct{})
	var once sync.Once
	c.PC.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	if c.PC.ConnectionState() == webrtc.PeerConnectionStateConnected {
		once.Do(func() { close(connected) })
	}
	select {
	case <-connected:
	case <-time.After(Timeout):
		t.Fatalf("dial %s: not connected but %v", p.Session, c.PC.ConnectionState())
	}
	e.Await(t, "connection of "+string(p.Session), func(ev sfu.Event) bool {
		return ev.Connected != nil && ev.Connected.Session == p.Session
	})
	return c
}

func dial(e *Engine, p Peer) (*Client, error) {
	if p.Slots == 0 {
		p.Slots = 4
	}
	if p.Rights == nil {
		p.Rights = &sfu.Rights{Speak: true, Video: p.Views > 0}
	}
	c := &Client{Peer: p, changed: make(chan struct{}), seq: 1000, ts: 5000}
	ev, err := e.Do(sfu.Command{Open: &sfu.Open{Session: p.Session, Call: p.Call, User: p.User, Rights: *p.Rights, Echo: p.Echo}})
	if err != nil {
		return nil, err
	}
	c.Opened = *ev.Opened
	offer, err := c.offer()
	if err != nil {
		return nil, err
	}
	answer, err := e.Negotiate(p.Session, offer)
	if err != nil {
		c.PC.Close()
		return nil, err
	}
	c.Slots, c.Views = answer.Slots, answer.Views
	err = c.PC.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.Answer})
	if err != nil {
		c.PC.Close()
		return nil, fmt.Errorf("set answer: %w\n%s", err, answer.Answer)
	}
	return c, nil
}

// offer makes the PeerConnection and its offer: a microphone and the slots, a camera and
// the views.
func (c *Client) offer() (string, error) {
	opus := webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
		},
		PayloadType: 111,
	}
	if c.Peer.NACK {
		opus.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "nack"}}
	}
	media, chain := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
		return "", err
	}
	vp8 := webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}},
		},
		PayloadType: 96,
	}
	if err := media.RegisterCodec(vp8, webrtc.RTPCodecTypeVideo); err != nil {
		return "", err
	}
	if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: levelURI}, webrtc.RTPCodecTypeAudio); err != nil {
		return "", err
	}
	if err := webrtc.ConfigureRTCPReports(chain); err != nil {
		return "", err
	}
	if c.Peer.NACK {
		if err := webrtc.ConfigureNack(media, chain); err != nil {
			return "", err
		}
	}
	if c.Peer.TransportCC {
		if err := webrtc.ConfigureTWCCSender(media, chain); err != nil {
			return "", err
		}
	}
	options := []func(*webrtc.API){webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(chain)}
	setting := webrtc.SettingEngine{}
	if c.Peer.Setting != nil {
		setting = *c.Peer.Setting
	}
	setting.SetIncludeLoopbackCandidate(true)
	options = append(options, webrtc.WithSettingEngine(setting))
	pc, err := webrtc.NewAPI(options...).NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return "", err
	}
	c.PC = pc
	c.track, err = webrtc.NewTrackLocalStaticRTP(opus.RTPCodecCapability, "mic", "mic")
	if err != nil {
		return "", err
	}
	sender, err := pc.AddTransceiverFromTrack(c.track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return "", err
	}
	for range c.Peer.Slots {
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return "", err
		}
	}
	if c.Peer.Views > 0 {
		if err := c.offerVideo(vp8.RTPCodecCapability); err != nil {
			return "", err
		}
	}
	pc.OnTrack(c.listen)
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	for _, x := range sender.Sender().GetParameters().HeaderExtensions {
		if x.URI == levelURI {
			c.levelID = uint8(x.ID)
		}
	}
	return offer.SDP, nil
}

// offerVideo adds the camera and the views.
func (c *Client) offerVideo(vp8 webrtc.RTPCodecCapability) error {
	var err error
	if c.camera, err = webrtc.NewTrackLocalStaticRTP(vp8, "camera", "camera"); err != nil {
		return err
	}
	film, err := c.PC.AddTransceiverFromTrack(c.camera, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return err
	}
	for range c.Peer.Views {
		if _, err := c.PC.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return err
		}
	}
	go func() { // ends with the PeerConnection
		for {
			list, _, err := film.Sender().ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range list {
				if _, asks := p.(*rtcp.PictureLossIndication); asks {
					c.mu.Lock()
					c.keys++
					c.mu.Unlock()
				}
			}
		}
	}()
	return nil
}

// listen collects what comes in one slot or view.
func (c *Client) listen(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	for {
		p, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		streams, came := c.Slots, &c.heard
		if track.Kind() == webrtc.RTPCodecTypeVideo {
			streams, came = c.Views, &c.seen
		}
		slot := slices.IndexFunc(streams, func(s sfu.Slot) bool { return s.SSRC == sfu.SSRC(p.SSRC) })
		c.mu.Lock()
		*came = append(*came, Heard{Slot: slot, Packet: p, At: time.Now()})
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// Say sends one frame of 20 ms with an audio level (-dBov, 128 more for a voice;
// 255 for none).
func (c *Client) Say(payload []byte, level uint8) error {
	c.seq++
	c.ts += 960
	p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: c.seq, Timestamp: c.ts}, Payload: payload}
	if level != 255 && c.levelID != 0 {
		if err := p.SetExtension(c.levelID, []byte{level}); err != nil {
			return err
		}
	}
	return c.track.WriteRTP(p)
}

// Film sends one picture of the camera in one packet: a key frame if one was asked for.
func (c *Client) Film(payload []byte) error {
	c.mu.Lock()
	inner := byte(1)
	if c.keys > 0 {
		c.keys, inner = 0, 0
	}
	c.mu.Unlock()
	c.filmed++
	h := rtp.Header{Version: 2, SequenceNumber: c.filmed, Timestamp: uint32(c.filmed) * 3000, Marker: true}
	return c.camera.WriteRTP(&rtp.Packet{Header: h, Payload: append([]byte{0x10, inner}, payload...)})
}

// Seen is all that came in views so far.
func (c *Client) Seen() []Heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[:len(c.seen):len(c.seen)]
}

// Heard is all that came so far.
func (c *Client) Heard() []Heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard[:len(c.heard):len(c.heard)]
}

// Await waits until what was heard, in all, satisfies enough.
func (c *Client) Await(t testing.TB, what string, enough func([]Heard) bool) []Heard {
	t.Helper()
	deadline := time.After(Timeout)
	for {
		c.mu.Lock()
		heard, changed := c.heard, c.changed
		c.mu.Unlock()
		if enough(heard) {
			return heard
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s waited in vain for %s; heard %d packets", c.Peer.Session, what, len(heard))
		}
	}
}

// Offer is the offer of a client with so many slots that never connects.
func Offer(t testing.TB, slots int) string {
	t.Helper()
	c := &Client{Peer: Peer{Slots: slots}}
	offer, err := c.offer()
	if err != nil {
		t.Fatal(err)
	}
	c.PC.Close()
	return offer
}
