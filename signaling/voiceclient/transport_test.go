package voiceclient_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// What a transport of the tests says of its stages.
const (
	saidICE  = 3 * time.Millisecond
	saidDTLS = 4 * time.Millisecond
)

// brought makes transports and keeps what happened to them, in order.
type brought struct {
	*ear
	refuse string // the verb that fails: "offer", "accept" or none
	hang   bool   // Accept returns when ctx ends

	mu   sync.Mutex
	all  []*pieces
	told []string // "1 accepted"
}

func (b *brought) make() voiceclient.Transport {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &pieces{by: b, number: len(b.all) + 1, lost: make(chan struct{})}
	b.all = append(b.all, p)
	return p
}

func (b *brought) options() voiceclient.Options {
	o := b.ear.options()
	o.Transport = b.make
	return o
}

func (b *brought) tell(p *pieces, what string) {
	b.mu.Lock()
	b.told = append(b.told, fmt.Sprint(p.number, " ", what))
	b.mu.Unlock()
	b.note(func() {})
}

func (b *brought) events() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

// pieces is a transport made of a PeerConnection: a slot, no microphone.
type pieces struct {
	by     *brought
	number int
	pc     *webrtc.PeerConnection
	lost   chan struct{}
	once   sync.Once
}

func (p *pieces) Offer(context.Context) (string, error) {
	if p.by.refuse == "offer" {
		return "", errors.New("no offer today")
	}
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	var err error
	p.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{})).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	p.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			p.by.note(func() { p.by.heard[fmt.Sprintf("%d %s", p.number, packet.Payload)]++ })
		}
	})
	if _, err := p.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		return "", err
	}
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return offer.SDP, p.pc.SetLocalDescription(offer)
}

func (p *pieces) Accept(ctx context.Context, answer string) error {
	if p.by.refuse == "accept" {
		return errors.New("no such answer")
	}
	if p.by.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	connected := make(chan struct{})
	var once sync.Once
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return err
	}
	select {
	case <-connected:
		p.by.tell(p, "accepted")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pieces) Stages() (ice, dtls time.Duration) { return saidICE, saidDTLS }
func (p *pieces) Lost() <-chan struct{}             { return p.lost }
func (p *pieces) lose()                             { p.once.Do(func() { close(p.lost) }) }

func (p *pieces) Close() {
	if p.pc != nil {
		_ = p.pc.GracefulClose()
	}
	p.lose()
	p.by.tell(p, "closed")
}

// A client that brings its media hears by it, and its stages are told; frames
// are not written through the call.
func TestTransport(t *testing.T) {
	w := newWorld(t)
	b := &brought{ear: newEar()}
	c, err := voiceclient.Join(t.Context(), voiceclient.Config{Server: w.gw.url, Token: "2", Guild: guild, Channel: channel, Options: b.options()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	a := w.join(t, 1, newEar())
	b.until(t, "hears a", speak(t, a, "words"), func() bool { return b.heard["1 words"] > 0 })
	s := c.Stats()
	if s.Voice.ICE != saidICE || s.Voice.DTLS != saidDTLS || s.Connected == 0 || s.Voice.Description == 0 {
		t.Errorf("%+v", s)
	}
	if s.FirstAudio != 0 || s.Voice.Received != 0 || s.Voice.Sent != 0 {
		t.Errorf("counted what it cannot know: %+v", s)
	}
	if err := c.WriteOpus([]byte{1}, 20*time.Millisecond, 20); err == nil || !strings.Contains(err.Error(), "send them by that transport") {
		t.Errorf("write: %v", err)
	}

	// Moved: a new transport works before the old one ends.
	w.gw.place("n2")
	b.until(t, "the old transport ends", nil, func() bool { return slices.Contains(b.events(), "1 closed") })
	if got, want := b.events(), []string{"1 accepted", "2 accepted", "1 closed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	b.until(t, "hears a there", speak(t, a, "there"), func() bool { return b.heard["2 there"] > 0 })

	// Lost: the user is placed anew with a third one.
	b.all[1].lose()
	b.until(t, "a third one works", nil, func() bool { return slices.Contains(b.events(), "3 accepted") })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got, want := b.events()[3:], []string{"2 closed", "3 accepted", "3 closed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whatever a transport refuses, the attempt ends with the reason and the
// transport is closed.
func TestTransportRefuses(t *testing.T) {
	w := newWorld(t)
	for i, test := range []struct {
		refuse string
		hang   bool
		want   string
	}{
		{refuse: "offer", want: "no offer today"},
		{refuse: "accept", want: "no such answer"},
		{hang: true, want: context.DeadlineExceeded.Error()},
	} {
		b := &brought{ear: newEar(), refuse: test.refuse, hang: test.hang}
		token := w.issuer.Token(edgeagent.Grant{ID: sfu.SessionID(fmt.Sprint("refuse", i)), Node: "n1", Guild: guild.String(), Call: sfu.CallID{ID: 20}, User: uid(1), Session: "gw"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		v, err := voiceclient.Dial(ctx, voiceclient.Endpoint{URLs: []string{"wss://" + w.hosts[0]}, Guild: guild, User: uid(1), Session: "gw", Token: token}, b.options())
		cancel()
		if err == nil {
			v.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
		if got := b.events(); !slices.Equal(got, []string{"1 closed"}) {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
