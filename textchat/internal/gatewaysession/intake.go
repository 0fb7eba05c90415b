package gatewaysession

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/memberlist"
	"voicefleet/textchat/internal/strictjson"
)

// What is kept of a frame is bounded.
const (
	maxToken = 256 // bytes of a token or a session's id
	maxRTT   = 64  // entries
	maxIDs   = 100 // members asked for by id (protocol: at most 100)
	maxNonce = 32  // bytes; a longer one is not echoed

	maxActivities   = 8
	maxActivityText = 128 // characters of a name or state
	maxActivityURL  = 256 // bytes
)

// Intake reads the frames of one connection. The zero value is ready.
type Intake struct {
	// Owned by the caller.
	identified bool
	window     time.Time // when the frame budget began
	frames     int
	pinged     time.Time // when that of pings began
	pings      int
}

// Action is what a frame asks for; at most one thing is set.
type Action struct {
	Close    textchat.CloseCode
	Beat     *Beat // acknowledge it
	Identify *Identify
	Resume   *Resume
	Presence *PresenceUpdate
	Voice    *VoiceUpdate
	Members  *MembersRequest
	Empty    *EmptyRequest
	Looks    []Look
}

// Beat is a heartbeat. Seq is the last event that the client has; zero when it
// does not say.
type Beat struct{ Seq uint64 }

// EmptyRequest asks for something that no guild here has; it wants an answer all
// the same.
type EmptyRequest struct {
	Op     textchat.Op // OpSoundboardSounds or OpChannelInfo
	Guilds []snowflake.ID
}

// Identify begins a session.
type Identify struct {
	Token    string
	Intents  textchat.Intents
	Compress bool // frames may come as zlib
	Large    int  // guilds of more members list only some
	Passive  bool // see textchat.CapabilityPassive
	Shard    [2]uint64
	Presence PresenceUpdate
	// Wrong, unless it is zero, is why there will be no session: told to who has a token
	// that is good, for a bad one is the first thing that is wrong.
	Wrong textchat.CloseCode
}

// Status is how a user wants to be seen.
type Status string

// The statuses. A client may ask for Invisible; others see Offline.
const (
	Online    Status = "online"
	Idle      Status = "idle"
	Busy      Status = "dnd"
	Invisible Status = "invisible"
	Offline   Status = "offline"
)

// PresenceUpdate is what a client says of its user.
type PresenceUpdate struct {
	Status     Status
	Activities []Activity
}

// Activity is what a user does.
type Activity struct {
	Name    string `json:"name"`
	Type    int    `json:"type"`
	URL     string `json:"url,omitempty"`
	State   string `json:"state,omitempty"`
	Created int64  `json:"created_at"` // ms since 1970
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
	SelfVideo          bool // its camera is on
	// RTT, ours: what the client measured to nodes or regions, in milliseconds.
	RTT    map[string]float64
	Region string
	// Wait, ours: the client waits in line if there is no room.
	Wait bool
	// Anew, ours: nothing comes from the voice server any more.
	Anew bool
	// Holds, ours: the voice session by which the client is in the channel already.
	Holds string
}

// MembersRequest asks for members of one guild.
type MembersRequest struct {
	Guild snowflake.ID
	Query *string
	Limit int
	Users []snowflake.ID
	Nonce string
	// Presences asks for those of the listed members, too.
	Presences bool
}

// Look is what a client looks at in a guild; what is nil stays as it is.
type Look struct {
	Guild snowflake.ID
	Open  *bool
	// Pages of the list of members, by the channel that it stands beside.
	Pages map[snowflake.ID][]int
}

// Identified tells the intake that Identify or Resume succeeded; Refused that
// the client may try again.
func (in *Intake) Identified() { in.identified = true }

// Refused tells that Resume did not succeed.
func (in *Intake) Refused() { in.identified = false }

func closing(c textchat.CloseCode) Action { return Action{Close: c} }

// PlainBeat reads the heartbeat as all libraries write it, which is most of what
// clients send, without a JSON parser: {"op":1,"d":N}, in either order, N null or
// a decimal number, with or without a space after colon and comma. What it does
// not know is for Handle.
func PlainBeat(frame []byte) (seq uint64, ok bool) {
	if len(frame) > 48 {
		return 0, false
	}
	var room [48]byte
	s := room[:0]
	for _, c := range frame {
		if n := len(s); c == ' ' && n > 0 && (s[n-1] == ':' || s[n-1] == ',') {
			continue
		}
		s = append(s, c)
	}
	d, found := bytes.CutPrefix(s, []byte(`{"op":1,"d":`))
	if found {
		d, found = bytes.CutSuffix(d, []byte(`}`))
	} else if d, found = bytes.CutPrefix(s, []byte(`{"d":`)); found {
		d, found = bytes.CutSuffix(d, []byte(`,"op":1}`))
	}
	switch {
	case !found || len(d) == 0 || len(d) > 18 || len(d) > 1 && d[0] == '0':
		return 0, false
	case string(d) == "null":
		return 0, true
	}
	for _, c := range d {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, true
}

// Count counts a frame, a ping included, and says whether it is one too many.
func (in *Intake) Count(now time.Time) textchat.CloseCode {
	if now.Sub(in.window) >= textchat.FrameWindow {
		in.window, in.frames = now, 0
	}
	if in.frames++; in.frames > textchat.FrameBudget {
		return textchat.CloseRateLimited
	}
	return 0
}

// Ping counts a ping, which is a frame too.
func (in *Intake) Ping(now time.Time) textchat.CloseCode {
	if now.Sub(in.pinged) >= textchat.PingWindow {
		in.pinged, in.pings = now, 0
	}
	if in.pings++; in.pings > textchat.PingBudget {
		return textchat.CloseRateLimited
	}
	return in.Count(now)
}

// Rest is how long a client that sent too much has to wait until it would not have.
func (in *Intake) Rest(now time.Time) time.Duration {
	rest := time.Duration(0)
	if in.frames > textchat.FrameBudget {
		rest = in.window.Add(textchat.FrameWindow).Sub(now)
	}
	if in.pings > textchat.PingBudget {
		rest = max(rest, in.pinged.Add(textchat.PingWindow).Sub(now))
	}
	return max(rest, 0)
}

// Handle counts and reads one text frame.
func (in *Intake) Handle(now time.Time, frame []byte) Action {
	if code := in.Count(now); code != 0 {
		return closing(code)
	}
	var f struct {
		Op *textchat.Op    `json:"op"`
		D  json.RawMessage `json:"d"`
	}
	if len(frame) > textchat.MaxFrame || strictjson.Check(frame, textchat.MaxDepth) != nil || json.Unmarshal(frame, &f) != nil || f.Op == nil {
		return closing(textchat.CloseDecode)
	}
	switch *f.Op {
	case textchat.OpHeartbeat, opQoSHeartbeat, textchat.OpIdentify, textchat.OpResume:
	case textchat.OpPresenceUpdate, textchat.OpVoiceStateUpdate, textchat.OpRequestGuildMembers, OpSoundboardSounds, OpChannelInfo,
		textchat.OpGuildSubscription, textchat.OpGuildSubscriptions:
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
		a.Beat = &Beat{}
		// What is no sequence (none yet is null, or -1) says nothing.
		a.Beat.Seq, _ = strconv.ParseUint(string(f.D), 10, 64)
	case opQoSHeartbeat:
		a.Beat = &Beat{}
	case textchat.OpIdentify:
		if in.identified {
			return closing(textchat.CloseAlreadyIdentified)
		}
		return readIdentify(now, f.D)
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
		a.Presence, err = readPresence(now, f.D)
	case textchat.OpVoiceStateUpdate:
		a.Voice, err = readVoice(f.D)
	case textchat.OpRequestGuildMembers:
		a.Members, err = readMembers(f.D)
	case OpSoundboardSounds, OpChannelInfo:
		a.Empty, err = readEmpty(*f.Op, f.D)
	case textchat.OpGuildSubscription:
		a.Looks, err = readLook(f.D)
	case textchat.OpGuildSubscriptions:
		a.Looks, err = readLooks(f.D)
	}
	if err != nil {
		return closing(textchat.CloseDecode)
	}
	return a
}

// Ops for what does not exist here, and the heartbeat of user clients.
const (
	OpSoundboardSounds textchat.Op = 31
	OpChannelInfo      textchat.Op = 43
	opQoSHeartbeat     textchat.Op = 40
)

// bare takes the optional prefix off a token.
func bare(token string) string { return strings.TrimPrefix(token, "Bot ") }

func readIdentify(now time.Time, raw json.RawMessage) Action {
	var d struct {
		Presence json.RawMessage   `json:"presence"`
		Token    string            `json:"token"`
		Intents  *textchat.Intents `json:"intents"`
		Compress bool              `json:"compress"`
		Large    int               `json:"large_threshold"`
		Can      uint64            `json:"capabilities"`
		Shard    *[]uint64         `json:"shard"`
	}
	if json.Unmarshal(raw, &d) != nil || string(raw) == "null" {
		return closing(textchat.CloseDecode)
	}
	if d.Token == "" || len(d.Token) > maxToken {
		return closing(textchat.CloseAuthFailed)
	}
	id := &Identify{Token: bare(d.Token), Compress: d.Compress, Large: 50, Passive: d.Can&textchat.CapabilityPassive != 0, Shard: [2]uint64{0, 1}}
	if d.Intents == nil || *d.Intents&^textchat.IntentsKnown != 0 {
		id.Wrong = textchat.CloseInvalidIntents
		return Action{Identify: id}
	}
	id.Intents = *d.Intents
	if d.Large >= 50 && d.Large <= 250 {
		id.Large = d.Large
	}
	if d.Shard != nil {
		s := *d.Shard
		if len(s) != 2 || s[1] == 0 || s[0] >= s[1] {
			id.Wrong = textchat.CloseInvalidShard
			return Action{Identify: id}
		}
		id.Shard = [2]uint64(s)
	}
	id.Presence.Status = Online
	if len(d.Presence) > 0 {
		p, err := readPresence(now, d.Presence)
		if err != nil {
			return closing(textchat.CloseDecode)
		}
		id.Presence = *p
	}
	return Action{Identify: id}
}

// readPresence reads op 3. An activity without a name is none: some libraries
// always send one. A status that is none of ours counts as online.
func readPresence(now time.Time, raw json.RawMessage) (*PresenceUpdate, error) {
	var d struct {
		Status     string `json:"status"`
		Activities []struct {
			Name  string `json:"name"`
			Type  int    `json:"type"`
			URL   string `json:"url"`
			State string `json:"state"`
		} `json:"activities"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	p := &PresenceUpdate{Status: Status(d.Status)}
	switch p.Status {
	case Online, Idle, Busy, Invisible:
	case Offline:
		p.Status = Invisible
	default:
		p.Status = Online
	}
	for _, a := range d.Activities {
		if len(p.Activities) == maxActivities {
			break
		}
		if a.Name = cut(a.Name); a.Name == "" || len(a.URL) > maxActivityURL {
			continue
		}
		p.Activities = append(p.Activities, Activity{Name: a.Name, Type: min(max(a.Type, 0), 5), URL: a.URL, State: cut(a.State), Created: now.UnixMilli()})
	}
	return p, nil
}

// cut shortens a text of an activity.
func cut(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxActivityText {
			return s[:i]
		}
	}
	return s
}

func readEmpty(op textchat.Op, raw json.RawMessage) (*EmptyRequest, error) {
	var d struct {
		Guild  oneOrMany `json:"guild_id"`
		Guilds oneOrMany `json:"guild_ids"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	ids := append(d.Guild, d.Guilds...)
	return &EmptyRequest{Op: op, Guilds: ids[:min(len(ids), maxIDs)]}, nil
}

func readVoice(raw json.RawMessage) (*VoiceUpdate, error) {
	var d struct {
		Guild     snowflake.ID       `json:"guild_id"`
		Channel   snowflake.ID       `json:"channel_id"`
		SelfMute  bool               `json:"self_mute"`
		SelfDeaf  bool               `json:"self_deaf"`
		SelfVideo bool               `json:"self_video"`
		RTT       map[string]float64 `json:"rtt"`
		Region    string             `json:"preferred_region"`
		Wait      bool               `json:"wait"`
		Anew      bool               `json:"anew"`
		Holds     string             `json:"holds"`
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
	if len(d.Holds) > 64 {
		d.Holds = ""
	}
	return &VoiceUpdate{Guild: d.Guild, Channel: d.Channel, SelfMute: d.SelfMute, SelfDeaf: d.SelfDeaf, SelfVideo: d.SelfVideo, RTT: d.RTT, Region: d.Region, Anew: d.Anew, Holds: d.Holds, Wait: d.Wait}, nil
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

// look is the body of op 14, and of one guild in op 37.
type look struct {
	Guild                       snowflake.ID
	Typing, Activities, Threads *bool
	Channels                    map[string][][2]int
}

func (d look) read() (Look, error) {
	l := Look{Guild: d.Guild}
	for _, want := range []*bool{d.Typing, d.Activities, d.Threads} {
		if want != nil && (l.Open == nil || *want) {
			l.Open = want
		}
	}
	if d.Channels == nil {
		return l, nil
	}
	l.Pages = make(map[snowflake.ID][]int)
	for _, key := range slices.Sorted(maps.Keys(d.Channels)) {
		id, err := keyID(key)
		if err != nil {
			return l, err
		}
		if len(l.Pages) == textchat.MaxListChannels {
			break
		}
		pages := []int{}
		for _, r := range d.Channels[key] {
			if r[0] < 0 || r[1] < r[0] {
				return l, errRange
			}
			last := min(r[1], 2*textchat.MaxMembers-1) / memberlist.Page // no list is longer: a member and a group line each
			for p := r[0] / memberlist.Page; p <= last && len(pages) < textchat.MaxListPages; p++ {
				if !slices.Contains(pages, p) {
					pages = append(pages, p)
				}
			}
		}
		if l.Pages[id] = pages; len(pages) > 0 && l.Open == nil {
			open := true
			l.Open = &open
		}
	}
	return l, nil
}

var (
	errRange = errors.New("a range begins after its end, or before 0")
	errKey   = errors.New("an id as a key is not as it is written")
)

// keyID reads an id that is a key. It has one form only, so that no two keys are the same id.
func keyID(key string) (snowflake.ID, error) {
	id, err := snowflake.Parse(key)
	if err == nil && id.String() != key {
		err = errKey
	}
	return id, err
}

func readLook(raw json.RawMessage) ([]Look, error) {
	var d struct {
		Guild snowflake.ID `json:"guild_id"`
		look
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	d.look.Guild = d.Guild
	l, err := d.look.read()
	return []Look{l}, err
}

func readLooks(raw json.RawMessage) ([]Look, error) {
	var d struct {
		Guilds map[string]look `json:"subscriptions"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	var list []Look
	for _, key := range slices.Sorted(maps.Keys(d.Guilds)) {
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		one := d.Guilds[key]
		one.Guild = id
		l, err := one.read()
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

func readMembers(raw json.RawMessage) (*MembersRequest, error) {
	var d struct {
		Guild oneOrMany `json:"guild_id"` // discordgo sends a list of one
		Query *string   `json:"query"`
		Limit int       `json:"limit"`
		Users oneOrMany `json:"user_ids"`
		Nonce string    `json:"nonce"`
		Pres  bool      `json:"presences"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	m := &MembersRequest{Query: d.Query, Limit: max(d.Limit, 0), Users: d.Users[:min(len(d.Users), maxIDs)], Presences: d.Pres}
	if len(d.Guild) > 0 {
		m.Guild = d.Guild[0]
	}
	if len(d.Nonce) <= maxNonce {
		m.Nonce = d.Nonce
	}
	return m, nil
}
