package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"voicefleet/bench/internal/target"
	"voicefleet/internal/snowflake"
)

// Target says which server, and how accounts get in. Its Channel is a text channel
// that all accounts may read and write; empty: the first.
type Target = target.RemoteConfig

// UpConfig starts a server of our own.
type UpConfig = target.UpConfig

const (
	// restTimeout is how long a post may wait for its answer.
	restTimeout = 10 * time.Second
	maxAnswer   = 1 << 20
	// channelText is the type of a text channel in the public API.
	channelText = 0
)

// server is a target that answered.
type server struct {
	// Immutable.
	remote  *target.Remote
	url     *url.URL
	http    *http.Client
	channel snowflake.ID
	name    string // of the channel
	gateway string // URL of the gateway, with the query

	accounts []target.Account
}

// open finds the server, lets the first account in, and finds gateway and channel.
func open(ctx context.Context, t Target) (*server, error) {
	channel := t.Channel
	t.Channel = "" // it would be a voice channel
	remote, err := target.OpenRemote(ctx, t)
	if err != nil {
		return nil, err
	}
	s := &server{remote: remote}
	if err := s.find(ctx, channel); err != nil {
		return nil, errors.Join(err, s.close(false))
	}
	return s, nil
}

func (s *server) find(ctx context.Context, channel string) error {
	var err error
	if s.url, err = url.Parse(s.remote.URL()); err != nil {
		return fmt.Errorf("server %q: %w", s.remote.URL(), err)
	}
	s.http = &http.Client{Timeout: restTimeout, Transport: &http.Transport{TLSClientConfig: s.remote.TLS(), MaxIdleConnsPerHost: inFlight}}
	first, err := s.remote.Account(ctx, 0)
	if err != nil {
		return err
	}
	var at struct {
		URL string `json:"url"`
	}
	if err := s.read(ctx, "/api/v10/gateway", first.Token, &at); err != nil {
		return fmt.Errorf("find the gateway: %w", err)
	}
	if s.gateway, err = gatewayURL(at.URL); err != nil {
		return fmt.Errorf("find the gateway: %w", err)
	}
	var channels []struct {
		ID   snowflake.ID `json:"id"`
		Type int          `json:"type"`
		Name string       `json:"name"`
	}
	if err := s.read(ctx, "/api/v10/guilds/"+first.Guild.String()+"/channels", first.Token, &channels); err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	for _, c := range channels {
		if c.Type == channelText && (channel == "" || c.Name == channel || c.ID.String() == channel) {
			s.channel, s.name = c.ID, c.Name
			return nil
		}
	}
	if channel == "" {
		return errors.New("the guild has no text channel that our accounts see: make one, or let @everyone see it")
	}
	return fmt.Errorf("the guild has no text channel %q that our accounts see: name another with --channel", channel)
}

// gatewayURL adds version and encoding to what a server says of its gateway; no
// compression.
func gatewayURL(said string) (string, error) {
	u, err := url.Parse(said)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return "", fmt.Errorf("the server says %q, which is no ws or wss URL", said)
	}
	u.RawQuery = "v=10&encoding=json"
	return u.String(), nil
}

// enter lets in n accounts in all.
func (s *server) enter(ctx context.Context, n int) error {
	first, err := s.remote.Account(ctx, 0)
	if err != nil {
		return err
	}
	seats := make([]target.Room, n)
	for i := range seats {
		seats[i].Guild = first.Guild
	}
	s.accounts, err = s.remote.Accounts(ctx, seats)
	return err
}

// close takes the accounts that were made away again, unless the server goes, too.
func (s *server) close(gone bool) error {
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
	if gone {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), tidyTime)
	defer cancel()
	if err := s.remote.Close(ctx); err != nil {
		return fmt.Errorf("let the bots named bench-N leave the guild (remove them by hand): %w", err)
	}
	return nil
}

// refusal is an answer of REST that is not a success.
type refusal struct {
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string {
	return fmt.Sprintf("status %d, code %d: %s", r.Status, r.Code, r.Message)
}

// read asks for something.
func (s *server) read(ctx context.Context, path, token string, out any) error {
	answer, err := s.once(ctx, http.MethodGet, path, token, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// once asks once; an answer other than 2xx is a refusal.
func (s *server) once(ctx context.Context, method, path, token string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", token)
	res, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return answer, nil
	}
	r := &refusal{}
	if json.Unmarshal(answer, r) != nil {
		r.Message = fmt.Sprintf("%.200q", answer)
	}
	r.Status = res.StatusCode
	return nil, r
}
