package sfuserver_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/sfutest"
)

// frame is 20 ms of Opus that says who and when; the engine looks at its length
// only.
func frame(who, n byte) []byte { return append([]byte{0x78, who, n}, bytes.Repeat([]byte{who}, 60)...) }

// talk has a client say frames, 20 ms apart, until done is closed.
func talk(t *testing.T, c *sfutest.Client, who byte) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := byte(0); ; n++ {
			if err := c.Say(frame(who, n), 128|30); err != nil {
				t.Errorf("say: %v", err)
				return
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// from is the packets of one speaker among those heard.
func from(heard []sfutest.Heard, who sfu.SSRC) []sfutest.Heard {
	return slices.DeleteFunc(slices.Clone(heard), func(h sfutest.Heard) bool {
		return len(h.Packet.CSRC) != 1 || sfu.SSRC(h.Packet.CSRC[0]) != who
	})
}

func TestTwoHearEachOther(t *testing.T) {
	e := sfutest.Start(t, 1, sfu.Start{})
	a := sfutest.Dial(t, e, sfutest.Peer{Session: "a", Call: sfutest.Call(7), User: sfutest.User(1)})
	b := sfutest.Dial(t, e, sfutest.Peer{Session: "b", Call: sfutest.Call(7), User: sfutest.User(2)})
	defer talk(t, a, 'a')()
	defer talk(t, b, 'b')()
	for _, c := range []struct {
		listener *sfutest.Client
		speaker  *sfutest.Client
		who      byte
	}{{a, b, 'b'}, {b, a, 'a'}} {
		heard := c.listener.Await(t, "20 packets", func(h []sfutest.Heard) bool { return len(h) >= 20 })
		for i, h := range heard {
			p := h.Packet
			if h.Slot != 0 || p.Payload[1] != c.who || len(p.CSRC) != 1 || sfu.SSRC(p.CSRC[0]) != c.speaker.Opened.SSRC {
				t.Fatalf("packet %d: slot %d, CSRC %v, payload %x", i, h.Slot, p.CSRC, p.Payload)
			}
			if i > 0 {
				before := heard[i-1].Packet
				if p.SequenceNumber != before.SequenceNumber+1 || p.Timestamp != before.Timestamp+960 {
					t.Fatalf("packet %d: sequence %d after %d, timestamp %d after %d",
						i, p.SequenceNumber, before.SequenceNumber, p.Timestamp, before.Timestamp)
				}
			}
		}
	}
	e.Await(t, "a speaking", func(ev sfu.Event) bool {
		return ev.Speaking != nil && ev.Speaking.Session == "a" && ev.Speaking.Speaking
	})
	placed := e.Await(t, "b placed at a", func(ev sfu.Event) bool { return ev.Placed != nil && ev.Placed.Session == "a" }).Placed
	if placed.Slot != 0 || placed.User != sfutest.User(2) || placed.SSRC != b.Opened.SSRC || placed.MID != a.Slots[0].MID {
		t.Errorf("placed %+v", placed)
	}
}
