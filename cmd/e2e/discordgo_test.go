package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/bwmarrin/discordgo"
)

// TestDiscordGo holds the unmodified discordgo to the common script.
func TestDiscordGo(t *testing.T) {
	runScript(t, startDiscordGo)
}

func startDiscordGo(t *testing.T, base, token string, shards int) library {
	// The library has its addresses in variables of its package.
	api := base + "/api/v" + discordgo.APIVersion + "/"
	discordgo.EndpointDiscord, discordgo.EndpointAPI = base+"/", api
	discordgo.EndpointGuilds, discordgo.EndpointChannels, discordgo.EndpointUsers = api+"guilds/", api+"channels/", api+"users/"
	discordgo.EndpointWebhooks = api + "webhooks/"
	discordgo.EndpointGateway, discordgo.EndpointGatewayBot = api+"gateway", api+"gateway/bot"
	l := &discordgoLib{events: make(chan string, eventsHeld)}
	for i := range shards {
		s, err := discordgo.New("Bot " + token)
		must(t, err)
		s.ShardID, s.ShardCount = i, shards
		s.Identify.Intents = discordgo.IntentsAll
		s.StateEnabled = false
		l.listen(s)
		must(t, s.Open())
		l.sessions = append(l.sessions, s)
	}
	return l
}

type discordgoLib struct {
	sessions []*discordgo.Session
	events   chan string
}

func (l *discordgoLib) listen(s *discordgo.Session) {
	say := func(format string, args ...any) { l.events <- fmt.Sprintf(format, args...) }
	s.SyncEvents = true // in the order in which they come
	s.AddHandler(func(s *discordgo.Session, _ *discordgo.Ready) { say("ready %d", s.ShardID) })
	s.AddHandler(func(*discordgo.Session, *discordgo.Resumed) { say("resumed") })
	s.AddHandler(func(_ *discordgo.Session, m *discordgo.MessageCreate) { say("message %s", m.Content) })
	s.AddHandler(func(_ *discordgo.Session, m *discordgo.MessageUpdate) { say("edited %s", m.Content) })
	s.AddHandler(func(_ *discordgo.Session, m *discordgo.MessageDelete) { say("deleted %s", m.ID) })
	s.AddHandler(func(_ *discordgo.Session, m *discordgo.MessageDeleteBulk) { say("bulk %d", len(m.Messages)) })
	s.AddHandler(func(_ *discordgo.Session, r *discordgo.MessageReactionAdd) { say("reaction %s", r.Emoji.Name) })
	s.AddHandler(func(_ *discordgo.Session, r *discordgo.MessageReactionRemoveAll) { say("cleared %s", r.MessageID) })
	s.AddHandler(func(_ *discordgo.Session, c *discordgo.ThreadCreate) { say("thread %s", c.Name) })
	s.AddHandler(func(_ *discordgo.Session, r *discordgo.GuildRoleCreate) { say("role %s", r.Role.Name) })
}

func (l *discordgoLib) heard() <-chan string { return l.events }

func (l *discordgoLib) close() {
	for _, s := range l.sessions {
		_ = s.Close()
	}
}

func (l *discordgoLib) do(verb string, a ...string) (string, error) {
	s := l.sessions[0]
	message := func(m *discordgo.Message, err error) (string, error) {
		if err != nil {
			return "", code(err)
		}
		return m.ID, nil
	}
	channel := func(c *discordgo.Channel, err error) (string, error) {
		if err != nil {
			return "", code(err)
		}
		return c.ID, nil
	}
	content := func(m *discordgo.Message, err error) (string, error) {
		if err != nil {
			return "", code(err)
		}
		return m.Content, nil
	}
	switch verb {
	case "send":
		return message(s.ChannelMessageSend(a[0], a[1]))
	case "reply":
		return message(s.ChannelMessageSendReply(a[0], a[1], &discordgo.MessageReference{MessageID: a[2], ChannelID: a[0]}))
	case "edit":
		return content(s.ChannelMessageEdit(a[0], a[1], a[2]))
	case "get":
		return content(s.ChannelMessage(a[0], a[1]))
	case "history":
		n, _ := strconv.Atoi(a[1])
		at := map[string]string{a[2]: a[3]}
		list, err := s.ChannelMessages(a[0], n, at["before"], at["after"], at["around"])
		return joined(list, err, func(m *discordgo.Message) string { return m.Content })
	case "react":
		return "", code(s.MessageReactionAdd(a[0], a[1], a[2]))
	case "unreact":
		return "", code(s.MessageReactionRemove(a[0], a[1], a[2], "@me"))
	case "clear":
		if a[2] == "" {
			return "", code(s.MessageReactionsRemoveAll(a[0], a[1]))
		}
		return "", code(s.MessageReactionsRemoveEmoji(a[0], a[1], a[2]))
	case "reactions":
		m, err := s.ChannelMessage(a[0], a[1])
		if err != nil {
			return "", code(err)
		}
		return joined(m.Reactions, nil, func(r *discordgo.MessageReactions) string { return r.Emoji.Name })
	case "embed":
		return message(s.ChannelMessageSendEmbed(a[0], &discordgo.MessageEmbed{Title: a[1], Description: a[2]}))
	case "embedded":
		m, err := s.ChannelMessage(a[0], a[1])
		if err != nil {
			return "", code(err)
		}
		return joined(m.Embeds, nil, func(e *discordgo.MessageEmbed) string { return e.Title + ": " + e.Description })
	case "webhook":
		w, err := s.WebhookCreate(a[0], a[1], "")
		if err != nil {
			return "", code(err)
		}
		return w.ID + "/" + w.Token, nil
	case "post":
		id, token, _ := strings.Cut(a[0], "/")
		return message(s.WebhookExecute(id, token, true, &discordgo.WebhookParams{Content: a[1]}))
	case "unhook":
		id, _, _ := strings.Cut(a[0], "/")
		return "", code(s.WebhookDelete(id))
	case "thread":
		return channel(s.MessageThreadStart(a[0], a[1], a[2], 60))
	case "dm":
		return channel(s.UserChannelCreate(a[0]))
	case "reactors":
		list, err := s.MessageReactions(a[0], a[1], a[2], 100, "", "")
		return joined(list, err, func(u *discordgo.User) string { return u.ID })
	case "pin":
		return "", code(s.ChannelMessagePin(a[0], a[1]))
	case "unpin":
		return "", code(s.ChannelMessageUnpin(a[0], a[1]))
	case "pins":
		list, err := s.ChannelMessagesPinned(a[0])
		return joined(list, err, func(m *discordgo.Message) string { return m.ID })
	case "typing":
		return "", code(s.ChannelTyping(a[0]))
	case "delete":
		return "", code(s.ChannelMessageDelete(a[0], a[1]))
	case "bulk":
		return "", code(s.ChannelMessagesBulkDelete(a[0], a[1:]))
	case "upload":
		m, err := s.ChannelFileSend(a[0], a[1], strings.NewReader(a[2]))
		if err != nil {
			return "", code(err)
		}
		return m.Attachments[0].URL, nil
	case "role":
		r, err := s.GuildRoleCreate(a[0], &discordgo.RoleParams{Name: a[1]})
		if err != nil {
			return "", code(err)
		}
		return r.ID, nil
	case "give":
		return "", code(s.GuildMemberRoleAdd(a[0], a[1], a[2]))
	case "take":
		return "", code(s.GuildMemberRoleRemove(a[0], a[1], a[2]))
	case "unrole":
		return "", code(s.GuildRoleDelete(a[0], a[1]))
	case "invite":
		i, err := s.ChannelInviteCreate(a[0], discordgo.Invite{MaxAge: 600, Unique: true})
		if err != nil {
			return "", code(err)
		}
		return i.Code, nil
	case "invites":
		list, err := s.ChannelInvites(a[0])
		return joined(list, err, func(i *discordgo.Invite) string { return i.Code })
	case "uninvite":
		_, err := s.InviteDelete(a[0])
		return "", code(err)
	}
	return "", fmt.Errorf("no verb %q", verb)
}

// joined makes one line of a list.
func joined[T any](list []T, err error, of func(T) string) (string, error) {
	if err != nil {
		return "", code(err)
	}
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = of(x)
	}
	return strings.Join(words, "|"), nil
}

// code makes an apiError of a library's refusal.
func code(err error) error {
	var dg *discordgo.RESTError
	if errors.As(err, &dg) && dg.Message != nil {
		return apiError(dg.Message.Code)
	}
	return disgoCode(err)
}
