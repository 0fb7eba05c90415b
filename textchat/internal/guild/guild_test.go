package guild

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/sfu"
	"voicefleet/textchat"
)

var update = flag.Bool("update", false, "write what came out into the transcripts")

// Names of the transcripts.
var ids = map[string]textchat.ID{"guild": 1, "boss": 11, "ann": 12, "bob": 13, "cat": 14, "mod": 21, "vip": 22,
	"general": 31, "lobby": 32, "small": 33, "secret": 34, "echo": 35, "stage": 36, "bot": 15, "guest": 16, "none": 0}

func nameOf(id textchat.ID) string {
	for n, i := range ids {
		if i == id {
			return n
		}
	}
	return id.String()
}

func testGuild() *Guild {
	g := textchat.GuildRecord{Guild: textchat.Guild{ID: 1, Name: "test", Owner: ids["boss"]}}
	g.Roles = []textchat.Role{
		{ID: 1, Name: "@everyone", Permissions: textchat.DefaultPermissions},
		{ID: ids["mod"], Name: "mod", Position: 5, Permissions: textchat.MuteMembers | textchat.DeafenMembers | textchat.MoveMembers |
			textchat.KickMembers | textchat.ManageRoles | textchat.ManageNicknames | textchat.ManageChannels},
		{ID: ids["vip"], Name: "vip", Position: 2},
	}
	voice := func(name string) textchat.Channel {
		return textchat.Channel{ID: ids[name], Guild: 1, Name: name, Type: textchat.ChannelVoice, Overwrites: []textchat.Overwrite{}}
	}
	small, secret, echo := voice("small"), voice("secret"), voice("echo")
	small.UserLimit = 1
	secret.Overwrites = []textchat.Overwrite{{ID: 1, Deny: textchat.ViewChannel}, {ID: ids["vip"], Allow: textchat.ViewChannel}}
	echo.Echo = true
	stage := voice("stage")
	stage.Type = textchat.ChannelStage
	g.Channels = []textchat.Channel{{ID: ids["general"], Guild: 1, Name: "general"}, voice("lobby"), small, secret, echo, stage}
	for _, n := range []string{"boss", "ann", "bob"} {
		g.Members = append(g.Members, textchat.Member{User: textchat.User{ID: ids[n], Username: n}, Roles: []textchat.ID{}})
	}
	return New(g, textchat.OpenTimeout)
}

// TestTranscripts runs testdata/*.txt: lines "> input" and, below each, what
// came of it. Run with -update to write the latter.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			g, twin, now := testGuild(), testGuild(), time.Unix(1_800_000_000, 0)
			var got strings.Builder
			for line := range strings.Lines(string(b)) {
				line = strings.TrimRight(line, "\n")
				if !strings.HasPrefix(line, "> ") {
					if line == "" || strings.HasPrefix(line, "#") {
						fmt.Fprintln(&got, line)
					}
					continue
				}
				fmt.Fprintln(&got, line)
				words := strings.Fields(line[2:])
				switch words[0] {
				case "wait":
					d, err := time.ParseDuration(words[1])
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
					continue
				case "deadline":
					if at := g.Deadline(); at.IsZero() {
						fmt.Fprintln(&got, "    never")
					} else {
						fmt.Fprintf(&got, "    in %v\n", at.Sub(now))
					}
					continue
				case "reload": // as the store has it
					g, twin = New(*travelled(t, recordOf(g)), textchat.OpenTimeout), New(*travelled(t, recordOf(g)), textchat.OpenTimeout)
					continue
				case "revert":
					g.Revert()
					twin = New(textchat.GuildRecord{}, textchat.OpenTimeout)
					twin.Apply(travelled(t, all(g)))
					continue
				}
				in := travelled(t, parse(t, words))
				before := stateOf(t, g)
				g.Turned()
				twin.Turned()
				settings := settingsOf(t, g)
				var out Out
				g.Handle(now, in, &out)
				g.Revert()
				g.Turned()
				if after := stateOf(t, g); after != before {
					t.Fatalf("%s: taken back, what was\n%s\nis\n%s", line, before, after)
				}
				out = Out{}
				g.Handle(now, in, &out)
				twin.Apply(travelled(t, g.Delta()))
				mine, its := g.Turned(), twin.Turned()
				if changed := settingsOf(t, g) != settings; changed && (!mine || !its) {
					t.Fatalf("%s: permissions or settings are others, and noticed by the leader: %v, by the others: %v", line, mine, its)
				}
				for _, c := range out.Changes {
					if c.DropChannel != 0 {
						g.Forget(c.DropChannel)
						twin.Forget(c.DropChannel)
					}
				}
				if mine, its := stateOf(t, g), stateOf(t, twin); mine != its {
					t.Fatalf("%s: who applies the deltas has\n%s\nand not\n%s", line, its, mine)
				}
				got.WriteString(show(out))
			}
			if *update {
				if err := os.WriteFile(f, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != string(b) {
				t.Errorf("%s came out differently:\n%s", f, got.String())
			}
		})
	}
}

// recordOf is what the store has of a guild.
func recordOf(g *Guild) *textchat.GuildRecord {
	r := &textchat.GuildRecord{Guild: g.self, Banned: slices.Sorted(maps.Keys(g.banned))}
	for _, x := range g.roles {
		r.Roles = append(r.Roles, *x)
	}
	for _, x := range g.channels {
		r.Channels = append(r.Channels, *x)
	}
	r.Members = g.Members(0, len(g.members))
	return r
}

// settingsOf is what members may do in channels, and what channels are but for their
// newest messages.
func settingsOf(t *testing.T, g *Guild) string {
	t.Helper()
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(g.channels)) {
		c := *g.channels[id]
		c.LastMessage, c.MessageCount = nil, nil
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
		for _, user := range slices.Sorted(maps.Keys(g.members)) {
			may := g.Permissions(user, id)
			if g.Public(id) && !may.Has(textchat.ViewChannel) {
				t.Errorf("%d does not see %d, which is public", user, id)
			}
			fmt.Fprintf(&b, "%d: %d\n", user, may)
		}
	}
	return b.String()
}

// parse reads "verb key=value ...".
func parse(t *testing.T, words []string) Input {
	t.Helper()
	arg := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		arg[k] = v
	}
	id := func(k string) textchat.ID {
		v, ok := arg[k]
		if !ok {
			return 0
		}
		i, ok := ids[v]
		if !ok {
			t.Fatalf("who is %q", v)
		}
		return i
	}
	num := func(k string) uint64 {
		n, err := strconv.ParseUint(arg[k], 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		return n
	}
	flag := func(k string) *bool {
		v, ok := arg[k]
		if !ok {
			return nil
		}
		b := v == "yes"
		return &b
	}
	yes := func(k string) bool { return arg[k] == "yes" }
	switch words[0] {
	case "audited": // audited by=... verb ...
		return Audited{Input: parse(t, words[2:]), Actor: id("by"), IDs: [3]textchat.ID{901, 902, 903}}
	case "ban":
		return Ban{Actor: id("by"), User: textchat.User{ID: id("user")}}
	case "unban":
		return Unban{Actor: id("by"), User: textchat.User{ID: id("user")}}
	case "timeout":
		var until time.Time
		if n := arg["until"]; n != "" {
			until = time.Unix(int64(num("until")), 0)
		}
		return PatchMember{Actor: id("by"), User: id("user"), Timeout: &until}
	case "join":
		return Join{User: textchat.User{ID: id("user"), Username: arg["user"], Bot: yes("bot")}, Temporary: yes("temporary")}
	case "leave":
		return Leave{User: id("user"), Actor: id("by")}
	case "voice":
		return VoiceUpdate{User: id("user"), Session: arg["session"], Channel: id("channel"), Wishes: Wishes{SelfMute: yes("mute"), SelfDeaf: yes("deaf"), SelfVideo: yes("video")}, Anew: yes("anew"), Holds: sfu.SessionID(arg["holds"]), Region: arg["region"], Wait: yes("wait")}
	case "placed":
		a := allocator.Assignment{Session: sfu.SessionID(arg["call"]), Token: "T", Endpoints: []string{":1"}, Node: edgeagent.NodeID(arg["node"])}
		if arg["epoch"] != "" {
			a.Epoch = num("epoch")
		}
		return Placed{User: id("user"), Attempt: num("attempt"), Assignment: a}
	case "moved":
		return Moved{Channel: id("channel"), From: edgeagent.NodeID(arg["from"]), To: edgeagent.NodeID(arg["to"]), Epoch: num("epoch"),
			Cause: allocator.Cause(arg["cause"]), Planned: yes("planned")}
	case "mend":
		return Mend{Channel: id("channel"), User: id("user"), Session: sfu.SessionID(arg["call"])}
	case "failed":
		f := PlaceFailed{User: id("user"), Attempt: num("attempt"), Code: arg["code"], Message: "no"}
		if arg["every"] != "" {
			f.Full = &allocator.Full{SeatEvery: float64(num("every"))}
		}
		if arg["room"] != "" {
			f.Message = "full here, room 180 ms away"
			f.Full = &allocator.Full{Elsewhere: &allocator.Elsewhere{Node: edgeagent.NodeID(arg["room"]), Region: "far", RTT: 180}}
		}
		return f
	case "opened":
		return CallOpened{User: id("user"), Channel: id("channel"), Session: sfu.SessionID(arg["call"])}
	case "left":
		return CallLeft{User: id("user"), Channel: id("channel"), Session: sfu.SessionID(arg["call"]), Reason: arg["reason"]}
	case "came":
		return SessionCame{User: id("user"), Session: arg["session"]}
	case "gone":
		return SessionGone{User: id("user"), Session: arg["session"]}
	case "tick":
		return Tick{}
	case "patch":
		p := PatchMember{Actor: id("by"), User: id("user"), Mute: flag("mute"), Deaf: flag("deaf")}
		if _, ok := arg["channel"]; ok {
			c := id("channel")
			p.Channel = &c
		}
		if n, ok := arg["nick"]; ok {
			p.Nick = &n
		}
		if r, ok := arg["role"]; ok {
			list := []textchat.ID{}
			if r != "none" {
				list = append(list, id("role"))
			}
			p.Roles = &list
		}
		return p
	case "stage": // asks=UNIX, or asks= to ask no more
		p := PatchVoice{Actor: id("by"), User: id("user"), Channel: id("channel"), Suppress: flag("suppress")}
		if n, ok := arg["asks"]; ok {
			p.Request = new(time.Time)
			if n != "" {
				*p.Request = time.Unix(int64(num("asks")), 0)
			}
		}
		return p
	case "deny", "allow": // one overwrite of a channel for a role or member
		p := PutChannel{Actor: id("by"), Overwrites: true}
		o := textchat.Overwrite{ID: id("for"), Type: textchat.OverwriteRole}
		if o.ID >= 11 && o.ID <= 14 {
			o.Type = textchat.OverwriteMember
		}
		bit := map[string]textchat.Permissions{"speak": textchat.Speak, "connect": textchat.Connect, "view": textchat.ViewChannel, "ask": textchat.RequestToSpeak, "ban": textchat.BanMembers}[arg["what"]]
		if words[0] == "deny" {
			o.Deny = bit
		} else {
			o.Allow = bit
		}
		p.Channel = *testGuild().Channel(id("channel"))
		p.Channel.Overwrites = []textchat.Overwrite{o}
		return p
	case "dropchannel":
		return DropChannel{Actor: id("by"), Channel: id("channel")}
	case "droprole":
		return DropRole{Actor: id("by"), Role: id("role")}
	case "owner":
		return SetOwner{User: id("user")}
	}
	t.Fatalf("unknown input %q", words[0])
	return nil
}

func show(o Out) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	if o.Err != nil {
		line("refused %d: %s", o.Err.Code, o.Err.Message)
	}
	for _, c := range o.Changes {
		switch {
		case c.PutMember != nil:
			m := c.PutMember
			roles := ""
			for _, r := range m.Roles {
				roles += " " + nameOf(r)
			}
			more := ""
			if m.Temporary {
				more += " temporary"
			}
			if m.Visited {
				more += " visited"
			}
			line("save member %s mute=%v deaf=%v roles=[%s]%s", nameOf(m.User.ID), m.Mute, m.Deaf, strings.TrimSpace(roles), more)
		case c.DropMember != 0:
			line("save without member %s", nameOf(c.DropMember))
		case c.PutChannel != nil:
			line("save channel %s", nameOf(c.PutChannel.ID))
		case c.DropChannel != 0:
			line("save without channel %s", nameOf(c.DropChannel))
		case c.DropRole != 0:
			line("save without role %s", nameOf(c.DropRole))
		case c.PutGuild != nil:
			line("save guild owner=%s", nameOf(c.PutGuild.Owner))
		case c.PutBan != nil:
			line("save ban of %s", nameOf(c.PutBan.User.ID))
		case c.DropBan != 0:
			line("save without ban of %s", nameOf(c.DropBan))
		case c.PutAudit != nil:
			a := c.PutAudit
			var keys []string
			for _, x := range a.Changes {
				keys = append(keys, x.Key)
			}
			target := "-"
			if a.Target != nil {
				target = nameOf(*a.Target)
			}
			line("save entry %d: %s did %d to %s %v", a.ID, nameOf(a.User), a.Action, target, keys)
		default:
			line("save something else")
		}
	}
	for _, e := range o.Events {
		to := ""
		for _, f := range []struct {
			k string
			v textchat.ID
		}{{"user", e.User}, {"own", e.Own}, {"except", e.Except}, {"channel", e.Channel}, {"was", e.Was}} {
			if f.v != 0 {
				to += " " + f.k + ":" + nameOf(f.v)
			}
		}
		if e.Session != "" {
			to += " session:" + e.Session
		}
		if e.Hidden != nil {
			to += " hidden:" + data(e.Hidden)
		}
		if e.NeedAny != 0 {
			to += fmt.Sprintf(" need-any:%d", e.NeedAny)
		}
		line("%s %s ->%s", e.Name, data(e.Data), to)
	}
	if len(o.Parted) > 0 || len(o.Joined) > 0 {
		line("joined %d, parted %d", len(o.Joined), len(o.Parted))
	}
	for _, e := range o.Effects {
		switch {
		case e.Place != nil:
			r := e.Place.Request
			more := ""
			if e.Place.Move {
				more += " move"
			}
			if e.Place.Move && !r.Inside {
				more += " outside"
			}
			if len(r.Avoid) > 0 {
				more += fmt.Sprintf(" avoid=%v", r.Avoid)
			}
			if r.Mend != "" {
				more += fmt.Sprintf(" mend=%s/%s", r.Mend, string(r.MendWhy))
			}
			if r.Expected != 1 {
				more += fmt.Sprintf(" expected=%d", r.Expected)
			}
			if r.Region != "" {
				more += " region=" + r.Region
			}
			if r.Epoch != 0 {
				more += fmt.Sprintf(" epoch=%d", r.Epoch)
			}
			line("place attempt=%d user=%s call=%s session=%s speak=%v mute=%v deaf=%v echo=%v%s", e.Place.Attempt, nameOf(r.User.ID), nameOf(r.Call.ID), r.Session,
				r.Rights.Speak, r.Rights.Mute, r.Rights.Deaf, r.Echo, more)
		case e.Update != nil:
			held := ""
			if e.Update.Session != "" {
				held = " held=" + string(e.Update.Session)
			}
			line("update user=%s call=%s speak=%v mute=%v deaf=%v%s", nameOf(e.Update.User.ID), nameOf(e.Update.Call.ID), e.Update.Rights.Speak, e.Update.Rights.Mute, e.Update.Rights.Deaf, held)
		case e.Remove != nil:
			only := ""
			if e.Remove.Session != "" {
				only = " only=" + string(e.Remove.Session)
			}
			line("remove user=%s call=%s reason=%s%s", nameOf(e.Remove.User.ID), nameOf(e.Remove.Call.ID), e.Remove.Reason, only)
		}
	}
	return b.String()
}

func data(d any) string {
	switch v := d.(type) {
	case textchat.VoiceState:
		c := "-"
		if v.Channel != nil {
			c = nameOf(*v.Channel)
		}
		var on []string
		for k, set := range map[string]bool{"mute": v.Mute, "deaf": v.Deaf, "self_mute": v.SelfMute, "self_deaf": v.SelfDeaf, "self_video": v.SelfVideo, "suppress": v.Suppress} {
			if set {
				on = append(on, k)
			}
		}
		slices.Sort(on)
		if at := v.RequestToSpeak; at != nil {
			on = append(on, fmt.Sprint("asks since ", at.Unix()))
		}
		return fmt.Sprintf("{%s in %s by %q %v}", nameOf(v.User), c, v.Session, on)
	case VoiceServer:
		if v.Move != nil {
			return fmt.Sprintf("{%s %v move:%+v}", v.Token, v.Endpoints, *v.Move)
		}
		return fmt.Sprintf("{%s %v}", v.Token, v.Endpoints)
	case VoiceError:
		if v.Full != nil {
			return fmt.Sprintf("{%s %s} %q", nameOf(v.Channel), v.Code, v.Message)
		}
		return fmt.Sprintf("{%s %s}", nameOf(v.Channel), v.Code)
	}
	return ""
}

func TestSnapshotHidesWhatMayNotBeSeen(t *testing.T) {
	g := testGuild()
	var out Out
	now := time.Unix(1_800_000_000, 0)
	g.Handle(now, VoiceUpdate{User: ids["boss"], Session: "s", Channel: ids["secret"]}, &out)
	g.Handle(now, Placed{User: ids["boss"], Attempt: 1, Assignment: allocator.Assignment{Session: "c"}}, &out)
	ann, boss := g.Snapshot(ids["ann"], 50), g.Snapshot(ids["boss"], 50)
	if len(ann.VoiceStates) != 0 || slices.ContainsFunc(ann.Channels, func(c textchat.Channel) bool { return c.ID == ids["secret"] }) {
		t.Errorf("ann sees %v and %d channels", ann.VoiceStates, len(ann.Channels))
	}
	if len(boss.VoiceStates) != 1 || len(boss.Channels) != 6 || len(boss.Members) != 3 {
		t.Errorf("boss sees %d states, %d channels, %d members", len(boss.VoiceStates), len(boss.Channels), len(boss.Members))
	}
	if large := g.Snapshot(ids["ann"], 2); !large.Large || len(large.Members) != 1 {
		t.Errorf("a large guild lists %d members", len(large.Members))
	}
}

// TestTurned: a message turns nothing, whoever applies it.
func TestTurned(t *testing.T) {
	g, twin := testGuild(), testGuild()
	for i, c := range []struct {
		in   Input
		want bool
	}{
		{Typing{User: ids["ann"], Channel: ids["general"]}, true}, // it is new
		{Posted{Message: textchat.Message{ID: 100, Channel: ids["general"], Author: textchat.User{ID: ids["ann"]}}}, false},
		{Typing{User: ids["ann"], Channel: ids["general"]}, false},
		{PutRole{Actor: ids["boss"], Role: textchat.Role{ID: ids["vip"], Name: "vip", Permissions: textchat.Speak}}, true},
		{Posted{Message: textchat.Message{ID: 101, Channel: ids["general"], Author: textchat.User{ID: ids["ann"]}}}, false},
		{Leave{User: ids["bob"]}, true},
	} {
		var out Out
		g.Handle(time.Unix(1_800_000_000, 0), c.in, &out)
		twin.Apply(travelled(t, g.Delta()))
		if mine, its := g.Turned(), twin.Turned(); mine != c.want || its != c.want || out.Err != nil {
			t.Errorf("%d: %v and %v, want %v; %v", i, mine, its, c.want, out.Err)
		}
	}
}
