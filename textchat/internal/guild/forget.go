package guild

import (
	"time"

	"voicefleet/textchat"
)

// Forget rewrites what is kept of a user who is erased: its ban, webhooks that it made,
// and entries of the audit log, as they are given. Nobody gets an event.
type Forget struct {
	User     textchat.User // as it is from now on
	Ban      bool
	Webhooks []textchat.Webhook
	Audit    []textchat.AuditEntry
}

func (in Forget) handle(g *Guild, _ time.Time, out *Out) {
	if in.Ban && g.banned[in.User.ID] {
		out.change(textchat.Change{PutBan: &textchat.Ban{User: in.User}})
	}
	for i, w := range in.Webhooks {
		if g.channels[w.Channel] != nil {
			out.change(textchat.Change{PutWebhook: &in.Webhooks[i]})
		}
	}
	for i := range in.Audit {
		out.change(textchat.Change{PutAudit: &in.Audit[i]})
	}
}
