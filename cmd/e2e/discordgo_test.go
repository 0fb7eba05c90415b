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
		list, err := s.ChannelMessages(a[0], n, a[2], "", "")
		return joined(list, err, func(m *discordgo.Message) string { return m.Content })
	case "react":
		return "", code(s.MessageReactionAdd(a[0], a[1], a[2]))
	case "unreact":
		return "", code(s.MessageReactionRemove(a[0], a[1], a[2], "@me"))
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
