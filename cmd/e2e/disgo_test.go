package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/disgoorg/disgo"
	disgobot "github.com/disgoorg/disgo/bot"
	"github.com/disgoorg/disgo/discord"
	"github.com/disgoorg/disgo/events"
	"github.com/disgoorg/disgo/gateway"
	"github.com/disgoorg/disgo/rest"
	"github.com/disgoorg/disgo/sharding"
	"github.com/disgoorg/snowflake/v2"
)

// TestDisgo holds the unmodified disgo to the common script.
func TestDisgo(t *testing.T) {
	t.Parallel()
	runScript(t, startDisgo)
}

func startDisgo(t *testing.T, base, token string, shards int) library {
	l := &disgoLib{events: make(chan string, eventsHeld)}
	say := func(format string, args ...any) { l.events <- fmt.Sprintf(format, args...) }
	connect := []gateway.ConfigOpt{gateway.WithIntents(gateway.IntentsAll)}
	opts := []disgobot.ConfigOpt{
		disgobot.WithLogger(slog.New(slog.DiscardHandler)),
		disgobot.WithRestClientConfigOpts(rest.WithURL(base + "/api/v10")),
		disgobot.WithEventManagerConfigOpts(disgobot.WithListenerFunc(func(e *events.Ready) { say("ready %d", e.ShardID()) })),
		disgobot.WithEventListenerFunc(func(*events.Resumed) { say("resumed") }),
		disgobot.WithEventListenerFunc(func(e *events.GuildMessageCreate) { say("message %s", e.Message.Content) }),
		disgobot.WithEventListenerFunc(func(e *events.GuildMessageUpdate) { say("edited %s", e.Message.Content) }),
		disgobot.WithEventListenerFunc(l.deleted),
		disgobot.WithEventListenerFunc(func(e *events.GuildMessageReactionAdd) { say("reaction %s", *e.Emoji.Name) }),
		disgobot.WithEventListenerFunc(func(e *events.DMMessageCreate) { say("message %s", e.Message.Content) }),
		disgobot.WithEventListenerFunc(func(e *events.GuildMessageReactionRemoveAll) { say("cleared %s", e.MessageID) }),
		disgobot.WithEventListenerFunc(func(e *events.ThreadCreate) { say("thread %s", e.Thread.Name()) }),
		disgobot.WithEventListenerFunc(func(e *events.RoleCreate) { say("role %s", e.Role.Name) }),
	}
	if shards > 1 {
		ids := make([]int, shards)
		for i := range ids {
			ids[i] = i
		}
		opts = append(opts, disgobot.WithShardManagerConfigOpts(sharding.WithShardIDs(ids...), sharding.WithShardCount(shards), sharding.WithGatewayConfigOpts(connect...)))
	} else {
		opts = append(opts, disgobot.WithGatewayConfigOpts(connect...))
	}
	c, err := disgo.New(token, opts...)
	must(t, err)
	l.client = c
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if shards > 1 {
		must(t, c.OpenShardManager(ctx))
	} else {
		must(t, c.OpenGateway(ctx))
	}
	return l
}

type disgoLib struct {
	client *disgobot.Client
	events chan string
}

// deleted tells of single messages; disgo tells of those deleted at once one by
// one, too.
func (l *disgoLib) deleted(e *events.GuildMessageDelete) {
	l.events <- "deleted " + e.MessageID.String()
}

func (l *disgoLib) heard() <-chan string { return l.events }

func (l *disgoLib) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	l.client.Close(ctx)
}

func (l *disgoLib) do(verb string, a ...string) (string, error) {
	r := l.client.Rest
	id := func(i int) snowflake.ID {
		if i >= len(a) || a[i] == "" {
			return 0
		}
		return snowflake.MustParse(a[i])
	}
	message := func(m *discord.Message, err error) (string, error) {
		if err != nil {
			return "", code(err)
		}
		return m.ID.String(), nil
	}
	content := func(m *discord.Message, err error) (string, error) {
		if err != nil {
			return "", code(err)
		}
		return m.Content, nil
	}
	switch verb {
	case "send":
		return message(r.CreateMessage(id(0), discord.NewMessageCreate().WithContent(a[1])))
	case "reply":
		return message(r.CreateMessage(id(0), discord.NewMessageCreate().WithContent(a[1]).WithMessageReferenceByID(id(2))))
	case "edit":
		return content(r.UpdateMessage(id(0), id(1), discord.NewMessageUpdate().WithContent(a[2])))
	case "get":
		return content(r.GetMessage(id(0), id(1)))
	case "history":
		n, _ := strconv.Atoi(a[1])
		at := map[string]snowflake.ID{a[2]: id(3)}
		list, err := r.GetMessages(id(0), at["around"], at["before"], at["after"], n)
		return joined(list, err, func(m discord.Message) string { return m.Content })
	case "react":
		return "", code(r.AddReaction(id(0), id(1), a[2]))
	case "unreact":
		return "", code(r.RemoveOwnReaction(id(0), id(1), a[2]))
	case "clear":
		if a[2] == "" {
			return "", code(r.RemoveAllReactions(id(0), id(1)))
		}
		return "", code(r.RemoveAllReactionsForEmoji(id(0), id(1), a[2]))
	case "reactions":
		m, err := r.GetMessage(id(0), id(1))
		if err != nil {
			return "", code(err)
		}
		return joined(m.Reactions, nil, func(r discord.MessageReaction) string { return r.Emoji.Name })
	case "embed":
		return message(r.CreateMessage(id(0), discord.NewMessageCreate().WithEmbeds(discord.Embed{Title: a[1], Description: a[2]})))
	case "embedded":
		m, err := r.GetMessage(id(0), id(1))
		if err != nil {
			return "", code(err)
		}
		return joined(m.Embeds, nil, func(e discord.Embed) string { return e.Title + ": " + e.Description })
	case "webhook":
		w, err := r.CreateWebhook(id(0), discord.WebhookCreate{Name: a[1]})
		if err != nil {
			return "", code(err)
		}
		return w.ID().String() + "/" + w.Token, nil
	case "post":
		hook, token, _ := strings.Cut(a[0], "/")
		return message(r.CreateWebhookMessage(snowflake.MustParse(hook), token, discord.WebhookMessageCreate{Content: a[1]}, rest.CreateWebhookMessageParams{Wait: true}))
	case "unhook":
		hook, _, _ := strings.Cut(a[0], "/")
		return "", code(r.DeleteWebhook(snowflake.MustParse(hook)))
	case "thread":
		t, err := r.CreateThreadFromMessage(id(0), id(1), discord.ThreadCreateFromMessage{Name: a[2]})
		if err != nil {
			return "", code(err)
		}
		return t.ID().String(), nil
	case "dm":
		c, err := r.CreateDMChannel(id(0))
		if err != nil {
			return "", code(err)
		}
		return c.ID().String(), nil
	case "reactors":
		list, err := r.GetReactions(id(0), id(1), a[2], discord.MessageReactionTypeNormal, 0, 100)
		return joined(list, err, func(u discord.User) string { return u.ID.String() })
	case "pin":
		return "", code(r.PinMessage(id(0), id(1)))
	case "unpin":
		return "", code(r.UnpinMessage(id(0), id(1)))
	case "pins":
		p, err := r.GetChannelPins(id(0), time.Time{}, 50)
		if err != nil {
			return "", code(err)
		}
		return joined(p.Items, nil, func(p discord.MessagePin) string { return p.Message.ID.String() })
	case "typing":
		return "", code(r.SendTyping(id(0)))
	case "delete":
		return "", code(r.DeleteMessage(id(0), id(1)))
	case "bulk":
		err := r.BulkDeleteMessages(id(0), []snowflake.ID{id(1), id(2)})
		if err == nil {
			err = l.bulk(a[1:])
		}
		return "", code(err)
	case "upload":
		m, err := r.CreateMessage(id(0), discord.NewMessageCreate().WithFiles(discord.NewFile(a[1], "", strings.NewReader(a[2]))))
		if err != nil {
			return "", code(err)
		}
		return m.Attachments[0].URL, nil
	case "role":
		role, err := r.CreateRole(id(0), discord.RoleCreate{Name: a[1]})
		if err != nil {
			return "", code(err)
		}
		return role.ID.String(), nil
	case "give":
		return "", code(r.AddMemberRole(id(0), id(1), id(2)))
	case "take":
		return "", code(r.RemoveMemberRole(id(0), id(1), id(2)))
	case "unrole":
		return "", code(r.DeleteRole(id(0), id(1)))
	case "invite":
		age := 600
		i, err := r.CreateInvite(id(0), discord.InviteCreate{MaxAge: &age, Unique: true})
		if err != nil {
			return "", code(err)
		}
		return i.Code, nil
	case "invites":
		list, err := r.GetChannelInvites(id(0))
		return joined(list, err, func(i discord.ExtendedInvite) string { return i.Code })
	case "uninvite":
		_, err := r.DeleteInvite(a[0])
		return "", code(err)
	}
	return "", fmt.Errorf("no verb %q", verb)
}

// bulk waits for what disgo makes of MESSAGE_DELETE_BULK, and tells it as one.
func (l *disgoLib) bulk(ids []string) error {
	for range ids {
		select {
		case got := <-l.events:
			if !strings.HasPrefix(got, "deleted ") {
				return fmt.Errorf("heard %q in place of a deletion", got)
			}
		case <-time.After(20 * time.Second):
			return errors.New("heard of no deletion")
		}
	}
	l.events <- fmt.Sprintf("bulk %d", len(ids))
	return nil
}

func disgoCode(err error) error {
	var dg *rest.Error
	if errors.As(err, &dg) {
		return apiError(dg.Code)
	}
	return err
}
