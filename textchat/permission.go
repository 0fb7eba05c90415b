package textchat

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Permissions is a set of permission bits; in JSON a decimal string, because
// JavaScript numbers hold 53 bits.
type Permissions uint64

// The bits that this server acts on, at their public positions.
const (
	CreateInvite       Permissions = 1 << 0
	KickMembers        Permissions = 1 << 1
	BanMembers         Permissions = 1 << 2
	Administrator      Permissions = 1 << 3
	ManageChannels     Permissions = 1 << 4
	ManageGuild        Permissions = 1 << 5
	AddReactions       Permissions = 1 << 6
	ViewAuditLog       Permissions = 1 << 7
	PrioritySpeaker    Permissions = 1 << 8
	Stream             Permissions = 1 << 9
	ViewChannel        Permissions = 1 << 10
	SendMessages       Permissions = 1 << 11
	SendTTS            Permissions = 1 << 12
	ManageMessages     Permissions = 1 << 13
	EmbedLinks         Permissions = 1 << 14
	AttachFiles        Permissions = 1 << 15
	ReadMessageHistory Permissions = 1 << 16
	MentionEveryone    Permissions = 1 << 17
	UseExternalEmojis  Permissions = 1 << 18
	Connect            Permissions = 1 << 20
	Speak              Permissions = 1 << 21
	MuteMembers        Permissions = 1 << 22
	DeafenMembers      Permissions = 1 << 23
	MoveMembers        Permissions = 1 << 24
	UseVAD             Permissions = 1 << 25
	ChangeNickname     Permissions = 1 << 26
	ManageNicknames    Permissions = 1 << 27
	ManageRoles        Permissions = 1 << 28
	ManageWebhooks     Permissions = 1 << 29
	ModerateMembers    Permissions = 1 << 40

	RequestToSpeak       Permissions = 1 << 32
	ManageThreads        Permissions = 1 << 34
	CreatePublicThreads  Permissions = 1 << 35
	CreatePrivateThreads Permissions = 1 << 36
	SendInThreads        Permissions = 1 << 38

	PinMessages    Permissions = 1 << 51
	BypassSlowmode Permissions = 1 << 52

	// AllPermissions are the bits 0..52 but the unused 47.
	AllPermissions Permissions = (1<<53 - 1) &^ (1 << 47)
	// DefaultPermissions are what @everyone of a new guild may do.
	DefaultPermissions = CreateInvite | AddReactions | Stream | ViewChannel | SendMessages | EmbedLinks | AttachFiles |
		ReadMessageHistory | UseExternalEmojis | Connect | Speak | UseVAD | RequestToSpeak | ChangeNickname |
		CreatePublicThreads | CreatePrivateThreads | SendInThreads

	// needSend are void without SendMessages, needConnect without Connect;
	// whileTimedOut is what a time-out leaves.
	needSend      = MentionEveryone | SendTTS | AttachFiles | EmbedLinks
	whileTimedOut = ViewChannel | ReadMessageHistory
	needConnect   = Speak | Stream | MuteMembers | DeafenMembers | MoveMembers | UseVAD | PrioritySpeaker | RequestToSpeak
)

// Has says whether all bits of q are in p.
func (p Permissions) Has(q Permissions) bool { return p&q == q }

// MarshalJSON writes a decimal string.
func (p Permissions) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatUint(uint64(p), 10) + `"`), nil
}

// UnmarshalJSON reads a decimal string, a decimal number, or null (none).
func (p *Permissions) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		*p = 0
		return nil
	}
	if len(b) > 1 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return fmt.Errorf("permissions %.24q are not a decimal number", s)
	}
	*p = Permissions(n)
	return nil
}

// Subject is whose permissions are asked for.
type Subject struct {
	User  ID
	Guild ID // the id of @everyone too
	Owner bool
	// Roles are the ids of the member's roles, @everyone left out.
	Roles []ID
	// TimedOut leaves only looking and reading to a member that is no
	// administrator.
	TimedOut bool
}

// Base is what the subject may do in the guild: @everyone and its roles
// together. role gives the permissions of a role; those of unknown ones are
// none.
func Base(s Subject, role func(ID) Permissions) Permissions {
	if s.Owner {
		return AllPermissions
	}
	p := role(s.Guild)
	for _, r := range s.Roles {
		p |= role(r)
	}
	if p.Has(Administrator) {
		return AllPermissions
	}
	if s.TimedOut {
		p &= whileTimedOut
	}
	return p
}

// Resolve is what the subject may do in a channel with these overwrites:
// owner and administrators everything; for others the base, changed by the
// overwrite of @everyone, then by those of all its roles at once (denies first,
// allows win), then by its own. Last come the implications: without ViewChannel
// nothing, without SendMessages no embellishment of messages, without Connect
// nothing of voice (a channel of text has no use for those bits anyway).
func Resolve(s Subject, role func(ID) Permissions, overwrites []Overwrite) Permissions {
	p := override(s, role, overwrites)
	return imply(p)
}

// ResolveThread is what the subject may do in a thread of a channel with these
// overwrites: the same, but that SendInThreads stands for SendMessages.
func ResolveThread(s Subject, role func(ID) Permissions, overwrites []Overwrite) Permissions {
	p := override(s, role, overwrites)
	if p.Has(Administrator) {
		return p
	}
	if p &^= SendMessages; p.Has(SendInThreads) {
		p |= SendMessages
	}
	return imply(p)
}

// override is the base, changed by overwrites.
func override(s Subject, role func(ID) Permissions, overwrites []Overwrite) Permissions {
	p := Base(s, role)
	if p.Has(Administrator) {
		return p
	}
	var everyone, roles, own Overwrite
	for _, o := range overwrites {
		switch {
		case o.Type == OverwriteRole && o.ID == s.Guild:
			everyone = o
		case o.Type == OverwriteRole && slices.Contains(s.Roles, o.ID):
			roles.Deny |= o.Deny
			roles.Allow |= o.Allow
		case o.Type == OverwriteMember && o.ID == s.User:
			own = o
		}
	}
	for _, o := range [...]Overwrite{everyone, roles, own} {
		p = p&^o.Deny | o.Allow
	}
	// A channel overwrite cannot make an administrator, nor end a time-out.
	p &^= Administrator
	if s.TimedOut {
		p &= whileTimedOut
	}
	return p
}

// imply takes away what is void without something else.
func imply(p Permissions) Permissions {
	if p.Has(Administrator) {
		return p
	}
	if !p.Has(ViewChannel) {
		return 0
	}
	if !p.Has(SendMessages) {
		p &^= needSend
	}
	if !p.Has(Connect) {
		p &^= needConnect
	}
	return p
}
