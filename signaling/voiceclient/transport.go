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
