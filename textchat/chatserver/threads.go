package chatserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

// threadForm is what may be set of a thread; what is nil stays.
type threadForm struct {
	Name        *string               `json:"name"`
	Type        *textchat.ChannelType `json:"type"`
	AutoArchive *int                  `json:"auto_archive_duration"`
	RateLimit   *int                  `json:"rate_limit_per_user"`
	Invitable   *bool                 `json:"invitable"`
	Archived    *bool                 `json:"archived"`
	Locked      *bool                 `json:"locked"`
}

// apply sets what the form has.
func (f threadForm) apply(t *textchat.Channel) error {
	meta := *t.Thread
	if f.Name != nil {
		n, err := nameField("name", *f.Name, textchat.MaxName)
		if err != nil {
			return err
		}
		t.Name = n
	}
	if f.AutoArchive != nil {
		if !slices.Contains(textchat.ArchiveAfter, *f.AutoArchive) {
			return textchat.InvalidField("auto_archive_duration", "BASE_TYPE_CHOICES", "Must be 60, 1440, 4320 or 10080 minutes.")
		}
		meta.AutoArchive = *f.AutoArchive
	}
	if f.RateLimit != nil {
		if *f.RateLimit < 0 || *f.RateLimit > 21600 {
			return textchat.InvalidField("rate_limit_per_user", "NUMBER_TYPE_RANGE", "This number is out of range.")
		}
		t.RateLimitPerUser = *f.RateLimit
	}
	if f.Invitable != nil && t.Type == textchat.ChannelPrivateThread {
		meta.Invitable = f.Invitable
	}
	if f.Archived != nil {
		meta.Archived = *f.Archived
	}
	if f.Locked != nil {
		meta.Locked = *f.Locked
	}
	t.Thread = &meta
	return nil
}

// begin makes a thread of a channel; one of a message has its id.
func (c *call) begin(o *owner, parent textchat.Channel, id textchat.ID, kind textchat.ChannelType, in threadForm) (*textchat.Channel, error) {
	if in.Name == nil || strings.TrimSpace(*in.Name) == "" {
		return nil, textchat.InvalidField("name", "BASE_TYPE_REQUIRED", "This field is required")
	}
	in.Archived, in.Locked = nil, nil
	t := textchat.Channel{ID: id, Type: kind, Guild: o.id, Parent: &parent.ID, Overwrites: []textchat.Overwrite{}, MessageCount: new(int),
		Thread: &textchat.ThreadMeta{AutoArchive: textchat.ArchiveAfter[0]}}
	if kind == textchat.ChannelPrivateThread {
		yes := true
		t.Thread.Invitable = &yes
	}
	if err := in.apply(&t); err != nil {
		return nil, err
	}
	out, err := c.do(o, guild.PutThread{Actor: c.user.ID, New: true, Thread: t})
	if err != nil {
		return nil, err
	}
	shown := out.Channel.Shown(c.user.ID)
	return &shown, nil
}

// threadOfMessage begins a thread that hangs on a message.
func (c *call) threadOfMessage() (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel | textchat.ReadMessageHistory)
	if err != nil {
		return 0, nil, err
	}
	m, err := c.message(ch.ID)
	if err != nil {
		return 0, nil, err
	}
	if m.Type != textchat.MessageDefault && m.Type != textchat.MessageReply {
		return 0, nil, textchat.ErrSystemMessage
	}
	var in threadForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	kind := textchat.ChannelPublicThread
	if ch.Type == textchat.ChannelAnnouncement {
		kind = textchat.ChannelAnnouncementThread
	}
	t, err := c.begin(o, ch, m.ID, kind, in)
	return http.StatusCreated, t, err
}

// threadCreate begins a thread on its own, and says so in its channel.
func (c *call) threadCreate() (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel)
	if err != nil {
		return 0, nil, err
	}
	var in threadForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	kind := textchat.ChannelPrivateThread
	if in.Type != nil {
		kind = *in.Type
	}
	if !kind.Thread() {
		return 0, nil, textchat.InvalidField("type", "BASE_TYPE_CHOICES", "Must be 10 (announcement), 11 (public) or 12 (private).")
	}
	t, err := c.begin(o, ch, c.srv.newID(), kind, in)
	if err != nil {
		return 0, nil, err
	}
	if kind != textchat.ChannelPrivateThread {
		note := textchat.Message{ID: c.srv.newID(), Channel: ch.ID, Author: c.user, Type: textchat.MessageThread, Content: t.Name,
			Mentions: []textchat.User{}, MentionRoles: []textchat.ID{}, Attachments: []textchat.Attachment{}, Embeds: []textchat.Embed{},
			Components: []json.RawMessage{}, Reference: &textchat.MessageReference{Channel: t.ID, Guild: o.id}}
		note.Timestamp.Time = note.ID.Time()
		c.announce(place{owner: o, channel: ch}, note)
	}
	return http.StatusCreated, t, nil
}

// threadPatch changes a thread: the way of PATCH /channels/{channel} for those.
func (c *call) threadPatch(o *owner, t textchat.Channel) (int, any, error) {
	var in threadForm
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if err := in.apply(&t); err != nil {
		return 0, nil, err
	}
	out, err := c.do(o, guild.PutThread{Actor: c.user.ID, Thread: t})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, out.Channel.Shown(c.user.ID), nil
}

// thread finds the thread of the path.
func (c *call) thread() (*owner, textchat.Channel, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel)
	if err == nil && !ch.Type.Thread() {
		err = textchat.ErrChannelType
	}
	return o, ch, err
}

// threadUser is the user of the path; @me is the caller.
func (c *call) threadUser() (textchat.ID, error) {
	if c.r.PathValue("user") == "@me" {
		return c.user.ID, nil
	}
	return c.id("user", textchat.ErrUnknownUser)
}

func (c *call) threadJoin() (int, any, error)  { return c.followThread(false) }
func (c *call) threadLeave() (int, any, error) { return c.followThread(true) }

func (c *call) followThread(leaves bool) (int, any, error) {
	o, ch, err := c.thread()
	if err != nil {
		return 0, nil, err
	}
	user, err := c.threadUser()
	if err != nil {
		return 0, nil, err
	}
	_, err = o.do(c.ctx, guild.FollowThread{Actor: c.user.ID, User: user, Thread: ch.ID, Leaves: leaves})
	return http.StatusNoContent, nil, err
}

func (c *call) threadMembers() (int, any, error) {
	_, ch, err := c.thread()
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 100, 1, 100)
	if err != nil {
		return 0, nil, err
	}
	after, err := c.queryID("after")
	if err != nil {
		return 0, nil, err
	}
	list := slices.DeleteFunc(slices.Clone(ch.ThreadMembers), func(m textchat.ThreadMember) bool { return m.User <= after })
	slices.SortFunc(list, func(a, b textchat.ThreadMember) int {
		if a.User < b.User {
			return -1
		}
		return 1
	})
	return http.StatusOK, append([]textchat.ThreadMember{}, list[:min(limit, len(list))]...), nil
}

func (c *call) threadMember() (int, any, error) {
	_, ch, err := c.thread()
	if err != nil {
		return 0, nil, err
	}
	user, err := c.threadUser()
	if err != nil {
		return 0, nil, err
	}
	m, ok := ch.ThreadMember(user)
	if !ok {
		return 0, nil, textchat.ErrThreadMember
	}
	return http.StatusOK, m, nil
}

// threadList is the answer to all lists of threads: with the caller's own
// memberships beside them.
type threadList struct {
	Threads []textchat.Channel      `json:"threads"`
	Members []textchat.ThreadMember `json:"members"`
	More    *bool                   `json:"has_more,omitempty"`
}

func listed(threads []textchat.Channel) threadList {
	l := threadList{Threads: threads, Members: []textchat.ThreadMember{}}
	for _, t := range threads {
		if t.Member != nil {
			l.Members = append(l.Members, *t.Member)
		}
	}
	return l
}

func (c *call) threadsActive() (int, any, error) {
	o, err := c.guild()
	if err != nil {
		return 0, nil, err
	}
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Channel, error) { return g.Threads(c.user.ID, 0), nil })
	return http.StatusOK, listed(list), err
}

func (c *call) threadsPublic() (int, any, error) { return c.threadsArchived(0, false, false) }
func (c *call) threadsPrivate() (int, any, error) {
	return c.threadsArchived(textchat.ManageThreads, true, false)
}
func (c *call) threadsJoined() (int, any, error) { return c.threadsArchived(0, true, true) }

func (c *call) threadsArchived(need textchat.Permissions, private, joined bool) (int, any, error) {
	o, ch, _, err := c.channel(textchat.ViewChannel | textchat.ReadMessageHistory | need)
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.queryInt("limit", 50, 1, 100)
	if err != nil {
		return 0, nil, err
	}
	var before time.Time
	if v := c.r.URL.Query().Get("before"); v != "" {
		if before, err = time.Parse(time.RFC3339, v); err != nil {
			id, idErr := c.queryID("before") // the private ones of the caller are asked for by id
			if idErr != nil {
				return 0, nil, textchat.InvalidField("before", "DATE_TIME_TYPE_PARSE", "Must be an ISO 8601 time.")
			}
			before = id.Time()
		}
	}
	var more bool
	list, err := read(c.ctx, o, func(g *guild.Guild) ([]textchat.Channel, error) {
		l, m := g.ArchivedThreads(c.user.ID, ch.ID, private, joined, before, limit)
		more = m
		return l, nil
	})
	out := listed(list)
	out.More = &more
	return http.StatusOK, out, err
}

// open refuses to write in a thread that is closed to the writer.
func (p place) open() error {
	if t := p.channel.Thread; t != nil && t.Locked && !p.perms.Has(textchat.ManageThreads) {
		return textchat.ErrThreadLocked
	}
	return nil
}
