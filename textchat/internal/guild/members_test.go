package guild

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
)

// matches is Search as it is defined: a look at all.
func matches(g *Guild, beginning string, limit int) (ids []textchat.ID) {
	var names []name
	for _, m := range g.members {
		names = appendNames(names, m)
	}
	slices.SortFunc(names, name.compare)
	for _, n := range names {
		if strings.HasPrefix(n.folded, strings.ToLower(beginning)) && !slices.Contains(ids, n.user) && len(ids) < limit {
			ids = append(ids, n.user)
		}
	}
	return ids
}

func idsOf(list []textchat.Member) (ids []textchat.ID) {
	for _, m := range list {
		ids = append(ids, m.User.ID)
	}
	return ids
}

// TestRoll holds pages and searches to a look at all members, while members come, go, get
// other names, and what was done is taken back, at who decides and at who applies it.
func TestRoll(t *testing.T) {
	g, twin := testGuild(), testGuild()
	draw := rand.New(rand.NewPCG(3, 4))
	now := time.Unix(1_800_000_000, 0)
	call := func() string {
		return strings.Repeat(string("aAbB"[draw.IntN(4)]), 1+draw.IntN(2)) + fmt.Sprint(draw.IntN(30))
	}
	optional := func() *string {
		n := call()
		return []*string{nil, &n}[draw.IntN(2)]
	}
	for step := range 4000 {
		user := textchat.User{ID: textchat.ID(100 + draw.IntN(300)), Username: call(), GlobalName: optional(), Bot: draw.IntN(5) == 0}
		if m := g.Member(user.ID); m != nil {
			user.Bot = m.User.Bot
		}
		var in Input
		switch nick := call(); draw.IntN(5) {
		case 0, 1:
			in = Join{User: user, Nick: optional()}
		case 2:
			in = UserChanged{User: user}
		case 3:
			in = PatchMember{Actor: ids["boss"], User: user.ID, Nick: &nick}
		default:
			in = Leave{User: user.ID}
		}
		var out Out
		g.Handle(now, in, &out)
		if draw.IntN(4) == 0 {
			g.Revert()
		} else {
			twin.Apply(travelled(t, g.Delta()))
		}
		if step%20 != 0 {
			continue
		}
		for _, g := range []*Guild{g, twin} {
			all := slices.Sorted(maps.Keys(g.members))
			bots := 0
			for _, m := range g.members {
				if m.User.Bot {
					bots++
				}
			}
			if !slices.Equal(g.MemberIDs(), all) || g.BotCount() != bots {
				t.Fatalf("step %d: %d members and %d bots are on the roll, not %d and %d", step, len(g.MemberIDs()), g.BotCount(), len(all), bots)
			}
			after, limit := textchat.ID(90+draw.IntN(320)), draw.IntN(20)
			i, _ := slices.BinarySearch(all, after+1)
			if got := idsOf(g.Members(after, limit)); !slices.Equal(got, all[i:min(len(all), i+limit)]) {
				t.Fatalf("step %d: %d after %d are %v", step, limit, after, got)
			}
			for _, beginning := range []string{call(), "a", "B", "z"} {
				if got, want := idsOf(g.Search(beginning, limit)), matches(g, beginning, limit); !slices.Equal(got, want) {
					t.Fatalf("step %d: %q finds %v, want %v", step, beginning, got, want)
				}
			}
		}
	}
}

// huge is a guild as large as may be, with three names for each member.
func huge(n int) *Guild {
	r := textchat.GuildRecord{Guild: textchat.Guild{ID: 1, Name: "huge", Owner: 1000}}
	r.Members = make([]textchat.Member, n)
	for i := range r.Members {
		nick, global := fmt.Sprintf("Nick %06d", (i*7919)%n), fmt.Sprintf("Name %06d", (i*104729)%n)
		r.Members[i] = textchat.Member{User: textchat.User{ID: textchat.ID(1000 + i), Username: fmt.Sprintf("user%06d", i), GlobalName: &global}, Nick: &nick, Roles: []textchat.ID{}}
	}
	return New(r, 0)
}

// TestHugeGuildIsNotWalked holds that a page or a search of 200,000 members looks at those
// it lists, and at no more names than these have.
func TestHugeGuildIsNotWalked(t *testing.T) {
	g := huge(textchat.MaxMembers)
	seen := 0
	counted := func(names iter.Seq[name]) iter.Seq[name] {
		return func(yield func(name) bool) {
			for n := range names {
				if seen++; !yield(n) {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		beginning   string
		limit, want int
	}{{"user1", 10, 10}, {"nick 1999", 100, 100}, {"user000007", 100, 1}, {"name 19999", 100, 10}, {"nobody", 100, 0}, {"zz", 100, 0}} {
		seen = 0
		if got := having(c.beginning, c.limit, counted(g.roll.names.From(name{folded: c.beginning}))); len(got) != c.want || seen > c.want+1 {
			t.Errorf("%q finds %d of %d, looking at %d names", c.beginning, len(got), c.want, seen)
		}
		// And what is looked at elsewhere shows in what is allocated: a copy of the ids alone
		// would be 1.6 MB.
		if n := testing.AllocsPerRun(3, func() { g.Search(c.beginning, c.limit) }); n > 40 {
			t.Errorf("%q allocates %v times", c.beginning, n)
		}
	}
	if n := testing.AllocsPerRun(3, func() { g.Members(100_000, 1) }); n > 5 {
		t.Errorf("a page of one allocates %v times", n)
	}
	var out Out
	if n := testing.AllocsPerRun(3, func() {
		g.Handle(time.Unix(1, 0), UserChanged{User: textchat.User{ID: 1500, Username: "another"}}, &out)
	}); n > 40 {
		t.Errorf("another name allocates %v times", n)
	}
}

// BenchmarkMembers sets pages and searches by the roll beside those by a look at all.
func BenchmarkMembers(b *testing.B) {
	g := huge(textchat.MaxMembers)
	all := g.Members(0, textchat.MaxMembers)
	for name, do := range map[string]func(){
		"page of 1/roll": func() { g.Members(100_000, 1) },
		"page of 1/all": func() {
			ids := slices.Sorted(maps.Keys(g.members))
			i, _ := slices.BinarySearch(ids, 100_001)
			_ = *g.members[ids[i]]
		},
		"search/roll": func() { g.Search("name 19", 100) },
		"search/all": func() {
			found := 0
			for _, m := range g.Members(0, textchat.MaxMembers) {
				if slices.ContainsFunc(appendNames(nil, &m), func(n name) bool { return strings.HasPrefix(n.folded, "name 19") }) {
					if found++; found == 100 {
						break
					}
				}
			}
		},
		"another name": func() {
			var out Out
			n := fmt.Sprint(cmp.Or(b.N, 1))
			g.Handle(time.Unix(1, 0), UserChanged{User: textchat.User{ID: 1500, Username: n}}, &out)
		},
		"ids of all":  func() { g.MemberIDs() },
		"roll of all": func() { newRoll(all) }, // when the guild is loaded
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}
