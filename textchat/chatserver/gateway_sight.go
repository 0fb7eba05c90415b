package chatserver

import (
	"cmp"
	"slices"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// knows says whether a user was told of a channel.
func (o *owner) knows(user, channel textchat.ID) bool {
	_, ok := slices.BinarySearch(o.sights[user], channel)
	return ok
}

// see notes what a user sees from now on.
func (o *owner) see(user textchat.ID) []textchat.ID {
	if o.sight == nil {
		o.sight = o.core.Sight()
	}
	ids := o.sight.Of(user)
	o.sights[user] = ids
	return ids
}

// review tells sessions of channels that came into sight or went out of it with
// these changes: to who sees it anew a channel is made, to who sees it no more it
// is deleted. Channels that really were made or deleted have had their events.
func (o *owner) review(changes []textchat.Change, events []guild.Event) {
	var users []textchat.ID
	all := false
	for _, c := range changes {
		switch {
		case c.PutChannel != nil && c.PutChannel.Type.Thread(): // is seen with its channel
		case c.PutGuild != nil, c.PutRole != nil, c.DropRole != 0, c.PutChannel != nil, c.DropChannel != 0:
			all = true
		case c.PutMember != nil:
			users = append(users, c.PutMember.User.ID)
		}
	}
	if all {
		o.sight = nil
		users = users[:0]
		for u := range o.sights {
			users = append(users, u)
		}
	}
	var told []textchat.ID
	for _, e := range events {
		if e.Name == textchat.EventChannelCreate || e.Name == textchat.EventChannelDelete {
			told = append(told, e.Channel)
		}
	}
	type change struct{ came, went []textchat.ID }
	changed := make(map[textchat.ID]change)
	for _, u := range users {
		before, ok := o.sights[u]
		if !ok {
			continue // no session of it listens
		}
		var c change
		c.came, c.went = difference(before, o.see(u), told)
		if c.came != nil || c.went != nil {
			changed[u] = c
		}
	}
	if len(changed) == 0 {
		return
	}
	news := make(map[textchat.ID][]*gatewaysession.Event) // the channel, then who talks there
	gone := make(map[textchat.ID]*gatewaysession.Event)
	for _, c := range changed { // what is given out has its position before it is
		for _, id := range c.went {
			if gone[id] == nil {
				gone[id] = o.place(o.channelGone(id))
			}
		}
	}
	for _, c := range changed {
		for _, id := range c.came {
			if news[id] == nil {
				news[id] = o.channelCame(id)
				for _, e := range news[id] {
					o.place(e)
				}
			}
		}
	}
	for s := range o.subs.all() {
		if s.intents&textchat.IntentGuilds == 0 {
			continue
		}
		var list []*gatewaysession.Event
		for _, id := range changed[s.user].went {
			list = append(list, gone[id])
		}
		for _, id := range changed[s.user].came {
			for i, e := range news[id] {
				if i == 0 || e.Name == textchat.EventThreadListSync || s.intents&textchat.IntentVoiceStates != 0 {
					list = append(list, e)
				}
			}
		}
		slices.SortStableFunc(list, func(a, b *gatewaysession.Event) int { return cmp.Compare(a.At, b.At) })
		for _, e := range list {
			s.deliver(e)
		}
	}
}

func (o *owner) channelCame(id textchat.ID) []*gatewaysession.Event {
	list := []*gatewaysession.Event{{Name: textchat.EventChannelCreate, Body: encode(o.core.Channel(id))}}
	if threads := o.core.Threads(0, id); len(threads) > 0 {
		list = append(list, &gatewaysession.Event{Name: textchat.EventThreadListSync, Body: encode(threadSync{o.id, []textchat.ID{id}, threads, []textchat.ThreadMember{}})})
	}
	for _, v := range o.core.VoiceIn(id) {
		list = append(list, &gatewaysession.Event{Name: textchat.EventVoiceStateUpdate, Body: encode(v)})
	}
	return list
}

// threadSync is the body of THREAD_LIST_SYNC: the active threads of channels that
// came into sight.
type threadSync struct {
	Guild    textchat.ID             `json:"guild_id"`
	Channels []textchat.ID           `json:"channel_ids"`
	Threads  []textchat.Channel      `json:"threads"`
	Members  []textchat.ThreadMember `json:"members"`
}

// channelGone says no more of a channel than what its viewers may still know.
func (o *owner) channelGone(id textchat.ID) *gatewaysession.Event {
	body := struct {
		ID    textchat.ID          `json:"id"`
		Guild textchat.ID          `json:"guild_id"`
		Type  textchat.ChannelType `json:"type"`
	}{ID: id, Guild: o.id}
	if c := o.core.Channel(id); c != nil {
		body.Type = c.Type
	}
	return &gatewaysession.Event{Name: textchat.EventChannelDelete, Body: encode(body)}
}

// difference is what sorted lists differ in, but for some.
func difference(before, now, but []textchat.ID) (came, went []textchat.ID) {
	for i, j := 0, 0; i < len(before) || j < len(now); {
		switch {
		case j == len(now) || i < len(before) && before[i] < now[j]:
			if !slices.Contains(but, before[i]) {
				went = append(went, before[i])
			}
			i++
		case i == len(before) || now[j] < before[i]:
			if !slices.Contains(but, now[j]) {
				came = append(came, now[j])
			}
			j++
		default:
			i, j = i+1, j+1
		}
	}
	return came, went
}
