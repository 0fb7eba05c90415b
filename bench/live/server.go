package live

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"voicefleet/internal/snowflake"
)

// Target says which server, which channel, and who the bots are. One of Data,
// Invite and Tokens says how bots get in.
type Target struct {
	// Server is the base URL, as https://voice.example:8443. With Data it is
	// found there.
	Server string
	// Data is the data folder of a server on this machine: its admin token makes
	// bots.
	Data string
	// Invite is a code or link: bots come as guests.
	Invite string
	// Tokens are those of bots that exist; Guild is theirs.
	Tokens []string
	Guild  string
	// Channel is the id or name of a voice channel; empty: the first that is not
	// an echo channel.
	Channel string
	// CA is a file of certificates to trust beside the system's (the server's
	// /ca.pem). Insecure trusts every certificate.
	CA       string
	Insecure bool
}

// The limits of REST traffic.
const (
	restTimeout = 10 * time.Second
	maxAnswer   = 4 << 20
	// maxTries bounds how often a rate-limited request is repeated.
	maxTries = 20
)

// channelVoice is the type of a voice channel in Discord's API.
const channelVoice = 2

// account is somebody who may enter the channel.
type account struct {
	token string
	user  snowflake.ID
}

// server is a target that answered.
type server struct {
	// Immutable.
	url     string
	tls     *tls.Config
	http    *http.Client
	target  Target
	admin   string // token, empty without Data
	guild   snowflake.ID
	channel snowflake.ID
	name    string // of the channel
	first   *account
}

// open finds the server and its channel.
func open(ctx context.Context, t Target) (*server, error) {
	s := &server{url: strings.TrimRight(t.Server, "/"), target: t}
	if t.Data != "" {
		admin, err1 := word(filepath.Join(t.Data, "admin.token"))
		at, err2 := word(filepath.Join(t.Data, "admin.url"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("find server: %w (does it run?)", err)
		}
		s.admin = admin
		if s.url == "" {
			s.url = at
		}
	}
	if u, err := url.Parse(s.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q is no http or https URL", s.url)
	}
	if t.Data == "" && t.Invite == "" && len(t.Tokens) == 0 {
		return nil, errors.New("bots need a way in: a data folder, an invite or tokens")
	}
	var err error
	if s.tls, err = trust(t); err != nil {
		return nil, err
	}
	s.http = &http.Client{Timeout: restTimeout, Transport: &http.Transport{TLSClientConfig: s.tls, DisableKeepAlives: true}}
	if err := s.findGuild(ctx); err != nil {
		return nil, err
	}
	if s.first, err = s.account(ctx, 0); err != nil {
		return nil, err
	}
	return s, s.findChannel(ctx)
}

// word is the one word of a file.
func word(name string) (string, error) {
	b, err := os.ReadFile(name)
	return strings.TrimSpace(string(b)), err
}

// trust makes the TLS configuration.
func trust(t Target) (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: t.Insecure}
	if t.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none", t.CA)
	}
	return c, nil
}

// refusal is an answer of REST that is not a success.
type refusal struct {
	Status  int
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string {
	return fmt.Sprintf("status %d, code %d: %s", r.Status, r.Code, r.Message)
}

// rest asks a route below /api and waits when told to.
func (s *server) rest(ctx context.Context, method, path, authorization string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	for try := 1; ; try++ {
		wait, err := s.once(ctx, method, path, authorization, body, out)
		if err == nil {
			return nil
		}
		if wait == 0 || try == maxTries {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", method, path, errors.Join(err, ctx.Err()))
		}
	}
}

// once asks once; wait is not zero when the server asks for patience.
func (s *server) once(ctx context.Context, method, path, authorization string, body []byte, out any) (wait time.Duration, err error) {
	if method == http.MethodGet {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	if res.StatusCode/100 != 2 {
		r := &refusal{Status: res.StatusCode}
		if json.Unmarshal(answer, r) != nil {
			r.Message = fmt.Sprintf("%.200q", answer)
		}
		if res.StatusCode == http.StatusTooManyRequests {
			seconds, err := strconv.ParseFloat(res.Header.Get("Retry-After"), 64)
			if err != nil || seconds < 0 || seconds > 120 {
				seconds = 1
			}
			wait = time.Duration(seconds*float64(time.Second)) + 50*time.Millisecond
		}
		return wait, r
	}
	if out == nil {
		return 0, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return 0, nil
}

// findGuild finds the guild of bots that the admin token makes: the one the
// target names, or the first.
func (s *server) findGuild(ctx context.Context) error {
	if s.target.Guild != "" {
		id, err := snowflake.Parse(s.target.Guild)
		s.guild = id
		return err
	}
	switch {
	case s.admin != "":
		var guilds []struct {
			ID snowflake.ID `json:"id"`
		}
		if err := s.rest(ctx, http.MethodGet, "/api/admin/guilds", "Bearer "+s.admin, nil, &guilds); err != nil {
			return err
		}
		if len(guilds) == 0 {
			return errors.New("server has no guild")
		}
		s.guild = guilds[0].ID
	case len(s.target.Tokens) > 0:
		return errors.New("tokens need the guild they are for")
	}
	return nil // a guest is told
}

// account gives the i-th bot its way in.
func (s *server) account(ctx context.Context, i int) (*account, error) {
	if i == 0 && s.first != nil {
		return s.first, nil
	}
	var made struct {
		Token string `json:"token"`
		User  struct {
			ID snowflake.ID `json:"id"`
		} `json:"user"`
		Guild snowflake.ID `json:"guild_id"`
	}
	name := fmt.Sprintf("bench-%d", i+1)
	switch {
	case len(s.target.Tokens) > 0:
		if i >= len(s.target.Tokens) {
			return nil, fmt.Errorf("%d tokens for at least %d bots", len(s.target.Tokens), i+1)
		}
		token := s.target.Tokens[i]
		if !strings.HasPrefix(token, "Bot ") {
			token = "Bot " + token
		}
		if err := s.rest(ctx, http.MethodGet, "/api/v10/users/@me", token, nil, &made.User); err != nil {
			return nil, err
		}
		return &account{token: token, user: made.User.ID}, nil
	case s.admin != "":
		err := s.rest(ctx, http.MethodPost, "/api/admin/bots", "Bearer "+s.admin, map[string]any{"name": name, "guild_id": s.guild}, &made)
		if err != nil {
			return nil, err
		}
		return &account{token: "Bot " + strings.TrimPrefix(made.Token, "Bot "), user: made.User.ID}, nil
	default:
		err := s.rest(ctx, http.MethodPost, "/api/v10/auth/guest", "", map[string]any{"invite": inviteCode(s.target.Invite), "nickname": name}, &made)
		if err != nil {
			return nil, err
		}
		s.guild = made.Guild
		return &account{token: made.Token, user: made.User.ID}, nil
	}
}

// inviteCode is the last part of a link, or the code itself.
func inviteCode(invite string) string {
	invite = strings.TrimRight(strings.TrimSpace(invite), "/")
	return invite[strings.LastIndexAny(invite, "/#=")+1:]
}

// findChannel finds the voice channel by id or name.
func (s *server) findChannel(ctx context.Context) error {
	var channels []struct {
		ID   snowflake.ID `json:"id"`
		Type int          `json:"type"`
		Name string       `json:"name"`
		Echo bool         `json:"echo"`
	}
	if err := s.rest(ctx, http.MethodGet, "/api/v10/guilds/"+s.guild.String()+"/channels", s.first.token, nil, &channels); err != nil {
		return err
	}
	want := s.target.Channel
	for _, c := range channels {
		if c.Type != channelVoice {
			continue
		}
		if want == "" && !c.Echo || want != "" && (c.Name == want || c.ID.String() == want) {
			s.channel, s.name = c.ID, c.Name
			return nil
		}
	}
	if want == "" {
		return errors.New("the guild has no voice channel")
	}
	return fmt.Errorf("the guild has no voice channel %q", want)
}
