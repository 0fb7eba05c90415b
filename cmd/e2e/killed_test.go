package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lxzan/gws"
)

// killedEnv is how many rounds TestUpKilled makes; without it few.
const killedEnv = "VOICEFLEET_KILLED"

// TestUpKilled holds that a house goes on where it was killed, or ended, while people
// write: every session is resumed, and has each message that was acknowledged once, those
// of a writer in their order.
func TestUpKilled(t *testing.T) {
	t.Parallel()
	rounds := 4
	if v := os.Getenv(killedEnv); v != "" {
		var err error
		rounds, err = strconv.Atoi(v)
		must(t, err)
	}
	const writers, listeners = 4, 12
	h := startUp(t, "")
	var channel string
	guest := func(name string) string {
		var g struct {
			Token string
			Guild string `json:"guild_id"`
		}
		b, status := request(t, "POST", h.page("/api/v10/auth/guest"), "", fmt.Sprintf(`{"invite":%q,"nickname":%q}`, h.invite, name))
		if status >= 300 {
			t.Fatalf("a guest is answered %d %s", status, b)
		}
		must(t, json.Unmarshal(b, &g))
		if channel == "" {
			var list []struct {
				ID   string
				Type int
			}
			b, _ = request(t, "GET", h.page("/api/v10/guilds/"+g.Guild+"/channels"), g.Token, "")
			must(t, json.Unmarshal(b, &list))
			for _, c := range list {
				if c.Type == 0 {
					channel = c.ID
				}
			}
		}
		return g.Token
	}

	over := make(chan struct{})
	var all sync.WaitGroup
	var end sync.Once
	stop := func() { end.Do(func() { close(over) }) }
	var heard []*listener
	for i := range listeners {
		l := newListener(t, fmt.Sprintf("ws://127.0.0.1:%d/gateway?v=10&encoding=json", h.port), guest(fmt.Sprint("listener ", i)))
		heard = append(heard, l)
		all.Go(func() { l.run(over) })
	}
	t.Cleanup(func() {
		stop()
		for _, l := range heard {
			l.cut()
		}
		all.Wait()
	})
	for i, l := range heard {
		l.await(t, fmt.Sprintf("listener %d is there", i), func() bool { return l.in })
	}

	var mu sync.Mutex
	more := sync.NewCond(&mu)
	var acked []string
	written := make(chan struct{}, writers)
	for i := range writers {
		token := guest(fmt.Sprint("writer ", i))
		all.Go(func() {
			defer func() { written <- struct{}{} }()
			for n := 0; ; n++ {
				text := fmt.Sprintf("%d.%d", i, n)
				if !insist(t, h.page("/api/v10/channels/"+channel+"/messages"), token, text, over) {
					return
				}
				mu.Lock()
				acked = append(acked, text)
				mu.Unlock()
				more.Broadcast()
			}
		})
	}
	// acknowledged waits for more to be, and lists all.
	acknowledged := func(n int) []string {
		late := false
		timeout := time.AfterFunc(time.Minute, func() { mu.Lock(); late = true; mu.Unlock(); more.Broadcast() })
		defer timeout.Stop()
		mu.Lock()
		defer mu.Unlock()
		for want := len(acked) + n; len(acked) < want; more.Wait() {
			if late || t.Failed() {
				t.Fatalf("%d messages are acknowledged, want %d", len(acked), want)
			}
		}
		return slices.Clone(acked)
	}

	for round := range rounds {
		acknowledged(5 + round%3) // in the midst of others
		signal := syscall.SIGKILL
		if round%4 == 3 {
			signal = syscall.SIGTERM
		}
		before := make([]int, len(heard))
		for i, l := range heard {
			before[i] = l.times()
		}
		began := time.Now()
		h.signal(signal)
		h.again(t)
		for i, l := range heard {
			l.await(t, fmt.Sprintf("round %d: listener %d is resumed", round, i), func() bool { return l.resumed > before[i] })
		}
		want := acknowledged(0)
		for i, l := range heard {
			l.await(t, fmt.Sprintf("round %d: listener %d has all %d messages", round, i, len(want)), func() bool { return l.has(want) })
		}
		t.Logf("round %d, %v: all have all %d after %v", round, signal, len(want), time.Since(began).Round(time.Millisecond))
	}
	stop()
	for range writers {
		<-written
	}
	want := acknowledged(0)
	for i, l := range heard {
		l.await(t, fmt.Sprintf("listener %d has all %d messages", i, len(want)), func() bool { return l.has(want) })
		l.judge(t, i)
	}
}

// insist writes until it is acknowledged, or the test ends; true: it is, and there is more
// to write.
func insist(t *testing.T, url, token, text string, over <-chan struct{}) bool {
	for deadline := time.Now().Add(time.Minute); ; {
		b, status, err := tryRequest("POST", url, token, fmt.Sprintf(`{"content":%q,"nonce":%q,"enforce_nonce":true}`, text, text))
		wait := 20 * time.Millisecond
		var limit struct {
			After float64 `json:"retry_after"`
		}
		switch {
		case err == nil && status == http.StatusOK:
			return true
		case err == nil && status == http.StatusTooManyRequests && json.Unmarshal(b, &limit) == nil:
			wait = time.Duration(limit.After * float64(time.Second))
		case err == nil && status < 500:
			t.Errorf("%s is answered %d %s", text, status, b)
			return false
		}
		if time.Now().After(deadline) {
			t.Errorf("%s is not taken: %d %s %v", text, status, b, err)
			return false
		}
		select {
		case <-over:
			return false
		case <-time.After(wait):
		}
	}
}

// listener is a client of the gateway that comes back, and never identifies twice.
type listener struct {
	gws.BuiltinEventHandler
	t     *testing.T
	url   string
	token string

	mu sync.Mutex
	// Guarded by mu.
	news    chan struct{} // closed with the next
	ws      *gws.Conn
	session string
	seq     uint64
	in      bool
	resumed int
	given   []string
	count   map[string]int
}

func newListener(t *testing.T, url, token string) *listener {
	return &listener{t: t, url: url, token: token, news: make(chan struct{}), count: make(map[string]int)}
}

func (l *listener) run(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		ws, _, err := gws.NewClient(l, &gws.ClientOption{Addr: l.url, HandshakeTimeout: 5 * time.Second})
		if err == nil {
			l.mu.Lock()
			l.ws = ws
			l.mu.Unlock()
			ws.ReadLoop()
			continue
		}
		select {
		case <-over:
			return
		case <-time.After(20 * time.Millisecond): // nobody is there yet
		}
	}
}

func (l *listener) OnMessage(ws *gws.Conn, m *gws.Message) {
	f, err := readFrame(m)
	if err != nil {
		l.t.Errorf("the gateway says what is no frame: %v", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case f.Op == 10:
		answerHello(ws, l.token, l.session, l.seq)
	case f.Op == 9 && string(f.D) != "true":
		l.t.Errorf("session %s cannot be resumed at %d", l.session, l.seq)
	case f.Op == 0:
		l.seq = f.S
		var d struct {
			ID      string `json:"session_id"`
			Content string
		}
		if err := json.Unmarshal(f.D, &d); err != nil {
			l.t.Errorf("%s is %s: %v", f.T, f.D, err)
		}
		switch f.T {
		case "READY":
			l.session = d.ID
		case "GUILD_CREATE":
			l.in = true
		case "RESUMED":
			l.resumed++
			sendFrame(ws, 1, l.seq)
		case "MESSAGE_CREATE":
			if strings.Contains(d.Content, ".") {
				l.given = append(l.given, d.Content)
				l.count[d.Content]++
			}
		}
		close(l.news)
		l.news = make(chan struct{})
	}
}

func (l *listener) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resumed
}

// has says whether all of a list came. The caller holds mu.
func (l *listener) has(want []string) bool {
	return !slices.ContainsFunc(want, func(text string) bool { return l.count[text] == 0 })
}

// await waits until something is so, which is looked at under mu.
func (l *listener) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		l.mu.Lock()
		ok, news := is(), l.news
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// judge looks for what came twice, and out of the order of its writer.
func (l *listener) judge(t *testing.T, i int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	last := map[string]int{}
	for _, text := range l.given {
		if l.count[text] != 1 {
			t.Errorf("listener %d: %s came %d times", i, text, l.count[text])
		}
		writer, number, _ := strings.Cut(text, ".")
		n, err := strconv.Atoi(number)
		must(t, err)
		if before, ok := last[writer]; ok && n != before+1 || !ok && n != 0 {
			t.Errorf("listener %d: of writer %s came %d after %d", i, writer, n, before)
		}
		last[writer] = n
	}
}

func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ws != nil {
		_ = l.ws.NetConn().Close()
	}
}
