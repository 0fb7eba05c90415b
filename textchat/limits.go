package textchat

import "time"

// Limits of what a client may send or own. All lengths of text are in
// characters unless a comment says bytes.
const (
	// MaxFrame is the longest gateway frame a client may send, in bytes; a longer
	// one closes the connection with CloseDecode.
	MaxFrame = 4096
	// MaxBody is the longest REST body in bytes, MaxDepth how deep its JSON (or
	// that of a frame) may nest.
	MaxBody  = 64 << 10
	MaxDepth = 16

	// MaxMessageBody is that of a message: embeds may be long.
	MaxMessageBody = 256 << 10

	MaxContent   = 2000 // of a message
	MaxMentions  = 100  // users, and roles, that one message names
	MaxReactions = 20   // different emoji under a message
	MaxPins      = 250  // of a channel
	MaxReason    = 512  // of an entry of the audit log
	MaxBulk      = 100  // messages deleted at once
	MaxWebhooks  = 15   // of a channel
	MaxFiles     = 10   // of a message
	MaxFilename  = 255  // bytes
	MaxAlt       = 1024 // description of a file
	// MaxBulkAge is how old a message may be to be deleted with others.
	MaxBulkAge = 14 * 24 * time.Hour
	// MaxTimeout is how far ahead a member's time-out may end.
	MaxTimeout   = 28 * 24 * time.Hour
	MaxName      = 100 // of a guild, channel or role
	MaxNickname  = 32
	MaxTopic     = 1024
	MaxNonce     = 25
	MinPassword  = 8
	MaxPassword  = 256 // bytes; argon2id costs the same for all of them
	MinUsername  = 2
	MaxUsername  = 32
	MaxUserLimit = 99 // of a voice channel

	MaxRoles      = 250
	MaxChannels   = 500
	MaxInCategory = 50
	MaxInvites    = 1000    // of a guild
	MaxMembers    = 200_000 // of a guild
	MaxGuilds     = 100     // a person is in
	MaxBotGuilds  = 100_000 // a bot is in
	MaxOwned      = 10      // guilds a user owns
	MaxBots       = 50      // bots one guild has made
	MaxSessions   = 16      // gateway sessions of one user
	MaxOverwrites = 500
)

// Times of the gateway.
const (
	// IdentifyTimeout is how long a connection may take to Identify or Resume.
	IdentifyTimeout = 5 * time.Second
	// HeartbeatInterval is what Hello asks for; a connection that is silent for
	// HeartbeatDeadline is closed, its session stays resumable.
	HeartbeatInterval = 41250 * time.Millisecond
	HeartbeatDeadline = HeartbeatInterval * 7 / 4
	// ResumeWindow is how long a session outlives its connection.
	ResumeWindow = 120 * time.Second
	// FrameBudget frames may be sent per FrameWindow.
	FrameBudget = 120
	FrameWindow = 60 * time.Second
	// PingBudget pings of the WebSocket may be among them per PingWindow.
	PingBudget = 10
	PingWindow = 10 * time.Second
	// IdentifyWindow is how long the Identifies of an account count: it may begin
	// MaxConcurrency sessions, and one for each shard beyond the first, in it.
	IdentifyWindow = 5 * time.Second
	// PlaceTimeout bounds one placement; OpenTimeout is how long a placed user
	// may take to open the voice session: the 60 s of the grant and some travel.
	PlaceTimeout = 3 * time.Second
	OpenTimeout  = 75 * time.Second
	// NonceLife is how long a message nonce is remembered.
	NonceLife = 5 * time.Minute
)

// MaxConcurrency is how many sessions of an account may begin in an
// IdentifyWindow; a shard's bucket is its number modulo this.
const MaxConcurrency = 16

// MaxShardGuilds is how many guilds one shard may have; a bot is told to have so many
// shards that each has RoomyShardGuilds at most.
const (
	MaxShardGuilds   = 2500
	RoomyShardGuilds = 1000
)

// LargeGuild is how many members a guild may have of which sessions with
// CapabilityPassive are told as of any other.
const LargeGuild = 250

// Bounds of what a session may look at in one guild: channels beside which it sees the
// list of members, and pages of 100 places of each; and how many different lists of a
// guild an instance keeps, for those who see different channels see different members.
const (
	MaxListChannels = 5
	MaxListPages    = 10
	MaxLists        = 8
	// MaxListOffline is how many members a guild may have whose lists show those who are
	// offline, too.
	MaxListOffline = 1000
)

// LateEvents bounds the presences and typing that wait while a session has more
// important things to be told; beyond it one list of all presences is sent later.
const LateEvents = 256

// Bounds of a session's replay: events and bytes kept for a Resume. A client
// that lags by more than half of either is disconnected, to resume.
const (
	ReplayEvents = 2048
	ReplayBytes  = 8 << 20
)
