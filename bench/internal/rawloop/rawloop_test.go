package rawloop_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"voicefleet/bench/internal/rawloop"
)

// TestCounts sends a plan to two sockets and counts every datagram by size; what is sealed
// is as long, and differs from packet to packet.
func TestCounts(t *testing.T) {
	t.Run("bare", func(t *testing.T) { counts(t, false) })
	t.Run("sealed", func(t *testing.T) { counts(t, true) })
}

func counts(t *testing.T, seal bool) {
	const warm, window, tail, small, size = 3, 20, 2, 60, 132
	var targets []rawloop.Target
	var sockets []*net.UDPConn
	for i := range 2 {
		s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sockets = append(sockets, s)
		targets = append(targets, rawloop.Target{Addr: netip.MustParseAddrPort(s.LocalAddr().String()), SSRC: uint32(i + 7)})
	}
	plan := rawloop.Plan{
		Start: time.Now(), Interval: time.Millisecond, Warm: warm, Window: window, Tail: tail, SmallSize: small, Size: size, Batch: 1, Seal: seal,
		Sources: []rawloop.Source{{Targets: targets}, {Phase: 500 * time.Microsecond, Targets: targets[:1]}},
	}
	sent, err := rawloop.Run(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if sent.Voice != 3*window || sent.Small != 3*(warm+tail) || sent.Refused != 0 {
		t.Errorf("sent %+v", sent)
	}
	for i, s := range sockets {
		per := 2 - i // sources that send here
		got := map[int]int{}
		bodies := map[string]bool{}
		for range per * (warm + window + tail) {
			if err := s.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			var b [2000]byte
			n, _, err := s.ReadFromUDPAddrPort(b[:])
			if err != nil {
				t.Fatalf("socket %d after %v: %v", i, got, err)
			}
			if b[0] != 0x80 || b[11] != byte(i+7) {
				t.Fatalf("socket %d: header % x", i, b[:12])
			}
			got[n]++
			bodies[string(b[12:n])] = true
		}
		// Bare, there is one body of each size; sealed, one for each sequence number, the
		// same for both sources, which have one SSRC here.
		if want := map[bool]int{false: 2, true: warm + window + tail}[seal]; len(bodies) != want {
			t.Errorf("socket %d: %d bodies, want %d", i, len(bodies), want)
		}
		if got[size] != per*window || got[small] != per*(warm+tail) {
			t.Errorf("socket %d: %v", i, got)
		}
	}
}

func TestPlanOutOfBounds(t *testing.T) {
	good := rawloop.Plan{Interval: time.Millisecond, Batch: 1, SmallSize: 60, Size: 132, Sources: []rawloop.Source{{Targets: []rawloop.Target{{Addr: netip.MustParseAddrPort("127.0.0.1:9")}}}}}
	for name, spoil := range map[string]func(*rawloop.Plan){
		"interval": func(p *rawloop.Plan) { p.Interval = 0 },
		"batch":    func(p *rawloop.Plan) { p.Batch = rawloop.MaxBatch + 1 },
		"size":     func(p *rawloop.Plan) { p.Size = 59 },
		"no tag":   func(p *rawloop.Plan) { p.SmallSize = 27 },
		"sources":  func(p *rawloop.Plan) { p.Sources = nil },
		"targets":  func(p *rawloop.Plan) { p.Sources = []rawloop.Source{{}} },
		"ipv6": func(p *rawloop.Plan) {
			p.Sources = []rawloop.Source{{Targets: []rawloop.Target{{Addr: netip.MustParseAddrPort("[::1]:9")}}}}
		},
	} {
		plan := good
		spoil(&plan)
		if _, err := rawloop.Run(t.Context(), plan); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
