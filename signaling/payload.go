package signaling

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

// Identify (op 0) opens the session of a grant.
type Identify struct {
	Server  snowflake.ID `json:"server_id"`
	User    sfu.UserID   `json:"user_id"`
	Session string       `json:"session_id"`
	Token   string       `json:"token"`
	// Channel is sent from version 9 on and by clients of it only.
	Channel sfu.CallID `json:"channel_id,omitzero"`
}

// Resume (op 7) goes on with a session on a new connection.
type Resume struct {
	Server  snowflake.ID `json:"server_id"`
	Session string       `json:"session_id"`
	Token   string       `json:"token"`
	Channel sfu.CallID   `json:"channel_id,omitzero"`
	// Seq is the last number the client has seen. Some clients call it seq;
	// some send -1 or nothing.
	SeqAck *int64 `json:"seq_ack,omitempty"`
	Seq    *int64 `json:"seq,omitempty"`
}

// Seen is the last number the client says it has seen, zero when it knows none.
func (r Resume) Seen() uint64 {
	for _, n := range []*int64{r.SeqAck, r.Seq} {
		if n != nil && *n > 0 {
			return uint64(*n)
		}
	}
	return 0
}

// Select (op 1) chooses the transport.
type Select struct {
	Protocol string
	// Offer is the SDP of protocol "webrtc".
	Offer string
}

// The protocols of Select.
const (
	ProtocolWebRTC = "webrtc"
	ProtocolUDP    = "udp"
)

// MarshalJSON writes the form with data as an object.
func (s Select) MarshalJSON() ([]byte, error) {
	type data struct {
		Type string `json:"type"`
		SDP  string `json:"sdp"`
	}
	return json.Marshal(struct {
		Protocol string `json:"protocol"`
		Data     data   `json:"data"`
	}{s.Protocol, data{"offer", s.Offer}})
}

// UnmarshalJSON reads the offer from data.sdp, from data as a string, or from
// sdp beside it.
func (s *Select) UnmarshalJSON(b []byte) error {
	var w struct {
		Protocol string          `json:"protocol"`
		Data     json.RawMessage `json:"data"`
		SDP      string          `json:"sdp"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*s = Select{Protocol: w.Protocol, Offer: w.SDP}
	if w.Protocol != ProtocolWebRTC || len(w.Data) == 0 || string(w.Data) == "null" {
		return nil
	}
	if w.Data[0] == '"' {
		return json.Unmarshal(w.Data, &s.Offer)
	}
	var data struct {
		Type string `json:"type"`
		SDP  string `json:"sdp"`
	}
	if err := json.Unmarshal(w.Data, &data); err != nil {
		return err
	}
	if data.Type != "" && data.Type != "offer" {
		return fmt.Errorf("data.type is %.16q, not offer", data.Type)
	}
	if data.SDP != "" {
		s.Offer = data.SDP
	}
	return nil
}

// Hello (op 8) comes first.
type Hello struct {
	Version  Version `json:"v"`
	Interval int64   `json:"heartbeat_interval"` // milliseconds
}

// Ready (op 2) answers Identify. Modes names the AEAD modes of protocol "udp";
// it is empty where the node speaks WebRTC only.
type Ready struct {
	SSRC        sfu.SSRC          `json:"ssrc"`
	IP          string            `json:"ip"` // IPv4 where the node has one
	Port        uint16            `json:"port"`
	Modes       []string          `json:"modes"`
	Interval    int64             `json:"heartbeat_interval"` // milliseconds
	Experiments []string          `json:"experiments"`
	Streams     []json.RawMessage `json:"streams"`
	Node        string            `json:"node"`
	// ICEServers are TURN servers for a client whose network lets no UDP through,
	// in the form of RTCConfiguration.iceServers.
	ICEServers []edgeagent.RelayServer `json:"ice_servers,omitempty"`
}

// Description (op 4) answers Select.
type Description struct {
	Type         string     `json:"type"` // "answer"
	SDP          string     `json:"sdp"`
	AudioCodec   string     `json:"audio_codec"`
	VideoCodec   string     `json:"video_codec"` // "VP8", or "" without views
	MediaSession string     `json:"media_session_id"`
	DAVE         int        `json:"dave_protocol_version"` // 0: no end-to-end encryption
	Slots        []sfu.Slot `json:"slots"`
	Views        []sfu.Slot `json:"views,omitempty"`
}

// Heartbeat (op 3) proves that the client lives. Before version 8 it is the
// bare number.
type Heartbeat struct {
	T Integer `json:"t"`
	// SeqAck is the last number seen; -1, 0 and old ones are all right.
	SeqAck *int64 `json:"seq_ack,omitempty"`
}

// UnmarshalJSON reads both forms, whatever the version: the first client
// libraries of version 8 sent the old one.
func (h *Heartbeat) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '{' {
		*h = Heartbeat{}
		return h.T.UnmarshalJSON(b)
	}
	type object Heartbeat
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	if o.T == "" {
		return fmt.Errorf("heartbeat without t")
	}
	*h = Heartbeat(o)
	return nil
}

// HeartbeatAck (op 6) echoes T, from version 8 on.
type HeartbeatAck struct {
	T Integer `json:"t"`
}

// Flags of Speaking, a bit set.
const (
	FlagVoice      = 1
	FlagSoundshare = 2
	FlagPriority   = 4
	allFlags       = FlagVoice | FlagSoundshare | FlagPriority
)

// Speaking (op 5) says that somebody begins (flags) or ceases (0) to speak, and
// whose the SSRC is. A client leaves User out.
type Speaking struct {
	User  sfu.UserID `json:"user_id,omitzero"`
	SSRC  sfu.SSRC   `json:"ssrc,omitzero"`
	Flags Flags      `json:"speaking"`
	Delay *int       `json:"delay,omitempty"`
}

// Flags are speaking flags; clients up to version 3 send a boolean.
type Flags int

// UnmarshalJSON reads a number or a boolean. Unknown bits are dropped.
func (f *Flags) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true":
		*f = FlagVoice
		return nil
	case "false", "null":
		*f = 0
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return fmt.Errorf("speaking is neither flags nor boolean")
	}
	*f = Flags(n) & allFlags
	return nil
}

// ClientsConnect (op 11) names members. With All they are the whole call, the
// reader excepted; without they came in addition.
type ClientsConnect struct {
	Users []sfu.UserID `json:"user_ids"`
	All   bool         `json:"all,omitempty"`
}

// Disconnect (op 13) says that a member left.
type Disconnect struct {
	User sfu.UserID `json:"user_id"`
}

// Slots (op 100) says who is heard in which receive section from now on. With
// All, slots not named are empty.
type Slots struct {
	Slots []Seat `json:"slots"`
	All   bool   `json:"all,omitempty"`
}

// Seat is one slot of Slots. SSRC is the speaker's own, the CSRC of its packets.
type Seat struct {
	Slot int        `json:"slot"`
	MID  string     `json:"mid"`
	User sfu.UserID `json:"user_id"`
	SSRC sfu.SSRC   `json:"ssrc"`
}

// Views (op 102) says whose camera is seen in which receive section from now on. With
// All, views not named are empty.
type Views struct {
	Views []View `json:"views"`
	All   bool   `json:"all,omitempty"`
}

// View is one of Views. SSRC is that of the user's voice, the CSRC of its packets. User
// is 0 for an empty one, and Why is then the reason: off, busy or loss.
type View struct {
	View int        `json:"view"`
	MID  string     `json:"mid"`
	User sfu.UserID `json:"user_id"`
	SSRC sfu.SSRC   `json:"ssrc"`
	Why  sfu.Unseen `json:"why,omitempty"`
}

// ReceiveReport (op 101) is a client's word on what reaches it, once a second
// while anybody is audible or the media path is silent.
type ReceiveReport struct {
	// Received counts the packets of sound of the session since its beginning.
	Received uint64 `json:"received"`
	// Silent is for how many milliseconds nothing at all has come from the node,
	// neither media nor an answer to a STUN check.
	Silent int `json:"silent"`
}

// SinkWants (op 15) says which sources a client wants: 0 for none of it, up to
// 100. Any stands for those not named; it is 100 when absent.
type SinkWants struct {
	Sources map[sfu.SSRC]int
	Any     int
}

// MarshalJSON writes one flat object.
func (w SinkWants) MarshalJSON() ([]byte, error) {
	flat := make(map[string]int, len(w.Sources)+1)
	for ssrc, want := range w.Sources {
		flat[strconv.FormatUint(uint64(ssrc), 10)] = want
	}
	flat["any"] = w.Any
	return json.Marshal(flat)
}

// UnmarshalJSON reads it; keys that are no SSRC are ignored.
func (w *SinkWants) UnmarshalJSON(b []byte) error {
	var flat map[string]json.RawMessage
	if err := json.Unmarshal(b, &flat); err != nil {
		return err
	}
	*w = SinkWants{Sources: make(map[sfu.SSRC]int), Any: 100}
	for key, raw := range flat {
		ssrc, err := strconv.ParseUint(key, 10, 32)
		if err != nil && key != "any" {
			continue
		}
		want, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || want < 0 || want > 100 {
			return fmt.Errorf("want of %.16q is no number from 0 to 100", key)
		}
		if key == "any" {
			w.Any = int(math.Ceil(want))
		} else {
			w.Sources[sfu.SSRC(ssrc)] = int(math.Ceil(want))
		}
	}
	if len(w.Sources) > MaxWants {
		return fmt.Errorf("wants name %d sources, at most %d fit", len(w.Sources), MaxWants)
	}
	return nil
}

// Backend (op 16) names the versions of the server.
type Backend struct {
	Voice  string `json:"voice"`
	Worker string `json:"rtc_worker"`
}
