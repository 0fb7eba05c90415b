package bus

import "strings"

// Every subject, bucket and service of the fleet, and who speaks there.
// Payloads are JSON of the type in parentheses.
const (
	// NodesBucket: node id → edgeagent.Heartbeat. In memory, leases of 5 s.
	// Written by each node for itself, watched by allocators.
	NodesBucket = "nodes"
	// LabelsBucket: guild id → allocator.GuildLabel, of guilds whose calls try nodes of a
	// label. Written by allocators for an operator, watched by all of them.
	LabelsBucket = "labels"
	// CallsBucket: channel id → allocator.CallEntry. Written by allocators by
	// compare-and-swap.
	CallsBucket = "calls"
	// KeysBucket: key id → Ed25519 public key (32 bytes). Each allocator writes
	// the key it signs grants with; nodes and signaling watch.
	KeysBucket = "grantkeys"
	// SignalingBucket: instance id → endpoint (host:port, host may be empty).
	// Leases of 5 s, written by each signaling instance, watched by allocators.
	SignalingBucket = "signaling"
	// GeneratorsBucket: name of a generator of load → remote.Info of the bench.
	// Leases of 5 s, written by each generator, read by the coordinator of a run.
	GeneratorsBucket = "generators"

	// EnrolledBucket: role.name → enrol.Entry. Written by whoever holds the fleet's
	// authority, by compare-and-swap; watched by nodes for what was revoked.
	EnrolledBucket = "enrolled"

	// TextsBucket: text instance → chatserver.Instance. Leases of 5 s, written by each
	// text instance, watched by the others.
	TextsBucket = "texts"
	// LeadsBucket: guild id → balance.Lead, of guilds that are led by another instance
	// than hashing says. In memory. Written by the instance that gives a guild away, or
	// takes the entry back, by compare-and-swap; watched by all text instances.
	LeadsBucket = "leads"
	// GuildsLog: guild id → chatserver entries, in the order in which they happened;
	// the key UsersKey has what belongs to users and no guild. Appended to by the
	// instance that leads the guild, followed by all that have sessions of it.
	GuildsLog = "guilds"
	// UsersKey is a key of GuildsLog.
	UsersKey = "users"
	// TextService answers TextSubject.
	TextService = "text"

	// AllocatorService answers AllocatorSubject + verb: place (PlaceRequest →
	// Assignment), update, remove, explain, nodes, calls, journal, regions, drain,
	// cordon and undrain (Order → Progress), progress, move (MoveRequest →
	// MoveReply), label (LabelOrder → GuildLabel), labels, and for nodes peers (edgeagent.PeersRequest → PeersReply); one
	// instance of the queue group takes each.
	AllocatorService = "allocator"
	AllocatorSubject = "v1.allocator."

	// SilenceSubject is where signaling publishes edgeagent.Silence: clients that
	// get nothing from a node any more. Allocators listen.
	SilenceSubject = "v1.silence"
	// JournalHistory: allocator.JournalEntry, the newest 10,000. Allocators append
	// and follow.
	JournalHistory = "journal"
	JournalSubject = "v1.journal"
	// DisconnectSubject is where the servers' $SYS.ACCOUNT.*.DISCONNECT arrives in
	// our account; read it by Disconnects.
	DisconnectSubject = "v1.bus.disconnect"
	// AllMoved is the pattern of all MovedSubjects.
	AllMoved = "v1.moved.*"
)

// NodeSubject is where a node takes requests: verb is open (OpenRequest →
// SessionReply), resume, negotiate, update, close, drain (DrainRequest →
// DrainReply), undrain, upgrade (UpgradeRequest → UpgradeReply), relay
// (RelayRequest), roster. Nodes ask one another for the roster, and for nothing
// else.
func NodeSubject(node, verb string) string { return "v1.node." + node + "." + verb }

// TextSubject is where a text instance takes requests of the others: verb is do (an
// input for a guild that it leads), live (what the store does not have of a guild),
// lead (guilds to look after), warm (a guild to load, as it will lead it), mirror and
// yield (sessions that are resumed elsewhere).
func TextSubject(instance, verb string) string { return "v1.text." + instance + "." + verb }

// OnlineSubject is where text instances tell one another who of a guild is online
// and who writes: what counts for a moment only.
func OnlineSubject(guild string) string { return "v1.online." + guild }

// DeliveredSubject is where text instances tell one another what they gave out to
// sessions in which order, and which sessions went on with them.
const DeliveredSubject = "v1.delivered"

// GeneratorSubject is where a generator of load takes requests of its
// coordinator: verb is take, beat, free, ask, fetch (see bench/internal/remote).
func GeneratorSubject(generator, verb string) string { return "v1.generator." + generator + "." + verb }

// CallSubject is where a node of a call publishes edgeagent.CallEvent, for the
// signaling instances that serve its members. Subjects on which nodes publish end
// in the node's id: with credentials a node may publish on its own only, and who
// listens believes an event only of the node that the subject names.
func CallSubject(call, node string) string { return "v1.call." + call + "." + node }

// CallEvents is the pattern of the CallSubjects of a call.
func CallEvents(call string) string { return "v1.call." + call + ".*" }

// MovedSubject is where the allocator that moved a call publishes allocator.Moved,
// for the guilds.
func MovedSubject(call string) string { return "v1.moved." + call }

// PresenceSubject is where a node of a call publishes edgeagent.CallEvent of
// the kinds Opened, Left and Deaf only, for the guilds. AllPresence matches every
// call's.
func PresenceSubject(call, node string) string { return "v1.presence." + call + "." + node }

// AllPresence is the pattern of all PresenceSubjects.
const AllPresence = "v1.presence.*.*"

// Publisher is the node that a subject of CallSubject or PresenceSubject names.
func Publisher(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
