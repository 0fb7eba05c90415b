package textchat

import (
	"encoding/json"
	"testing"
)

func TestResolve(t *testing.T) {
	const (
		guild = ID(1)
		user  = ID(2)
		red   = ID(3)
		blue  = ID(4)
	)
	role := func(perms map[ID]Permissions) func(ID) Permissions {
		return func(id ID) Permissions { return perms[id] }
	}
	over := func(kind OverwriteType, id ID, allow, deny Permissions) Overwrite {
		return Overwrite{ID: id, Type: kind, Allow: allow, Deny: deny}
	}
	const talk = ViewChannel | Connect | Speak
	for _, c := range []struct {
		name  string
		owner bool
		roles []ID
		perms map[ID]Permissions
		over  []Overwrite
		out   bool // timed out
		want  Permissions
	}{
		{name: "everyone alone", perms: map[ID]Permissions{guild: talk}, want: talk},
		{name: "nothing at all", perms: nil, want: 0},
		{name: "roles add up", roles: []ID{red, blue}, perms: map[ID]Permissions{guild: ViewChannel, red: Connect, blue: Speak}, want: talk},
		{name: "an unknown role gives nothing", roles: []ID{99}, perms: map[ID]Permissions{guild: talk}, want: talk},
		{name: "owner may all, whatever is denied", owner: true, over: []Overwrite{over(OverwriteMember, user, 0, AllPermissions)}, want: AllPermissions},
		{name: "administrator may all, whatever is denied", roles: []ID{red}, perms: map[ID]Permissions{red: Administrator},
			over: []Overwrite{over(OverwriteRole, guild, 0, ViewChannel)}, want: AllPermissions},
		{name: "everyone is denied", perms: map[ID]Permissions{guild: talk}, over: []Overwrite{over(OverwriteRole, guild, 0, Speak)}, want: ViewChannel | Connect},
		{name: "a role is allowed what everyone is denied", roles: []ID{red}, perms: map[ID]Permissions{guild: talk},
			over: []Overwrite{over(OverwriteRole, red, Speak, 0), over(OverwriteRole, guild, 0, Speak)}, want: talk},
		{name: "of two roles the one that allows wins", roles: []ID{red, blue}, perms: map[ID]Permissions{guild: talk},
			over: []Overwrite{over(OverwriteRole, red, Speak, 0), over(OverwriteRole, blue, 0, Speak)}, want: talk},
		{name: "a role one has not does not count", perms: map[ID]Permissions{guild: talk}, over: []Overwrite{over(OverwriteRole, red, 0, Speak)}, want: talk},
		{name: "the member's own has the last word", roles: []ID{red}, perms: map[ID]Permissions{guild: talk},
			over: []Overwrite{over(OverwriteRole, red, Speak, 0), over(OverwriteMember, user, 0, Speak)}, want: ViewChannel | Connect},
		{name: "deny and allow in one: allowed", perms: map[ID]Permissions{guild: talk}, over: []Overwrite{over(OverwriteMember, user, Speak, Speak)}, want: talk},
		{name: "a role's id as member does not count", roles: []ID{red}, perms: map[ID]Permissions{guild: talk},
			over: []Overwrite{over(OverwriteMember, red, 0, Speak)}, want: talk},
		{name: "without view nothing", perms: map[ID]Permissions{guild: talk | SendMessages}, over: []Overwrite{over(OverwriteRole, guild, 0, ViewChannel)}, want: 0},
		{name: "without connect no voice", perms: map[ID]Permissions{guild: talk | MuteMembers | SendMessages},
			over: []Overwrite{over(OverwriteRole, guild, 0, Connect)}, want: ViewChannel | SendMessages},
		{name: "without send no embellishment", perms: map[ID]Permissions{guild: ViewChannel | SendMessages | AttachFiles | EmbedLinks | MentionEveryone | AddReactions},
			over: []Overwrite{over(OverwriteRole, guild, 0, SendMessages)}, want: ViewChannel | AddReactions},
		{name: "a time-out leaves looking and reading", out: true, perms: map[ID]Permissions{guild: talk | SendMessages | ReadMessageHistory | ManageRoles},
			want: ViewChannel | ReadMessageHistory},
		{name: "no overwrite ends a time-out", out: true, perms: map[ID]Permissions{guild: talk}, over: []Overwrite{over(OverwriteMember, user, SendMessages, 0)}, want: ViewChannel},
		{name: "a time-out shows nothing that was hidden", out: true, perms: map[ID]Permissions{guild: ReadMessageHistory}, want: 0},
		{name: "an administrator is not timed out", out: true, roles: []ID{red}, perms: map[ID]Permissions{red: Administrator}, want: AllPermissions},
		{name: "the owner is not timed out", out: true, owner: true, want: AllPermissions},
		{name: "an overwrite makes no administrator", perms: map[ID]Permissions{guild: talk}, over: []Overwrite{over(OverwriteMember, user, Administrator, 0)}, want: talk},
	} {
		s := Subject{User: user, Guild: guild, Owner: c.owner, Roles: c.roles, TimedOut: c.out}
		if got := Resolve(s, role(c.perms), c.over); got != c.want {
			t.Errorf("%s: %b, want %b", c.name, got, c.want)
		}
	}
}

func TestPermissionsJSON(t *testing.T) {
	for in, want := range map[string]Permissions{`"1024"`: ViewChannel, `1024`: ViewChannel, `null`: 0, `"9007199254740993"`: 1<<53 + 1} {
		var p Permissions
		if err := json.Unmarshal([]byte(in), &p); err != nil || p != want {
			t.Errorf("%s: %d, %v", in, p, err)
		}
	}
	for _, bad := range []string{`"x"`, `-1`, `1.5`, `{}`} {
		if json.Unmarshal([]byte(bad), new(Permissions)) == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if b, _ := json.Marshal(AllPermissions); string(b) != `"8866461766385663"` {
		t.Errorf("all permissions are %s", b)
	}
}

func BenchmarkResolve(b *testing.B) {
	perms := map[ID]Permissions{1: DefaultPermissions, 3: MuteMembers, 4: MoveMembers}
	over := []Overwrite{{ID: 1, Deny: Speak}, {ID: 3, Allow: Speak}, {ID: 9, Deny: Connect}}
	s := Subject{User: 2, Guild: 1, Roles: []ID{3, 4}}
	for b.Loop() {
		if !Resolve(s, func(id ID) Permissions { return perms[id] }, over).Has(Speak) {
			b.Fatal("may not speak")
		}
	}
}
