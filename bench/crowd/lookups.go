package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/others"
	"voicefleet/textchat/chatserver"
)

const (
	// lookUpOwners each make guildsEach guilds: as many as one may in a minute.
	lookUpOwners = 40
	guildsEach   = 5
	// lookUpRate is how many of each kind there are a second.
	lookUpRate  = 500
	lookUpToken = "let-me-in"

	// The goals, p99.
	maxCached   = 500 * time.Microsecond
	maxUncached = 2 * time.Millisecond
	maxUser     = 5 * time.Millisecond
)

// desk is a server of our own process.
type desk struct {
	dir    string
	server *chatserver.Server
}

func (d *desk) open() (err error) {
	const many = 1_000_000
	d.server, err = chatserver.New(chatserver.Config{DataDir: d.dir, AdminToken: lookUpToken, Limits: chatserver.Limits{Requests: many}})
	return err
}

// ask asks a route and tells how long that took.
func (d *desk) ask(ctx context.Context, method, path, authorization string, in, out any) (time.Duration, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	req := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
	req.Header.Set("Authorization", authorization)
	req.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	begun := time.Now()
	d.server.Handler().ServeHTTP(answer, req)
	took := time.Since(begun)
	if answer.Code/100 != 2 {
		return 0, fmt.Errorf("%s %s: status %d: %.200q", method, path, answer.Code, answer.Body)
	}
	if out == nil {
		return took, nil
	}
	return took, json.Unmarshal(answer.Body.Bytes(), out)
}

// place is a channel and who sees it.
type place struct{ channel, user, token string }

// furnish makes guilds.
func (d *desk) furnish(ctx context.Context) ([]place, error) {
	first, err := d.server.Bootstrap(ctx, "Look-ups")
	if err != nil {
		return nil, err
	}
	var places []place
	for o := range lookUpOwners {
		var owner struct {
			Token string `json:"token"`
			User  struct {
				ID string `json:"id"`
			} `json:"user"`
		}
		if _, err := d.ask(ctx, http.MethodPost, "/api/admin/bots", "Bearer "+lookUpToken, map[string]any{"name": fmt.Sprintf("owner-%d", o), "guild_id": first.Guild}, &owner); err != nil {
			return nil, err
		}
		for g := range guildsEach {
			var guild struct {
				ID string `json:"id"`
			}
			if _, err := d.ask(ctx, http.MethodPost, "/api/v10/guilds", owner.Token, map[string]any{"name": fmt.Sprintf("guild %d", g)}, &guild); err != nil {
				return nil, err
			}
			var channels []struct {
				ID string `json:"id"`
			}
			if _, err := d.ask(ctx, http.MethodGet, "/api/v10/guilds/"+guild.ID+"/channels", owner.Token, nil, &channels); err != nil {
				return nil, err
			}
			if len(channels) == 0 {
				return nil, errors.New("a new guild has no channel")
			}
			places = append(places, place{channels[0].ID, owner.User.ID, owner.Token})
		}
	}
	return places, nil
}

// lookUps is the last part. What is timed is a whole request, without the network:
// its token is looked up, its rate is counted, the guild asked, the answer written.
func (c *crowd) lookUps(ctx context.Context) (err error) {
	n := c.config.LookUps
	if n < 0 {
		return nil
	}
	c.say("%d look-ups of each kind", n)
	d := &desk{}
	if d.dir, err = os.MkdirTemp("", "voicebench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.Close()) }()
	places, err := d.furnish(ctx)
	if err != nil {
		return err
	}
	defer others.Watch("look-ups", c.note)()
	order := rand.New(rand.NewPCG(c.config.Seed, 13))
	cached, uncached, user := epollclient.Histogram(), epollclient.Histogram(), epollclient.Histogram()
	look := func(h *hdrhistogram.Histogram, path func(place) string, p place) error {
		took, err := d.ask(ctx, http.MethodGet, path(p), p.token, nil, nil)
		if err == nil {
			err = h.RecordValue(int64(took))
		}
		return err
	}
	channel := func(p place) string { return "/api/v10/channels/" + p.channel }
	order.Shuffle(len(places), func(i, k int) { places[i], places[k] = places[k], places[i] })
	begun := time.Now()
	for i := range n {
		// A user may ask 30 times a second.
		if err := pause(ctx, time.Until(begun.Add(time.Duration(i)*time.Second/lookUpRate))); err != nil {
			return err
		}
		p := places[i%len(places)]
		if err := look(cached, channel, p); err != nil {
			return err
		}
		if err := look(user, func(p place) string { return "/api/v10/users/" + p.user }, p); err != nil {
			return err
		}
	}
	for done := 0; done < n; done += len(places) {
		// A new server knows no guild: the first request of each loads it.
		if err := d.server.Close(); err != nil {
			return err
		}
		if err := d.open(); err != nil {
			return err
		}
		for _, p := range places {
			if err := look(uncached, channel, p); err != nil {
				return err
			}
		}
	}
	for _, k := range []struct {
		name  string
		h     *hdrhistogram.Histogram
		bound time.Duration
	}{{"permission check, guild loaded", cached, maxCached}, {"permission check, guild not loaded", uncached, maxUncached}, {"user look-up", user, maxUser}} {
		c.table("Look-ups, ms: whole requests, without the network", []string{"", "count", "p50", "p90", "p99", "max"}, nil, append([]string{k.name, fmt.Sprint(k.h.TotalCount())}, quantiles(k.h)...)...)
		c.timeGoal(k.name, k.h, time.Duration(c.config.LookUpSlack*float64(k.bound)))
	}
	return nil
}
