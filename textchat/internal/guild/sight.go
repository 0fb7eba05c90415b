package guild

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"voicefleet/textchat"
)

// Sight tells who sees which channels. It is good until the guild changes.
// Members with the same roles see the same, unless a channel has an overwrite for
// one of them: so the answer for a guild of thousands is found for a few dozen.
type Sight struct {
	guild *Guild
	own   map[textchat.ID]bool // have an overwrite of their own
	known map[string][]textchat.ID
}

// Sight begins to look.
func (g *Guild) Sight() *Sight {
	s := &Sight{guild: g, own: make(map[textchat.ID]bool), known: make(map[string][]textchat.ID)}
	for _, c := range g.channels {
		for _, o := range c.Overwrites {
			if o.Type == textchat.OverwriteMember {
				s.own[o.ID] = true
			}
		}
	}
	return s
}

// Of are the ids of the channels, without threads, that a user sees, sorted. They are shared: do not
// change them.
func (s *Sight) Of(user textchat.ID) []textchat.ID {
	m := s.guild.members[user]
	if m == nil {
		return nil
	}
	if s.own[user] || user == s.guild.self.Owner {
		return s.look(user)
	}
	roles := slices.Sorted(slices.Values(m.Roles))
	var b strings.Builder
	for _, r := range roles {
		b.WriteString(strconv.FormatUint(uint64(r), 36))
		b.WriteByte(' ')
	}
	key := b.String()
	ids, ok := s.known[key]
	if !ok {
		ids = s.look(user)
		s.known[key] = ids
	}
	return ids
}

func (s *Sight) look(user textchat.ID) []textchat.ID {
	var ids []textchat.ID
	for id, c := range s.guild.channels {
		if !c.Type.Thread() && s.guild.Permissions(user, id).Has(textchat.ViewChannel) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// VoiceIn are the voice states in a channel, by user.
func (g *Guild) VoiceIn(channel textchat.ID) []textchat.VoiceState {
	var list []textchat.VoiceState
	for user, v := range g.voice {
		if v.Channel == channel {
			list = append(list, g.voiceState(user))
		}
	}
	slices.SortFunc(list, func(a, b textchat.VoiceState) int { return cmp.Compare(a.User, b.User) })
	return list
}
