package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/target"
)

const (
	// perAccount is how many sessions share an account: a user may have 16, and one
	// is left for its posts.
	perAccount = 15
	// perSource is how many sessions share a source address: of one a server takes
	// 1,024, and 3,000 attempts a minute.
	perSource = 100
	// accountsAtOnce are made at the same time.
	accountsAtOnce = 64
	// restTimeout is how long a post may wait for its answer.
	restTimeout = 30 * time.Second
	maxAnswer   = 1 << 20
	// channelText is the type of a text channel in the public API.
	channelText = 0
)

// hall is one server and its sessions.
type hall struct {
	number   int
	up       *target.Up
	remote   *target.Remote
	loader   *child.Process
	http     *http.Client
	channel  string
	accounts []target.Account
	sources  []netip.Addr
	sessions int
	empty    int64 // resident memory of the server without anybody
}

// openHall starts a server and a process of sessions.
func openHall(ctx context.Context, c *Config, number int, mark string) (_ *hall, err error) {
	h := &hall{number: number, http: &http.Client{Timeout: restTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.up, err = target.StartUp(ctx, target.UpConfig{Program: c.Program, Log: c.Log}); err != nil {
		return nil, err
	}
	if h.empty, err = h.rss(); err != nil {
		return nil, err
	}
	if h.remote, err = h.up.Remote(ctx, target.Shape{AtOnce: accountsAtOnce}); err != nil {
		return nil, err
	}
	u, err := url.Parse(h.up.URL)
	if err != nil {
		return nil, err
	}
	if h.loader, err = start(c.Self, roleSessions, u.Host, mark, fmt.Sprint(c.Seed+uint64(number))); err != nil {
		return nil, err
	}
	first, err := h.remote.Account(ctx, 0)
	if err != nil {
		return nil, err
	}
	h.accounts = []target.Account{first}
	var channels []struct {
		ID   string `json:"id"`
		Type int    `json:"type"`
	}
	if err := h.rest(ctx, http.MethodGet, "/guilds/"+first.Guild.String()+"/channels", first.Token, nil, &channels); err != nil {
		return nil, err
	}
	for _, ch := range channels {
		if ch.Type == channelText {
			h.channel = ch.ID
			return h, nil
		}
	}
	return nil, errors.New("the server has no text channel")
}

// rest asks a route of the API.
func (h *hall) rest(ctx context.Context, method, path, token string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, h.up.URL+"/api/v10"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", token)
	res, err := h.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: status %d: %.200q", method, path, res.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// rss is the resident memory of the server.
func (h *hall) rss() (int64, error) {
	pids, err := h.up.PIDs()
	if err != nil {
		return 0, err
	}
	return procstat.ReadRSS(pids...)
}

// grow lets more sessions in, with so many of them sharing an account.
func (h *hall) grow(ctx context.Context, to, share int, rate float64, patience time.Duration) (epollclient.Entered, error) {
	more := to - h.sessions
	if more <= 0 {
		return epollclient.Entered{}, nil
	}
	need := (to + share - 1) / share
	if have := len(h.accounts); need > have {
		seats := make([]target.Room, 1+need-have) // the first is always the same
		for i := range seats {
			seats[i].Guild = h.accounts[0].Guild
		}
		made, err := h.remote.Accounts(ctx, seats)
		if err != nil {
			return epollclient.Entered{}, fmt.Errorf("make accounts: %w", err)
		}
		h.accounts = append(h.accounts, made[1:]...)
	}
	r := arriveRequest{Sessions: more, Rate: rate, Patience: patience}
	for i := range more {
		r.Tokens = append(r.Tokens, bare(h.accounts[(h.sessions+i)/share].Token))
	}
	for i := 0; i < more; i += perSource {
		h.sources = append(h.sources, source(h.number, len(h.sources)))
	}
	r.Sources = h.sources[len(h.sources)-(more+perSource-1)/perSource:]
	h.sessions = to
	var e epollclient.Entered
	err := h.loader.Call(ctx, "arrive", r, &e)
	return e, err
}

// source is the i-th local address of a hall's sessions.
func source(hall, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + hall), byte(i / 250), byte(2 + i%250)})
}

func bare(token string) string {
	b, _ := bytes.CutPrefix([]byte(token), []byte("Bot "))
	return string(b)
}

// post posts one message that was due at a moment.
func (h *hall) post(ctx context.Context, mark string, number int, due time.Time) error {
	writer := h.accounts[number%len(h.accounts)]
	return h.rest(ctx, http.MethodPost, "/channels/"+h.channel+"/messages", writer.Token,
		map[string]string{"content": fmt.Sprintf("%s %d %d .", mark, number, due.UnixNano())}, nil)
}

func (h *hall) count(ctx context.Context) (c counted, err error) {
	err = h.loader.Call(ctx, "count", struct{}{}, &c)
	return c, err
}

func (h *hall) tally(ctx context.Context, from int) (t epollclient.Tally, err error) {
	err = h.loader.Call(ctx, "tally", from, &t)
	return t, err
}

// close ends both.
func (h *hall) close() error {
	h.http.CloseIdleConnections()
	var errs []error
	if h.loader != nil {
		errs = append(errs, h.loader.Stop())
	}
	if h.remote != nil {
		errs = append(errs, h.remote.Close(context.Background()))
	}
	if h.up != nil {
		errs = append(errs, h.up.Stop())
	}
	return errors.Join(errs...)
}
