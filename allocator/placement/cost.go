package placement

import (
	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

const (
	// unknownRTT stands for a node nothing is known of: farther than a measured
	// one across a continent, nearer than one on the other side of the earth.
	unknownRTT = 120.0
	// sameRegionRTT and otherRegionRTT are what a region alone tells.
	sameRegionRTT  = 20.0
	otherRegionRTT = 120.0

	// seatPPS and seatBPS are what one more listener is expected to cost: 1.5
	// people talk at once on average, 50 packets a second each, of 100 bytes of
	// Opus and 66 bytes of RTP, SRTP, UDP and IP headers.
	seatPPS = 1.5 * 50
	seatBPS = seatPPS * 166 * 8

	// near is how much dearer than the cheapest a candidate may be to be drawn.
	nearMillis = 10.0
	nearShare  = 0.10
)

// penalty is what a fullness (0..1) costs, in milliseconds: 0 up to one half, 24
// at three quarters, 145 at nine tenths, 550 at 97 %.
func penalty(fullness float64) float64 {
	x := (fullness - 0.5) / 0.5
	switch {
	case x <= 0:
		return 0
	case x > 1:
		x = 1
	}
	return 50 * x * x / (1.02 - x)
}

// fullness is the fullest of the three resources.
func fullness(load edgeagent.Load, limit edgeagent.Capacity) float64 {
	return max(share(load.PPS, limit.PPS), share(load.BPS, limit.BPS), share(float64(load.Sessions), float64(limit.Sessions)))
}

// share of a limit; a node that claims none has no room.
func share(load, limit float64) float64 {
	if limit <= 0 {
		return 1
	}
	return load / limit
}

// seats is the load that n more sessions are expected to be.
func seats(n int) edgeagent.Load {
	return edgeagent.Load{PPS: float64(n) * seatPPS, BPS: float64(n) * seatBPS, Sessions: n}
}

func sum(a, b edgeagent.Load) edgeagent.Load {
	a.PPS += b.PPS
	a.BPS += b.BPS
	a.Sessions += b.Sessions
	return a
}

// rtt is the distance of a node from the user and where it is known from.
func rtt(req allocator.PlaceRequest, hb edgeagent.Heartbeat) (ms float64, from string) {
	if ms, ok := measured(req.RTT, string(hb.Node)); ok {
		return ms, "client"
	}
	if ms, ok := measured(req.RTT, hb.Region); ok {
		return ms, "client"
	}
	switch {
	case req.Region == "" || hb.Region == "":
		return unknownRTT, "none"
	case req.Region == hb.Region:
		return sameRegionRTT, "region"
	}
	return otherRegionRTT, "region"
}

// measured reads a client's figure; what cannot be true is not believed.
func measured(rtts map[string]float64, key string) (float64, bool) {
	ms, ok := rtts[key]
	return ms, ok && ms > 0 && ms < 10_000
}
