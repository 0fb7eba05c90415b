package sfu

import (
	"net/netip"
	"time"
)

// Command is one order of the agent. Exactly one of the pointers is set. The
// engine answers each with one [Event] that carries the same Seq; Seq is never
// zero and grows.
type Command struct {
	Seq uint64 `json:"seq"`

	Start     *Start     `json:"start,omitempty"`
	Adopt     *Adopt     `json:"adopt,omitempty"`
	Advertise *Advertise `json:"advertise,omitempty"`
	Open      *Open      `json:"open,omitempty"`
	Negotiate *Negotiate `json:"negotiate,omitempty"`
	Update    *Update    `json:"update,omitempty"`
	Close     *Close     `json:"close,omitempty"`
	Restore   *Snapshot  `json:"restore,omitempty"`
	Confirm   *Confirm   `json:"confirm,omitempty"`
	Remember  *Remember  `json:"remember,omitempty"`
	Relay     *Relay     `json:"relay,omitempty"`
}

// Start is the first command: what the engine is to be. The media sockets, one
// per worker, are handed over beside the stream.
type Start struct {
	// Advertise lists the addresses clients can reach the node at, best first.
	Advertise []netip.Addr `json:"advertise"`
	// TCP is the port of the agent's ICE-TCP listener (RFC 6544), named in answers
	// behind the UDP candidates. 0: there is none.
	TCP    uint16 `json:"tcp,omitempty"`
	Limits Limits `json:"limits"`
	// ProbeKey is what probes are to be made under; without one none is answered.
	ProbeKey ProbeKey `json:"probe_key,omitempty"`
	// SilenceGate off forwards silence too; for measurements.
	NoSilenceGate bool `json:"no_silence_gate,omitempty"`
}

// Adopt is the first command of an agent that finds an engine at work, whose own
// agent died. The engine tells all it holds: a Held for each session, and its
// Snapshot if it is connected, and a Relaying for each call that spans nodes; then
// it answers. What it told the agent before, and
// that may not have been heard, it does not tell again.
type Adopt struct {
	Advertise []netip.Addr `json:"advertise"`
	TCP       uint16       `json:"tcp,omitempty"` // as in Start
	// ProbeKey is for an engine that has none; one that has keeps its own, as the
	// fleet knows it.
	ProbeKey ProbeKey `json:"probe_key,omitempty"`
}

// Adopted answers Adopt, after the last Held.
type Adopted struct {
	Started
	ProbeKey ProbeKey `json:"probe_key,omitempty"` // the one in force
	// Ended are the sessions that ended within MemoryOfEnds, oldest first.
	Ended []PastEnd `json:"ended,omitempty"`
	// Remembered is the data of the last Remember.
	Remembered []byte `json:"remembered,omitempty"`
}

// PastEnd is an end that the agent before may have known of, or not.
type PastEnd struct {
	Ended
	At time.Time `json:"at"`
	// Unheard: it was told when that agent was gone, or was about to be.
	Unheard bool `json:"unheard,omitempty"`
}

// Held is a session that the engine has, for an agent that knows nothing of it.
type Held struct {
	Open       Open     `json:"open"` // with the rights as they are now
	SSRC       SSRC     `json:"ssrc"`
	Port       uint16   `json:"port"`
	Ufrag      string   `json:"ufrag,omitempty"` // the engine's
	Negotiated bool     `json:"negotiated,omitempty"`
	Connected  bool     `json:"connected,omitempty"`
	Speaking   bool     `json:"speaking,omitempty"`
	SelfDeaf   bool     `json:"self_deaf,omitempty"`
	Muted      []UserID `json:"muted,omitempty"`
	// Seats are the speakers in its slots, Views the cameras in its views.
	Seats []Placed  `json:"seats,omitempty"`
	Views []Viewing `json:"views,omitempty"`
}

// Advertise replaces the candidate addresses named to sessions negotiated from
// now on.
type Advertise struct {
	Addrs []netip.Addr `json:"addrs"`
}

// Open creates a session, and the call when this is its first.
type Open struct {
	Session SessionID `json:"session"`
	Call    CallID    `json:"call"`
	User    UserID    `json:"user"`
	Rights  Rights    `json:"rights"`
	// Echo makes the call an echo channel: each member hears only itself.
	// The first Open of a call decides.
	Echo bool `json:"echo,omitempty"`
	// Replaces is the session of the same user that the agent ends as soon as this
	// one is open: there is room for it however full the node is.
	Replaces SessionID `json:"replaces,omitempty"`
	// Keep is what the agent wants to find again with the session, in Held and
	// Snapshot; the engine does not look into it. At most MaxKeep bytes.
	Keep []byte `json:"keep,omitempty"`
}

// Rights are what a session may do and what is done to it. They are enforced in
// the engine, whatever the client believes.
type Rights struct {
	Speak    bool `json:"speak"`
	Video    bool `json:"video,omitempty"`
	Priority bool `json:"priority,omitempty"`
	// Mute: nothing it says is forwarded. Deaf: nothing is forwarded to it.
	Mute bool `json:"mute,omitempty"`
	Deaf bool `json:"deaf,omitempty"`
}

// Opened answers Open.
type Opened struct {
	SSRC  SSRC         `json:"ssrc"`  // the session speaks with it
	Addrs []netip.Addr `json:"addrs"` // where the node can be reached
	Port  uint16       `json:"port"`  // of the call's worker
}

// Negotiate carries a WebRTC client's SDP offer. One offer per session: a second
// one is refused.
type Negotiate struct {
	Session SessionID `json:"session"`
	Offer   string    `json:"offer"`
}

// Negotiated answers Negotiate.
type Negotiated struct {
	Answer string `json:"answer"`
	// Slots are the receive streams of the session for voices, in order.
	Slots []Slot `json:"slots"`
	// Views are those for video.
	Views []Slot `json:"views,omitempty"`
	// Ufrag is the engine's, by which the client's checks are known.
	Ufrag string `json:"ufrag,omitempty"`
}

// Slot is one receive stream: the m-section that carries it and its SSRC.
type Slot struct {
	MID  string `json:"mid"`
	SSRC SSRC   `json:"ssrc"`
}

// Update changes a session. Nil fields stay as they are.
type Update struct {
	Session SessionID `json:"session"`
	Rights  *Rights   `json:"rights,omitempty"`
	// SelfDeaf stops forwarding to the session at its own wish.
	SelfDeaf *bool `json:"self_deaf,omitempty"`
	// Muted replaces the list of users this session does not want to hear (at
	// most 1,000).
	Muted *[]UserID `json:"muted,omitempty"`
	// Hears is the client's own word: more media came, or none in spite of somebody
	// audible.
	Hears *bool `json:"hears,omitempty"`
}

// Close ends a session.
type Close struct {
	Session SessionID `json:"session"`
}

// Relay has a call span nodes: what its members say goes to the agent, too, and
// what the agent brings from other nodes enters the call. It replaces what was
// said before of the call; without Peers the call is alone again. A call without
// sessions here cannot be relayed.
type Relay struct {
	Call  CallID `json:"call"`
	Epoch uint64 `json:"epoch"`
	// Peers are the numbers of the nodes that packets are taken from, at most
	// MaxRelayPeers.
	Peers []uint16 `json:"peers,omitempty"`
	// To is the agent's socket on loopback, and Secret what either side shows the
	// other. Those of the newest Relay count for all calls.
	To     netip.AddrPort `json:"to"`
	Secret RelaySecret    `json:"secret"`
	// Keep is what the agent wants to find again, as that of Open.
	Keep []byte `json:"keep,omitempty"`
}

// Relayed answers Relay.
type Relayed struct {
	Port uint16 `json:"port"` // on loopback, where the call takes relay packets
}

// Remember replaces what the engine tells the next agent, in Adopted, of the
// node's standing. The engine does not look into it; at most MaxKeep bytes. With
// any, it waits for that agent for RememberedFor even without a session.
type Remember struct {
	Data []byte `json:"data,omitempty"`
}

// Confirm answers Fenced: the sessions there are, after the Closes before this,
// may go on. It is for all fences up to Number.
type Confirm struct {
	Number uint64 `json:"number"`
}

// Event is one answer (Seq of its command) or one fact (Seq zero). Err is set
// in answers only; an answer without Err and without a value is plain success.
type Event struct {
	Seq uint64 `json:"seq,omitempty"`
	Err *Error `json:"err,omitempty"`

	// Answers.
	Started    *Started    `json:"started,omitempty"`
	Adopted    *Adopted    `json:"adopted,omitempty"`
	Opened     *Opened     `json:"opened,omitempty"`
	Negotiated *Negotiated `json:"negotiated,omitempty"`
	Relayed    *Relayed    `json:"relayed,omitempty"`

	// Facts.
	Held      *Held        `json:"held,omitempty"`
	Relaying  *Relay       `json:"relaying,omitempty"` // after Adopt: a call that spans nodes
	Connected *Connected   `json:"connected,omitempty"`
	Ended     *Ended       `json:"ended,omitempty"`
	Speaking  *Speaking    `json:"speaking,omitempty"`
	Placed    *Placed      `json:"placed,omitempty"`
	Viewing   *Viewing     `json:"viewing,omitempty"`
	Snapshot  *Snapshot    `json:"snapshot,omitempty"`
	Deaf      *Deaf        `json:"deaf,omitempty"`
	Fenced    *Fenced      `json:"fenced,omitempty"`
	Load      *LoadReading `json:"load,omitempty"`
}

// Started answers Start.
type Started struct {
	Ports       []uint16 `json:"ports"`
	Fingerprint string   `json:"fingerprint"` // sha-256 of the DTLS certificate
	// Blamed are the calls that the engine before this one was at work on when it
	// ended, as its ledger has it: those to suspect if it crashed.
	Blamed []CallID `json:"blamed,omitempty"`
}

// Connected tells that the keys of a session are agreed: media can flow.
type Connected struct {
	Session SessionID      `json:"session"`
	Call    CallID         `json:"call"`
	Remote  netip.AddrPort `json:"remote"`
}

// Ended tells that a session is gone, for whatever reason, Close included.
type Ended struct {
	Session SessionID `json:"session"`
	Call    CallID    `json:"call"`
	User    UserID    `json:"user"`
	Reason  EndReason `json:"reason"`
}

// EndReason says why a session ended.
type EndReason string

// The reasons.
const (
	EndClosed    EndReason = "closed"    // by command
	EndConsent   EndReason = "consent"   // no STUN check for ConsentTimeout
	EndHandshake EndReason = "handshake" // DTLS failed or took too long
	EndIdle      EndReason = "idle"      // opened, but never negotiated
	EndPanic     EndReason = "panic"     // the call's worker recovered a panic
)

// Speaking tells that the engine began or ceased to hear a session: its talk
// spurts, as forwarded.
type Speaking struct {
	Call     CallID    `json:"call"`
	Session  SessionID `json:"session"`
	User     UserID    `json:"user"`
	SSRC     SSRC      `json:"ssrc"`
	Speaking bool      `json:"speaking"`
}

// Placed tells a listener who is in which of its slots from now on.
type Placed struct {
	Call    CallID    `json:"call"`
	Session SessionID `json:"session"`
	Slot    int       `json:"slot"`
	MID     string    `json:"mid"`
	User    UserID    `json:"user"`
	SSRC    SSRC      `json:"ssrc"` // of the speaker, as in the CSRC
}

// Viewing tells a session whose camera is in which of its views from now on, or that
// none is.
type Viewing struct {
	Call    CallID    `json:"call"`
	Session SessionID `json:"session"`
	View    int       `json:"view"`
	MID     string    `json:"mid"`
	// User and SSRC are whose camera it is, the SSRC that of its voice, as in the CSRC.
	// Zero: nobody's.
	User UserID `json:"user,omitzero"`
	SSRC SSRC   `json:"ssrc,omitempty"`
	// Why nobody's is in it any more, or could be. Without, and nobody in it: that is over.
	Why Unseen `json:"why,omitempty"`
}

// Unseen says why a view is empty.
type Unseen string

// The reasons.
const (
	UnseenOff  Unseen = "off"  // the camera is off, or may not be sent
	UnseenBusy Unseen = "busy" // the node sheds video, so that voices go on
	UnseenLoss Unseen = "loss" // so much is lost on the way to this session that its voices come first
)

// Deaf tells that a session does not hear what is sent to it, though its client is
// heard: there was no evidence of hearing for longer than loss explains (see
// internal/ear). It is told again, with Hears, when there is.
type Deaf struct {
	Call    CallID    `json:"call"`
	Session SessionID `json:"session"`
	User    UserID    `json:"user"`
	Hears   bool      `json:"hears,omitempty"`
}

// Fenced tells that a part of the engine stood still and forwards nothing until it
// is confirmed that its calls are still here.
type Fenced struct {
	Number uint64        `json:"number"` // grows
	Stood  time.Duration `json:"stood"`
}

// LoadReading is sent every second. Counters count from the start of the engine.
type LoadReading struct {
	PacketsIn  uint64 `json:"packets_in"`
	PacketsOut uint64 `json:"packets_out"`
	BytesIn    uint64 `json:"bytes_in"`
	BytesOut   uint64 `json:"bytes_out"`
	// ResentOut are NACKed packets, a part of PacketsOut.
	ResentOut uint64 `json:"resent_out"`
	// RelayOut are the packets given to the agent for other nodes, RelayIn those
	// taken from there; neither is a part of PacketsOut.
	RelayOut uint64 `json:"relay_out"`
	RelayIn  uint64 `json:"relay_in"`
	// VideoOut are packets of video, a part of PacketsOut.
	VideoOut   uint64 `json:"video_out,omitempty"`
	Checks     uint64 `json:"checks"` // valid STUN checks answered
	Probes     uint64 `json:"probes"` // probes answered
	Handshakes uint64 `json:"handshakes"`
	Panics     uint64 `json:"panics"`
	// SocketDrops are datagrams the kernel dropped for want of receive buffer.
	SocketDrops uint64            `json:"socket_drops"`
	Drops       map[string]uint64 `json:"drops"` // by DropReason.String()
	Sessions    int               `json:"sessions"`
	Connected   int               `json:"connected"`
	// ListenerExpected and ListenerLost are what the receiver reports of all
	// listeners come to.
	ListenerExpected uint64 `json:"listener_expected"`
	ListenerLost     uint64 `json:"listener_lost"`
	Loss             Loss   `json:"loss"`
	// Busy is the share of the last second (0..1) in which the busiest worker was at
	// work. Beyond some nine tenths it falls behind, and the kernel drops at random.
	Busy float64 `json:"busy"`
	// Cameras are those that are on, and Shedding says that a worker forwards none of
	// them, as it has too much to do.
	Cameras  int  `json:"cameras,omitempty"`
	Shedding bool `json:"shedding,omitempty"`
	// Memory is how much of its own limit (GOMEMLIMIT) the process uses, 0 without.
	Memory float64 `json:"memory,omitempty"`
	// Hearing counts listeners by the evidence of hearing that came last.
	Hearing map[string]int `json:"hearing,omitempty"`
	Calls   []CallReading  `json:"calls,omitempty"`
}

// Hearings are the keys of LoadReading.Hearing: transport-wide feedback, the
// client's own word, a receiver report with progress, a request to send a packet
// again, nothing yet.
var Hearings = [...]string{"feedback", "word", "report", "request", "none"}

// Loss is what sessions lose: each counts with the worse of its two directions, as
// of the last hundred packets or more, within 8 s.
type Loss struct {
	Of int `json:"of"` // how many sessions there is a figure for
	// Middle is the loss that more than half of them exceed or have: one client
	// with bad reception does not move it, a node that loses packets does.
	Middle float64 `json:"middle"`
}

// CallReading is one call's part of the load.
type CallReading struct {
	Call     CallID `json:"call"`
	Sessions int    `json:"sessions"`
	Speakers int    `json:"speakers"` // on stage now
}

// Snapshot is what the agent must hold so that a session can outlive the engine
// process: sent when the session is connected, again when its address or rights
// change; the newest one counts. Restore hands it back. Self-deafness and muted
// users are not part of it: Update tells them again.
//
// The packet indices of the session at every moment are in the ledger, the memory
// that the agent keeps and each engine maps: Restore goes on behind them, takes in
// nothing at or below them, and refuses a snapshot whose record is not there. An
// engine without a ledger writes them here, again after every 8,192 packets of a
// stream, and Restore jumps ahead of them by 16,384.
type Snapshot struct {
	Open   Open      `json:"open"`
	SSRC   SSRC      `json:"ssrc"`
	Port   uint16    `json:"port"`
	Taken  time.Time `json:"taken"`
	Remote string    `json:"remote"`
	// Local is the address that the client sends to, which answers must come
	// from; Interface is that of a link-local one. Without it the next check tells.
	Local     netip.Addr `json:"local,omitzero"`
	Interface uint32     `json:"interface,omitempty"`

	// ICE (RFC 8445): the credentials of both sides.
	LocalUfrag  string `json:"local_ufrag"`
	LocalPwd    string `json:"local_pwd"`
	RemoteUfrag string `json:"remote_ufrag"`
	RemotePwd   string `json:"remote_pwd,omitempty"` // empty: an older engine's
	// Unproven: Remote has not shown yet that it receives what is sent there.
	Unproven bool `json:"unproven,omitempty"`

	// SRTP (RFC 3711, RFC 7714): profile by its DTLS-SRTP number, keying
	// material as exported (RFC 5764 section 4.2).
	Profile uint16 `json:"profile"`
	Keying  []byte `json:"keying"`

	// What was negotiated.
	Media Media `json:"media"`

	// Record is the number of the session's record in the ledger, 0 without one,
	// and Tag says that it is the session's.
	Record uint32 `json:"record,omitempty"`
	Tag    uint64 `json:"tag,omitempty"`
	// Without a ledger: highest SRTP index seen from the client's microphone and
	// camera, the next one to use towards it per slot and view, and the next of SRTCP.
	InIndex     uint64   `json:"in_index"`
	CameraIndex uint64   `json:"camera_index,omitempty"`
	SlotIndex   []uint64 `json:"slot_index"`
	SRTCPIndex  uint32   `json:"srtcp_index"`
}

// Media is the outcome of an offer.
type Media struct {
	MicMID      string `json:"mic_mid"`
	MicSSRC     SSRC   `json:"mic_ssrc"`     // zero: latched from the first authenticated packet
	OpusPT      uint8  `json:"opus_pt"`      // payload type, both directions
	LevelExt    uint8  `json:"level_ext"`    // id of ssrc-audio-level (RFC 6464), 0 = none
	MIDExt      uint8  `json:"mid_ext"`      // id of sdes:mid (RFC 8843), 0 = none
	NACK        bool   `json:"nack"`         // audio NACK was negotiated
	TransportCC uint8  `json:"transport_cc"` // id of transport-cc, 0 = none
	Slots       []Slot `json:"slots"`

	// Video: what the client sends, if CameraSSRC is not zero, and the streams it
	// receives on, as Slots for sound.
	CameraSSRC SSRC   `json:"camera_ssrc,omitempty"`
	VP8PT      uint8  `json:"vp8_pt,omitempty"`     // payload type, both directions
	VideoNACK  bool   `json:"video_nack,omitempty"` // NACK was negotiated for video
	Views      []Slot `json:"views,omitempty"`
}

// Streams is how many streams go to the client at most: its slots and its views.
func (m *Media) Streams() int { return len(m.Slots) + len(m.Views) }
