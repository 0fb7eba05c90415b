package sfu

// DropReason names why a datagram or packet went no further. Every drop is
// counted under one of these.
type DropReason uint8

// The reasons, in the order of the packet's way.
const (
	DropTooShort      DropReason = iota // no room for the header its first byte announces
	DropTooLong                         // over MaxDatagram
	DropUnknownSource                   // no session at this 5-tuple
	DropNotVoice                        // first byte of no protocol we speak (RFC 7983)
	DropSTUN                            // malformed STUN, or not a binding request
	DropIntegrity                       // STUN without a valid MESSAGE-INTEGRITY
	DropUfrag                           // STUN for no live session
	DropRateLimited                     // too many checks from this prefix, or voice packets of a session
	DropHalfOpen                        // handshake limit reached
	DropDTLS                            // DTLS without a validated address, or after the handshake
	DropNoKeys                          // SRTP before the handshake ended
	DropSSRC                            // a source the session may not send
	DropReplay                          // index seen before or too old (RFC 3711 3.3.2)
	DropAuth                            // authentication failed
	DropMalformed                       // authentic, but not RTP/RTCP we can read
	DropPayloadType                     // not the negotiated payload type of Opus or VP8
	DropMuted                           // server mute, or no right to speak or to send video
	DropSilence                         // held back by the silence gate
	DropNotOnStage                      // quieter than those on stage, or a camera too many
	DropShed                            // video, while voices need all there is
	DropRTCP                            // RTCP beyond the feedback rate, or of no use here
	DropProbe                           // a probe out of its time, place or rate
	DropRelaySource                     // a relay packet that is not our agent's
	DropRelayCall                       // of a call that is not here, or not relayed
	DropRelayEpoch                      // of an epoch the call is not in
	DropRelayPeer                       // of a node that the call is not on
	DropRelaySpeaker                    // of a speaker too many, or with an SSRC in use here
	DropFenced                          // by a worker that stood still and does not know yet where its calls are
	DropSend                            // the kernel refused to send it
	DropReasons                         // how many there are
)

var dropNames = [DropReasons]string{
	"too_short", "too_long", "unknown_source", "not_voice", "stun", "integrity", "ufrag", "rate_limited",
	"half_open", "dtls", "no_keys", "ssrc", "replay", "auth", "malformed", "payload_type", "muted",
	"silence", "not_on_stage", "shed", "rtcp", "probe",
	"relay_source", "relay_call", "relay_epoch", "relay_peer", "relay_speaker", "fenced", "send",
}

// String is the reason as a metric label.
func (r DropReason) String() string {
	if r < DropReasons {
		return dropNames[r]
	}
	return "unknown"
}
