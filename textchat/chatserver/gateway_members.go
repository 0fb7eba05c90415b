package chatserver

import (
	"context"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
)

// guild is the owner of a guild that the session listens to, or nil.
func (s *session) guild(id textchat.ID) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.guilds {
		if o.id == id {
			return o
		}
	}
	return nil
}

const (
	chunkSize  = 1000
	queryMost  = 100
	fullPeriod = 30 * time.Second // how often all members of one guild may be asked for
)

// members answers op 8 by GUILD_MEMBERS_CHUNK events.
func (c *conn) members(now time.Time, in gatewaysession.MembersRequest) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	o := s.guild(in.Guild)
	if o == nil {
		return
	}
	all := len(in.Users) == 0 && in.Limit == 0 && (in.Query == nil || *in.Query == "")
	if all {
		if wait := s.askAll(now, in.Guild); wait > 0 {
			meta := map[string]any{"guild_id": in.Guild}
			if in.Nonce != "" {
				meta["nonce"] = in.Nonce
			}
			s.deliver(&gatewaysession.Event{Name: textchat.EventRateLimited, Body: encode(map[string]any{
				"opcode": textchat.OpRequestGuildMembers, "retry_after": wait.Seconds(), "meta": meta})})
			return
		}
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	a := new(chunks) // not a local of ours: we may stop waiting first
	err := o.ask(ctx, func() error {
		if o.subs.of(s) == nil {
			return textchat.ErrUnknownGuild // it left meanwhile
		}
		*a = o.find(in, all, s.intents)
		return nil
	})
	if err != nil {
		return
	}
	s.send(o, a, in)
}

// send delivers an answer. What is more than one chunk does not come by the
// caller, a reader that has heartbeats to take, and no faster than the client
// reads: all members of a guild at once would push each other out of the replay. Nor
// are they copied at once: the guild has others to serve meanwhile.
func (s *session) send(o *owner, a *chunks, in gatewaysession.MembersRequest) {
	if len(a.all) == 0 {
		s.deliver(a.event(in, 0, 1))
		return
	}
	srv, count := o.srv, (len(a.all)+chunkSize-1)/chunkSize
	srv.task(func() {
		for i := range count {
			part, err := s.part(o, in, a.all[i*chunkSize:min(len(a.all), (i+1)*chunkSize)])
			if err != nil {
				return // the guild, or the server, is going away
			}
			s.deliver(part.event(in, i, count))
			calm, ok := s.settled()
			if !ok {
				return
			}
			select {
			case <-calm:
			case <-srv.life.Done():
				return
			}
		}
	})
}

// part is one chunk of all members: those of ids who still are.
func (s *session) part(o *owner, in gatewaysession.MembersRequest, ids []textchat.ID) (*chunks, error) {
	ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
	defer cancel()
	a := new(chunks)
	err := o.ask(ctx, func() error {
		if o.subs.of(s) == nil {
			return textchat.ErrUnknownGuild
		}
		*a = o.find(gatewaysession.MembersRequest{Users: ids, Presences: in.Presences}, false, s.intents)
		a.missing = nil // who left meanwhile was not asked for
		return nil
	})
	return a, err
}

// askAll counts a request for all members of a guild, and says how long it must
// wait.
func (s *session) askAll(now time.Time, guild textchat.ID) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.asked[guild]; ok && now.Sub(last) < fullPeriod {
		return fullPeriod - now.Sub(last)
	}
	if s.asked == nil {
		s.asked = make(map[textchat.ID]time.Time)
	}
	s.asked[guild] = now // at most one entry for each guild of the session
	return 0
}

// chunks is the answer to an op 8.
type chunks struct {
	all       []textchat.ID // more than one chunk of them, each to be looked up at its turn
	members   []textchat.Member
	presences map[textchat.ID]presenceBody // nil: not asked for
	missing   []textchat.ID
}

// find looks members up. All of them need an intent, and so do presences.
func (o *owner) find(in gatewaysession.MembersRequest, all bool, intents textchat.Intents) (a chunks) {
	switch {
	case len(in.Users) > 0:
		for _, id := range in.Users {
			if m := o.core.Member(id); m != nil {
				a.members = append(a.members, *m)
			} else {
				a.missing = append(a.missing, id)
			}
		}
	case all && intents&textchat.IntentGuildMembers == 0:
	case all && o.core.MemberCount() > chunkSize:
		a.all = o.core.MemberIDs()
	case all:
		a.members = o.core.Members(0, chunkSize)
	default:
		limit := queryMost
		if in.Limit > 0 {
			limit = min(limit, in.Limit)
		}
		query := ""
		if in.Query != nil {
			query = *in.Query
		}
		a.members = o.core.Search(query, limit)
	}
	if in.Presences && intents&textchat.IntentPresences != 0 {
		a.presences = make(map[textchat.ID]presenceBody)
		for _, p := range o.presences(0, a.members) {
			a.presences[p.User.ID] = p
		}
	}
	return a
}

// event is chunk i of count.
func (a *chunks) event(in gatewaysession.MembersRequest, i, count int) *gatewaysession.Event {
	body := struct {
		Guild     textchat.ID       `json:"guild_id"`
		Members   []textchat.Member `json:"members"`
		Index     int               `json:"chunk_index"`
		Count     int               `json:"chunk_count"`
		Missing   []textchat.ID     `json:"not_found,omitempty"`
		Presences *[]presenceBody   `json:"presences,omitempty"`
		Nonce     string            `json:"nonce,omitempty"`
	}{Guild: in.Guild, Members: append([]textchat.Member{}, a.members...), Index: i, Count: count, Missing: a.missing, Nonce: in.Nonce}
	if a.presences != nil {
		list := []presenceBody{}
		for _, m := range a.members {
			if p, ok := a.presences[m.User.ID]; ok {
				list = append(list, p)
			}
		}
		body.Presences = &list
	}
	return &gatewaysession.Event{Name: textchat.EventMembersChunk, Body: encode(body)}
}

// empty answers what asks for things that no guild here has.
func (c *conn) empty(in gatewaysession.EmptyRequest) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	name, list := textchat.EventSoundboardSounds, "soundboard_sounds"
	if in.Op == gatewaysession.OpChannelInfo {
		name, list = textchat.EventChannelInfo, "channels"
	}
	for _, id := range in.Guilds {
		if s.guild(id) != nil {
			s.deliver(&gatewaysession.Event{Name: name, Body: encode(map[string]any{"guild_id": id, list: []string{}})})
		}
	}
}
