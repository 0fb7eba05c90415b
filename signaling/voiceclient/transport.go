package voiceclient

import (
	"context"
	"time"
)

// Transport is the media of one voice session: it offers itself, and connects
// with the answer. Its methods are called in the order Offer, Accept, Close, and
// Close once whatever the others gave back.
type Transport interface {
	// Offer is the SDP the server is given.
	Offer(ctx context.Context) (string, error)
	// Accept takes the server's answer and returns when media can flow, or with
	// an error when it cannot; soon after ctx has ended in any case.
	Accept(ctx context.Context, answer string) error
	// Lost is closed when the media cannot be used any more, of itself or by
	// Close.
	Lost() <-chan struct{}
	// Close ends the media and returns when it has ended.
	Close()
}

// Staged is a Transport that knows its own part of the way in; without it
// VoiceStats has no ICE and no DTLS.
type Staged interface {
	// Stages are the times from the answer to a working path, and from then to
	// keys, once Accept has succeeded.
	Stages() (ice, dtls time.Duration)
}

// Watched is a Transport that knows whether anything still comes from the node;
// without it a call asks for another seat only when Lost is closed.
type Watched interface {
	// Heard is how many media packets have come since the beginning, and when
	// anything came last: media, or the answer to a STUN check. It is asked ten
	// times a second. A transport that has been silent for 300 ms sends checks
	// every 100 ms.
	Heard() (received uint64, last time.Time)
}
