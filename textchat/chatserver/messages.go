package chatserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/ratelimit"
)

// referencesLoaded bounds the look-ups of answered messages for one page; those
// on the page itself cost none.
const referencesLoaded = 10

func jsonUnmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

func (c *call) messageList() (int, any, error) {
	p, err := c.place(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	var q textchat.PageQuery
	if q.Limit, err = c.queryInt("limit", 50, 1, 100); err != nil {
		return 0, nil, err
	}
	given := 0
	for _, f := range []struct {
		name string
		to   *textchat.ID
	}{{"before", &q.Before}, {"after", &q.After}, {"around", &q.Around}} {
		if *f.to, err = c.queryID(f.name); err != nil {
			return 0, nil, err
		}
		if c.r.URL.Query().Get(f.name) == "" {
			continue
		}
		given++
		// "after 0" asks from the first message on, which zero would not say.
		*f.to = max(*f.to, 1)
	}
	if given > 1 {
		return 0, nil, textchat.InvalidField("before", "BASE_TYPE_CHOICES", "Only one of before, after and around can be given.")
	}
	switch {
	case !p.channel.Type.Text():
		return 0, nil, textchat.ErrNonText
	case !p.perms.Has(textchat.ReadMessageHistory):
		return http.StatusOK, []textchat.Message{}, nil
	case given == 0 && p.owner != nil:
		page, err := c.newestPage(p, q.Limit)
		return http.StatusOK, page, err
	}
	list, err := c.srv.store.Page(c.ctx, p.channel.ID, q)
	if err != nil {
		return 0, nil, err
	}
	list, err = c.dress(p.channel.ID, list)
	return http.StatusOK, list, err
}

// dress makes messages of a channel ready to be shown to the caller: with pins,
// reactions, the messages they answer and whole URLs.
func (c *call) dress(channel textchat.ID, list []textchat.Message) ([]textchat.Message, error) {
	list = append([]textchat.Message{}, list...)
	ids := make([]textchat.ID, len(list))
	at := make(map[textchat.ID]int, len(list))
	for i, m := range list {
		ids[i], at[m.ID] = m.ID, i
	}
	marks, err := c.srv.store.Marks(c.ctx, channel, ids, c.user.ID)
	if err != nil {
		return nil, err
	}
	for i := range list {
		m := &list[i]
		m.Pinned, m.Reactions = marks[m.ID].Pinned, marks[m.ID].Reactions
		if c.srv.loadedOwner(m.ID) != nil { // a channel has its id: its thread
			m.Flags |= textchat.FlagHasThread
		}
		c.whole(m)
	}
	loaded := 0
	for i := range list {
		m := &list[i]
		if m.Type != textchat.MessageReply || m.Reference == nil {
			continue
		}
		if j, ok := at[m.Reference.Message]; ok {
			ref := list[j]
			ref.Referenced, ref.Reactions = nil, nil // as of those that are looked up
			m.Referenced = &ref
			continue
		}
		if loaded++; loaded > referencesLoaded {
			continue
		}
		ref, err := c.srv.store.Message(c.ctx, channel, m.Reference.Message)
		if errors.Is(err, textchat.ErrNoRecord) {
			continue
		} else if err != nil {
			return nil, err
		}
		c.whole(&ref)
		m.Referenced = &ref
	}
	return list, nil
}

// whole makes the lists of a message lists, and its URLs whole.
func (c *call) whole(m *textchat.Message) {
	m.Attachments = append([]textchat.Attachment{}, m.Attachments...)
	for i := range m.Attachments {
		m.Attachments[i].ProxyURL = m.Attachments[i].URL
	}
	m.Embeds = append([]textchat.Embed{}, m.Embeds...)
	for i := range m.Embeds {
		attachedPictures(&m.Embeds[i], m.Attachments)
	}
	if !c.paths {
		*m = linked(*m, c.srv.baseURL(c.r))
	}
	if m.Components == nil {
		m.Components = []json.RawMessage{}
	}
	if m.Mentions == nil {
		m.Mentions = []textchat.User{}
	}
	if m.MentionRoles == nil {
		m.MentionRoles = []textchat.ID{}
	}
}

// attachedPictures gives pictures that are files of the same message
// (attachment://name) their URLs.
func attachedPictures(e *textchat.Embed, files []textchat.Attachment) {
	pictures(e, func(u string) string {
		name, ok := strings.CutPrefix(u, "attachment://")
		if !ok {
			return u
		}
		for _, a := range files {
			if a.Filename == name {
				return a.URL
			}
		}
		return u
	})
}

// message finds the message of the path.
func (c *call) message(ch textchat.ID) (textchat.Message, error) {
	id, err := c.id("message", textchat.ErrUnknownMessage)
	if err != nil {
		return textchat.Message{}, err
	}
	m, err := c.srv.store.Message(c.ctx, ch, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownMessage
	}
	return m, err
}

func (c *call) messageGet() (int, any, error) {
	p, err := c.place(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(p.channel.ID)
	if err != nil {
		return 0, nil, err
	}
	return c.show(m)
}

// show answers with one message.
func (c *call) show(m textchat.Message) (int, any, error) {
	list, err := c.dress(m.Channel, []textchat.Message{m})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, list[0], nil
}

func contentField(v string) (string, error) {
	if utf8.RuneCountInString(v) > textchat.MaxContent {
		return "", textchat.InvalidField("content", "BASE_TYPE_MAX_LENGTH", "Must be "+strconv.Itoa(textchat.MaxContent)+" or fewer in length.")
	}
	// PostgreSQL and terminals choke on NUL; nobody types one.
	return strings.ReplaceAll(v, "\x00", ""), nil
}

// messageForm is the body of a message to post or edit.
type messageForm struct {
	Content     given[string]           `json:"content"`
	Nonce       json.RawMessage         `json:"nonce"`
	TTS         bool                    `json:"tts"`
	Embeds      given[[]textchat.Embed] `json:"embeds"`
	Allowed     *allowedMentions        `json:"allowed_mentions"`
	Reference   *referenceForm          `json:"message_reference"`
	Components  []json.RawMessage       `json:"components"`
	Stickers    []textchat.ID           `json:"sticker_ids"`
	Flags       *int                    `json:"flags"`
	Attachments *[]attachmentForm       `json:"attachments"`
	Poll        json.RawMessage         `json:"poll"`

	// Of webhooks only.
	Username  *string `json:"username"`
	AvatarURL *string `json:"avatar_url"`
}

type referenceForm struct {
	Type    int         `json:"type"`
	Message textchat.ID `json:"message_id"`
	Channel textchat.ID `json:"channel_id"`
	Fail    *bool       `json:"fail_if_not_exists"`
}

// allowedMentions narrows whom a message may call.
type allowedMentions struct {
	Parse   []string      `json:"parse"`
	Roles   []textchat.ID `json:"roles"`
	Users   []textchat.ID `json:"users"`
	Replied *bool         `json:"replied_user"`
}

func (a *allowedMentions) check() error {
	if a == nil {
		return nil
	}
	for i, p := range a.Parse {
		if p != "users" && p != "roles" && p != "everyone" {
			return textchat.InvalidField(fmt.Sprintf("allowed_mentions.parse.%d", i), "BASE_TYPE_CHOICES", "Must be one of users, roles, everyone.")
		}
	}
	for name, list := range map[string][]textchat.ID{"users": a.Users, "roles": a.Roles} {
		if len(list) > textchat.MaxMentions {
			return textchat.InvalidField("allowed_mentions."+name, "BASE_TYPE_BAD_LENGTH", "Must be 100 or fewer in length.")
		}
		if len(list) > 0 && slices.Contains(a.Parse, name) {
			return textchat.InvalidField("allowed_mentions."+name, "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", "Mutually exclusive with parse: "+name+".")
		}
	}
	return nil
}

// calls says whether a mention of this kind and id counts.
func (a *allowedMentions) calls(kind string, list []textchat.ID, id textchat.ID) bool {
	return a == nil || slices.Contains(a.Parse, kind) || slices.Contains(list, id)
}

// check refuses what no message may have, and cleans the rest.
func (f *messageForm) check(perms textchat.Permissions) error {
	var err error
	if f.Content.value, err = contentField(f.Content.value); err != nil {
		return err
	}
	if err := textchat.CheckEmbeds(f.Embeds.value); err != nil {
		return err
	}
	if err := f.Allowed.check(); err != nil {
		return err
	}
	switch {
	case len(f.Embeds.value) > 0 && !perms.Has(textchat.EmbedLinks):
		return textchat.ErrMissingPerms
	case len(f.Stickers) > 0:
		return textchat.InvalidField("sticker_ids", "BASE_TYPE_CHOICES", "There are no stickers here.")
	case len(f.Components) > 0:
		return textchat.InvalidField("components", "BASE_TYPE_CHOICES", "There are no components here: nobody would hear of a click.")
	case len(f.Poll) > 0 && string(f.Poll) != "null":
		return textchat.InvalidField("poll", "BASE_TYPE_CHOICES", "There are no polls here.")
	case f.Reference != nil && f.Reference.Type != 0:
		return textchat.InvalidField("message_reference.type", "BASE_TYPE_CHOICES", "Messages cannot be forwarded here.")
	}
	return nil
}

// empty says whether nothing is left to show of a message.
func empty(m textchat.Message) bool {
	return strings.TrimSpace(m.Content) == "" && len(m.Embeds) == 0 && len(m.Attachments) == 0
}

// flags takes those that an author may set.
func (f *messageForm) flags(old int) int {
	const own = textchat.FlagSuppressEmbeds | textchat.FlagSuppressNotifications
	if f.Flags == nil {
		return old
	}
	return old&^own | *f.Flags&own
}

func (c *call) messageCreate() (int, any, error) {
	p, err := c.place(textchat.SendMessages)
	if err != nil {
		return 0, nil, err
	}
	if !p.channel.Type.Text() {
		return 0, nil, textchat.ErrNonText
	}
	if err := p.open(); err != nil {
		return 0, nil, err
	}
	if p.owner == nil {
		if err := c.acquainted(p.dm.Other(c.user.ID)); err != nil {
			return 0, nil, err
		}
	}
	var in messageForm
	files, err := c.form(&in, p, c.user.ID)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.post(p, c.user, 0, &in, files)
	if err != nil {
		c.refused(files, err)
		return 0, nil, err
	}
	return http.StatusOK, m, nil
}

// post stores a message and tells of it. The files are the message's from when
// it is stored; after an error the caller passes them to refused.
func (c *call) post(p place, author textchat.User, webhook textchat.ID, in *messageForm, files []upload) (textchat.Message, error) {
	m := textchat.Message{ID: c.srv.newID(), Channel: p.channel.ID, Author: author, Webhook: webhook,
		Mentions: []textchat.User{}, MentionRoles: []textchat.ID{}, Attachments: []textchat.Attachment{}, Embeds: []textchat.Embed{},
		Components: []json.RawMessage{}}
	if err := in.check(p.perms); err != nil {
		return m, err
	}
	nonce, echoed, err := nonceField(in.Nonce)
	if err != nil {
		return m, err
	}
	m.Timestamp.Time, m.Content, m.Flags, m.TTS = m.ID.Time(), in.Content.value, in.flags(0), in.TTS && p.perms.Has(textchat.SendTTS)
	if in.Embeds.value != nil {
		m.Embeds = in.Embeds.value
	}
	if err := attach(&m, in.Attachments, files); err != nil {
		return m, err
	}
	if empty(m) {
		return m, textchat.ErrEmptyMessage
	}
	var answered *textchat.Message
	if in.Reference != nil && in.Reference.Message != 0 {
		if answered, err = c.reply(&m, *in.Reference, p); err != nil {
			return m, err
		}
	}
	if err := c.mentions(p, &m, in.Allowed, answered); err != nil {
		return m, err
	}
	slow, err := c.slowmode(p, nonce)
	if err != nil {
		return m, err
	}
	// A client that goes away does not stop this: what is stored is told.
	stored, repeated, err := c.srv.store.AddMessage(c.srv.life, m, nonce)
	slow.end(err == nil)
	if err != nil {
		c.awaitMessage(err, p, m, answered, files)
		return m, err
	}
	stored.Nonce = echoed
	if repeated {
		c.discard(files)
		list, err := c.forAll().dress(p.channel.ID, []textchat.Message{stored})
		if err != nil {
			return m, err
		}
		return linked(list[0], c.srv.baseURL(c.r)), c.toldAgain(p, func(later *call) bool { return p.tell(later.srv, guild.Posted{Message: list[0]}) })
	}
	var shown textchat.Message
	if err := c.told(func(later *call) (told bool) { shown, told = later.posted(p, stored, answered); return told }); err != nil {
		return m, err
	}
	return shown, nil
}

// posted tells of a message that is stored, and returns it as it was shown.
func (c *call) posted(p place, m textchat.Message, answered *textchat.Message) (shown textchat.Message, told bool) {
	all := c.forAll()
	all.whole(&m)
	if answered != nil {
		all.whole(answered)
		m.Referenced = answered
	}
	if p.owner == nil && p.dm.LastMessage == nil {
		c.introduce(p)
	}
	return linked(m, c.srv.baseURL(c.r)), p.tell(c.srv, guild.Posted{Message: m})
}

// awaitMessage has a message told that may be stored. One that does not show has its
// files dropped.
func (c *call) awaitMessage(err error, p place, m textchat.Message, answered *textchat.Message, files []upload) {
	c.await(err, func(later *call) bool {
		stored, err := later.srv.store.Message(later.ctx, m.Channel, m.ID)
		if err != nil {
			return false
		}
		later.posted(p, stored, answered) // or this server goes away
		return true
	}, func(later *call) { later.discard(files) })
}

// refused drops the files of a message that was not stored. Those of one that may be are
// left to await.
func (c *call) refused(files []upload, err error) {
	if !errors.Is(err, textchat.ErrUnsure) && err != errUntold {
		c.discard(files)
	}
}

// slowed is a message that slow mode let pass, and counts unless it is not stored.
type slowed struct {
	c          *call
	key, nonce string // no key: it does not count
}

// nonceRule is for how long it is known that a nonce was used.
var nonceRule = ratelimit.Rule{Limit: 1, Window: textchat.NonceLife}

// slowmode makes members wait between messages where a channel asks for it. Who sends one
// again, by its nonce, did not hear that it is stored, and does not wait.
func (c *call) slowmode(p place, nonce string) (slowed, error) {
	const exempt = textchat.ManageMessages | textchat.ManageChannels | textchat.BypassSlowmode
	if p.channel.RateLimitPerUser == 0 || p.perms&exempt != 0 {
		return slowed{}, nil
	}
	s := slowed{c: c}
	s.key, s.nonce = slowKeys(p.channel.ID, c.user.ID, nonce)
	a := c.srv.slow.Take(c.now, s.key, slowRule(&p.channel))
	if a.OK {
		return s, nil
	}
	if s.nonce != "" && c.srv.slow.TakeN(c.now, s.nonce, nonceRule, 0).Remaining == 0 {
		return slowed{}, nil
	}
	e := c.limited(a, byUser)
	e.Code, e.Message = textchat.CodeSlowmode, "This action cannot be performed due to slowmode rate limit"
	return slowed{}, e
}

// slowKeys name what somebody wrote in a channel, and a message of those by its nonce;
// empty: it has none.
func slowKeys(channel, user textchat.ID, nonce string) (all, one string) {
	all = "slow|" + channel.String() + "|" + user.String()
	if nonce != "" {
		one = all + "|" + nonce
	}
	return all, one
}

func slowRule(c *textchat.Channel) ratelimit.Rule {
	return ratelimit.Rule{Limit: 1, Window: time.Duration(c.RateLimitPerUser) * time.Second}
}

// slowDown has messages that are told count in slow mode, which another instance may have
// let pass. Two that come to two instances within the time that this takes both pass.
func (o *owner) slowDown(events []guild.Event) {
	for _, e := range events {
		m, ok := e.Data.(guild.MessageEvent)
		if !ok || e.Name != textchat.EventMessageCreate || m.Webhook != 0 {
			continue
		}
		c := o.core.Channel(m.Channel)
		if c == nil || c.RateLimitPerUser == 0 {
			continue
		}
		nonce, _, _ := nonceField(m.Nonce) // was checked
		all, one := slowKeys(c.ID, m.Author.ID, nonce)
		o.srv.slow.Take(m.Timestamp.Time, all, slowRule(c))
		if one != "" {
			o.srv.slow.Take(m.Timestamp.Time, one, nonceRule)
		}
	}
}

// end is told whether the message is stored.
func (s slowed) end(stored bool) {
	switch {
	case s.key == "":
	case !stored:
		s.c.srv.slow.GiveBack(s.key)
	case s.nonce != "":
		s.c.srv.slow.Take(s.c.now, s.nonce, nonceRule)
	}
}

// reply checks the message that this one answers.
func (c *call) reply(m *textchat.Message, ref referenceForm, p place) (*textchat.Message, error) {
	if !p.perms.Has(textchat.ReadMessageHistory) {
		return nil, textchat.ErrMissingPerms
	}
	if ref.Channel != 0 && ref.Channel != m.Channel {
		return nil, textchat.InvalidField("message_reference.channel_id", "REPLIES_UNKNOWN_MESSAGE", "Only a message of this channel can be answered.")
	}
	answered, err := c.srv.store.Message(c.ctx, m.Channel, min(ref.Message, 1<<63-1))
	switch {
	case errors.Is(err, textchat.ErrNoRecord) && ref.Fail != nil && !*ref.Fail:
		return nil, nil
	case errors.Is(err, textchat.ErrNoRecord):
		return nil, textchat.InvalidField("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
	case err != nil:
		return nil, err
	case answered.Type != textchat.MessageDefault && answered.Type != textchat.MessageReply:
		return nil, textchat.InvalidField("message_reference", "REPLIES_CANNOT_REPLY_TO_SYSTEM_MESSAGE", "Cannot reply to a system message")
	}
	m.Type, m.Reference = textchat.MessageReply, &textchat.MessageReference{Message: ref.Message, Channel: m.Channel}
	if p.owner != nil {
		m.Reference.Guild = p.owner.id
	}
	return &answered, nil
}

// nonceField reads a nonce: a string or a number, echoed as it came.
func nonceField(raw json.RawMessage) (key string, echoed json.RawMessage, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil, nil
	}
	key = string(raw)
	if raw[0] == '"' {
		err = json.Unmarshal(raw, &key)
	} else if _, e := strconv.ParseInt(key, 10, 64); e != nil {
		err = e
	}
	if err != nil || len(key) > textchat.MaxNonce {
		return "", nil, textchat.InvalidField("nonce", "NONCE_TYPE", "Must be a number or a string of at most 25 bytes.")
	}
	return key, raw, nil
}

// mentioned finds <@id>, <@!id> and <@&id> in a text, at most MaxMentions of
// users and of roles: one message calls no more.
func mentioned(text string) (users, roles map[textchat.ID]bool) {
	users, roles = map[textchat.ID]bool{}, map[textchat.ID]bool{}
	for {
		var ok bool
		if _, text, ok = strings.Cut(text, "<@"); !ok {
			return users, roles
		}
		end := strings.IndexByte(text[:min(len(text), 24)], '>')
		if end < 0 {
			continue
		}
		name, to := text[:end], users
		if rest, ok := strings.CutPrefix(name, "&"); ok {
			name, to = rest, roles
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(name, "!"), 10, 63)
		if err == nil && len(to) < textchat.MaxMentions {
			to[textchat.ID(n)] = true
		}
	}
}

// mentions finds out whom a message calls: users and roles it names, the author
// it answers, everyone. allowed may narrow that.
func (c *call) mentions(p place, m *textchat.Message, allowed *allowedMentions, answered *textchat.Message) error {
	m.MentionEveryone = p.perms.Has(textchat.MentionEveryone) && allowed.calls("everyone", nil, 0) &&
		(strings.Contains(m.Content, "@everyone") || strings.Contains(m.Content, "@here"))
	m.Mentions, m.MentionRoles = []textchat.User{}, []textchat.ID{}
	users, roles := mentioned(m.Content)
	maps.DeleteFunc(users, func(id textchat.ID, _ bool) bool { return allowed != nil && !allowed.calls("users", allowed.Users, id) })
	maps.DeleteFunc(roles, func(id textchat.ID, _ bool) bool { return allowed != nil && !allowed.calls("roles", allowed.Roles, id) })
	if answered != nil && answered.Webhook == 0 && (allowed == nil || allowed.Replied != nil && *allowed.Replied) {
		users[answered.Author.ID] = true
	}
	if len(users)+len(roles) == 0 {
		return nil
	}
	if p.owner == nil {
		for _, id := range p.dm.Users {
			if !users[id] {
				continue
			}
			u, err := c.srv.store.User(c.ctx, id)
			if err != nil {
				return err
			}
			m.Mentions = append(m.Mentions, u)
		}
		return nil
	}
	type found struct {
		users []textchat.User
		roles []textchat.ID
	}
	f, err := read(c.ctx, p.owner, func(g *guild.Guild) (f found, _ error) {
		for _, id := range slices.Sorted(maps.Keys(users)) {
			if mem := g.Member(id); mem != nil {
				f.users = append(f.users, mem.User)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(roles)) {
			if r := g.Role(id); r != nil && id != p.owner.id && (r.Mentionable || p.perms.Has(textchat.MentionEveryone)) {
				f.roles = append(f.roles, id)
			}
		}
		return f, nil
	})
	m.Mentions, m.MentionRoles = append(m.Mentions, f.users...), append(m.MentionRoles, f.roles...)
	return err
}

func (c *call) messageEdit() (int, any, error) {
	p, err := c.place(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(p.channel.ID)
	if err != nil {
		return 0, nil, err
	}
	own := m.Author.ID == c.user.ID
	if !own && !p.perms.Has(textchat.ManageMessages) {
		return 0, nil, textchat.ErrEditOthers
	}
	var in messageForm
	files, err := c.form(&in, p, c.user.ID)
	if err != nil {
		return 0, nil, err
	}
	// Whoever manages messages may hide the embeds of others, and no more.
	if !own && (in.Content.set || in.Embeds.set || in.Attachments != nil || len(files) > 0 || in.Flags == nil) {
		c.discard(files)
		return 0, nil, textchat.ErrEditOthers
	}
	return c.edit(p, m, &in, files)
}

// edit changes a message as the form says.
func (c *call) edit(p place, m textchat.Message, in *messageForm, files []upload) (status int, body any, err error) {
	kept := false // the files are the message's, or may be
	defer func() {
		if err != nil && !kept {
			c.discard(files)
		}
	}()
	if m.Type != textchat.MessageDefault && m.Type != textchat.MessageReply {
		return 0, nil, textchat.ErrSystemMessage
	}
	if err := in.check(p.perms); err != nil {
		return 0, nil, err
	}
	before := m.Attachments
	if in.Embeds.set {
		m.Embeds = append([]textchat.Embed{}, in.Embeds.value...)
	}
	if err := attach(&m, in.Attachments, files); err != nil {
		return 0, nil, err
	}
	m.Flags = in.flags(m.Flags)
	if in.Content.set {
		m.Content = in.Content.value
		answered := (*textchat.Message)(nil)
		if m.Reference != nil {
			if a, err := c.srv.store.Message(c.ctx, m.Channel, m.Reference.Message); err == nil {
				answered = &a
			}
		}
		if err := c.mentions(p, &m, in.Allowed, answered); err != nil {
			return 0, nil, err
		}
	}
	if empty(m) {
		return 0, nil, textchat.ErrEmptyMessage
	}
	if !in.Content.set && !in.Embeds.set && in.Attachments == nil && in.Flags == nil && len(files) == 0 {
		return c.show(m)
	}
	if in.Content.set || in.Embeds.set {
		m.EditedTimestamp = &textchat.Time{Time: c.now}
	}
	err = c.srv.store.EditMessage(c.srv.life, m)
	kept = err == nil || errors.Is(err, textchat.ErrUnsure)
	switch {
	case errors.Is(err, textchat.ErrNoRecord):
		return 0, nil, textchat.ErrUnknownMessage
	case err != nil:
		c.awaitEdit(err, p, m, before, files)
		return 0, nil, err
	}
	err = c.told(func(later *call) bool {
		err := later.edited(p, m, before)
		if err != nil { // how it looks now could not be read
			later.awaitEdit(fmt.Errorf("tell of edit: %w: %w", textchat.ErrUnsure, err), p, m, before, files)
		}
		return err == nil
	})
	if err != nil {
		return 0, nil, err
	}
	return c.lasting().show(m)
}

// edited tells of an edit that is stored, and drops the files that the message had
// before and does not have any more.
func (c *call) edited(p place, m textchat.Message, before []textchat.Attachment) error {
	if err := c.tellEdited(p, m); err != nil {
		return err
	}
	for _, a := range before {
		if !has(m, a) {
			c.srv.dropFiles(fileOf(a))
		}
	}
	return nil
}

func has(m textchat.Message, a textchat.Attachment) bool {
	return slices.ContainsFunc(m.Attachments, func(b textchat.Attachment) bool { return a.ID == b.ID })
}

// tellEdited tells of a message's new state.
func (c *call) tellEdited(p place, m textchat.Message) error {
	_, body, err := c.forAll().show(m)
	if err != nil {
		return err
	}
	shown := body.(textchat.Message)
	for i := range shown.Reactions {
		shown.Reactions[i].Me = false // everybody gets the same event
	}
	if !p.tell(c.srv, guild.Posted{Message: shown, Edited: true}) {
		return errUntold
	}
	return nil
}

// awaitEdit has an edit told that may be stored. When it does not show, because it was
// not done or another came over it, the files that came with it are dropped, unless the
// message has them.
func (c *call) awaitEdit(err error, p place, m textchat.Message, before []textchat.Attachment, files []upload) {
	m.Nonce = nil // as it is stored
	want := encode(m)
	c.await(err, func(later *call) bool {
		stored, err := later.srv.store.Message(later.ctx, m.Channel, m.ID)
		return err == nil && bytes.Equal(encode(stored), want) && later.edited(p, m, before) == nil
	}, func(later *call) {
		stored, err := later.srv.store.Message(later.ctx, m.Channel, m.ID)
		if err != nil && !errors.Is(err, textchat.ErrNoRecord) {
			return // then nobody knows whose they are
		}
		for _, f := range files {
			if !has(stored, f.file) {
				later.discard([]upload{f})
			}
		}
	})
}

func (c *call) messageDelete() (int, any, error) {
	p, err := c.place(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(p.channel.ID)
	if err != nil {
		return 0, nil, c.vanished(p, err)
	}
	own := m.Author.ID == c.user.ID
	if !own && !p.perms.Has(textchat.ManageMessages) {
		return 0, nil, textchat.ErrMissingPerms
	}
	in := guild.Input(guild.Erased{Channel: m.Channel, Message: m.ID, Author: m.Author.ID})
	if !own {
		if in, err = c.audited(in); err != nil {
			return 0, nil, err
		}
	}
	return c.erase(p, m, in)
}

// vanished is the answer to who may have deleted before what is not there.
func (c *call) vanished(p place, err error) error {
	if err != textchat.ErrUnknownMessage || p.perms&(textchat.SendMessages|textchat.ManageMessages) == 0 {
		return err
	}
	return cmp.Or(c.toldSo(p), err)
}

// erase deletes a message with its files.
func (c *call) erase(p place, m textchat.Message, in guild.Input) (int, any, error) {
	if err := c.srv.store.DeleteMessage(c.srv.life, m.Channel, m.ID); errors.Is(err, textchat.ErrNoRecord) {
		return 0, nil, c.vanished(p, textchat.ErrUnknownMessage)
	} else if err != nil {
		c.awaitErased(err, p, m, in)
		return 0, nil, err
	}
	return http.StatusNoContent, nil, c.told(func(later *call) bool { return later.erased(p, m, in) })
}

// erased tells of a message that is deleted, and drops its files.
func (c *call) erased(p place, m textchat.Message, in guild.Input) (told bool) {
	c.srv.dropFiles(filesOf(m)...)
	return p.tell(c.srv, in)
}

// awaitErased has a message told of that may be deleted.
func (c *call) awaitErased(err error, p place, m textchat.Message, in guild.Input) {
	c.await(err, func(later *call) bool {
		if !later.gone(m.Channel, m.ID) {
			return false
		}
		later.erased(p, m, in)
		return true
	}, nil)
}

// eraseMany deletes messages of a channel with their files, and tells of those that
// were there.
func (c *call) eraseMany(p place, list []textchat.Message, tell func(later *call, gone []textchat.ID) (told bool)) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]textchat.ID, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	erased := func(c *call, gone []textchat.ID) (told bool) {
		if len(gone) == 0 {
			return p.tell(c.srv, guild.Touched{Channel: p.channel.ID})
		}
		for _, m := range list {
			if slices.Contains(gone, m.ID) {
				c.srv.dropFiles(filesOf(m)...)
			}
		}
		return tell(c, gone)
	}
	gone, err := c.srv.store.DeleteMessages(c.srv.life, p.channel.ID, ids)
	if err == nil {
		return c.told(func(later *call) bool { return erased(later, gone) })
	}
	seen := 0
	c.await(err, func(later *call) bool {
		for seen < len(ids) && later.gone(p.channel.ID, ids[seen]) {
			seen++
		}
		if seen < len(ids) {
			return false
		}
		erased(later, ids)
		return true
	}, func(later *call) {
		gone := slices.Clone(ids[:seen])
		for _, id := range ids[seen:] {
			if later.gone(p.channel.ID, id) {
				gone = append(gone, id)
			}
		}
		erased(later, gone)
	})
	return err
}

// messagesDelete deletes many messages at once.
func (c *call) messagesDelete() (int, any, error) {
	p, err := c.place(textchat.ManageMessages)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Messages []textchat.ID `json:"messages"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if n := len(in.Messages); n < 2 || n > textchat.MaxBulk {
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeBulkCount, "Provided too few or too many messages to delete. Must provide at least 2 and at most 100 messages to delete.")
	}
	var there []textchat.Message
	before := guild.ErasedMany{Channel: p.channel.ID} // that are not there any more
	for i, id := range in.Messages {
		if id == 0 || id > 1<<63-1 {
			return 0, nil, textchat.InvalidField(fmt.Sprintf("messages.%d", i), "NUMBER_TYPE_COERCE", "Value is not a snowflake.")
		}
		if c.now.Sub(id.Time()) > textchat.MaxBulkAge {
			return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeTooOld, "You can only bulk delete messages that are under 14 days old.")
		}
		m, err := c.srv.store.Message(c.ctx, p.channel.ID, id)
		switch {
		case err == nil:
			there = append(there, m)
		case !errors.Is(err, textchat.ErrNoRecord):
			return 0, nil, err
		default:
			before.Messages = append(before.Messages, id)
		}
	}
	// The instance that deleted those may have ended before it told of it.
	tellBefore := func(later *call) bool {
		return c.srv.ensemble == nil || len(before.Messages) == 0 || p.tell(later.srv, before)
	}
	told, err := c.audited(guild.ErasedMany{Channel: p.channel.ID, Messages: in.Messages})
	if err != nil {
		return 0, nil, err
	}
	if len(there) == 0 {
		return http.StatusNoContent, nil, c.toldAgain(p, tellBefore)
	}
	err = c.eraseMany(p, there, func(later *call, gone []textchat.ID) bool {
		a, ok := told.(guild.Audited)
		a.Input = guild.ErasedMany{Channel: p.channel.ID, Messages: gone}
		return (!ok || p.tell(later.srv, a)) && tellBefore(later)
	})
	return http.StatusNoContent, nil, err
}
