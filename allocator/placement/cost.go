package placement

import (
	"time"

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

	// steep scales the penalty for load; edge keeps it finite at the limit.
	steep = 7.0
	edge  = 0.006

	// crowded is how full calls may make a node that begin or move while another
	// has room: how much people say varies, and heartbeats come late. What is left
	// above is for calls that grow.
	crowded = 0.99
	// brim is when a live call moves rather than grows, and how full of packets and
	// bits it may make its node when no other has room for all of it. Sessions are
	// counted and fill it to the end.
	brim = 0.995

	// near is how much dearer than the cheapest a candidate may be to be drawn.
	nearMillis = 1.0
	nearShare  = 0.01

	// NearerSaves is what a live call must save by another node to move there, in
	// milliseconds: a quarter of what a call spans nodes for, since our clients make the
	// new path before they break the old one (others may miss a word), and nothing
	// crosses twice from then on.
	NearerSaves = SpanSaves / 4

	// A node that has just become ready takes rampFrom of its calls, and all of
	// them after rampTime; between, the share grows evenly.
	rampFrom = 0.1
	rampTime = 60 * time.Second
	// asideMillis is what a call costs on a node to whose share it does not
	// belong: as much as an ocean, so that it goes there only for want of others.
	asideMillis = 150.0

	// A failure domain that has lost all its nodes but one costs nearly
	// shakenMillis more for shakenFor after the last loss; one that has lost one
	// of ten, a tenth of it. What fell with it goes where nothing fell.
	shakenMillis = 25.0
	shakenFor    = 60 * time.Second
)

// penalty is what a fullness (0..1) costs, in milliseconds: nothing up to one half,
// 2 at 95 %, 15 at 97 %, 41 at 98 %, 141 at 99 %. So while there is room a call
// goes to the nearest city, and how its nodes share the load is for the two draws. It
// is the price of a seat where there are not enough: it rises until those go elsewhere
// whose detour is the shortest. Where it begins is what stays empty meanwhile, and one
// that is steeper yet would send calls on detours for the next call's sake. An ocean is
// crossed at 98.6 %.
func penalty(fullness float64) float64 {
	x := (fullness - 0.5) / 0.5
	switch {
	case x <= 0:
		return 0
	case x > 1:
		x = 1
	}
	p := x * x
	p *= p
	p *= p
	p *= p
	return steep * p * p / (1 + edge - x) // x to the 32nd
}

// Fullness is the fullest of the three resources, 0 to 1.
func Fullness(load edgeagent.Load, limit edgeagent.Capacity) float64 {
	return max(share(load.PPS, limit.PPS), share(load.BPS, limit.BPS), share(float64(load.Sessions), float64(limit.Sessions)))
}

// share of a limit; a node that claims none has no room.
func share(load, limit float64) float64 {
	if limit <= 0 {
		return 1
	}
	return load / limit
}

// Seats is the load that n more sessions are expected to be.
func Seats(n int) edgeagent.Load {
	return edgeagent.Load{PPS: float64(n) * seatPPS, BPS: float64(n) * seatBPS, Sessions: n}
}

// room is how many more seats fit.
func room(load edgeagent.Load, limit edgeagent.Capacity) int {
	n := min((limit.PPS-load.PPS)/seatPPS, (limit.BPS-load.BPS)/seatBPS, float64(limit.Sessions-load.Sessions))
	return int(max(0, n))
}

func sum(a, b edgeagent.Load) edgeagent.Load {
	a.PPS += b.PPS
	a.BPS += b.BPS
	a.Sessions += b.Sessions
	return a
}

// nearly is the dearest cost that counts as good as the best one.
func nearly(best float64) float64 { return best + max(nearMillis, best*nearShare) }

// ramp is the share of its calls that a node takes which has been ready for so
// long.
func ramp(ready time.Duration) float64 {
	switch {
	case ready >= rampTime:
		return 1
	case ready <= 0:
		return rampFrom
	}
	return rampFrom + (1-rampFrom)*float64(ready)/float64(rampTime)
}

// believable says whether a client can have measured so many milliseconds.
func believable(ms float64) bool { return ms > 0 && ms < 10_000 }
