package textchat

// Op is the kind of a gateway frame.
type Op int

// The ops of gateway v9 and v10 that this server speaks.
const (
	OpDispatch            Op = 0
	OpHeartbeat           Op = 1
	OpIdentify            Op = 2
	OpPresenceUpdate      Op = 3
	OpVoiceStateUpdate    Op = 4
	OpResume              Op = 6
	OpReconnect           Op = 7
	OpRequestGuildMembers Op = 8
	OpInvalidSession      Op = 9
	OpHello               Op = 10
	OpHeartbeatAck        Op = 11
	// Of people's clients: what they look at in large guilds, of one or of several.
	OpGuildSubscription  Op = 14
	OpGuildSubscriptions Op = 37
)

// CloseCode ends a gateway connection. After those of [CloseCode.Final] a
// client must not come back without a change.
type CloseCode uint16

// The close codes.
const (
	CloseNormal            CloseCode = 1000
	CloseGoingAway         CloseCode = 1001 // the server shuts down: resume or identify again
	CloseUnknown           CloseCode = 4000 // and "too slow": resume
	CloseUnknownOp         CloseCode = 4001
	CloseDecode            CloseCode = 4002 // not JSON, not an object, or longer than MaxFrame
	CloseNotAuthenticated  CloseCode = 4003
	CloseAuthFailed        CloseCode = 4004
	CloseAlreadyIdentified CloseCode = 4005
	CloseInvalidSeq        CloseCode = 4007
	CloseRateLimited       CloseCode = 4008
	CloseSessionTimeout    CloseCode = 4009 // no Identify in time, or no heartbeat
	CloseInvalidShard      CloseCode = 4010
	CloseShardingRequired  CloseCode = 4011
	CloseInvalidVersion    CloseCode = 4012
	CloseInvalidIntents    CloseCode = 4013
	CloseDisallowedIntents CloseCode = 4014
)

// Final says that coming back with the same request is useless.
func (c CloseCode) Final() bool {
	return c == CloseAuthFailed || c >= CloseInvalidShard && c <= CloseDisallowedIntents
}

// String is the reason text of the close frame.
func (c CloseCode) String() string {
	switch c {
	case CloseNormal:
		return "bye"
	case CloseGoingAway:
		return "server is going away"
	case CloseUnknown:
		return "unknown error"
	case CloseUnknownOp:
		return "unknown opcode"
	case CloseDecode:
		return "frame cannot be decoded"
	case CloseNotAuthenticated:
		return "not authenticated"
	case CloseAuthFailed:
		return "authentication failed"
	case CloseAlreadyIdentified:
		return "already authenticated"
	case CloseInvalidSeq:
		return "invalid sequence"
	case CloseRateLimited:
		return "too many frames"
	case CloseSessionTimeout:
		return "session timed out"
	case CloseInvalidShard:
		return "invalid shard"
	case CloseShardingRequired:
		return "sharding required"
	case CloseInvalidVersion:
		return "invalid API version"
	case CloseInvalidIntents:
		return "invalid intents"
	case CloseDisallowedIntents:
		return "disallowed intents"
	}
	return "closed"
}

// Intents say which events a session wants.
type Intents uint64

// The intents that this server has events for. Zero as the intent of an event
// means "always".
const (
	IntentGuilds         Intents = 1 << 0
	IntentGuildMembers   Intents = 1 << 1
	IntentModeration     Intents = 1 << 2
	IntentWebhooks       Intents = 1 << 5
	IntentGuildInvites   Intents = 1 << 6
	IntentVoiceStates    Intents = 1 << 7
	IntentPresences      Intents = 1 << 8
	IntentGuildMessages  Intents = 1 << 9
	IntentGuildReactions Intents = 1 << 10
	IntentGuildTyping    Intents = 1 << 11
	IntentDirectMessages Intents = 1 << 12
	IntentMessageContent Intents = 1 << 15

	// IntentsPrivileged are those that an operator may keep from bots.
	IntentsPrivileged = IntentGuildMembers | IntentPresences | IntentMessageContent
	// IntentsKnown are all bits that the protocol names; others are refused.
	IntentsKnown Intents = 1<<17 - 1 | 1<<20 | 1<<21 | 1<<24 | 1<<25
)

// CapabilityPassive is a bit of capabilities in Identify, of people's clients: of a
// large guild that the client has not opened it wants no more than it must have.
const CapabilityPassive = 1 << 11

// Names of dispatched events.
const (
	EventReady             = "READY"
	EventResumed           = "RESUMED"
	EventGuildCreate       = "GUILD_CREATE"
	EventGuildUpdate       = "GUILD_UPDATE"
	EventGuildDelete       = "GUILD_DELETE"
	EventRoleCreate        = "GUILD_ROLE_CREATE"
	EventRoleUpdate        = "GUILD_ROLE_UPDATE"
	EventRoleDelete        = "GUILD_ROLE_DELETE"
	EventChannelCreate     = "CHANNEL_CREATE"
	EventChannelUpdate     = "CHANNEL_UPDATE"
	EventChannelDelete     = "CHANNEL_DELETE"
	EventThreadCreate      = "THREAD_CREATE"
	EventThreadUpdate      = "THREAD_UPDATE"
	EventThreadDelete      = "THREAD_DELETE"
	EventThreadListSync    = "THREAD_LIST_SYNC"
	EventThreadMembers     = "THREAD_MEMBERS_UPDATE"
	EventMemberAdd         = "GUILD_MEMBER_ADD"
	EventMemberUpdate      = "GUILD_MEMBER_UPDATE"
	EventMemberRemove      = "GUILD_MEMBER_REMOVE"
	EventMembersChunk      = "GUILD_MEMBERS_CHUNK"
	EventMemberList        = "GUILD_MEMBER_LIST_UPDATE"
	EventPassiveUpdate     = "PASSIVE_UPDATE_V1"
	EventInviteCreate      = "INVITE_CREATE"
	EventInviteDelete      = "INVITE_DELETE"
	EventMessageCreate     = "MESSAGE_CREATE"
	EventMessageUpdate     = "MESSAGE_UPDATE"
	EventMessageDelete     = "MESSAGE_DELETE"
	EventMessagesDelete    = "MESSAGE_DELETE_BULK"
	EventReactionAdd       = "MESSAGE_REACTION_ADD"
	EventReactionRemove    = "MESSAGE_REACTION_REMOVE"
	EventReactionClear     = "MESSAGE_REACTION_REMOVE_ALL"
	EventReactionEmoji     = "MESSAGE_REACTION_REMOVE_EMOJI"
	EventPinsUpdate        = "CHANNEL_PINS_UPDATE"
	EventTypingStart       = "TYPING_START"
	EventBanAdd            = "GUILD_BAN_ADD"
	EventBanRemove         = "GUILD_BAN_REMOVE"
	EventAuditEntry        = "GUILD_AUDIT_LOG_ENTRY_CREATE"
	EventWebhooksUpdate    = "WEBHOOKS_UPDATE"
	EventUserUpdate        = "USER_UPDATE"
	EventVoiceStateUpdate  = "VOICE_STATE_UPDATE"
	EventVoiceServerUpdate = "VOICE_SERVER_UPDATE"
	EventRateLimited       = "RATE_LIMITED"
	EventPresenceUpdate    = "PRESENCE_UPDATE"
	EventPresencesReplace  = "PRESENCES_REPLACE"
	EventSoundboardSounds  = "SOUNDBOARD_SOUNDS"
	EventChannelInfo       = "CHANNEL_INFO"
	// EventVoiceError is ours: why a join did not happen, to the joiner only.
	EventVoiceError = "VOICE_ERROR"
)
