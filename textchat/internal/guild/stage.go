package guild

import (
	"time"

	"voicefleet/textchat"
)

// requestSlack is how far the clock of who asks to speak may be behind: clients send
// their present time.
const requestSlack = time.Minute

// PatchVoice changes the voice state of a user on a stage; what is nil stays. Who may
// mute members lets others speak and ends that; everybody may fall silent, and ask to
// speak with a permission.
type PatchVoice struct {
	Actor, User textchat.ID
	// Channel is where the actor believes the user to be; zero: wherever it is.
	Channel  textchat.ID
	Suppress *bool // true: the user only listens
	// Request is since when the user asks to speak; zero takes that back. Nobody asks
	// for another.
	Request *time.Time
}

func (in PatchVoice) handle(g *Guild, now time.Time, out *Out) {
	if err := g.mayPatchVoice(now, in); err != nil {
		out.refuse(err)
		return
	}
	old := g.voice[in.User]
	v := *old
	if in.Suppress != nil && (*in.Suppress || v.Suppressed) {
		v.Suppressed, v.Asked = *in.Suppress, time.Time{} // it is answered, one way or the other
		if !v.Suppressed && in.Actor != in.User && !g.members[in.User].User.Bot {
			v.Asked = now // clients take it for an invitation
		}
	}
	if in.Request != nil {
		if v.Asked = *in.Request; !v.Asked.IsZero() && v.Asked.Before(now) {
			v.Asked = now
		}
	}
	if v.Suppressed == old.Suppressed && v.Asked.Equal(old.Asked) {
		return
	}
	put(g, g.voice, in.User, &v)
	g.refreshRights(out, in.User)
	g.tell(out, in.User, v.Channel, "")
}

// mayPatchVoice says why an actor may not change a voice state so.
func (g *Guild) mayPatchVoice(now time.Time, in PatchVoice) *textchat.Error {
	v, self := g.voice[in.User], in.Actor == in.User
	if v == nil {
		return textchat.ErrUnknownVoice
	}
	perms := g.Permissions(in.Actor, v.Channel)
	switch {
	case !self && !perms.Has(textchat.ViewChannel):
		return textchat.ErrUnknownVoice
	case in.Channel != 0 && in.Channel != v.Channel:
		if !g.Permissions(in.Actor, in.Channel).Has(textchat.ViewChannel) {
			return textchat.ErrUnknownChannel
		}
		return textchat.ErrUnknownVoice
	case !g.isStage(v.Channel):
		return textchat.ErrChannelType
	case (!self || in.Suppress != nil && !*in.Suppress) && !perms.Has(textchat.MuteMembers),
		!self && in.Request != nil:
		return textchat.ErrMissingPerms
	case in.Request == nil || in.Request.IsZero():
		return nil
	case !perms.Has(textchat.RequestToSpeak):
		return textchat.ErrMissingPerms
	case in.Request.Before(now.Add(-requestSlack)) || in.Request.UTC().Year() > 9999:
		return textchat.InvalidField("request_to_speak_timestamp", "BASE_TYPE_BAD_TIME", "Must be a time now or in the future.")
	}
	return nil
}

func (g *Guild) isStage(channel textchat.ID) bool {
	c := g.channels[channel]
	return c != nil && c.Type == textchat.ChannelStage
}

// suppressed says whether a user only listens in a channel: on a stage, until somebody
// lets it speak. Who may do that speaks from the start.
func (g *Guild) suppressed(user, channel textchat.ID) bool {
	if v := g.voice[user]; v != nil && v.Channel == channel {
		return v.Suppressed
	}
	return g.isStage(channel) && !g.Permissions(user, channel).Has(textchat.MuteMembers)
}
