package textchat

import (
	"slices"
	"time"
)

// The types of threads: of an announcement channel, of a text channel, and the
// private kind that only its members see.
const (
	ChannelAnnouncementThread ChannelType = 10
	ChannelPublicThread       ChannelType = 11
	ChannelPrivateThread      ChannelType = 12
)

// Thread says whether a channel of this type is a thread of another.
func (t ChannelType) Thread() bool {
	return t >= ChannelAnnouncementThread && t <= ChannelPrivateThread
}

// Bounds of threads.
const (
	MaxThreads       = 1000 // active ones of a guild
	MaxThreadMembers = 1000
)

// ArchiveAfter are the minutes without a message after which a thread may be
// archived by itself; the first is for those that name none.
var ArchiveAfter = []int{1440, 60, 4320, 10080}

// ThreadMeta is the life of a thread.
type ThreadMeta struct {
	Archived bool `json:"archived"`
	// AutoArchive is one of ArchiveAfter.
	AutoArchive int `json:"auto_archive_duration"`
	// ArchivedAt is when Archived changed last, or when the thread was made.
	ArchivedAt Time `json:"archive_timestamp"`
	// Locked: only who manages threads may open it again.
	Locked bool `json:"locked"`
	// Invitable: members may bring in others; of private threads.
	Invitable *bool `json:"invitable,omitempty"`
	CreatedAt Time  `json:"create_timestamp"`
}

// ThreadMember is a user who follows a thread.
type ThreadMember struct {
	Thread   ID   `json:"id"`
	User     ID   `json:"user_id"`
	JoinedAt Time `json:"join_timestamp"`
	Flags    int  `json:"flags"`
}

// ThreadMember finds a member of a thread.
func (c *Channel) ThreadMember(user ID) (ThreadMember, bool) {
	i := slices.IndexFunc(c.ThreadMembers, func(m ThreadMember) bool { return m.User == user })
	if i < 0 {
		return ThreadMember{}, false
	}
	return c.ThreadMembers[i], true
}

// Shown is a channel as the API shows it to a user (0: to all): of a thread how
// many members it has, and whether the user is one of them.
func (c Channel) Shown(user ID) Channel {
	if !c.Type.Thread() {
		return c
	}
	n := min(len(c.ThreadMembers), 50) // as the public API counts
	c.MemberCount = &n
	if c.MessageCount == nil {
		c.MessageCount = new(int)
	}
	c.TotalSent = c.MessageCount
	if m, ok := c.ThreadMember(user); ok && user != 0 {
		c.Member = &m
	}
	c.ThreadMembers = nil
	return c
}

// ArchivesAt is when a thread is archived by itself, if nothing happens in it;
// zero for one that is archived and for what is no thread.
func (c *Channel) ArchivesAt() time.Time {
	if c.Thread == nil || c.Thread.Archived {
		return time.Time{}
	}
	at := c.Thread.ArchivedAt.Time
	if c.LastMessage != nil {
		if last := c.LastMessage.Time(); last.After(at) {
			at = last
		}
	}
	return at.Add(time.Duration(c.Thread.AutoArchive) * time.Minute)
}
