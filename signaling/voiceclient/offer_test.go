package voiceclient

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"voicefleet/sfu"
	"voicefleet/signaling"
)

// The offer is what the protocol asks for, and far from the limits of server
// and message at any number of slots.
func TestOffer(t *testing.T) {
	for _, slots := range []int{1, sfu.DefaultSlots, sfu.MaxSlots} {
		m, err := newMedia(slots, nil, func(int, *rtp.Packet, time.Time) {})
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		offer := m.sdp
		t.Logf("%d slots: %d bytes", slots, len(offer))
		if n := strings.Count(offer, "m=audio"); n != slots+1 || strings.Count(offer, "m=") != n {
			t.Errorf("%d slots: %d sections", slots, n)
		}
		if strings.Count(offer, "a=sendonly") != 1 || strings.Count(offer, "a=recvonly") != slots || strings.Index(offer, "a=sendonly") > strings.Index(offer, "a=recvonly") && slots > 0 {
			t.Errorf("%d slots: directions are wrong", slots)
		}
		frame, err := signaling.AppendMessage(nil, signaling.OpSelectProtocol, 0, signaling.Select{Protocol: signaling.ProtocolWebRTC, Offer: offer})
		if err != nil || len(frame) > 28<<10 {
			t.Errorf("%d slots: message of %d bytes, %v", slots, len(frame), err)
		}
	}
}

// Timestamps follow the frames, and the clock over a pause; the first packet of
// a spurt is marked.
func TestWriteTimestamps(t *testing.T) {
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "mic", "voice")
	if err != nil {
		t.Fatal(err)
	}
	m := &media{mic: track}
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		wait  time.Duration // after the last frame
		stamp uint32        // after this one
	}{
		{0, 960}, {20 * time.Millisecond, 1920}, {25 * time.Millisecond, 2880}, {time.Millisecond, 3840},
		{time.Second, 3840 + 960 + 48*(1000+1+25+20-80)},
	} {
		now = now.Add(step.wait)
		if err := m.write([]byte{1}, 20*time.Millisecond, 20, now); err != nil {
			t.Fatal(err)
		}
		if m.stamp != step.stamp || m.seq != uint16(i+1) {
			t.Errorf("frame %d: timestamp %d, want %d, seq %d", i, m.stamp, step.stamp, m.seq)
		}
	}
}
