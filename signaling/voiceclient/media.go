package voiceclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/transport/v4"
	"github.com/pion/webrtc/v4"

	"voicefleet/sfu"
)

const (
	levelURI   = "urn:ietf:params:rtp-hdrext:ssrc-audio-level" // RFC 6464
	clockRate  = 48000                                         // RFC 7587 section 4.1
	opusType   = 111
	packetSize = 1500
	// voiceLevel is the level in -dBov below which a frame is called voice.
	voiceLevel = 70
	// pauseAfter is how late a frame must be for the timestamps to jump ahead.
	pauseAfter = 100 * time.Millisecond
)

// media is one PeerConnection: a microphone and K slots. It is the Transport of
// those who bring none.
type media struct {
	// Immutable after newMedia.
	sdp    string // the offer
	pc     *webrtc.PeerConnection
	mic    *webrtc.TrackLocalStaticRTP
	sender *webrtc.RTPSender
	slots  map[*webrtc.RTPReceiver]int
	hear   func(slot int, p *rtp.Packet, at time.Time)

	ice       chan struct{} // closed when a path is found
	connected chan struct{} // closed when keys are agreed
	failed    chan struct{} // closed when the connection cannot be used any more
	once      [3]sync.Once

	readers sync.WaitGroup

	sent, received, bytes atomic.Uint64

	net   *probing
	heard atomic.Int64 // Unix nanoseconds of the last sign of life
	hints atomic.Int32 // to pion's agent, to go on

	mu sync.Mutex
	// Guarded by mu.
	answers  uint64        // to STUN checks, as last seen
	iceTime  time.Duration // from the answer to a path
	dtlsTime time.Duration // from then to keys
	levelID  uint8
	seq      uint16
	stamp    uint32
	next     time.Time // when the frame after the last one is due
}

// newMedia makes the PeerConnection and its offer. The server is ICE-lite: it
// ignores our candidates, so the offer waits for none.
func newMedia(slots int, network transport.Net, hear func(int, *rtp.Packet, time.Time)) (*media, error) {
	m := &media{
		slots: make(map[*webrtc.RTPReceiver]int), hear: hear,
		ice: make(chan struct{}), connected: make(chan struct{}), failed: make(chan struct{}),
	}
	engine := &webrtc.MediaEngine{}
	opus := webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"},
		PayloadType:        opusType,
	}
	if err := engine.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("register opus: %w", err)
	}
	if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: levelURI}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("register audio level: %w", err)
	}
	// What we hear is told to the server, which mends a connection that hears
	// nothing: reports every second, and feedback on the packets that ask for it.
	reports := &interceptor.Registry{}
	if err := errors.Join(webrtc.ConfigureRTCPReports(reports), webrtc.ConfigureTWCCSender(engine, reports)); err != nil {
		return nil, fmt.Errorf("register reports: %w", err)
	}
	var err error
	if m.net, err = newProbing(network); err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	var s webrtc.SettingEngine
	s.SetNet(m.net)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(true) // a call on the same machine
	s.SetInterfaceFilter(func(name string) bool {
		i, err := net.InterfaceByName(name)
		return err == nil && i.Flags&net.FlagUp != 0
	})
	// The first path that works is taken: waiting for a better one costs more
	// than it gives against a server on public addresses.
	s.SetHostAcceptanceMinWait(0)
	s.SetPrflxAcceptanceMinWait(0)
	s.SetSrflxAcceptanceMinWait(0)
	s.SetRelayAcceptanceMinWait(0)
	s.SetICETimeouts(5*time.Second, 25*time.Second, probeEvery) // m.net holds most of the checks back
	s.SetDTLSRetransmissionInterval(250 * time.Millisecond)
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	s.SetReceiveMTU(packetSize)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(reports))
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, fmt.Errorf("make peer connection: %w", err)
	}
	m.pc = pc
	m.net.found = m.hint
	if m.sdp, err = m.describe(opus.RTPCodecCapability, slots); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// describe adds microphone and slots, and makes the offer of them.
func (m *media) describe(opus webrtc.RTPCodecCapability, slots int) (string, error) {
	var err error
	if m.mic, err = webrtc.NewTrackLocalStaticRTP(opus, "mic", "voice"); err != nil {
		return "", fmt.Errorf("make microphone: %w", err)
	}
	t, err := m.pc.AddTransceiverFromTrack(m.mic, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return "", fmt.Errorf("add microphone: %w", err)
	}
	m.sender = t.Sender()
	for slot := range slots {
		t, err := m.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		if err != nil {
			return "", fmt.Errorf("add slot %d: %w", slot, err)
		}
		m.slots[t.Receiver()] = slot
	}
	m.pc.OnTrack(m.onTrack)
	m.pc.OnICEConnectionStateChange(func(s webrtc.ICEConnectionState) {
		if s == webrtc.ICEConnectionStateConnected || s == webrtc.ICEConnectionStateCompleted {
			m.once[0].Do(func() { close(m.ice) })
		}
	})
	m.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			m.once[1].Do(func() { close(m.connected) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			m.once[2].Do(func() { close(m.failed) })
		}
	})
	offer, err := m.pc.CreateOffer(nil)
	if err != nil {
		return "", fmt.Errorf("make offer: %w", err)
	}
	if err := m.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("apply offer: %w", err)
	}
	return offer.SDP, nil
}

// Offer was made with the PeerConnection.
func (m *media) Offer(context.Context) (string, error) { return m.sdp, nil }

// Accept takes the server's answer and waits for the connection.
func (m *media) Accept(ctx context.Context, answer string) error {
	given := time.Now()
	if err := m.apply(answer); err != nil {
		return err
	}
	found, ice := given, m.ice
	for {
		select {
		case <-ice:
			ice, found = nil, time.Now()
		case <-m.connected:
			m.mu.Lock()
			m.iceTime, m.dtlsTime = found.Sub(given), time.Since(found)
			m.mu.Unlock()
			m.heard.Store(time.Now().UnixNano())
			m.net.held.Store(true)
			return nil
		case <-m.failed:
			return errors.New("no media path to the node")
		case <-ctx.Done():
			return fmt.Errorf("connect media: %w", ctx.Err())
		}
	}
}

// apply gives the answer to the PeerConnection, which connects from then on.
func (m *media) apply(answer string) error {
	m.net.detour.answer(answer)
	if err := m.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("apply answer: %w", err)
	}
	m.mu.Lock()
	for _, ext := range m.sender.GetParameters().HeaderExtensions {
		if ext.URI == levelURI {
			m.levelID = uint8(ext.ID)
		}
	}
	m.mu.Unlock()
	m.readers.Add(1)
	go func() {
		defer m.readers.Done()
		drain(m.sender)
	}()
	return nil
}

// hint has pion's agent look at its candidates now. After the first answer it would
// nominate the pair at its next look, up to 200 ms later, of which pion/webrtc lets nobody
// set the interval; a new candidate makes it look at once, and of a passive one by TCP it
// makes no pair, as this client has no candidates by TCP (RFC 6544 section 6.2).
func (m *media) hint() {
	n := m.hints.Add(1)
	if n > maxHints {
		return
	}
	// Whoever closes the connection holds its lock until the reader, which calls this, has ended.
	go func() {
		_ = m.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: fmt.Sprintf("candidate:%d 1 tcp 1 192.0.2.1 %d typ host tcptype passive", n, n)})
	}()
}

// maxHints bounds those of one connection: nomination takes one, and one more for each
// that is lost.
const maxHints = 8

// drain reads reports nobody asked for, so that they do not pile up.
func drain(r interface {
	ReadRTCP() ([]rtcp.Packet, interceptor.Attributes, error)
}) {
	for {
		if _, _, err := r.ReadRTCP(); err != nil {
			return
		}
	}
}

func (m *media) onTrack(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	slot, ok := m.slots[receiver]
	if !ok {
		return
	}
	m.readers.Add(2)
	go func() {
		defer m.readers.Done()
		drain(receiver)
	}()
	go func() {
		defer m.readers.Done()
		buf := make([]byte, packetSize)
		var p rtp.Packet
		for {
			n, _, err := track.Read(buf)
			if err != nil {
				return
			}
			at := time.Now()
			if p.Unmarshal(buf[:n]) != nil {
				continue
			}
			m.heard.Store(at.UnixNano())
			m.received.Add(1)
			m.bytes.Add(uint64(n))
			m.hear(slot, &p, at)
		}
	}()
}

// write sends one Opus frame. Level is -dBov, 0 loudest to 127 silent. Frames
// that come later than they should move the timestamps on, as a pause does.
func (m *media) write(frame []byte, d time.Duration, level uint8, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	pause := m.next.IsZero() || now.Sub(m.next) > pauseAfter
	if pause && !m.next.IsZero() {
		m.stamp += samples(now.Sub(m.next))
	}
	if pause {
		m.next = now
	}
	p := &rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: opusType, SequenceNumber: m.seq, Timestamp: m.stamp, Marker: pause},
		Payload: frame,
	}
	if m.levelID != 0 {
		b := min(level, 127)
		if b < voiceLevel {
			b |= 0x80
		}
		if err := p.Header.SetExtension(m.levelID, []byte{b}); err != nil {
			return fmt.Errorf("set audio level: %w", err)
		}
	}
	m.seq++
	m.stamp += samples(d)
	m.next = m.next.Add(d)
	if err := m.mic.WriteRTP(p); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	m.sent.Add(1)
	return nil
}

// Heard is how many packets came and when the last sign of life did.
func (m *media) Heard() (received uint64, last time.Time) {
	at := max(m.heard.Load(), m.net.last.Load())
	if now := time.Now(); now.UnixNano()-at > int64(probeAfter) {
		// Over TCP or a relay the answers to checks are seen here only.
		if stats, ok := m.sender.Transport().ICETransport().GetSelectedCandidatePairStats(); ok {
			m.mu.Lock()
			if stats.ResponsesReceived != m.answers {
				m.answers, at = stats.ResponsesReceived, now.UnixNano()
				m.heard.Store(at)
			}
			m.mu.Unlock()
		}
	}
	return m.received.Load(), time.Unix(0, at)
}

// remote is where the media goes; invalid when there is no path.
func (m *media) remote() netip.AddrPort {
	pair, err := m.sender.Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return netip.AddrPort{}
	}
	addr, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), pair.Remote.Port)
}

// Stages of Accept.
func (m *media) Stages() (ice, dtls time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.iceTime, m.dtlsTime
}

// Lost is closed when the connection cannot be used any more.
func (m *media) Lost() <-chan struct{} { return m.failed }

func samples(d time.Duration) uint32 { return uint32(d * clockRate / time.Second) }

// Close ends the connection and waits for its readers.
func (m *media) Close() {
	_ = m.pc.GracefulClose()
	m.net.detour.close()
	m.once[2].Do(func() { close(m.failed) })
	m.readers.Wait()
}

// source is the speaker of a packet that came by a slot: its CSRC (RFC 3550
// section 5.1), as the SSRC is the slot's own.
func source(p *rtp.Packet) sfu.SSRC {
	if len(p.CSRC) > 0 {
		return sfu.SSRC(p.CSRC[0])
	}
	return 0
}
