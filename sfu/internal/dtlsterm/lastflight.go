package dtlsterm

import (
	"time"

	"voicefleet/sfu"
)

// LastFlight is what we sent last in a finished handshake: ChangeCipherSpec and
// Finished. A client that misses it repeats its own last flight (RFC 6347
// section 4.2.4) and is answered with the same bytes, which it will take as the
// first it sees of them. It belongs to one goroutine. The zero value answers
// nothing.
type LastFlight struct {
	datagrams [][]byte
	until     time.Time
	answered  int
}

// Answer returns the datagrams to send, lent and not to be changed, if this one
// of the client completes a repetition of its last flight: at most
// sfu.FlightResends times within sfu.FlightKept. Each answer is about 90 bytes,
// and the client's own Finished alone is as long.
func (f *LastFlight) Answer(now time.Time, datagram []byte) [][]byte {
	if f.datagrams == nil {
		return nil
	}
	if f.answered == sfu.FlightResends || now.After(f.until) {
		f.datagrams = nil
		return nil
	}
	if !acceptable(datagram) || !holds(datagram, typeHandshake, 1) {
		return nil
	}
	f.answered++
	return f.datagrams
}
