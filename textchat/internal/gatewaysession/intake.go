package gatewaysession

import (
	"encoding/json"
	"strings"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/strictjson"
)

// maxToken, maxRTT and maxIDs bound what is kept of a frame.
const (
	maxToken = 256
	maxRTT   = 64
	maxIDs   = 100
)

// Intake reads the frames of one connection. The zero value is ready.
type Intake struct {
	// Owned by the caller.
	identified bool
	window     time.Time // when the frame budget began
	frames     int
}

// Action is what a frame asks for; at most one thing is set.
type Action struct {
	Close    textchat.CloseCode
	Beat     bool // acknowledge it
	Identify *Identify
	Resume   *Resume
	Voice    *VoiceUpdate
	Members  *MembersRequest
}

// Identify begins a session.
type Identify struct {
	Token    string
	Intents  textchat.Intents
	Compress bool // frames may come as zlib
	Large    int  // guilds of more members list only some
	Shard    [2]uint64
}

// Resume takes up a session.
type Resume struct {
	Token   string
	Session string
	Seq     uint64
}

// VoiceUpdate joins, changes or leaves (Channel zero) voice.
type VoiceUpdate struct {
	Guild, Channel     snowflake.ID
	SelfMute, SelfDeaf bool
	// RTT, ours: what the client measured to nodes or regions, in milliseconds.
	RTT    map[string]float64
	Region string
}

// MembersRequest asks for members of one guild.
type MembersRequest struct {
	Guild snowflake.ID
	Query *string
	Limit int
	Users []snowflake.ID
	Nonce string
}

// Identified tells the intake that Identify or Resume succeeded; Refused that
// the client may try again.
func (in *Intake) Identified() { in.identified = true }

// Refused tells that Resume did not succeed.
func (in *Intake) Refused() { in.identified = false }

func closing(c textchat.CloseCode) Action { return Action{Close: c} }

// Handle reads one text frame.
func (in *Intake) Handle(now time.Time, frame []byte) Action {
	if now.Sub(in.window) >= textchat.FrameWindow {
		in.window, in.frames = now, 0
	}
	if in.frames++; in.frames > textchat.FrameBudget {
		return closing(textchat.CloseRateLimited)
	}
	var f struct {
		Op *textchat.Op    `json:"op"`
		D  json.RawMessage `json:"d"`
	}
	if len(frame) > textchat.MaxFrame || strictjson.Check(frame, textchat.MaxDepth) != nil || json.Unmarshal(frame, &f) != nil || f.Op == nil {
		return closing(textchat.CloseDecode)
	}
	switch *f.Op {
	case textchat.OpHeartbeat, textchat.OpIdentify, textchat.OpResume:
	case textchat.OpPresenceUpdate, textchat.OpVoiceStateUpdate, textchat.OpRequestGuildMembers, opSoundboard, opChannelInfo:
		if !in.identified {
			return closing(textchat.CloseNotAuthenticated)
		}
	default:
		return closing(textchat.CloseUnknownOp)
	}
	var a Action
	var err error
	switch *f.Op {
	case textchat.OpHeartbeat:
		a.Beat = true
	case textchat.OpIdentify:
		if in.identified {
			return closing(textchat.CloseAlreadyIdentified)
		}
		return readIdentify(f.D)
	case textchat.OpResume:
		if in.identified {
			return closing(textchat.CloseAlreadyIdentified)
		}
		var d struct {
			Token   string  `json:"token"`
			Session string  `json:"session_id"`
			Seq     *uint64 `json:"seq"`
		}
		if err = json.Unmarshal(f.D, &d); err == nil {
			if len(d.Token) > maxToken || len(d.Session) > maxToken {
				return closing(textchat.CloseAuthFailed)
			}
			a.Resume = &Resume{Token: bare(d.Token), Session: d.Session}
			if d.Seq != nil {
				a.Resume.Seq = *d.Seq
			}
		}
	case textchat.OpPresenceUpdate:
		var d struct {
			Status string `json:"status"`
		}
		err = json.Unmarshal(f.D, &d) // read for its form only: presence is not shown yet
	case textchat.OpVoiceStateUpdate:
		a.Voice, err = readVoice(f.D)
	case textchat.OpRequestGuildMembers:
		a.Members, err = readMembers(f.D)
	}
	if err != nil {
		return closing(textchat.CloseDecode)
	}
	return a
}

// Ops that bots send and that need no answer here.
const (
	opSoundboard  textchat.Op = 31
	opChannelInfo textchat.Op = 43
)

// bare takes the optional prefix off a token.
func bare(token string) string { return strings.TrimPrefix(token, "Bot ") }

func readIdentify(raw json.RawMessage) Action {
	var d struct {
		Token    string            `json:"token"`
		Intents  *textchat.Intents `json:"intents"`
		Compress bool              `json:"compress"`
		Large    int               `json:"large_threshold"`
		Shard    *[]uint64         `json:"shard"`
	}
	if json.Unmarshal(raw, &d) != nil || string(raw) == "null" {
		return closing(textchat.CloseDecode)
	}
	if d.Token == "" || len(d.Token) > maxToken {
		return closing(textchat.CloseAuthFailed)
	}
	if d.Intents == nil || *d.Intents&^textchat.IntentsKnown != 0 {
		return closing(textchat.CloseInvalidIntents)
	}
	id := &Identify{Token: bare(d.Token), Intents: *d.Intents, Compress: d.Compress, Large: 50, Shard: [2]uint64{0, 1}}
	if d.Large >= 50 && d.Large <= 250 {
		id.Large = d.Large
	}
	if d.Shard != nil {
		s := *d.Shard
		if len(s) != 2 || s[1] == 0 || s[0] >= s[1] {
			return closing(textchat.CloseInvalidShard)
		}
		id.Shard = [2]uint64(s)
	}
	return Action{Identify: id}
}

func readVoice(raw json.RawMessage) (*VoiceUpdate, error) {
	var d struct {
		Guild    snowflake.ID       `json:"guild_id"`
		Channel  snowflake.ID       `json:"channel_id"`
		SelfMute bool               `json:"self_mute"`
		SelfDeaf bool               `json:"self_deaf"`
		RTT      map[string]float64 `json:"rtt"`
		Region   string             `json:"preferred_region"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if len(d.RTT) > maxRTT {
		d.RTT = nil
	}
	for k, v := range d.RTT {
		if len(k) > 64 || v < 0 || v > 60_000 {
			delete(d.RTT, k)
		}
	}
	if len(d.Region) > 64 {
		d.Region = ""
	}
	return &VoiceUpdate{Guild: d.Guild, Channel: d.Channel, SelfMute: d.SelfMute, SelfDeaf: d.SelfDeaf, RTT: d.RTT, Region: d.Region}, nil
}

// oneOrMany reads an id or a list of ids.
type oneOrMany []snowflake.ID

func (l *oneOrMany) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]snowflake.ID)(l))
	}
	var id snowflake.ID
	err := json.Unmarshal(b, &id)
	if id != 0 {
		*l = oneOrMany{id}
	}
	return err
}

func readMembers(raw json.RawMessage) (*MembersRequest, error) {
	var d struct {
		Guild oneOrMany `json:"guild_id"` // discordgo sends a list of one
		Query *string   `json:"query"`
		Limit int       `json:"limit"`
		Users oneOrMany `json:"user_ids"`
		Nonce string    `json:"nonce"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	m := &MembersRequest{Query: d.Query, Limit: max(d.Limit, 0), Users: d.Users[:min(len(d.Users), maxIDs)]}
	if len(d.Guild) > 0 {
		m.Guild = d.Guild[0]
	}
	if len(d.Nonce) <= 32 {
		m.Nonce = d.Nonce
	}
	return m, nil
}
