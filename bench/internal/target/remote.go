package target

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
	"sync"
	"time"

	"voicefleet/internal/snowflake"
)

// RemoteConfig says which server, which channel, and who the bots are. One of
// Data, Invite and Tokens says how bots get in.
type RemoteConfig struct {
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
	// an echo channel. It is room 0.
	Channel string
	// CA is a file of certificates to trust beside the system's (the server's
	// /ca.pem). Insecure trusts every certificate.
	CA       string
	Insecure bool
	// Shape bounds the requests for accounts and rooms.
	Shape Shape
}

const (
	// maxTries bounds how often a rate-limited request is repeated.
	maxTries = 20
	// maxPatience is the longest wait a server may ask for.
	maxPatience = 2 * time.Minute
)

// Remote is a server that answered.
type Remote struct {
	// Immutable after OpenRemote.
	config RemoteConfig
	url    string
	tls    *tls.Config
	http   *http.Client
	admin  string // token, empty without Data
	guild  snowflake.ID
	first  Account
	gone   bool // the server goes with the run, so nothing needs to be removed

	mu sync.Mutex
	// Guarded by mu.
	rooms    []Room
	borrowed []Room    // voice channels the guild has beside room 0
	made     []made    // channels, to be removed
	joined   []Account // made by the admin token, to leave their guild
}

// OpenRemote finds the server, lets the first account in, and finds the channel.
func OpenRemote(ctx context.Context, c RemoteConfig) (*Remote, error) {
	r := &Remote{url: strings.TrimRight(c.Server, "/"), config: c}
	if err := r.config.Shape.validate(); err != nil {
		return nil, err
	}
	if c.Data != "" {
		admin, err1 := word(filepath.Join(c.Data, "admin.token"))
		at, err2 := word(filepath.Join(c.Data, "admin.url"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("find server: %w (does it run?)", err)
		}
		r.admin = admin
		if r.url == "" {
			r.url = strings.TrimRight(at, "/")
		}
	}
	if u, err := url.Parse(r.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q is no http or https URL", r.url)
	}
	if c.Data == "" && c.Invite == "" && len(c.Tokens) == 0 {
		return nil, errors.New("bots need a way in: a data folder, an invite or tokens")
	}
	var err error
	if r.tls, err = trust(c); err != nil {
		return nil, err
	}
	r.http = &http.Client{Timeout: askTimeout, Transport: &http.Transport{TLSClientConfig: r.tls, MaxIdleConnsPerHost: r.config.Shape.AtOnce}}
	if err := r.enter(ctx); err != nil {
		r.http.CloseIdleConnections()
		return nil, err
	}
	return r, nil
}

// enter finds guild, first account and channel.
func (r *Remote) enter(ctx context.Context) error {
	if err := r.findGuild(ctx); err != nil {
		return err
	}
	var err error
	if r.first, err = r.newAccount(ctx, r.guild, 0); err != nil {
		return err
	}
	r.guild = r.first.Guild // a guest is told
	return r.findChannel(ctx)
}

// URL is the base URL of the server, TLS how it is trusted.
func (r *Remote) URL() string      { return r.url }
func (r *Remote) TLS() *tls.Config { return r.tls.Clone() }

// trust makes the TLS configuration.
func trust(c RemoteConfig) (*tls.Config, error) {
	t := &tls.Config{InsecureSkipVerify: c.Insecure}
	if c.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	if t.RootCAs, err = x509.SystemCertPool(); err != nil {
		t.RootCAs = x509.NewCertPool()
	}
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none", c.CA)
	}
	return t, nil
}

// rest asks a route below /api and waits when told to.
func (r *Remote) rest(ctx context.Context, method, path, authorization string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	for try := 1; ; try++ {
		wait, err := r.once(ctx, method, path, authorization, body, out)
		if err == nil {
			return nil
		}
		if wait == 0 || try == maxTries {
			return fmt.Errorf("%s %s: %w", method, r.url+path, explain(err))
		}
		patience := time.NewTimer(wait)
		select {
		case <-patience.C:
		case <-ctx.Done():
			patience.Stop()
			return fmt.Errorf("%s %s: %w", method, r.url+path, errors.Join(err, ctx.Err()))
		}
	}
}

// once asks once; wait is not zero when the server asks for patience.
func (r *Remote) once(ctx context.Context, method, path, authorization string, body []byte, out any) (wait time.Duration, err error) {
	if method == http.MethodGet || method == http.MethodDelete {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := r.http.Do(req)
	if err != nil {
		if named := (*url.Error)(nil); errors.As(err, &named) {
			err = named.Err // rest names the route
		}
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	if res.StatusCode/100 != 2 {
		refused := &refusal{}
		if json.Unmarshal(answer, refused) != nil {
			refused.Message = fmt.Sprintf("%.200q", answer)
		}
		refused.Status = res.StatusCode
		if res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable {
			seconds, err := strconv.ParseFloat(res.Header.Get("Retry-After"), 64)
			if err != nil || seconds < 0 || seconds > maxPatience.Seconds() {
				seconds = 1
			}
			wait = time.Duration(seconds*float64(time.Second)) + 50*time.Millisecond
		}
		return wait, refused
	}
	if out == nil {
		return 0, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return 0, fmt.Errorf("read answer: %w (is that a voicefleet server?)", err)
	}
	return 0, nil
}

// findGuild finds the guild of bots that the admin token makes: the one that was
// named, or the first.
func (r *Remote) findGuild(ctx context.Context) error {
	if r.config.Guild != "" {
		id, err := snowflake.Parse(r.config.Guild)
		if err != nil {
			return fmt.Errorf("guild %q is no id: %w", r.config.Guild, err)
		}
		r.guild = id
		return nil
	}
	switch {
	case len(r.config.Tokens) > 0:
		return errors.New("tokens need the guild they are for")
	case r.admin != "":
		var guilds []struct {
			ID snowflake.ID `json:"id"`
		}
		if err := r.rest(ctx, http.MethodGet, "/api/admin/guilds", "Bearer "+r.admin, nil, &guilds); err != nil {
			return err
		}
		if len(guilds) == 0 {
			return errors.New("server has no guild: start it once with voicefleet up, which makes one")
		}
		r.guild = guilds[0].ID
	}
	return nil // a guest is told
}

// Metrics are what the server shows of itself: to everybody on its own machine,
// from afar to holders of the admin token.
func (r *Remote) Metrics(ctx context.Context) (Metrics, error) {
	return readMetrics(ctx, r.http, r.url, r.admin)
}
