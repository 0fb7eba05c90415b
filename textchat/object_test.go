package textchat

import (
	"testing"
	"time"
)

// TestInviteLive: an invite ends when its age or its uses do, whichever is first; zero is
// no end.
func TestInviteLive(t *testing.T) {
	made := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		age, most, uses int
		after           time.Duration
		live            bool
	}{
		{0, 0, 0, 0, true}, {0, 0, 1 << 20, 100 * 365 * 24 * time.Hour, true},
		{60, 0, 0, 60*time.Second - 1, true}, {60, 0, 0, 60 * time.Second, false}, {60, 0, 7, 61 * time.Second, false},
		{604800, 0, 0, 7*24*time.Hour - 1, true}, {604800, 0, 0, 7 * 24 * time.Hour, false},
		{0, 2, 1, time.Hour, true}, {0, 2, 2, 0, false}, {0, 2, 3, 0, false},
		{60, 2, 1, 59 * time.Second, true}, {60, 2, 1, 60 * time.Second, false}, {60, 2, 2, 0, false},
	} {
		i := Invite{MaxAge: c.age, MaxUses: c.most, Uses: c.uses, CreatedAt: Time{made}}
		if i.Live(made.Add(c.after)) != c.live {
			t.Errorf("%+v: live is %v", c, !c.live)
		}
		if end := i.Expires(); end.IsZero() != (c.age == 0) || c.age > 0 && !end.Equal(made.Add(time.Duration(c.age)*time.Second)) {
			t.Errorf("%+v: ends at %v", c, end)
		}
	}
}
