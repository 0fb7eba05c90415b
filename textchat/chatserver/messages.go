package chatserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

func jsonUnmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

func (c *call) messageList() (int, any, error) {
	_, ch, perms, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	var q textchat.PageQuery
	if q.Limit, err = c.queryInt("limit", 50, 1, 100); err != nil {
		return 0, nil, err
	}
	for _, f := range []struct {
		name string
		to   *textchat.ID
	}{{"before", &q.Before}, {"after", &q.After}, {"around", &q.Around}} {
		if *f.to, err = c.queryID(f.name); err != nil {
			return 0, nil, err
		}
		// "after 0" asks from the first message on, which zero would not say.
		if c.r.URL.Query().Get(f.name) != "" && *f.to == 0 {
			*f.to = 1
		}
	}
	if !perms.Has(textchat.ReadMessageHistory) {
		return http.StatusOK, []textchat.Message{}, nil
	}
	list, err := c.srv.store.Page(c.ctx, ch.ID, q)
	return http.StatusOK, append([]textchat.Message{}, list...), err
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
	_, ch, perms, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	if !perms.Has(textchat.ReadMessageHistory) {
		return 0, nil, textchat.ErrMissingPerms
	}
	m, err := c.message(ch.ID)
	return http.StatusOK, m, err
}

func contentField(v string) (string, error) {
	if utf8.RuneCountInString(v) > textchat.MaxContent {
		return "", textchat.InvalidField("content", "BASE_TYPE_MAX_LENGTH", "Must be "+strconv.Itoa(textchat.MaxContent)+" or fewer in length.")
	}
	// PostgreSQL and terminals choke on NUL; nobody types one.
	return strings.ReplaceAll(v, "\x00", ""), nil
}

func (c *call) messageCreate() (int, any, error) {
	o, ch, perms, err := c.channel(textchat.SendMessages)
	if err != nil {
		return 0, nil, err
	}
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "multipart/") {
		return 0, nil, textchat.InvalidField("files", "UNSUPPORTED", "Attachments are not taken here.")
	}
	var in struct {
		Content   *string          `json:"content"`
		Nonce     json.RawMessage  `json:"nonce"`
		Flags     int              `json:"flags"`
		Reference *json.RawMessage `json:"message_reference"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Content == nil || strings.TrimSpace(*in.Content) == "" {
		return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeEmptyMessage, "Cannot send an empty message")
	}
	content, err := contentField(*in.Content)
	if err != nil {
		return 0, nil, err
	}
	nonce, echoed, err := nonceField(in.Nonce)
	if err != nil {
		return 0, nil, err
	}
	m := textchat.Message{ID: c.srv.newID(), Channel: ch.ID, Author: c.user, Content: content, Timestamp: textchat.Time{Time: c.now},
		MentionRoles: []textchat.ID{}, Attachments: []json.RawMessage{}, Embeds: []json.RawMessage{}, Components: []json.RawMessage{},
		Flags: in.Flags & 4100} // SUPPRESS_EMBEDS and SUPPRESS_NOTIFICATIONS are the author's to set
	m.Timestamp.Time = m.ID.Time()
	if in.Reference != nil {
		if err := c.reply(&m, *in.Reference, perms); err != nil {
			return 0, nil, err
		}
	}
	if err := c.mentions(o, &m, perms); err != nil {
		return 0, nil, err
	}
	// A client that goes away does not stop this: what is stored is told.
	stored, repeated, err := c.srv.store.AddMessage(c.srv.life, m, nonce)
	if err != nil {
		return 0, nil, err
	}
	stored.Nonce = echoed
	if !repeated {
		o.tell(c.ctx, guild.Posted{Message: stored})
	}
	return http.StatusOK, stored, nil
}

// reply checks the message that this one answers.
func (c *call) reply(m *textchat.Message, raw json.RawMessage, perms textchat.Permissions) error {
	var ref struct {
		Message textchat.ID `json:"message_id"`
		Fail    *bool       `json:"fail_if_not_exists"`
	}
	if json.Unmarshal(raw, &ref) != nil {
		return textchat.InvalidField("message_reference", "BASE_TYPE_BAD_TYPE", "A value has the wrong form.")
	}
	if ref.Message == 0 {
		return nil
	}
	if !perms.Has(textchat.ReadMessageHistory) {
		return textchat.ErrMissingPerms
	}
	_, err := c.srv.store.Message(c.ctx, m.Channel, min(ref.Message, 1<<63-1))
	switch {
	case errors.Is(err, textchat.ErrNoRecord) && ref.Fail != nil && !*ref.Fail:
		return nil
	case errors.Is(err, textchat.ErrNoRecord):
		return textchat.InvalidField("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
	case err != nil:
		return err
	}
	m.Type, m.Reference = 19, &textchat.MessageReference{Message: ref.Message, Channel: m.Channel}
	return nil
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

// mentionsMost bounds the users one message names.
const mentionsMost = 100

// mentions finds out who a message names: <@id>, @everyone, @here.
func (c *call) mentions(o *owner, m *textchat.Message, perms textchat.Permissions) error {
	m.MentionEveryone = perms.Has(textchat.MentionEveryone) && (strings.Contains(m.Content, "@everyone") || strings.Contains(m.Content, "@here"))
	m.Mentions = []textchat.User{}
	ids := map[textchat.ID]bool{}
	for rest := m.Content; len(ids) < mentionsMost; {
		var ok bool
		if _, rest, ok = strings.Cut(rest, "<@"); !ok {
			break
		}
		var name string
		if name, _, ok = strings.Cut(rest, ">"); !ok {
			break
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(name, "!"), 10, 63); err == nil {
			ids[textchat.ID(n)] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	users, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.User, error) {
		var list []textchat.User
		for id := range ids {
			if mem := g.Member(id); mem != nil {
				list = append(list, mem.User)
			}
		}
		return list, nil
	})
	m.Mentions = append(m.Mentions, users...)
	return err
}

func (c *call) messageEdit() (int, any, error) {
	o, ch, perms, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(ch.ID)
	if err != nil {
		return 0, nil, err
	}
	if m.Author.ID != c.user.ID {
		return 0, nil, textchat.Refuse(http.StatusForbidden, textchat.CodeEditOthers, "Cannot edit a message authored by another user")
	}
	var in struct {
		Content *string `json:"content"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if in.Content != nil {
		if strings.TrimSpace(*in.Content) == "" {
			return 0, nil, textchat.Refuse(http.StatusBadRequest, textchat.CodeEmptyMessage, "Cannot send an empty message")
		}
		if m.Content, err = contentField(*in.Content); err != nil {
			return 0, nil, err
		}
		m.EditedTimestamp = &textchat.Time{Time: c.now}
		if err := c.mentions(o, &m, perms); err != nil {
			return 0, nil, err
		}
		if err := c.srv.store.EditMessage(c.srv.life, m); errors.Is(err, textchat.ErrNoRecord) {
			return 0, nil, textchat.ErrUnknownMessage
		} else if err != nil {
			return 0, nil, err
		}
		o.tell(c.ctx, guild.Posted{Message: m, Edited: true})
	}
	return http.StatusOK, m, nil
}

func (c *call) messageDelete() (int, any, error) {
	o, ch, perms, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(ch.ID)
	if err != nil {
		return 0, nil, err
	}
	if m.Author.ID != c.user.ID && !perms.Has(textchat.ManageMessages) {
		return 0, nil, textchat.ErrMissingPerms
	}
	if err := c.srv.store.DeleteMessage(c.srv.life, ch.ID, m.ID); errors.Is(err, textchat.ErrNoRecord) {
		return 0, nil, textchat.ErrUnknownMessage
	} else if err != nil {
		return 0, nil, err
	}
	o.tell(c.ctx, guild.Erased{Channel: ch.ID, Message: m.ID})
	return http.StatusNoContent, nil, nil
}
