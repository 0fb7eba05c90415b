package guild

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"voicefleet/textchat"
)

// Guild is the state of one guild.
type Guild struct {
	// Immutable.
	openTimeout time.Duration // 0: voice sessions are not watched

	// Owned by the caller. The objects behind the pointers are replaced, never
	// changed in place, so what was handed out stays as it was.
	self     textchat.Guild
	roles    map[textchat.ID]*textchat.Role
	channels map[textchat.ID]*textchat.Channel
	members  map[textchat.ID]*textchat.Member
	roll     roll // of members
	banned   map[textchat.ID]bool
	timedOut map[textchat.ID]time.Time // members, and until when

	voice   map[textchat.ID]*voice   // by user
	pending map[textchat.ID]*pending // by user
	visits  map[textchat.ID]*visit   // by user, temporary members who were online
	queues  map[textchat.ID]*queue   // by channel, where somebody waits
	sizes   map[textchat.ID]*size    // by channel, where somebody ever was
	since   time.Time                // of the first input here
	attempt uint64
	// archives is not after the first thread that is archived by itself; zero: none.
	archives time.Time

	undo    []func() // takes the last input back, last step first
	touched []touched
	renamed bool // self is another one than before the last input
	turned  bool // see Turned
}

// begin forgets the last input.
func (g *Guild) begin() { g.undo, g.touched, g.renamed = g.undo[:0], g.touched[:0], false }

// put and drop change a map so that Revert can take it back.
func put[V any](g *Guild, m map[textchat.ID]V, id textchat.ID, v V) {
	g.touched = append(g.touched, touched{m, id})
	old, had := m[id]
	g.undo = append(g.undo, func() {
		if had {
			m[id] = old
		} else {
			delete(m, id)
		}
	})
	m[id] = v
}

func drop[V any](g *Guild, m map[textchat.ID]V, id textchat.ID) {
	if old, had := m[id]; had {
		g.touched = append(g.touched, touched{m, id})
		g.undo = append(g.undo, func() { m[id] = old })
		delete(m, id)
	}
}

// edit replaces what is there by a copy, to be changed.
func edit[V any](g *Guild, m map[textchat.ID]*V, id textchat.ID) *V {
	c := *m[id]
	put(g, m, id, &c)
	return &c
}

// Revert takes the last input back: the store did not take its changes.
func (g *Guild) Revert() {
	for i := len(g.undo) - 1; i >= 0; i-- {
		g.undo[i]()
	}
	g.begin()
	g.turned = true
}

// Turned says whether permissions, or settings of channels, may be others than when
// it was asked last. Which message of a channel is the newest is no setting.
func (g *Guild) Turned() bool {
	turned := g.turned
	g.turned = false
	return turned
}

// notice looks whether an input turned something.
func (g *Guild) notice(in Input, out *Out) {
	if _, ok := in.(Posted); ok && len(out.Changes) == 0 {
		return
	}
	g.turned = g.turned || g.renamed
	for _, t := range g.touched {
		switch t.table.(type) {
		case map[textchat.ID]*textchat.Role, map[textchat.ID]*textchat.Channel, map[textchat.ID]*textchat.Member, map[textchat.ID]time.Time:
			g.turned = true
		}
	}
}

// New is the guild as the store has it. openTimeout is how long a placed user
// may take to open the voice session; zero when nobody would tell.
func New(r textchat.GuildRecord, openTimeout time.Duration) *Guild {
	g := &Guild{
		openTimeout: openTimeout,
		turned:      true,
		self:        r.Guild,
		roles:       make(map[textchat.ID]*textchat.Role, len(r.Roles)),
		channels:    make(map[textchat.ID]*textchat.Channel, len(r.Channels)),
		members:     make(map[textchat.ID]*textchat.Member, len(r.Members)),
		banned:      make(map[textchat.ID]bool, len(r.Banned)),
		timedOut:    make(map[textchat.ID]time.Time),
		voice:       make(map[textchat.ID]*voice),
		pending:     make(map[textchat.ID]*pending),
		visits:      make(map[textchat.ID]*visit),
		queues:      make(map[textchat.ID]*queue),
		sizes:       make(map[textchat.ID]*size),
	}
	for i := range r.Roles {
		g.roles[r.Roles[i].ID] = &r.Roles[i]
	}
	for i := range r.Channels {
		g.channels[r.Channels[i].ID] = &r.Channels[i]
		g.noteArchive(&r.Channels[i])
	}
	g.roll = newRoll(r.Members)
	for i := range r.Members {
		m := &r.Members[i]
		g.members[m.User.ID] = m
		if m.TimeoutUntil != nil {
			g.timedOut[m.User.ID] = m.TimeoutUntil.Time // one that is over ends with the first Tick
		}
		if m.Temporary && m.Visited {
			g.visits[m.User.ID] = new(visit) // it has comeBack
		}
	}
	for _, id := range r.Banned {
		g.banned[id] = true
	}
	return g
}

// Self is the guild's own record.
func (g *Guild) Self() textchat.Guild { return g.self }

// Role, Channel and Member find one, or nil. They must not be changed.
func (g *Guild) Role(id textchat.ID) *textchat.Role       { return g.roles[id] }
func (g *Guild) Channel(id textchat.ID) *textchat.Channel { return g.channels[id] }
func (g *Guild) Member(id textchat.ID) *textchat.Member   { return g.members[id] }

// TimedOut says whether a member may only look and read for now.
func (g *Guild) TimedOut(user textchat.ID) bool {
	_, is := g.timedOut[user]
	return is
}

// ByID are all channels as they are now.
func (g *Guild) ByID() map[textchat.ID]*textchat.Channel { return maps.Clone(g.channels) }

// VoiceCount is how many members talk.
func (g *Guild) VoiceCount() int { return len(g.voice) }

// Roles are sorted by position, then id.
func (g *Guild) Roles() []textchat.Role {
	list := make([]textchat.Role, 0, len(g.roles))
	for _, r := range g.roles {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b textchat.Role) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Channels are those that user may view, sorted by position, then id.
func (g *Guild) Channels(user textchat.ID) []textchat.Channel {
	list := make([]textchat.Channel, 0, len(g.channels))
	for _, c := range g.channels {
		if !c.Type.Thread() && g.Permissions(user, c.ID).Has(textchat.ViewChannel) {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b textchat.Channel) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (g *Guild) subject(user textchat.ID) (textchat.Subject, bool) {
	m := g.members[user]
	if m == nil {
		return textchat.Subject{}, false
	}
	_, timedOut := g.timedOut[user]
	return textchat.Subject{User: user, Guild: g.self.ID, Owner: g.self.Owner == user, Roles: m.Roles, TimedOut: timedOut}, true
}

func (g *Guild) rolePermissions(id textchat.ID) textchat.Permissions {
	if r := g.roles[id]; r != nil {
		return r.Permissions
	}
	return 0
}

// Base is what user may do in the guild as a whole; nothing for strangers.
func (g *Guild) Base(user textchat.ID) textchat.Permissions {
	s, ok := g.subject(user)
	if !ok {
		return 0
	}
	return textchat.Base(s, g.rolePermissions)
}

// Permissions are what user may do in a channel; nothing for strangers and in
// unknown channels. A thread has those of the channel it hangs on; a private one is
// seen by its members and by who manages threads. Who may not connect to a voice channel
// sees that it is there, and no more.
func (g *Guild) Permissions(user, channel textchat.ID) textchat.Permissions {
	s, ok := g.subject(user)
	c := g.channels[channel]
	if !ok || c == nil {
		return 0
	}
	if c.Type.Thread() {
		parent := g.channels[parentOf(c)]
		if parent == nil {
			return 0
		}
		p := textchat.ResolveThread(s, g.rolePermissions, parent.Overwrites)
		if _, in := c.ThreadMember(user); c.Type == textchat.ChannelPrivateThread && !in && !p.Has(textchat.ManageThreads) {
			return 0
		}
		return p
	}
	p := textchat.Resolve(s, g.rolePermissions, c.Overwrites)
	if c.Type.Voice() && !p.Has(textchat.Connect) {
		p &= textchat.ViewChannel
	}
	return p
}

// Public says that every member sees a channel, without a look at each: @everyone may,
// and no overwrite says otherwise. Where it is false all may see it none the less.
func (g *Guild) Public(channel textchat.ID) bool {
	c := g.channels[channel]
	if c != nil && c.Type.Thread() && c.Type != textchat.ChannelPrivateThread {
		c = g.channels[parentOf(c)]
	}
	if c == nil || c.Type == textchat.ChannelPrivateThread || !g.rolePermissions(g.self.ID).Has(textchat.ViewChannel) {
		return false
	}
	return !slices.ContainsFunc(c.Overwrites, func(o textchat.Overwrite) bool { return o.Deny.Has(textchat.ViewChannel) })
}

// standing is how high a role stands: by its position; of two at one position the
// older is the higher.
type standing struct {
	position int
	id       textchat.ID
}

func standingOf(r *textchat.Role) standing { return standing{r.Position, r.ID} }

func (s standing) above(t standing) bool {
	return s.position > t.position || s.position == t.position && s.id < t.id
}

// rank is how high a member stands: the owner above all, others by their highest
// role, strangers below all.
func (g *Guild) rank(user textchat.ID) standing {
	if user == g.self.Owner {
		return standing{position: 1 << 30}
	}
	m := g.members[user]
	if m == nil {
		return standing{position: -1}
	}
	top := standing{0, g.self.ID}
	for _, id := range m.Roles {
		if r := g.roles[id]; r != nil && standingOf(r).above(top) {
			top = standingOf(r)
		}
	}
	return top
}

// Snapshot is the body of GUILD_CREATE for one user. Members are all of them up
// to large, else the user itself and who is in voice.
type Snapshot struct {
	textchat.Guild
	Fixed
	JoinedAt    textchat.Time         `json:"joined_at"`
	Large       bool                  `json:"large"`
	Unavailable bool                  `json:"unavailable"`
	MemberCount int                   `json:"member_count"`
	Roles       []textchat.Role       `json:"roles"`
	VoiceStates []textchat.VoiceState `json:"voice_states"`
	Members     []textchat.Member     `json:"members"`
	Channels    []textchat.Channel    `json:"channels"`
	Threads     []textchat.Channel    `json:"threads"` // active, and seen by the user
}

// Full is the body of a guild in REST and GUILD_UPDATE.
type Full struct {
	textchat.Guild
	Fixed
	Roles            []textchat.Role `json:"roles"`
	ApproximateCount int             `json:"approximate_member_count,omitempty"`
	ApproximatePres  int             `json:"approximate_presence_count,omitempty"`
}

// Full is the guild with its roles.
func (g *Guild) Full() Full { return Full{Guild: g.self, Fixed: fixed, Roles: g.Roles()} }

// Snapshot makes the body of GUILD_CREATE for user.
func (g *Guild) Snapshot(user textchat.ID, large int) Snapshot {
	s := Snapshot{Guild: g.self, Fixed: fixed, Large: len(g.members) > large, MemberCount: len(g.members),
		Roles: g.Roles(), Channels: g.Channels(user), Threads: g.Threads(user, 0), VoiceStates: []textchat.VoiceState{}}
	if m := g.members[user]; m != nil {
		s.JoinedAt = m.JoinedAt
	}
	listed := map[textchat.ID]bool{user: true}
	for _, id := range slices.Sorted(maps.Keys(g.voice)) {
		v := g.voice[id]
		if !g.Permissions(user, v.Channel).Has(textchat.ViewChannel) && id != user {
			continue
		}
		listed[id] = true
		state := g.voiceState(id)
		state.Guild, state.Member = 0, nil
		s.VoiceStates = append(s.VoiceStates, state)
	}
	if !s.Large {
		s.Members = g.Members(0, len(g.members))
		return s
	}
	for _, id := range slices.Sorted(maps.Keys(listed)) {
		if m := g.members[id]; m != nil {
			s.Members = append(s.Members, *m)
		}
	}
	return s
}

// Partial is a member without its user, or nil.
func (g *Guild) Partial(user textchat.ID) *PartialMember {
	m := g.members[user]
	if m == nil {
		return nil
	}
	return &PartialMember{Nick: m.Nick, Avatar: m.Avatar, Roles: m.Roles, JoinedAt: m.JoinedAt, Deaf: m.Deaf, Mute: m.Mute, Flags: m.Flags}
}

// Fixed are the parts of a guild object that have one value here and that
// clients insist on.
type Fixed struct {
	Splash                *string        `json:"splash"`
	DiscoverySplash       *string        `json:"discovery_splash"`
	Banner                *string        `json:"banner"`
	AFKChannel            *textchat.ID   `json:"afk_channel_id"`
	AFKTimeout            int            `json:"afk_timeout"`
	VerificationLevel     int            `json:"verification_level"`
	DefaultNotifications  int            `json:"default_message_notifications"`
	ExplicitContentFilter int            `json:"explicit_content_filter"`
	Emojis                []string       `json:"emojis"`
	Stickers              []string       `json:"stickers"`
	Features              []string       `json:"features"`
	MFALevel              int            `json:"mfa_level"`
	Application           *textchat.ID   `json:"application_id"`
	SystemChannelFlags    int            `json:"system_channel_flags"`
	RulesChannel          *textchat.ID   `json:"rules_channel_id"`
	VanityURLCode         *string        `json:"vanity_url_code"`
	PremiumTier           int            `json:"premium_tier"`
	PremiumSubscriptions  int            `json:"premium_subscription_count"`
	PreferredLocale       string         `json:"preferred_locale"`
	PublicUpdatesChannel  *textchat.ID   `json:"public_updates_channel_id"`
	SafetyAlertsChannel   *textchat.ID   `json:"safety_alerts_channel_id"`
	NSFWLevel             int            `json:"nsfw_level"`
	PremiumProgressBar    bool           `json:"premium_progress_bar_enabled"`
	MaxMembers            int            `json:"max_members"`
	MaxVideoChannelUsers  int            `json:"max_video_channel_users"`
	Threads               []string       `json:"threads"`
	Presences             []string       `json:"presences"`
	StageInstances        []string       `json:"stage_instances"`
	GuildScheduledEvents  []string       `json:"guild_scheduled_events"`
	SoundboardSounds      []string       `json:"soundboard_sounds"`
	Region                *string        `json:"region"`
	WidgetEnabled         bool           `json:"widget_enabled"`
	IncidentsData         map[string]any `json:"incidents_data"`
}

var fixed = Fixed{
	AFKTimeout: 300, PreferredLocale: "en-US", MaxMembers: textchat.MaxMembers, MaxVideoChannelUsers: 25,
	Emojis: []string{}, Stickers: []string{}, Features: []string{}, Threads: []string{}, Presences: []string{},
	StageInstances: []string{}, GuildScheduledEvents: []string{}, SoundboardSounds: []string{},
}
