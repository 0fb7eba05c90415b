package chatserver

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// absence is since when members of a guild are away, as far as this instance saw them go:
// it is kept nowhere else.
type absence struct {
	watched time.Time                 // since when they are seen; zero while the guild is not loaded
	went    map[textchat.ID]time.Time // of members who were online since then, and are not
}

// away says whether a user, who is not online, was not at a time nor since: false if that
// is not known.
func (a *absence) away(user textchat.ID, since time.Time) bool {
	return a.watched.Before(since) && a.went[user].Before(since)
}

// pruneCount counts who was away for so many days and has no role, or none but those that
// are named. It looks at every member.
func (c *call) pruneCount() (int, any, error) {
	o, err := c.may(textchat.ManageGuild | textchat.KickMembers)
	if err != nil {
		return 0, nil, err
	}
	days, err := c.queryInt("days", 7, 1, 30)
	if err != nil {
		return 0, nil, err
	}
	var included []textchat.ID
	if list := c.r.URL.Query().Get("include_roles"); list != "" {
		for v := range strings.SplitSeq(list, ",") {
			id, err := snowflake.Parse(v)
			if err != nil {
				return 0, nil, textchat.InvalidField("include_roles", "NUMBER_TYPE_COERCE", "Value is not a snowflake.")
			}
			included = append(included, id)
		}
	}
	since := c.now.AddDate(0, 0, -days)
	n, err := read(c.ctx, o, func(g *guild.Guild) (int, error) {
		owner := g.Self().Owner
		return g.CountMembers(func(m *textchat.Member) bool {
			return m.User.ID != owner && m.JoinedAt.Before(since) && o.seen[m.User.ID] == nil && o.absence.away(m.User.ID, since) &&
				!slices.ContainsFunc(m.Roles, func(r textchat.ID) bool { return !slices.Contains(included, r) })
		}), nil
	})
	return http.StatusOK, map[string]any{"pruned": n}, err
}
