package chatserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"voicefleet/sfu"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/token"
)

// authenticate finds the user of a token.
func (s *Server) authenticate(ctx context.Context, t string) (textchat.User, textchat.TokenHash, error) {
	claimed, hash, ok := token.Read(t)
	if !ok {
		return textchat.User{}, hash, textchat.ErrUnauthorized
	}
	u, err := s.store.TokenUser(ctx, hash)
	if errors.Is(err, textchat.ErrNoRecord) || err == nil && u.ID != claimed {
		err = textchat.ErrUnauthorized
	}
	return u, hash, err
}

// name makes the id of a session. With several instances it says what the session is,
// to who may open it.
func (s *Server) name(x *session) {
	e := s.ensemble
	if e == nil {
		var id [16]byte
		rand.Read(id[:])
		x.id = hex.EncodeToString(id[:])
		return
	}
	e.order.mu.Lock()
	x.base = int64(e.order.p)
	e.order.mu.Unlock()
	x.id = e.seal(sealed{x.user, x.intents, x.large, x.shard, x.compress, x.passive, x.version, x.base})
}

func (c *conn) authenticate(t string) (textchat.User, textchat.TokenHash, error) {
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	return c.srv.authenticate(ctx, t)
}

// mayAsk says whether an account may have these intents. People's own clients
// may: they see in them what the account may see anyway.
func (s *Server) mayAsk(u textchat.User, in textchat.Intents) bool {
	return !u.Bot || in&s.cfg.WithheldIntents == 0
}

// applicationFlags tell a bot which privileged intents it may ask for (bits 12,
// 14 and 18 of the public list).
func (s *Server) applicationFlags() int {
	flags := 0
	for intent, bit := range map[textchat.Intents]int{textchat.IntentPresences: 12, textchat.IntentGuildMembers: 14, textchat.IntentMessageContent: 18} {
		if s.cfg.WithheldIntents&intent == 0 {
			flags |= 1 << bit
		}
	}
	return flags
}

// identify begins a session. Whoever has to wait costs the store nothing: when it is what is
// slow, those that come again and again would keep it so.
func (c *conn) identify(now time.Time, in gatewaysession.Identify) {
	if _, _, ok := token.Read(in.Token); !ok {
		c.shut(textchat.CloseAuthFailed)
		return
	}
	c.patient(now.Add(askTimeout))
	leave, reason := c.srv.gate.enter(c.srv.life)
	if reason != "" {
		c.comeLater(reason, c.srv.gate.turns.give(time.Now()))
		return
	}
	defer leave()
	if c.dead.Load() {
		return
	}
	u, hash, err := c.authenticate(in.Token)
	if err != nil {
		c.notBegun(err)
		return
	}
	if in.Wrong != 0 {
		c.shut(in.Wrong)
		return
	}
	if !c.srv.mayAsk(u, in.Intents) {
		c.shut(textchat.CloseDisallowedIntents)
		return
	}
	now = time.Now()
	if wait := c.srv.mayIdentify(now, u.ID, in.Shard); wait > 0 {
		c.comeLater("account", spread(wait))
		return
	}
	if u.Bot { // last: who is refused for another reason has not begun
		if a := c.srv.starts(now, u.ID, 1); !a.OK {
			c.comeLater("day", spread(a.Reset.Sub(now)))
			return
		}
	}
	s := &session{srv: c.srv, url: c.url, user: u.ID, token: hash, intents: in.Intents, large: in.Large,
		shard: in.Shard, compress: in.Compress, passive: in.Passive && !u.Bot, version: c.version, presence: in.Presence,
		replay: gatewaysession.Replay{Count: textchat.ReplayEvents, Bytes: textchat.ReplayBytes}}
	if s.passive {
		s.large = min(s.large, c.srv.cfg.Large)
	}
	c.srv.name(s)
	// Known to the hub before the guilds are listed: who joins one meanwhile is
	// added by its owner, and both ways at once add it once.
	surplus := c.srv.hub.addSession(s)
	c.srv.metrics.sessions.Inc()
	if surplus != nil {
		surplus.finish(textchat.CloseSessionTimeout)
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	ids, err := c.srv.store.GuildIDs(ctx, u.ID)
	if err != nil {
		c.notBegun(err)
		s.finish(textchat.CloseUnknown)
		return
	}
	type unavailable struct {
		ID          textchat.ID `json:"id"`
		Unavailable bool        `json:"unavailable"`
	}
	guilds := []unavailable{}
	for _, g := range ids {
		if s.shardHas(g) {
			guilds = append(guilds, unavailable{g, true})
		}
	}
	if len(guilds) > c.srv.gate.shardGuilds {
		c.shut(textchat.CloseShardingRequired)
		s.finish(textchat.CloseShardingRequired)
		return
	}
	ready := map[string]any{
		"v": c.version, "user": selfUser(u), "guilds": guilds, "session_id": s.id, "resume_gateway_url": c.url,
		"shard": in.Shard, "application": map[string]any{"id": u.ID, "flags": c.srv.applicationFlags()}, "private_channels": []string{},
		"relationships": []string{}, "_trace": []string{}, "session_type": "normal",
	}
	s.deliver(&gatewaysession.Event{Name: textchat.EventReady, Body: encode(ready)})
	if !c.take(s, 0, nil) {
		c.shut(textchat.CloseUnknown)
		s.finish(textchat.CloseUnknown)
		return
	}
	owners := s.takeLate()
	for _, g := range guilds {
		o, err := c.srv.owner(g.ID)
		if err != nil {
			return
		}
		owners = append(owners, o)
	}
	c.awaitGuilds(s, owners, leave)
}

// notBegun answers an Identify that failed.
func (c *conn) notBegun(err error) {
	switch {
	case errors.Is(err, textchat.ErrUnauthorized):
		c.shut(textchat.CloseAuthFailed)
	case errors.Is(err, textchat.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		c.comeLater("store", c.srv.gate.turns.give(time.Now()))
	default:
		c.shut(textchat.CloseUnknown)
	}
}

// awaitGuilds has a session listen to guilds, and waits until it does, or for a while: what
// its client says next may be about them. A seat is kept for those that are loaded only, so
// that one guild which takes long keeps nobody from the others.
func (c *conn) awaitGuilds(s *session, owners []*owner, leave func()) {
	in := make([]<-chan struct{}, len(owners))
	for i, o := range owners {
		in[i] = o.admit(s)
	}
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	standing := false
	for i, o := range owners {
		if o.settings.Load() == nil && !standing {
			leave()
			select {
			case c.srv.gate.standing <- struct{}{}:
				defer func() { <-c.srv.gate.standing }()
				standing = true
			default:
				return
			}
		}
		select {
		case <-in[i]:
		case <-o.gone:
		case <-ctx.Done():
			return
		}
	}
}

// take makes s this connection's session, from the event after seq on; last, when
// not nil, follows what is there.
func (c *conn) take(s *session, seq uint64, last *gatewaysession.Event) bool {
	c.mu.Lock()
	if s.compress && c.mode == gatewaysession.Plain {
		c.mode = gatewaysession.PayloadZlib
	}
	c.mu.Unlock()
	old, ok := s.attach(c, seq, last)
	if !ok {
		return false
	}
	if old != nil && old != c {
		old.shut(textchat.CloseUnknown)
	}
	c.srv.hub.met(c)
	c.intake.Identified()
	c.beat.Store(time.Now().UnixNano())
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	if c.dead.Load() {
		s.detach(c) // the connection ended meanwhile and OnClose saw no session
	}
	c.wake(true)
	if e := c.srv.ensemble; e != nil {
		e.order.wakeLater(c) // some of what waits may not be seen yet
	}
	return true
}

func (c *conn) resume(in gatewaysession.Resume) {
	c.patient(time.Now().Add(askTimeout))
	var lost []string
	if e := c.srv.ensemble; e != nil {
		// The client may come from an instance that took the session over just now, and
		// count as that one does.
		var ok bool
		if lost, ok = e.abreast(); !ok {
			c.comeBack()
			return
		}
	}
	// A session that stands vouches for its token, as whoever revokes one ends its
	// sessions: when all come back at once the store is not asked.
	s := c.srv.hub.session(in.Session)
	if s != nil && len(lost) > 0 && c.srv.ensemble.mirrors.blind(lost, "", s.lastOpened()) {
		s.finish(textchat.CloseSessionTimeout) // one that is gone may have had it since
		s = nil
	}
	if user, hash, ok := token.Read(in.Token); s == nil || !ok || s.user != user || s.token != hash {
		if !ok {
			c.shut(textchat.CloseAuthFailed)
			return
		}
		var err error
		switch s, err = c.find(in, s, lost); {
		case errors.Is(err, textchat.ErrUnauthorized):
			c.shut(textchat.CloseAuthFailed)
			return
		case errors.Is(err, errComeBack):
			c.comeBack()
			return
		case err != nil:
			c.comeBackLater(c.srv.gate.turns.give(time.Now()))
			return
		case s == nil:
			c.srv.metrics.resumes.WithLabelValues("unknown").Inc()
			c.send(encodeOp(textchat.OpInvalidSession, false))
			return
		}
	}
	s.mu.Lock()
	future, stale := in.Seq > s.replay.Last(), s.opened.After(c.opened)
	s.mu.Unlock()
	if stale { // its client has another connection by now
		c.comeBack()
		return
	}
	if future {
		c.srv.metrics.resumes.WithLabelValues("future").Inc()
		c.shut(textchat.CloseInvalidSeq)
		return
	}
	resumed := &gatewaysession.Event{Name: textchat.EventResumed, Body: []byte(`{"_trace":[]}`)}
	if !c.take(s, in.Seq, resumed) {
		// What it missed is gone: it must begin anew, and this session is no use.
		c.srv.metrics.resumes.WithLabelValues("too_late").Inc()
		s.finish(textchat.CloseSessionTimeout)
		c.send(encodeOp(textchat.OpInvalidSession, false))
		return
	}
	c.srv.metrics.resumes.WithLabelValues("resumed").Inc()
}

// errComeBack says that a session cannot be resumed now, but can in a moment.
var errComeBack = errors.New("come back to resume")

// find is the session of a Resume that the store, or other instances, are asked for; here
// is the one of this id that is here, if there is one. As many are at it at once as
// sessions may begin: when an instance dies all of its come.
func (c *conn) find(in gatewaysession.Resume, here *session, lost []string) (*session, error) {
	leave, reason := c.srv.gate.enter(c.srv.life)
	if reason != "" {
		return nil, textchat.ErrBusy
	}
	defer leave()
	u, hash, err := c.authenticate(in.Token)
	if err != nil {
		return nil, err
	}
	if here == nil && c.srv.ensemble != nil {
		again := false
		if here, again = c.resumeElsewhere(in, u.ID, hash, lost); again {
			return nil, errComeBack
		}
	}
	if here == nil || here.user != u.ID || here.token != hash {
		return nil, nil
	}
	return here, nil
}

// comeBack has the client try again to resume, here or elsewhere.
func (c *conn) comeBack() {
	c.srv.metrics.resumes.WithLabelValues("later").Inc()
	c.shut(textchat.CloseUnknown)
}

// comeBackLater is comeBack when there is no room, or the store is away. Most clients come
// back as soon as they are let go, again and again, so each is let go when its turn comes.
func (c *conn) comeBackLater(wait time.Duration) {
	c.patient(time.Now().Add(wait))
	time.AfterFunc(wait, func() {
		if c.beat.Load() == 0 { // it has no other session meanwhile
			c.comeBack()
		}
	})
}

func (c *conn) voiceUpdate(in gatewaysession.VoiceUpdate) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	if in.Guild == 0 && in.Channel != 0 {
		o, err := c.srv.ownerOf(ctx, in.Channel)
		if err != nil {
			return
		}
		in.Guild = o.id
	}
	// Only guilds that the session listens to: a stranger must not load others.
	o := s.guild(in.Guild)
	if o == nil {
		return
	}
	update := guild.VoiceUpdate{User: s.user, Session: s.id, Channel: in.Channel, Wishes: guild.Wishes{SelfMute: in.SelfMute, SelfDeaf: in.SelfDeaf, SelfVideo: in.SelfVideo},
		RTT: in.RTT, Region: in.Region, Anew: in.Anew, Holds: sfu.SessionID(in.Holds), Wait: in.Wait}
	if c.srv.cfg.Locate != nil && in.Channel != 0 {
		update.Location = c.srv.cfg.Locate(c.client)
	}
	_, _ = o.do(ctx, update)
}
