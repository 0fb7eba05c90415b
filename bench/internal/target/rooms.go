package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"voicefleet/internal/snowflake"
	"voicefleet/signaling/voiceclient"
)

// channelVoice is the type of a voice channel in Discord's API.
const channelVoice = 2

// roomsPerGuild is how many rooms a guild of ours has: channels of a guild may be
// made at 10 a second, those of several guilds at the same time.
const roomsPerGuild = 50

// Room is a voice channel.
type Room struct {
	Guild   snowflake.ID
	Channel snowflake.ID
	Name    string
}

// made is a room of our own, and who may remove it.
type made struct {
	room  Room
	token string
}

// Account is somebody who may enter the rooms of a guild.
type Account struct {
	Token string
	User  snowflake.ID
	Guild snowflake.ID
}

// newAccount gives the i-th bot its way into a guild.
func (r *Remote) newAccount(ctx context.Context, guild snowflake.ID, i int) (Account, error) {
	var answer struct {
		Token string `json:"token"`
		User  struct {
			ID snowflake.ID `json:"id"`
		} `json:"user"`
		Guild snowflake.ID `json:"guild_id"`
	}
	name := fmt.Sprintf("bench-%d", i+1)
	switch {
	case len(r.config.Tokens) > 0:
		if i >= len(r.config.Tokens) {
			return Account{}, fmt.Errorf("%d tokens for at least %d bots: name more, or let the server's data folder make them (--data)", len(r.config.Tokens), i+1)
		}
		token := r.config.Tokens[i]
		if !strings.HasPrefix(token, "Bot ") {
			token = "Bot " + token
		}
		if err := r.rest(ctx, http.MethodGet, "/api/v10/users/@me", token, nil, &answer.User); err != nil {
			return Account{}, err
		}
		return Account{Token: token, User: answer.User.ID, Guild: guild}, nil
	case r.admin != "":
		err := r.rest(ctx, http.MethodPost, "/api/admin/bots", "Bearer "+r.admin, map[string]any{"name": name, "guild_id": guild}, &answer)
		if err != nil {
			return Account{}, err
		}
		a := Account{Token: "Bot " + strings.TrimPrefix(answer.Token, "Bot "), User: answer.User.ID, Guild: guild}
		r.mu.Lock()
		r.joined = append(r.joined, a)
		r.mu.Unlock()
		return a, nil
	default:
		err := r.rest(ctx, http.MethodPost, "/api/v10/auth/guest", "", map[string]any{"invite": inviteCode(r.config.Invite), "nickname": name}, &answer)
		if err != nil {
			return Account{}, err
		}
		return Account{Token: answer.Token, User: answer.User.ID, Guild: answer.Guild}, nil
	}
}

// inviteCode is the last part of a link, or the code itself.
func inviteCode(invite string) string {
	invite = strings.TrimRight(strings.TrimSpace(invite), "/")
	return invite[strings.LastIndexAny(invite, "/#=")+1:]
}

// Account gives the i-th bot its way into room 0.
func (r *Remote) Account(ctx context.Context, i int) (Account, error) {
	if i == 0 {
		return r.first, nil
	}
	return r.newAccount(ctx, r.guild, i)
}

// Accounts gives many bots their way in, the i-th into seats[i]. They are made
// several at a time, as quickly as the server lets them.
func (r *Remote) Accounts(ctx context.Context, seats []Room) ([]Account, error) {
	all := make([]Account, len(seats))
	err := r.config.Shape.Each(ctx, len(seats), func(ctx context.Context, i int) (err error) {
		if i == 0 && seats[0].Guild == r.guild {
			all[0] = r.first
			return nil
		}
		if all[i], err = r.newAccount(ctx, seats[i].Guild, i); err != nil {
			return fmt.Errorf("bot %d: %w", i+1, err)
		}
		return nil
	})
	return all, err
}

// findChannel finds the voice channel by id or name.
func (r *Remote) findChannel(ctx context.Context) error {
	channels, err := r.voiceChannels(ctx, r.guild, r.first.Token)
	if err != nil {
		return err
	}
	want := r.config.Channel
	for _, c := range channels {
		switch {
		case len(r.rooms) == 0 && (want == "" && !c.Echo || want != "" && (c.Name == want || c.ID.String() == want)):
			r.rooms = append(r.rooms, Room{r.guild, c.ID, c.Name})
		case !c.Echo:
			r.borrowed = append(r.borrowed, Room{r.guild, c.ID, c.Name})
		}
	}
	switch {
	case len(r.rooms) > 0:
		return nil
	case want == "":
		return errors.New("the guild has no voice channel: make one, or name another guild")
	}
	return fmt.Errorf("the guild has no voice channel %q", want)
}

// channel is what the API says of one.
type channel struct {
	ID   snowflake.ID `json:"id"`
	Type int          `json:"type"`
	Name string       `json:"name"`
	Echo bool         `json:"echo"`
}

func (r *Remote) voiceChannels(ctx context.Context, guild snowflake.ID, token string) ([]channel, error) {
	var all []channel
	err := r.rest(ctx, http.MethodGet, "/api/v10/guilds/"+guild.String()+"/channels", token, nil, &all)
	return slices.DeleteFunc(all, func(c channel) bool { return c.Type != channelVoice }), err
}

// Room is room 0: the channel that was named or found.
func (r *Remote) Room() Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rooms[0]
}

// Rooms are n rooms, 0 being that of Room. Those beyond it are made for the run:
// with the admin token in guilds of its own, with tokens in their guild. Guests
// make none, so they use the channels there are.
func (r *Remote) Rooms(ctx context.Context, n int) ([]Room, error) {
	r.mu.Lock()
	have := len(r.rooms)
	if missing := n - have; missing > 0 && r.admin == "" && len(r.config.Tokens) == 0 {
		if missing > len(r.borrowed) {
			r.mu.Unlock()
			return nil, fmt.Errorf("%d rooms wanted, and the guild has %d voice channels: guests make none, so make them, or use the server's data folder (--data)", n, have+len(r.borrowed))
		}
		r.rooms, r.borrowed = append(r.rooms, r.borrowed[:missing]...), r.borrowed[missing:]
		have = n
	}
	r.mu.Unlock()
	missing := max(n-have, 0)
	rooms := make([]Room, missing)
	var err error
	switch {
	case missing == 0:
	case r.admin != "" && len(r.config.Tokens) == 0:
		err = r.found(ctx, rooms, have)
	default:
		err = r.fill(ctx, rooms, have, r.guild, r.first.Token)
	}
	if err != nil {
		return nil, fmt.Errorf("make rooms: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rooms = append(r.rooms, rooms...)
	return slices.Clone(r.rooms[:n]), nil
}

// found makes rooms in new guilds, each with an owner of its own: they are made at
// the same time.
func (r *Remote) found(ctx context.Context, rooms []Room, number int) error {
	guilds := (len(rooms) + roomsPerGuild - 1) / roomsPerGuild
	return r.config.Shape.Each(ctx, guilds, func(ctx context.Context, g int) error {
		owner, err := r.newAccount(ctx, r.guild, g)
		if err != nil {
			return err
		}
		var guild struct {
			ID snowflake.ID `json:"id"`
		}
		if err := r.rest(ctx, http.MethodPost, "/api/v10/guilds", owner.Token, map[string]any{"name": fmt.Sprintf("voicebench %d", g+1)}, &guild); err != nil {
			return err
		}
		from := g * roomsPerGuild
		to := min(from+roomsPerGuild, len(rooms))
		return r.fill(ctx, rooms[from:to], number+from, guild.ID, owner.Token)
	})
}

// fill makes rooms in a guild, one after the other, as their server has them wait.
func (r *Remote) fill(ctx context.Context, rooms []Room, number int, guild snowflake.ID, token string) error {
	for i := range rooms {
		var c channel
		err := r.rest(ctx, http.MethodPost, "/api/v10/guilds/"+guild.String()+"/channels", token, map[string]any{"name": fmt.Sprintf("bench-%d", number+i), "type": channelVoice}, &c)
		if err != nil {
			return err
		}
		rooms[i] = Room{guild, c.ID, c.Name}
		r.mu.Lock()
		r.made = append(r.made, made{rooms[i], token})
		r.mu.Unlock()
	}
	return nil
}

// Join brings an account into a room, through every door a person goes through.
func (r *Remote) Join(ctx context.Context, room Room, a Account, options voiceclient.Options) (*voiceclient.Call, error) {
	return r.JoinFrom(ctx, room, a, options, nil)
}

// JoinFrom joins from where the round trips to nodes or regions are these, in ms.
func (r *Remote) JoinFrom(ctx context.Context, room Room, a Account, options voiceclient.Options, rtt map[string]float64) (*voiceclient.Call, error) {
	if options.TLS == nil {
		options.TLS = r.tls
	}
	call, err := voiceclient.Join(ctx, voiceclient.Config{Server: r.url, Token: a.Token, Guild: room.Guild, Channel: room.Channel, Options: options, Unmeasured: true, RTT: rtt})
	if err != nil {
		return nil, explain(err)
	}
	return call, nil
}

// Close removes what was made on a server that stays: the rooms, and the bots from
// their guilds. A guild itself cannot be removed; it is left without rooms of ours
// and with its owner alone.
func (r *Remote) Close(ctx context.Context) error {
	defer r.http.CloseIdleConnections()
	if r.gone {
		return nil
	}
	r.mu.Lock()
	rooms, accounts := r.made, r.joined
	r.made, r.joined, r.rooms = nil, nil, r.rooms[:1]
	r.mu.Unlock()
	owners := make(map[string][]Room)
	var tokens []string
	for _, m := range rooms {
		if owners[m.token] == nil {
			tokens = append(tokens, m.token)
		}
		owners[m.token] = append(owners[m.token], m.room)
	}
	err := r.config.Shape.Each(ctx, len(tokens), func(ctx context.Context, i int) error {
		for _, room := range owners[tokens[i]] {
			if err := r.rest(ctx, http.MethodDelete, "/api/v10/channels/"+room.Channel.String(), tokens[i], nil, nil); err != nil {
				return fmt.Errorf("remove room %q: %w", room.Name, err)
			}
		}
		return nil
	})
	return errors.Join(err, r.config.Shape.Each(ctx, len(accounts), func(ctx context.Context, i int) error {
		err := r.rest(ctx, http.MethodDelete, "/api/v10/users/@me/guilds/"+accounts[i].Guild.String(), accounts[i].Token, nil, nil)
		if err != nil {
			return fmt.Errorf("take a bot out of its guild: %w", err)
		}
		return nil
	}))
}
