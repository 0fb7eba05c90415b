package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lxzan/gws"
)

// ledgerEnv is how many rounds TestLedger makes, without it few; or the faults of the
// rounds, as in "bus,kill,roll".
const ledgerEnv = "VOICEFLEET_LEDGER"

// Of the faults these are in all ledgers. First the store is killed, and begins again on
// its data; then all instances are ended and begun anew, one after the other, so that
// pages are read from the store. Then others are drawn, and the instance that leads the
// guild is killed.
const (
	storeKilled = "store killed"
	leaderDies  = "leader"
	roll        = "roll"
)

// TestLedger keeps a ledger of what was acknowledged to ten writers and what fifty
// sessions were given, while instances are killed, ended and frozen, the store is killed
// and stands still, a server of the bus dies, connections are cut and readers are slow:
// nothing that was acknowledged is missing or comes twice at anybody, and all see one
// order; in the history each stands once.
func TestLedger(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("VOICEFLEET_SEED"); v != "" {
		var err error
		seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	x := startTexts(t, "")
	s := newScript(t, x.houses[0], "Parrot")
	guest := func(i int) string {
		for tries := 1; ; tries++ {
			var g struct {
				Token string
				Retry float64 `json:"retry_after"`
			}
			b, status := request(t, "POST", x.houses[i%3].page("/api/v10/auth/guest"), "", fmt.Sprintf(`{"invite":%q,"nickname":"guest %d"}`, x.houses[0].invite, i))
			must(t, json.Unmarshal(b, &g))
			switch {
			case status < 300:
				return g.Token
			case status != http.StatusServiceUnavailable || tries == 10:
				t.Fatalf("a guest is answered %d %s", status, b)
			}
			<-time.After(time.Duration(g.Retry * float64(time.Second))) // the store has just begun
		}
	}
	l := &ledger{x: x, at: make(map[string]noted), channels: []string{s.channel}}
	var second struct{ ID string }
	b, status := request(t, "POST", s.api+"/guilds/"+s.guild+"/channels", "Bot "+s.bot.Token, `{"name":"second"}`)
	if status >= 300 {
		t.Fatalf("a channel is answered %d %s", status, b)
	}
	must(t, json.Unmarshal(b, &second))
	l.channels = append(l.channels, second.ID)
	for i := range 50 {
		r := &reader{ledger: l, token: guest(i), name: fmt.Sprint("session ", i), in: make(chan struct{}), over: make(chan struct{})}
		l.readers = append(l.readers, r)
		go r.run(i)
	}
	for _, r := range l.readers {
		select {
		case <-r.in:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s is not in after 30 s", r.name)
		}
	}
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 10 {
		token := guest(50 + i)
		writers.Go(func() { l.write(t, i, token, stop) })
	}
	for n, fault := range faults(rnd, cqlServer.Pid() != 0) {
		i := rnd.IntN(3)
		pause := time.Duration(500+rnd.IntN(2500)) * time.Millisecond
		if fault == leaderDies {
			i = x.leader(s.guild)
		}
		before := l.acknowledged()
		began := l.during(fault)
		switch fault {
		case "kill", "end", leaderDies:
			by := syscall.SIGKILL
			if fault == "end" {
				by = syscall.SIGTERM
			}
			x.houses[i].signal(by)
			<-x.houses[i].done
			x.start(i)
		case roll:
			l.roll(t)
		case "freeze":
			x.houses[i].signal(syscall.SIGSTOP)
			sleep(pause)
			x.houses[i].signal(syscall.SIGCONT)
		case "store":
			must(t, cqlServer.Freeze())
			sleep(pause)
			must(t, cqlServer.Thaw())
		case storeKilled:
			must(t, cqlServer.Restart())
		case "cut":
			for _, r := range l.readers {
				if rnd.IntN(2) == 0 {
					r.cut()
				}
			}
		case "slow":
			for _, r := range l.readers {
				r.slow.Store(rnd.IntN(5) == 0)
			}
			sleep(pause)
			for _, r := range l.readers {
				r.slow.Store(false)
			}
		case "bus":
			x.servers[i].signal(syscall.SIGKILL)
			<-x.servers[i].done
			x.startServer(i)
		default:
			t.Fatalf("no fault %q", fault)
		}
		mended := time.Since(began)
		// The next one comes when writing goes on and everybody has what was written.
		l.goesOn(t, fault, max(before, l.acknowledged())+10)
		l.settle(t, fault, l.acknowledged())
		t.Logf("round %d: %s of %d, mended after %v, everybody is up to date after %v; %d acknowledged, %d connections tried so far, %d of them refused", n, fault, i,
			mended.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), l.acknowledged(), l.dials.Load(), l.refused.Load())
	}
	close(stop)
	writers.Wait()
	l.settle(t, "the end", l.acknowledged())
	l.judge(t)
	l.judgeHistory(t, s.ada)
}

// faults are those of the rounds; store says whether the store is ours to kill.
func faults(rnd *rand.Rand, store bool) (list []string) {
	rounds := 5
	if v := os.Getenv(ledgerEnv); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil {
			return strings.Split(v, ",")
		}
	}
	all := []string{"kill", "freeze", "end", "cut", "slow", "bus", leaderDies, roll}
	if store {
		all = append(all, "store", storeKilled)
		list = append(list, storeKilled)
	}
	list = append(list, roll, leaderDies)
	first := len(list) - 1
	for len(list) < rounds {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		list = append(list, all[:min(rounds-len(list), len(all))]...)
	}
	rnd.Shuffle(len(list)-first, func(i, j int) { list[first+i], list[first+j] = list[first+j], list[first+i] })
	return list[:rounds]
}

// roll ends the instances and begins them anew, one after the other: each session goes
// on elsewhere.
func (l *ledger) roll(t *testing.T) {
	anew := l.anew.Load()
	var before []int
	for _, r := range l.readers {
		before = append(before, r.resumes())
	}
	for i, h := range l.x.houses {
		h.signal(syscall.SIGTERM)
		<-h.done
		l.x.start(i)
	}
	deadline := time.Now().Add(60 * time.Second)
	for i, r := range l.readers {
		for r.resumes() == before[i] {
			if time.Now().After(deadline) {
				t.Fatalf("%s has not resumed since all instances were begun anew; %d sessions were begun anew, %d connections tried, %d of them refused",
					r.name, l.anew.Load()-anew, l.dials.Load(), l.refused.Load())
			}
			sleep(20 * time.Millisecond)
		}
	}
	if n := l.anew.Load() - anew; n > 0 {
		t.Errorf("%d sessions could not be resumed when all instances were begun anew", n)
	}
}

// sleep is a fault that lasts.
func sleep(d time.Duration) { <-time.After(d) }

func request(t *testing.T, method, url, token, body string) ([]byte, int) {
	t.Helper()
	b, status, err := tryRequest(method, url, token, body)
	must(t, err)
	return b, status
}

var impatient = &http.Client{Timeout: 8 * time.Second}

func tryRequest(method, url, token, body string) ([]byte, int, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := impatient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// ledger is what was acknowledged, and who was given what.
type ledger struct {
	x        *texts
	channels []string
	readers  []*reader
	anew     atomic.Int64 // sessions that could not be resumed
	dials    atomic.Int64 // connections of sessions that were tried
	refused  atomic.Int64 // and that were refused, or not taken

	mu     sync.Mutex
	acked  []string
	faults []fault
	at     map[string]noted // when each was acknowledged
}

// fault is when one began.
type fault struct {
	name string
	at   time.Time
}

// noted is when a message was acknowledged, and in which channel it is.
type noted struct {
	at      time.Time
	channel string
}

// deliveredIn bounds the time from an acknowledgement to the last session.
const deliveredIn = 5 * time.Second

func (l *ledger) during(name string) (began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began = time.Now()
	l.faults = append(l.faults, fault{name, began})
	return began
}

func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// write posts one message after the other, each until it is acknowledged: by its nonce
// it is stored once. The channels take turns.
func (l *ledger) write(t *testing.T, i int, token string, stop <-chan struct{}) {
	pace := time.NewTicker(600 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		text, channel := fmt.Sprintf("%d.%d", i, n), l.channels[(i+n)%len(l.channels)]
		body := fmt.Sprintf(`{"content":%q,"nonce":%q,"enforce_nonce":true}`, text, text)
		for try := 0; ; try++ {
			_, status, err := tryRequest("POST", l.x.houses[(i+n+try)%3].page("/api/v10/channels/"+channel+"/messages"), token, body)
			if err == nil && status == http.StatusOK {
				break
			}
			if err == nil && status < 500 && status != http.StatusTooManyRequests {
				t.Errorf("%s is answered %d", text, status)
				return
			}
			if try > 600 {
				t.Errorf("%s is not taken: %d %v", text, status, err)
				return
			}
			sleep(100 * time.Millisecond)
		}
		l.mu.Lock()
		l.acked = append(l.acked, text)
		l.at[text] = noted{time.Now(), channel}
		l.mu.Unlock()
	}
}

// goesOn waits until so many messages are acknowledged.
func (l *ledger) goesOn(t *testing.T, fault string, n int) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for l.acknowledged() < n {
		if time.Now().After(deadline) {
			t.Fatalf("60 s after %s: %d messages are acknowledged, want %d", fault, l.acknowledged(), n)
		}
		sleep(20 * time.Millisecond)
	}
}

// settle waits until everybody has what was acknowledged first.
func (l *ledger) settle(t *testing.T, fault string, n int) {
	t.Helper()
	l.mu.Lock()
	want := slices.Clone(l.acked[:n])
	l.mu.Unlock()
	deadline := time.Now().Add(60 * time.Second)
	for {
		missing := ""
		for _, r := range l.readers {
			if m := r.missing(want); m != "" {
				missing = fmt.Sprintf("%s misses %s", r.name, m)
				break
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("60 s after %s: %s", fault, missing)
		}
		sleep(20 * time.Millisecond)
	}
}

// judge holds all readers to the ledger.
func (l *ledger) judge(t *testing.T) {
	resumed := 0
	late := make(map[string]time.Duration) // by fault
	var first []string
	for i, r := range l.readers {
		r.close()
		r.mu.Lock()
		list := slices.Clone(r.given)
		resumed += r.resumed
		for text, had := range r.had {
			l.lateness(late, l.at[text].at, had)
		}
		r.mu.Unlock()
		count := make(map[string]int)
		for _, text := range list {
			if count[text]++; count[text] == 2 {
				t.Errorf("%s was given %s twice", r.name, text)
			}
		}
		// Who came in together has seen the same, in the same order.
		if i == 0 {
			first = list
		} else if n := min(len(first), len(list)); !slices.Equal(first[:n], list[:n]) {
			at := 0
			for at < n && first[at] == list[at] {
				at++
			}
			t.Errorf("%s has %s where %s has %s", r.name, list[at:min(at+1, n)], l.readers[0].name, first[at:min(at+1, n)])
		}
	}
	if n := l.anew.Load(); n > 0 {
		t.Errorf("%d sessions could not be resumed", n)
	}
	for _, fault := range slices.Sorted(maps.Keys(late)) {
		t.Logf("after %s the last session had a message %v after its acknowledgement at most", fault, late[fault].Round(time.Millisecond))
	}
	// A session whose instance is frozen, or that reads slowly, has it when that ends.
	for _, fault := range []string{"kill", "end", leaderDies} {
		if late[fault] > deliveredIn {
			t.Errorf("after %s the last session had a message after %v, want at most %v", fault, late[fault], deliveredIn)
		}
	}
	t.Logf("%d messages acknowledged, given to %d sessions once each; %d resumes, 0 sessions begun anew", l.acknowledged(), len(l.readers), resumed)
}

// lateness adds to late how long a message was on its way after each of the faults: also
// one that was acknowledged before it, and had not come.
func (l *ledger) lateness(late map[string]time.Duration, acked, had time.Time) {
	for i, f := range l.faults {
		from, to := acked, had
		if f.at.After(from) {
			from = f.at
		}
		if i+1 < len(l.faults) && l.faults[i+1].at.Before(to) {
			to = l.faults[i+1].at
		}
		if d := to.Sub(from); d > 0 {
			late[f.name] = max(late[f.name], d)
		}
	}
}

// judgeHistory reads all channels back from each instance: what was acknowledged stands
// there once, what each writer wrote in the order in which it did.
func (l *ledger) judgeHistory(t *testing.T, token string) {
	const limit = 50
	for i, h := range l.x.houses {
		stands := make(map[string]string) // in which channel
		for _, channel := range l.channels {
			last := make(map[string]int) // by writer; from the newest back
			for before := uint64(math.MaxInt64); ; {
				b, status := request(t, "GET", h.page(fmt.Sprintf("/api/v10/channels/%s/messages?limit=%d&before=%d", channel, limit, before)), token, "")
				if status == http.StatusTooManyRequests {
					sleep(time.Second)
					continue
				}
				if status != http.StatusOK {
					t.Fatalf("a page of instance %d is answered %d %s", i, status, b)
				}
				var page []struct{ ID, Content string }
				must(t, json.Unmarshal(b, &page))
				for _, m := range page {
					id, err := strconv.ParseUint(m.ID, 10, 64)
					must(t, err)
					if id >= before {
						t.Errorf("instance %d has %d after %d in its history", i, id, before)
					}
					before = id
					writer, number, ok := strings.Cut(m.Content, ".")
					if !ok {
						continue // not of the ledger
					}
					n, err := strconv.Atoi(number)
					must(t, err)
					if next, ok := last[writer]; ok && n >= next {
						t.Errorf("instance %d has %s.%d after %s in its history", i, writer, next, m.Content)
					}
					last[writer] = n
					if stands[m.Content] != "" {
						t.Errorf("instance %d has %s twice in its history", i, m.Content)
					}
					stands[m.Content] = channel
				}
				if len(page) < limit {
					break
				}
			}
		}
		for text, n := range l.at {
			if stands[text] != n.channel {
				t.Errorf("instance %d lacks %s in its history of %s", i, text, n.channel)
			}
		}
		t.Logf("instance %d has all %d acknowledged messages in its history of %d", i, len(l.at), len(stands))
	}
}

// reader is a session that resumes by itself, at any instance.
type reader struct {
	gws.BuiltinEventHandler
	ledger *ledger
	token  string
	name   string
	in     chan struct{} // closed when it has the guild
	over   chan struct{} // closed when the test ends
	slow   atomic.Bool   // reads nothing

	mu      sync.Mutex
	ws      *gws.Conn
	session string
	seq     uint64
	given   []string
	had     map[string]time.Time
	resumed int
	once    sync.Once
}

func (r *reader) run(i int) {
	for n := i; ; n++ {
		select {
		case <-r.over:
			return
		default:
		}
		r.ledger.dials.Add(1)
		ws, _, err := gws.NewClient(r, &gws.ClientOption{Addr: fmt.Sprintf("ws://127.0.0.1:%d/gateway?v=10&encoding=json", r.ledger.x.ports[n%3]), HandshakeTimeout: 2 * time.Second})
		if err != nil {
			r.ledger.refused.Add(1)
			sleep(50 * time.Millisecond)
			continue
		}
		r.mu.Lock()
		r.ws = ws
		r.mu.Unlock()
		ws.ReadLoop()
	}
}

func (r *reader) OnMessage(ws *gws.Conn, m *gws.Message) {
	f, err := readFrame(m)
	for r.slow.Load() {
		sleep(10 * time.Millisecond)
	}
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f.Op == 10:
		answerHello(ws, r.token, r.session, r.seq)
	case f.Op == 9:
		r.ledger.anew.Add(1)
		r.session, r.seq = "", 0
		_ = ws.NetConn().Close()
	case f.Op == 0:
		r.seq = f.S
		switch f.T {
		case "READY":
			var d struct {
				ID string `json:"session_id"`
			}
			if json.Unmarshal(f.D, &d) == nil {
				r.session = d.ID
			}
		case "GUILD_CREATE":
			r.once.Do(func() { close(r.in) })
		case "RESUMED":
			r.resumed++
		case "MESSAGE_CREATE":
			var d struct{ Content string }
			if json.Unmarshal(f.D, &d) == nil && strings.Contains(d.Content, ".") {
				r.given = append(r.given, d.Content)
				if r.had == nil {
					r.had = make(map[string]time.Time)
				}
				if r.had[d.Content].IsZero() {
					r.had[d.Content] = time.Now()
				}
			}
		}
	}
}

func (r *reader) resumes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resumed
}

func (r *reader) missing(want []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range slices.Backward(want) {
		if r.had[text].IsZero() {
			return text
		}
	}
	return ""
}

// cut breaks the connection without a word.
func (r *reader) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ws != nil {
		if tcp, ok := r.ws.NetConn().(*net.TCPConn); ok {
			_ = errors.Join(tcp.SetLinger(0), tcp.Close())
		}
	}
}

func (r *reader) close() {
	close(r.over)
	r.cut()
}
