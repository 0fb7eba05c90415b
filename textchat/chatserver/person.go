package chatserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// What is kept of a person, told and erased: the rights of access and erasure
// (GDPR, articles 15 and 17), for the operator to fulfil.

// stream is the body of an answer that is told line by line as JSON, while it is
// found. emit sends one line.
type stream func(emit func(any) error) error

const (
	// operatorTimeout bounds what an operator asks for: all messages are looked at.
	operatorTimeout = time.Hour
	// lineTimeout bounds the wait of a stream for its reader.
	lineTimeout = 30 * time.Second
	// linesFlushed at once, or what came within flushEvery.
	linesFlushed = 256
	flushEvery   = time.Second
)

// send writes a stream. What goes wrong on the way is its last line.
func (s stream) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	n, last := 0, time.Now()
	flush := func() error {
		n, last = 0, time.Now()
		_ = rc.SetWriteDeadline(last.Add(lineTimeout))
		return rc.Flush()
	}
	_ = rc.SetWriteDeadline(last.Add(lineTimeout))
	err := s(func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		if n++; n >= linesFlushed || time.Since(last) >= flushEvery {
			return flush()
		}
		return nil
	})
	if err != nil {
		_ = enc.Encode(map[string]any{"error": textchat.ErrorOf(err).Message}) // the reader may be gone
	}
	_ = flush()
}

// person finds the user of the path, by id or name.
func (c *call) person() (textchat.User, error) {
	name := c.r.PathValue("user")
	var u textchat.User
	err := textchat.ErrNoRecord
	if id, bad := strconv.ParseUint(name, 10, 63); bad == nil {
		u, err = c.srv.store.User(c.ctx, textchat.ID(id))
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		var cred textchat.Credential
		cred, err = c.srv.store.Login(c.ctx, name)
		u = cred.User
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownUser
	}
	return u, err
}

// Lines of an export and an erasure; one field is set in each.
type (
	personLine struct {
		User     *textchat.User     `json:"user,omitempty"`
		Member   *guild.MemberEvent `json:"member,omitempty"`
		Ban      *personBan         `json:"ban,omitempty"`
		Webhook  *textchat.Webhook  `json:"webhook,omitempty"` // that it made; without the token
		Audit    *guild.AuditEvent  `json:"audit,omitempty"`   // by it or about it
		DM       *personDM          `json:"dm,omitempty"`
		Message  *personMessage     `json:"message,omitempty"`
		Reaction *personSpot        `json:"reaction,omitempty"`
		Mention  *personSpot        `json:"mention,omitempty"` // somebody else's message that calls it
		Progress *personProgress    `json:"progress,omitempty"`
		Done     *personProgress    `json:"done,omitempty"`
	}
	personMessage struct {
		textchat.Message
		Guild textchat.ID `json:"guild_id,omitzero"`
	}
	personBan struct {
		textchat.Ban
		Guild textchat.ID `json:"guild_id"`
	}
	personDM struct {
		Channel textchat.ID   `json:"channel_id"`
		With    textchat.User `json:"with"`
	}
	// personSpot is where the person left a trace on a message.
	personSpot struct {
		Guild   textchat.ID     `json:"guild_id,omitzero"`
		Channel textchat.ID     `json:"channel_id"`
		Message textchat.ID     `json:"message_id"`
		Emoji   *textchat.Emoji `json:"emoji,omitempty"`
	}
	personProgress struct {
		Channels  int `json:"channels"` // looked through
		Messages  int `json:"messages"` // found
		Guilds    int `json:"guilds"`   // that the person is in
		Reactions int `json:"reactions"`
		Mentions  int `json:"mentions"` // in messages of others
		Bans      int `json:"bans"`
		Webhooks  int `json:"webhooks"`
		Audit     int `json:"audit"` // entries
		DMs       int `json:"dms"`
	}
)

// personAt is how far a walk has come: all before it was looked through. Private
// channels come first, of guild 0.
type personAt struct {
	Guild, Channel textchat.ID
	After          textchat.ID // the last message that was looked at
	Found          personProgress
	Lock           string `json:",omitempty"` // of an erasure: the hash that nobody knows a password for
}

// personWalk goes through all there is for what is of one user.
type personWalk struct {
	*call
	user textchat.ID
	at   personAt
	// found is told of each thing, with the place if it is in a channel. step comes
	// after each page of messages, and after what a guild keeps besides.
	found func(p place, l personLine) error
	step  func(p place) error
}

// personPage is how many messages, entries or reactions are looked at together: no
// more of them are in memory.
const personPage = 100

// run walks from where at is to the end.
func (w *personWalk) run() error {
	private, err := w.srv.store.DMs(w.ctx, w.user, maxPrivate)
	if err != nil {
		return err
	}
	slices.SortFunc(private, func(a, b textchat.DM) int { return cmp.Compare(a.ID, b.ID) })
	for _, d := range private {
		if w.at.Guild != 0 {
			break
		}
		p := place{dm: d, channel: textchat.Channel{ID: d.ID, Type: textchat.ChannelDM}}
		if d.ID >= w.at.Channel {
			if err := w.private(p); err != nil {
				return err
			}
		}
	}
	ids, err := w.srv.store.GuildIDs(w.ctx, 0)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for _, id := range ids {
		if id < w.at.Guild {
			continue
		}
		if id > w.at.Guild {
			w.at.Guild, w.at.Channel, w.at.After = id, 0, 0
		}
		if err := w.guild(id); err != nil {
			return err
		}
	}
	return nil
}

func (w *personWalk) private(p place) error {
	if p.dm.ID > w.at.Channel {
		w.at.Found.DMs++
		seen, err := w.dmSeen(p.dm, w.user)
		if err != nil {
			return err
		}
		if err := w.found(p, personLine{DM: &personDM{p.dm.ID, seen.Recipients[0]}}); err != nil {
			return err
		}
	}
	return w.channel(p)
}

func (w *personWalk) guild(id textchat.ID) error {
	r, err := w.srv.store.Guild(w.ctx, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := w.srv.owner(id)
	if err != nil {
		return err
	}
	if w.at.Channel == 0 { // else it was done
		if err := w.records(o, r); err != nil {
			return err
		}
	}
	slices.SortFunc(r.Channels, func(a, b textchat.Channel) int { return cmp.Compare(a.ID, b.ID) })
	for _, ch := range r.Channels {
		if !ch.Type.Text() || ch.ID < w.at.Channel {
			continue
		}
		if err := w.channel(place{owner: o, channel: ch}); err != nil {
			return err
		}
	}
	return nil
}

// records are what a guild keeps of the user besides messages.
func (w *personWalk) records(o *owner, r textchat.GuildRecord) error {
	p := place{owner: o}
	for _, m := range r.Members {
		if m.User.ID != w.user {
			continue
		}
		w.at.Found.Guilds++
		if err := w.found(p, personLine{Member: &guild.MemberEvent{Member: m, Guild: o.id}}); err != nil {
			return err
		}
	}
	b, err := w.srv.store.Ban(w.ctx, o.id, w.user)
	if err == nil {
		w.at.Found.Bans++
		err = w.found(p, personLine{Ban: &personBan{b, o.id}})
	}
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		return err
	}
	hooks, err := w.srv.store.Webhooks(w.ctx, o.id)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		if h.User == nil || h.User.ID != w.user {
			continue
		}
		w.at.Found.Webhooks++
		if err := w.found(p, personLine{Webhook: &h}); err != nil {
			return err
		}
	}
	for q := (textchat.AuditQuery{Limit: personPage, After: 1}); ; {
		list, err := w.srv.store.Audit(w.ctx, o.id, q)
		if err != nil {
			return err
		}
		for _, e := range list {
			if e.User != w.user && (e.Target == nil || *e.Target != w.user) {
				continue
			}
			w.at.Found.Audit++
			if err := w.found(p, personLine{Audit: &guild.AuditEvent{AuditEntry: e, Guild: o.id}}); err != nil {
				return err
			}
		}
		if err := w.step(p); err != nil {
			return err
		}
		if len(list) < q.Limit {
			return nil
		}
		q.After = list[len(list)-1].ID
	}
}

// channel looks through the messages of one, from the oldest on: what comes
// meanwhile is met at the end.
func (w *personWalk) channel(p place) error {
	if p.channel.ID != w.at.Channel {
		w.at.Channel, w.at.After = p.channel.ID, 0
	}
	for {
		q := textchat.PageQuery{Limit: personPage, After: max(w.at.After, 1)}
		list, err := w.srv.store.Page(w.ctx, p.channel.ID, q)
		if err != nil {
			return err
		}
		if err := w.page(p, list); err != nil {
			return err
		}
		if len(list) > 0 {
			w.at.After = list[0].ID
		}
		last := len(list) < q.Limit
		if last {
			w.at.Found.Channels++
		}
		if err := w.step(p); err != nil || last {
			return err
		}
	}
}

func (w *personWalk) page(p place, list []textchat.Message) error {
	ids := make([]textchat.ID, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	marks, err := w.srv.store.Marks(w.ctx, p.channel.ID, ids, w.user)
	if err != nil {
		return err
	}
	var of textchat.ID
	if p.owner != nil {
		of = p.owner.id
	}
	for _, m := range slices.Backward(list) {
		spot := personSpot{Guild: of, Channel: m.Channel, Message: m.ID}
		for _, r := range marks[m.ID].Reactions {
			if !r.Me {
				continue
			}
			w.at.Found.Reactions++
			at := spot
			at.Emoji = &r.Emoji
			if err := w.found(p, personLine{Reaction: &at}); err != nil {
				return err
			}
		}
		switch {
		case m.Author.ID == w.user:
			w.at.Found.Messages++
			err = w.found(p, personLine{Message: &personMessage{m, of}})
		case mentions(m, w.user):
			w.at.Found.Mentions++
			err = w.found(p, personLine{Mention: &spot})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mentions says whether a message holds a copy of the user whom it calls.
func mentions(m textchat.Message, user textchat.ID) bool {
	return slices.ContainsFunc(m.Mentions, func(u textchat.User) bool { return u.ID == user })
}

// maxPrivate is more than the private channels that anybody has.
const maxPrivate = 1 << 20

// adminExport tells all that is kept of a person: the account, memberships, bans,
// webhooks, entries of audit logs, private channels, reactions, where it is mentioned,
// and every message with the URLs of its files.
func (c *call) adminExport() (int, any, error) {
	u, err := c.person()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, stream(func(emit func(any) error) error {
		if err := emit(personLine{User: &u}); err != nil {
			return err
		}
		w := personWalk{call: c, user: u.ID, step: func(place) error { return nil }, found: func(_ place, l personLine) error {
			if l.Message != nil {
				c.whole(&l.Message.Message)
			}
			if l.Webhook != nil {
				l.Webhook.Token = "" // whoever reads it could post
			}
			return emit(l)
		}}
		if err := w.run(); err != nil {
			return err
		}
		return emit(personLine{Done: &w.at.Found})
	}), nil
}

// erasure removes what a walk finds.
type erasure struct {
	*personWalk
	was  textchat.User // the user as it is until the end
	gone textchat.User // the user as it is from then on
	emit func(any) error

	// Owned by the walk: what the guild at hand is to rewrite, and whether messages of
	// the channel at hand were rewritten.
	forget  guild.Forget
	touched bool
	saved   time.Time
}

const (
	// settingErase, with the number of a user, is how far its erasure has come. It is
	// written, and told, every eraseNoted; see Server.noteErase.
	settingErase = "erase."
	eraseNoted   = time.Second
)

// adminErase removes a person: its messages and their files, its reactions, its
// memberships, its sessions, and its name from what others wrote and moderators noted;
// the account stays without a name, so that what refers to it still does. It can be
// repeated, and goes on where it was interrupted.
func (c *call) adminErase() (int, any, error) {
	u, err := c.person()
	if err != nil {
		return 0, nil, err
	}
	owned, err := c.owned(u.ID)
	if err != nil {
		return 0, nil, err
	}
	if len(owned) > 0 {
		return 0, nil, textchat.Refuse(http.StatusConflict, textchat.CodeGeneral,
			"This user owns "+strings.Join(owned, ", ")+". Hand that over first: community settings, or PATCH /guilds/{guild} with owner_id.")
	}
	return http.StatusOK, stream(func(emit func(any) error) error {
		e := erasure{personWalk: &personWalk{call: c, user: u.ID}, emit: emit, saved: time.Now(), was: u,
			gone: textchat.User{ID: u.ID, Username: unlisted("deleted", u.ID), Discriminator: "0", Bot: u.Bot, Guest: true}}
		e.found, e.step = e.remove, e.stepped
		if err := e.run(); err != nil {
			return err
		}
		return emit(personLine{Done: &e.at.Found})
	}), nil
}

func (e *erasure) run() error {
	store := e.srv.store
	key := settingErase + e.user.String()
	if err := e.resume(key); err != nil {
		return err
	}
	// First: from then on nobody writes as it, nor can mention it.
	if err := e.shut(e.was); err != nil {
		return err
	}
	if err := e.personWalk.run(); err != nil {
		return err
	}
	// Last: until then it is found by its name, when this is repeated. What asked as it
	// when it was shut may have ended since.
	if err := e.shut(e.gone); err != nil {
		return err
	}
	if s, ok := store.(scrubber); ok {
		if err := s.Scrub(e.ctx, func(int, int) error { return e.note() }); err != nil {
			return err
		}
	}
	if e.srv.isAlone() {
		// It has the words, too, and would have them until it is written further.
		if err := e.srv.ensemble.alone.journal.Forget(); err != nil {
			return err
		}
	}
	kept, err := store.Setting(e.ctx, key)
	if err == nil {
		err = store.TakeSetting(e.ctx, key, kept)
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		err = nil
	}
	return err
}

// resume has the erasure go on where it was interrupted, unless somebody could log in
// since: what was looked through may have more in it by now.
func (e *erasure) resume(key string) error {
	kept, err := e.srv.store.Setting(e.ctx, key)
	if err == nil {
		err = json.Unmarshal([]byte(kept), &e.at)
	}
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		return err
	}
	cred, err := e.srv.store.Login(e.ctx, e.was.Username)
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		return err
	}
	if e.at.Lock == "" || cred.Hash != e.at.Lock {
		e.at = personAt{Found: e.at.Found}
		e.at.Found.Channels = 0
	}
	return nil
}

// shut makes u what the account is, and has nobody use it: no password opens it, its
// tokens are void, and it is in no guild.
func (e *erasure) shut(u textchat.User) error {
	if e.at.Lock == "" {
		hash, err := e.srv.hasher.Hash(e.ctx, randomCode(32)) // nobody knows it
		if err != nil {
			return err
		}
		e.at.Lock = hash
	}
	// In this order: see call.newToken.
	if err := e.srv.store.UpdateUser(e.srv.life, textchat.Credential{User: u, Hash: e.at.Lock}); err != nil {
		return err
	}
	if err := e.endAll(e.user); err != nil {
		return err
	}
	member, err := e.srv.store.GuildIDs(e.ctx, e.user)
	if err != nil {
		return err
	}
	for _, id := range member {
		o, err := e.srv.owner(id)
		if err != nil {
			return err
		}
		if _, err := o.do(e.ctx, guild.Leave{User: e.user}); err != nil && !errors.Is(err, textchat.ErrUnknownMember) {
			return err
		}
		e.at.Found.Guilds++
	}
	return nil
}

// scrubber is a store in whose files what was deleted can still be read.
type scrubber interface {
	// Scrub overwrites it. progress may be called now and then, and ends it by an error.
	Scrub(ctx context.Context, progress func(done, of int) error) error
}

// remove removes one thing, or notes that the guild is to rewrite it.
func (e *erasure) remove(p place, l personLine) error {
	switch {
	case l.Ban != nil:
		e.forget.Ban = true
	case l.Webhook != nil:
		l.Webhook.User = &e.gone
		e.forget.Webhooks = append(e.forget.Webhooks, *l.Webhook)
	case l.Audit != nil:
		a := l.Audit.AuditEntry
		n := len(a.Changes)
		if a.Target != nil && *a.Target == e.user {
			a.Changes = slices.DeleteFunc(a.Changes, func(c textchat.AuditChange) bool { return c.Key == "nick" })
		}
		if a.Reason != "" || len(a.Changes) < n {
			a.Reason = ""
			e.forget.Audit = append(e.forget.Audit, a)
		}
	case l.Reaction != nil:
		return e.removeReaction(p, *l.Reaction)
	case l.Message != nil:
		return e.removeMessage(p, l.Message.Message)
	case l.Mention != nil:
		return e.rewrite(p, l.Mention.Message)
	}
	return nil
}

// stepped has what was noted rewritten, and told of.
func (e *erasure) stepped(p place) error {
	if f := e.forget; f.Ban || len(f.Webhooks)+len(f.Audit) > 0 {
		f.User, e.forget = e.gone, guild.Forget{}
		if _, err := p.owner.do(e.ctx, f); err != nil {
			return err
		}
	}
	if e.touched {
		e.touched = false
		// Pages that were remembered have the old name. Clients have it too until they load
		// the message again: to tell them of each would flood them.
		if err := e.toldSo(p); err != nil {
			return err
		}
	}
	return e.note()
}

// note writes down how far it is, and shows it, now and then.
func (e *erasure) note() error {
	if time.Since(e.saved) < e.srv.noteErase {
		return nil
	}
	if err := e.srv.store.SetSetting(e.ctx, settingErase+e.user.String(), string(encode(e.at))); err != nil {
		return err
	}
	e.saved = time.Now()
	return e.emit(personLine{Progress: &e.at.Found})
}

func (e *erasure) removeReaction(p place, r personSpot) error {
	n, err := e.srv.store.Unreact(e.srv.life, r.Channel, r.Message, r.Emoji.Name, e.user)
	if err != nil || n == 0 {
		return err
	}
	in := guild.Unreacted{Channel: r.Channel, Message: r.Message, User: e.user, Emoji: r.Emoji.Name}
	return e.told(func(later *call) bool { return p.tell(later.srv, in) })
}

// rewrite takes the user's name out of a message of somebody else.
func (e *erasure) rewrite(p place, id textchat.ID) error {
	m, err := e.srv.store.Message(e.ctx, p.channel.ID, id) // as it is now
	if err == nil {
		for i := range m.Mentions {
			if m.Mentions[i].ID == e.user {
				m.Mentions[i] = e.gone
			}
		}
		e.touched = true
		err = e.srv.store.EditMessage(e.srv.life, m)
	}
	if errors.Is(err, textchat.ErrNoRecord) {
		err = nil
	}
	return err
}

// removeMessage deletes a message with its files, and tells who is there.
func (e *erasure) removeMessage(p place, m textchat.Message) error {
	in := guild.Erased{Channel: m.Channel, Message: m.ID, Author: m.Author.ID}
	err := e.srv.store.DeleteMessage(e.srv.life, m.Channel, m.ID)
	if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
		e.awaitErased(err, p, m, in)
		return err
	}
	return e.told(func(later *call) bool { return later.erased(p, m, in) })
}

// owned are the names of the guilds of a user.
func (c *call) owned(user textchat.ID) ([]string, error) {
	ids, err := c.srv.store.GuildIDs(c.ctx, user)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ids {
		r, err := c.srv.store.Guild(c.ctx, id)
		if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
			return nil, err
		}
		if err == nil && r.Guild.Owner == user {
			names = append(names, r.Guild.Name)
		}
	}
	return names, nil
}
