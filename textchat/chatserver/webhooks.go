package chatserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/ratelimit"
)

// webhookTokenLen characters are a webhook's token: 394 bits, as long as clients
// expect one.
const webhookTokenLen = 68

// webhookPermissions are what a webhook may do in its channel.
const webhookPermissions = dmPermissions | textchat.MentionEveryone

// webhookName checks a name that people will see above messages.
func webhookName(field, v string) (string, error) {
	n, err := nameField(field, v, 80)
	if err != nil {
		return "", err
	}
	for _, no := range []string{"clyde", "discord", "everyone", "here"} {
		if l := strings.ToLower(n); l == no || (no == "clyde" || no == "discord") && strings.Contains(l, no) {
			return "", textchat.InvalidField(field, "WEBHOOK_NAME_INVALID", "Name cannot contain this word.")
		}
	}
	return n, nil
}

func (c *call) webhookCreate() (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel | textchat.ManageWebhooks)
	if err == nil && ch.Type.Thread() {
		err = textchat.ErrChannelType // the webhooks of its channel post in it
	}
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	name, err := webhookName("name", in.Name)
	if err != nil {
		return 0, nil, err
	}
	u := c.user
	w := textchat.Webhook{ID: c.srv.newID(), Type: 1, Guild: o.id, Channel: ch.ID, User: &u, Name: &name, Token: randomCode(webhookTokenLen)}
	return c.webhookPut(o, guild.PutWebhook{By: c.user.ID, Webhook: w})
}

// webhookPut makes or changes a webhook and answers with it. One that was deleted
// meanwhile does not come back.
func (c *call) webhookPut(o *owner, in guild.PutWebhook) (int, any, error) {
	list, err := c.srv.store.Webhooks(c.ctx, o.id)
	if err != nil {
		return 0, nil, err
	}
	there := in.Before == nil
	for _, w := range list {
		if w.Channel == in.Webhook.Channel {
			in.Count++
		}
		there = there || w.ID == in.Webhook.ID
	}
	if !there {
		return 0, nil, textchat.ErrUnknownWebhook
	}
	if in.By == 0 {
		_, err = o.do(c.ctx, in)
	} else {
		_, err = c.do(o, in)
	}
	return http.StatusOK, in.Webhook, err
}

// webhookList lists those of a channel, or of a guild.
func (c *call) webhookList() (int, any, error) {
	var o *owner
	var only textchat.ID
	var err error
	if c.r.PathValue("channel") != "" {
		var ch textchat.Channel
		if o, ch, _, err = c.channel(textchat.ViewChannel | textchat.ManageWebhooks); err != nil {
			return 0, nil, err
		}
		only = ch.ID
	} else if o, err = c.may(textchat.ManageWebhooks); err != nil {
		return 0, nil, err
	}
	list, err := c.srv.store.Webhooks(c.ctx, o.id)
	if err != nil {
		return 0, nil, err
	}
	list, err = read(c.ctx, o, func(g *guild.Guild) ([]textchat.Webhook, error) {
		return slices.DeleteFunc(list, func(w textchat.Webhook) bool {
			return only != 0 && w.Channel != only || !g.Permissions(c.user.ID, w.Channel).Has(textchat.ManageWebhooks)
		}), nil
	})
	return http.StatusOK, append([]textchat.Webhook{}, list...), err
}

// webhook finds the webhook of the path: by its token, or for a user who may
// manage it. It says whether it was by token.
func (c *call) webhook() (o *owner, w textchat.Webhook, byToken bool, err error) {
	id, err := c.id("webhook", textchat.ErrUnknownWebhook)
	if err != nil {
		return nil, w, false, err
	}
	w, err = c.srv.store.Webhook(c.ctx, id)
	if errors.Is(err, textchat.ErrNoRecord) {
		err = textchat.ErrUnknownWebhook
	}
	if err != nil {
		return nil, w, false, err
	}
	token := c.r.PathValue("token")
	byToken = token != ""
	if byToken {
		a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(w.Token))
		if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			return nil, w, true, textchat.Refuse(http.StatusUnauthorized, textchat.CodeWebhookToken, "Invalid Webhook Token")
		}
	}
	if o, err = c.srv.owner(w.Guild); err != nil || byToken {
		return o, w, byToken, err
	}
	return o, w, false, o.ask(c.ctx, func() error {
		switch {
		case o.core.Member(c.user.ID) == nil:
			return textchat.ErrUnknownWebhook
		case !o.core.Permissions(c.user.ID, w.Channel).Has(textchat.ManageWebhooks):
			return textchat.ErrMissingPerms
		}
		return nil
	})
}

func (c *call) webhookGet() (int, any, error) {
	_, w, byToken, err := c.webhook()
	if byToken {
		w.User = nil
	}
	return http.StatusOK, w, err
}

func (c *call) webhookPatch() (int, any, error) {
	var in struct {
		Name    *string     `json:"name"`
		Channel textchat.ID `json:"channel_id"`
	}
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	o, w, byToken, err := c.webhook() // as it is when the body has come
	if err != nil {
		return 0, nil, err
	}
	put := guild.PutWebhook{By: c.user.ID, Before: &w, Webhook: w}
	if in.Name != nil {
		n, err := webhookName("name", *in.Name)
		if err != nil {
			return 0, nil, err
		}
		put.Webhook.Name = &n
	}
	if byToken {
		put.By = 0
	} else if in.Channel != 0 {
		put.Webhook.Channel = in.Channel
	}
	status, body, err := c.webhookPut(o, put)
	if byToken {
		put.Webhook.User = nil
		body = put.Webhook
	}
	return status, body, err
}

func (c *call) webhookDelete() (int, any, error) {
	o, w, byToken, err := c.webhook()
	if err != nil {
		return 0, nil, err
	}
	in := guild.DropWebhook{By: c.user.ID, Webhook: w}
	if byToken {
		in.By = 0
		_, err = o.do(c.ctx, in)
	} else {
		_, err = c.do(o, in)
	}
	return http.StatusNoContent, nil, err
}

// hooked finds the webhook of the path, by token, and its place. Posts of one
// webhook are limited wherever they come from.
func (c *call) hooked() (textchat.Webhook, place, error) {
	o, w, _, err := c.webhook()
	if err != nil {
		return w, place{}, err
	}
	if a := c.srv.rates.Take(c.now, "hook|"+w.ID.String(), ratelimit.Rule{Limit: c.srv.cfg.Limits.Messages, Window: 5 * time.Second}); !a.OK {
		return w, place{}, c.limited(a, byAll)
	}
	thread, err := c.queryID("thread_id")
	if err != nil {
		return w, place{}, err
	}
	ch, err := read(c.ctx, o, func(g *guild.Guild) (textchat.Channel, error) {
		ch := g.Channel(w.Channel)
		if thread != 0 {
			if ch = g.Channel(thread); ch == nil || !ch.Type.Thread() || ch.Parent == nil || *ch.Parent != w.Channel {
				return textchat.Channel{}, textchat.InvalidField("thread_id", "BASE_TYPE_CHOICES", "There is no such thread.")
			}
		}
		if ch != nil {
			return *ch, nil
		}
		return textchat.Channel{}, textchat.ErrUnknownChannel
	})
	ch.RateLimitPerUser = 0 // slow mode is for members
	return w, place{owner: o, channel: ch, perms: webhookPermissions}, err
}

// author is who a webhook's message is by.
func hookAuthor(w textchat.Webhook, username *string) textchat.User {
	u := textchat.User{ID: w.ID, Bot: true, Discriminator: "0000", Avatar: w.Avatar}
	if w.Name != nil {
		u.Username = *w.Name
	}
	if username != nil {
		u.Username = *username
	}
	return u
}

func (c *call) webhookPost() (int, any, error) {
	w, p, err := c.hooked()
	if err != nil {
		return 0, nil, err
	}
	var in messageForm
	files, err := c.form(&in, p, w.ID)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.hookPost(p, w, &in, files)
	if err != nil {
		c.refused(files, err)
		return 0, nil, err
	}
	if c.r.URL.Query().Get("wait") != "true" {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, m, nil
}

func (c *call) hookPost(p place, w textchat.Webhook, in *messageForm, files []upload) (textchat.Message, error) {
	if in.Username != nil {
		n, err := webhookName("username", *in.Username)
		if err != nil {
			return textchat.Message{}, err
		}
		in.Username = &n
	}
	in.Reference, in.Nonce = nil, nil
	return c.post(p, hookAuthor(w, in.Username), w.ID, in, files)
}

// hookMessage finds a message that the webhook of the path posted.
func (c *call) hookMessage() (place, textchat.Message, error) {
	w, p, err := c.hooked()
	if err != nil {
		return p, textchat.Message{}, err
	}
	m, err := c.message(p.channel.ID)
	if err == nil && m.Webhook != w.ID {
		err = textchat.ErrUnknownMessage
	}
	return p, m, err
}

func (c *call) hookMessageGet() (int, any, error) {
	_, m, err := c.hookMessage()
	if err != nil {
		return 0, nil, err
	}
	return c.show(m)
}

func (c *call) hookMessageEdit() (int, any, error) {
	p, m, err := c.hookMessage()
	if err != nil {
		return 0, nil, err
	}
	var in messageForm
	files, err := c.form(&in, p, m.Webhook)
	if err != nil {
		return 0, nil, err
	}
	return c.edit(p, m, &in, files)
}

func (c *call) hookMessageDelete() (int, any, error) {
	p, m, err := c.hookMessage()
	if err != nil {
		return 0, nil, err
	}
	return c.erase(p, m, guild.Erased{Channel: m.Channel, Message: m.ID, Author: m.Author.ID})
}
