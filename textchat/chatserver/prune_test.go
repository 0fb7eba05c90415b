package chatserver

import (
	"testing"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// TestPruneCount holds that members are counted of whom it is known that they are away: not
// the owner, not who has a role that was not named, who is online, who was lately, or who
// joined lately; and nobody whom this server could not see for so long.
func TestPruneCount(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil, nil)
	boss := w.boss()
	guildPath := "/guilds/" + w.guildID()
	w.guest("Away")
	online, went, came, crew := w.guest("Online"), w.guest("Went"), w.guest("Came"), w.guest("Crew")
	role := w.do("POST", guildPath+"/roles", boss.token, map[string]any{"name": "crew"}).body["id"].(string)
	w.do("PUT", guildPath+"/members/"+crew.id+"/roles/"+role, boss.token, nil)
	w.enter(online)
	w.enter(went).ws.WriteClose(1000, nil)

	o, err := w.srv.owner(w.first.Guild)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "who went is seen no more", func() bool {
		gone := false
		err := o.ask(t.Context(), func() error { gone = len(o.seen) == 1 && len(o.absence.went) == 1; return nil })
		return err == nil && gone
	})
	ago := func(days int) time.Time { return time.Now().AddDate(0, 0, -days).Add(-time.Minute) }
	// As if all had joined ten days ago but one, and the guild been loaded since then.
	if err := o.ask(t.Context(), func() error {
		o.absence.watched = ago(10)
		for _, id := range o.core.MemberIDs() {
			if id.String() != came.id {
				o.core.Member(id).JoinedAt = textchat.Time{Time: ago(10)}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	count := func(query string, want int) {
		t.Helper()
		if a := w.do("GET", guildPath+"/prune"+query, boss.token, nil); a.body["pruned"] != float64(want) {
			t.Errorf("prune%s: %s, want %d", query, a.raw, want)
		}
	}
	count("", 1)
	count("?days=10", 1)
	count("?days=11", 0)
	count("?days=7&include_roles="+role, 2)
	if err := o.ask(t.Context(), func() error {
		for id := range o.absence.went {
			o.absence.went[id] = ago(8)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	count("?days=7", 2)
	count("?days=9", 1)
	for _, query := range []string{"?days=0", "?days=31", "?days=x", "?include_roles=x", "?include_roles=" + role + ","} {
		if a := w.try("GET", guildPath+"/prune"+query, boss.token, nil); a.status != 400 {
			t.Errorf("prune%s: %d %s", query, a.status, a.raw)
		}
	}
	// Who leaves is nobody that went.
	w.do("DELETE", guildPath+"/members/"+went.id, boss.token, nil)
	if n, err := read(t.Context(), o, func(*guild.Guild) (int, error) { return len(o.absence.went), nil }); err != nil || n != 0 {
		t.Errorf("%d who left are remembered, %v", n, err)
	}
}
