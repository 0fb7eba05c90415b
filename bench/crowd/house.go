package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/target"
	"voicefleet/textchat/chatserver"
	"voicefleet/textchat/textchattest"
)

const (
	// accountsAtOnce are made at the same time.
	accountsAtOnce = 64
	// restTimeout is how long a post may wait for its answer; postTries bounds how often
	// one is tried that a busy server refuses.
	restTimeout = 30 * time.Second
	postTries   = 20
	maxAnswer   = 1 << 20
	// channelText is the type of a text channel in the public API.
	channelText = 0
	// keyspace is that of a fleet.
	keyspace = "voicebench_crowd"
	// storeTries bounds how often a CQL server that has just begun is connected to.
	storeTries = 5
)

// house is where a crowd meets: all are members of one guild and hear one channel. Its
// servers, one to each hall, are one voicefleet up, or text instances of one fleet.
type house struct {
	config *Config
	mark   string
	halls  []*hall
	http   *http.Client

	up     *target.Up    // or
	texts  *target.Texts // on
	node   *textchattest.CQLServer
	store  string // what it is, for people
	remote *target.Remote

	channel  string
	accounts []target.Account
	sessions int // of all halls
	refused  int // posts that a busy server refused at first
}

func newHouse(c *Config, mark string) *house {
	return &house{config: c, mark: mark, http: &http.Client{Timeout: restTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
}

// openUp is a house of one server that has its store in itself.
func openUp(ctx context.Context, c *Config, mark string) (_ *house, err error) {
	h := newHouse(c, mark)
	h.store = "SQLite"
	defer func() { err = h.closeAfter(err) }()
	if h.up, err = target.StartUp(ctx, target.UpConfig{Program: c.Program, Log: c.Log}); err != nil {
		return nil, err
	}
	u, err := url.Parse(h.up.URL)
	if err != nil {
		return nil, err
	}
	if err := h.add(u.Host, h.up); err != nil {
		return nil, err
	}
	h.remote, err = h.up.Remote(ctx, target.Shape{AtOnce: accountsAtOnce})
	if err != nil {
		return nil, err
	}
	return h, h.enter(ctx)
}

// openFleet is a house of n text instances, on one bus and one CQL store.
func openFleet(ctx context.Context, c *Config, mark string, n int) (_ *house, err error) {
	h := newHouse(c, mark)
	defer func() { err = h.closeAfter(err) }()
	address, err := h.startStore(ctx)
	if err != nil {
		return nil, err
	}
	if h.texts, err = target.StartTexts(ctx, target.TextsConfig{Program: c.Program, Store: address, Log: c.Log}); err != nil {
		return nil, err
	}
	if err := h.open(ctx, n); err != nil {
		return nil, err
	}
	if h.remote, err = h.texts.Remote(ctx, 0, target.Shape{AtOnce: accountsAtOnce}); err != nil {
		return nil, err
	}
	return h, h.enter(ctx)
}

// closeAfter ends a house that did not begin.
func (h *house) closeAfter(err error) error {
	if err != nil {
		err = errors.Join(err, h.close())
	}
	return err
}

// startStore starts a CQL server, or takes the one that was named, and makes the tables.
func (h *house) startStore(ctx context.Context) (address string, err error) {
	h.store = "a CQL cluster of yours"
	if address = h.config.Store; address == "" {
		h.node = &textchattest.CQLServer{Profile: h.config.Profile}
		at, err := h.node.Start()
		if err != nil {
			return "", fmt.Errorf("text instances of one fleet need a store that they share: %w; or name one: voicebench crowd --cql cql://HOST/KEYSPACE", err)
		}
		name := keyspace
		if h.node.Pid() != 0 {
			h.store = "a CQL node of its own (" + h.config.Profile + ")"
		} else {
			name += "_" + strconv.Itoa(os.Getpid()) // what was there stays
		}
		address = keyspaceAt(at, name)
	}
	at, err := chatserver.ParseStore(address)
	if err != nil {
		return "", fmt.Errorf("--cql: %w", err)
	}
	if at.Folder() != "" {
		return "", errors.New("--cql: want a store that several instances share, cql://HOST/KEYSPACE")
	}
	// A node that has just begun, on a busy machine, may take longer than a store waits.
	for try := 1; ; try++ {
		store, err := at.Open(ctx, nil, slog.New(slog.DiscardHandler))
		if err == nil {
			return address, store.Close()
		}
		if try == storeTries || h.node == nil || ctx.Err() != nil {
			return "", fmt.Errorf("open the CQL store: %w", err)
		}
	}
}

// keyspaceAt is the address of a keyspace at HOST:PORT, or at a cluster whose address
// has the name of another one.
func keyspaceAt(at, keyspace string) string {
	at, options, _ := strings.Cut(strings.TrimPrefix(at, "cql://"), "?")
	hosts, _, _ := strings.Cut(at, "/")
	if options != "" {
		options = "?" + options
	}
	return "cql://" + hosts + "/" + keyspace + options
}

// open starts text instances up to n, each with a hall; of voicefleet up there is one.
func (h *house) open(ctx context.Context, n int) error {
	if h.texts == nil || n <= len(h.halls) {
		return nil
	}
	from := len(h.halls)
	if err := h.texts.Add(ctx, n-from); err != nil {
		return err
	}
	for i := from; i < n; i++ {
		if err := h.add(h.texts.Host(i), h.texts.Texts[i]); err != nil {
			return err
		}
	}
	return nil
}

// add gives a server a hall.
func (h *house) add(host string, s server) error {
	one, err := openHall(h.config, len(h.halls), host, s, h.mark)
	if err == nil {
		h.halls = append(h.halls, one)
	}
	return err
}

// enter finds the first account and the channel.
func (h *house) enter(ctx context.Context) error {
	first, err := h.remote.Account(ctx, 0)
	if err != nil {
		return err
	}
	h.accounts = []target.Account{first}
	var channels []struct {
		ID   string `json:"id"`
		Type int    `json:"type"`
	}
	if err := h.rest(ctx, 0, http.MethodGet, "/guilds/"+first.Guild.String()+"/channels", first.Token, nil, &channels); err != nil {
		return err
	}
	for _, ch := range channels {
		if ch.Type == channelText {
			h.channel = ch.ID
			return nil
		}
	}
	return errors.New("the guild has no text channel")
}

// busyError is an answer that says when to ask again.
type busyError struct {
	error
	after time.Duration
}

// rest asks a route of the API, at the server of a hall.
func (h *house) rest(ctx context.Context, hall int, method, path, token string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+h.halls[hall].host+"/api/v10"+path, bytes.NewReader(body))
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
		err := fmt.Errorf("%s %s: status %d: %.200q", method, path, res.StatusCode, answer)
		if res.StatusCode == http.StatusServiceUnavailable {
			seconds, _ := strconv.ParseFloat(res.Header.Get("Retry-After"), 64)
			return busyError{err, time.Duration(seconds * float64(time.Second))}
		}
		return err
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// admit makes accounts up to n, all members of the guild.
func (h *house) admit(ctx context.Context, n int) error {
	have := len(h.accounts)
	if n <= have {
		return nil
	}
	seats := make([]target.Room, 1+n-have) // the first is always the same
	for i := range seats {
		seats[i].Guild = h.accounts[0].Guild
	}
	made, err := h.remote.Accounts(ctx, seats)
	if err != nil {
		return fmt.Errorf("make accounts: %w", err)
	}
	h.accounts = append(h.accounts, made[1:]...)
	return nil
}

// deal shares new sessions out: each goes to the hall with the fewest, so that those of
// an account are spread over the servers.
func deal(have []int, tokens []string) [][]string {
	dealt := make([][]string, len(have))
	for _, t := range tokens {
		least := 0
		for i := range have {
			if have[i]+len(dealt[i]) < have[least]+len(dealt[least]) {
				least = i
			}
		}
		dealt[least] = append(dealt[least], t)
	}
	return dealt
}

// grow lets sessions in, up to a size, with so many of them sharing an account.
func (h *house) grow(ctx context.Context, to, share int) ([]epollclient.Entered, error) {
	if err := h.admit(ctx, (to+share-1)/share); err != nil {
		return nil, err
	}
	var tokens []string
	for ; h.sessions < to; h.sessions++ {
		tokens = append(tokens, bare(h.accounts[h.sessions/share].Token))
	}
	have := make([]int, len(h.halls))
	for i, one := range h.halls {
		have[i] = one.sessions
	}
	entered := make([]epollclient.Entered, len(h.halls))
	each, ctx := errgroup.WithContext(ctx)
	for i, mine := range deal(have, tokens) {
		rate := h.config.Rate * float64(len(mine)) / float64(max(len(tokens), 1))
		each.Go(func() (err error) {
			entered[i], err = h.halls[i].arrive(ctx, mine, rate, h.config.Patience)
			return err
		})
	}
	return entered, each.Wait()
}

// post posts one message that was due at a moment, to one of the servers by turns. One
// that a busy server refuses is posted again when it says, and is still the same: so it
// has a nonce.
func (h *house) post(ctx context.Context, number int, due time.Time) error {
	writer := h.accounts[number%len(h.accounts)]
	message := map[string]any{"content": fmt.Sprintf("%s %d %d .", h.mark, number, due.UnixNano())}
	if h.texts != nil {
		message["nonce"], message["enforce_nonce"] = strconv.Itoa(number), true
	}
	for try := 1; ; try++ {
		err := h.rest(ctx, number%len(h.halls), http.MethodPost, "/channels/"+h.channel+"/messages", writer.Token, message, nil)
		busy := busyError{}
		if h.texts == nil || !errors.As(err, &busy) || try == postTries {
			return err
		}
		h.refused++
		if err := pause(ctx, busy.after); err != nil {
			return err
		}
	}
}

// spent is CPU time: of the servers of all halls, of the bus and of the store.
type spent struct{ servers, bus, store procstat.CPU }

func (s spent) sub(earlier spent) spent {
	return spent{s.servers.Sub(earlier.servers), s.bus.Sub(earlier.bus), s.store.Sub(earlier.store)}
}

func (h *house) cpu() (sum spent, err error) {
	for _, one := range h.halls {
		cpu, err := one.server.CPU()
		if err != nil {
			return sum, err
		}
		sum.servers.User += cpu.User
		sum.servers.System += cpu.System
	}
	if h.texts != nil {
		if sum.bus, err = h.texts.Bus.CPU(); err != nil {
			return sum, err
		}
	}
	if h.node != nil && h.node.Pid() != 0 {
		sum.store, err = procstat.ReadCPU(h.node.Pid())
	}
	return sum, err
}

// grown is by how much the servers' memory has grown since nobody was there, in bytes.
func (h *house) grown() (sum int64, err error) {
	for _, one := range h.halls {
		now, err := one.server.RSS()
		if err != nil {
			return 0, err
		}
		sum += now - one.empty
	}
	return sum, nil
}

// close ends everything.
func (h *house) close() error {
	h.http.CloseIdleConnections()
	errs := make([]error, len(h.halls))
	var ending sync.WaitGroup
	for i, one := range h.halls {
		ending.Go(func() { errs[i] = one.close() })
	}
	ending.Wait()
	h.halls = nil
	if h.remote != nil {
		errs = append(errs, h.remote.Close(context.Background()))
	}
	if h.up != nil {
		errs = append(errs, h.up.Stop())
	}
	if h.texts != nil {
		errs = append(errs, h.texts.Stop())
	}
	if h.node != nil {
		errs = append(errs, h.node.Stop())
	}
	return errors.Join(errs...)
}
