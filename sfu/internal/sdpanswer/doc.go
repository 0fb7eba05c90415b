// Package sdpanswer reads the SDP offer of a WebRTC client (RFC 8866, RFC 8829)
// and answers it.
//
// In comes the text of an offer, untrusted; out go the facts the engine needs
// ([Offer]) and an answer built from a template ([Offer.Answer]). No text of the
// offer gets into the answer: only mids of a narrow alphabet and numbers do.
// Candidates of the client are not read at all.
//
// One offer per connection: the first audio section that can send Opus is the
// microphone, those that can receive it are slots; behind them the first video section
// that can send VP8 from one source it names is the camera, those that can receive it
// are views. Everything else is rejected.
package sdpanswer
