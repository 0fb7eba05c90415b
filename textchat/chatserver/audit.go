package chatserver

import (
	"errors"
	"net/http"
	"net/url"
	"unicode/utf8"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// reason reads why the caller does what it does, for the audit log.
func (c *call) reason() (string, error) {
	v := c.r.Header.Get("X-Audit-Log-Reason")
	if v == "" {
		return "", nil
	}
	plain, err := url.PathUnescape(v)
	if err != nil {
		plain = v // some write a percent sign for itself
	}
	if !utf8.ValidString(plain) || utf8.RuneCountInString(plain) > textchat.MaxReason {
		return "", textchat.InvalidField("reason", "BASE_TYPE_MAX_LENGTH", "X-Audit-Log-Reason must be 512 or fewer in length.")
	}
	return clean(plain), nil
}

// audited is an input of which the audit log will tell.
func (c *call) audited(in guild.Input) (guild.Input, error) {
	reason, err := c.reason()
	if err != nil {
		return nil, err
	}
	return guild.Audited{Input: in, Actor: c.user.ID, Reason: reason,
		IDs: [3]textchat.ID{c.srv.newID(), c.srv.newID(), c.srv.newID()}}, nil
}

// do has the guild do something that the audit log tells of.
func (c *call) do(o *owner, in guild.Input) (guild.Out, error) {
	a, err := c.audited(in)
	if err != nil {
		return guild.Out{}, err
	}
	return o.do(c.ctx, a)
}

// may finds the guild of the path, in which the caller must have permissions.
func (c *call) may(need textchat.Permissions) (*owner, error) {
	o, err := c.guild()
	if err != nil {
		return nil, err
	}
	return o, o.ask(c.ctx, func() error {
		if !o.core.Base(c.user.ID).Has(need) {
			return textchat.ErrMissingPerms
		}
		return nil
	})
}

// auditLog lists what was done, with the users and webhooks it names.
func (c *call) auditLog() (int, any, error) {
	o, err := c.may(textchat.ViewAuditLog)
	if err != nil {
		return 0, nil, err
	}
	var q textchat.AuditQuery
	if q.Limit, err = c.queryInt("limit", 50, 1, 100); err != nil {
		return 0, nil, err
	}
	for name, to := range map[string]*textchat.ID{"before": &q.Before, "after": &q.After, "user_id": &q.User} {
		if *to, err = c.queryID(name); err != nil {
			return 0, nil, err
		}
	}
	action, err := c.queryInt("action_type", 0, 0, 1000)
	if err != nil {
		return 0, nil, err
	}
	q.Action = textchat.AuditAction(action)
	list, err := c.srv.store.Audit(c.ctx, o.id, q)
	if err != nil {
		return 0, nil, err
	}
	users, hooks := []textchat.User{}, []textchat.Webhook{}
	seen := map[textchat.ID]bool{}
	for _, e := range list {
		ids := []textchat.ID{e.User}
		hooked := e.Action >= textchat.AuditWebhookCreate && e.Action <= textchat.AuditWebhookDelete
		if e.Target != nil {
			ids = append(ids, *e.Target)
		}
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			u, err := c.srv.store.User(c.ctx, id)
			switch {
			case err == nil:
				users = append(users, u)
				continue
			case !errors.Is(err, textchat.ErrNoRecord):
				return 0, nil, err
			case !hooked:
				continue
			}
			h, err := c.srv.store.Webhook(c.ctx, id)
			if err == nil {
				h.Token = ""
				hooks = append(hooks, h)
			} else if !errors.Is(err, textchat.ErrNoRecord) {
				return 0, nil, err
			}
		}
	}
	return http.StatusOK, map[string]any{"audit_log_entries": append([]textchat.AuditEntry{}, list...), "users": users, "webhooks": hooks,
		"application_commands": []string{}, "auto_moderation_rules": []string{}, "guild_scheduled_events": []string{}, "integrations": []string{},
		"threads": []string{}}, nil
}
