package custody

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/sfu"
)

// kept is what the agent leaves with a session in the engine, for the agent after
// it: what the engine itself has no use for.
type kept struct {
	Guild   string    `json:"guild"`
	Epoch   uint64    `json:"epoch"`
	Gateway string    `json:"gateway"`
	Opened  time.Time `json:"opened"`
	Token   []byte    `json:"token"`
}

func (s *session) keep() []byte {
	r := s.record
	b, err := json.Marshal(kept{Guild: r.Guild, Epoch: r.Epoch, Gateway: r.Gateway, Opened: r.Opened, Token: s.token[:]})
	if err != nil || len(b) > sfu.MaxKeep {
		return nil // then it ends with this agent
	}
	return b
}

// EngineFound begins with an engine that an agent before this one left at work.
func (c *Core) EngineFound(now time.Time, out []Out) []Out {
	c.engine, c.lastHeard, c.lostAt = engineStarting, now, now
	return c.send(pending{kind: kindAdopt, asked: now}, sfu.Command{Adopt: &sfu.Adopt{Advertise: c.advertise, TCP: c.cfg.TCP, ProbeKey: c.probeKey}}, out)
}

// held takes a session over. Nobody is told: for everybody else it was never gone.
func (c *Core) held(now time.Time, h *sfu.Held) {
	var k kept
	o := h.Open
	if c.engine != engineStarting || c.sessions[o.Session] != nil {
		return
	}
	if json.Unmarshal(o.Keep, &k) != nil || len(k.Token) != len(Token{}) {
		c.strays = append(c.strays, o.Session)
		return
	}
	s := &session{
		token: Token(k.Token), ufrag: h.Ufrag, speaking: h.Speaking, seats: make(map[int]edgeagent.Seat), views: make(map[int]edgeagent.View),
		record: edgeagent.Record{
			Session: o.Session, Node: c.cfg.Node, Guild: k.Guild, Call: o.Call, Epoch: k.Epoch, User: o.User, Gateway: k.Gateway,
			Rights: o.Rights, SSRC: h.SSRC, Addrs: c.advertise, Port: h.Port, Opened: k.Opened,
			Negotiated: h.Negotiated, Connected: h.Connected,
		},
	}
	if h.SelfDeaf {
		s.selfDeaf = &h.SelfDeaf
	}
	if len(h.Muted) > 0 {
		s.muted = &h.Muted
	}
	for _, p := range h.Seats {
		s.seats[p.Slot] = edgeagent.Seat{Slot: p.Slot, MID: p.MID, User: p.User, SSRC: p.SSRC}
	}
	for _, v := range h.Views {
		s.views[v.View] = edgeagent.View{View: v.View, MID: v.MID, User: v.User, SSRC: v.SSRC}
	}
	at := seat{o.Call, o.User}
	if other := c.users[at]; other != nil { // one was about to supersede the other
		if other.record.Opened.After(k.Opened) {
			c.strays = append(c.strays, o.Session)
			return
		}
		c.strays = append(c.strays, other.record.Session)
		c.drop(now, other)
	}
	known := c.calls[o.Call]
	if known == nil {
		known = &call{emptied: now}
		c.calls[o.Call] = known
	}
	known.epoch = max(known.epoch, k.Epoch)
	c.epoch = max(c.epoch, k.Epoch)
	known.members = append(known.members, s)
	c.sessions[o.Session], c.users[at], c.tokens[s.token] = s, s, s
	c.used.add(now, o.Session)
}

// adopted begins the work with an engine that has told what it holds.
func (c *Core) adopted(now time.Time, ev sfu.Event, out []Out) []Out {
	switch {
	case ev.Err != nil:
		return append(out, Out{Bad: fmt.Errorf("adopt media engine: %w", ev.Err)})
	case ev.Adopted == nil:
		return append(out, Out{Bad: fmt.Errorf("adopt media engine: it does not say that it is")})
	}
	c.engine, c.known, c.ports = engineUp, true, ev.Adopted.Ports
	c.recall(ev.Adopted.Remembered)
	if ev.Adopted.ProbeKey.Valid() {
		c.probeKey = ev.Adopted.ProbeKey
	}
	for _, k := range c.calls {
		slices.SortFunc(k.members, func(a, b *session) int { return a.record.Opened.Compare(b.record.Opened) })
	}
	for _, s := range c.inOrder() {
		out = append(out, s.door())
	}
	for _, e := range ev.Adopted.Ended {
		c.used.add(now, e.Session)
		if e.Unheard {
			out = c.event(e.Call, edgeagent.CallEvent{Left: &edgeagent.Left{Session: e.Session, User: e.User, Reason: string(e.Reason)}}, out)
		}
	}
	for _, id := range c.strays {
		out = c.send(pending{kind: kindClose, asked: now, session: id}, sfu.Command{Close: &sfu.Close{Session: id}}, out)
	}
	c.strays = nil
	return c.resumeRelays(now, out)
}
