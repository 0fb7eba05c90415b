package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// ledgerEnv is how many rounds TestLedger makes; without it few.
const ledgerEnv = "VOICEFLEET_LEDGER"

// TestLedger keeps a ledger of what was acknowledged to ten writers and what fifty
// sessions were given, while instances are killed, ended and frozen, the store stands still,
// a server of the bus dies, connections are cut and readers are slow: nothing that was
// acknowledged is missing or comes twice at anybody, and all see one order.
func TestLedger(t *testing.T) {
	rounds := 4
	if v := os.Getenv(ledgerEnv); v != "" {
		var err error
		rounds, err = strconv.Atoi(v)
		must(t, err)
	}
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
		var g struct{ Token string }
		b, status := request(t, "POST", x.houses[i%3].page("/api/v10/auth/guest"), "", fmt.Sprintf(`{"invite":%q,"nickname":"guest %d"}`, x.houses[0].invite, i))
		if status >= 300 {
			t.Fatalf("a guest is answered %d %s", status, b)
		}
		must(t, json.Unmarshal(b, &g))
		return g.Token
	}
	l := &ledger{x: x, at: make(map[string]noted)}
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
		writers.Go(func() { l.write(t, i, token, s.channel, stop) })
	}
	for n := range rounds {
		i := rnd.IntN(3)
		pause := time.Duration(500+rnd.IntN(2500)) * time.Millisecond
		faults := []string{"kill", "freeze", "store", "end", "cut", "slow", "bus"}
		fault := faults[(n+rnd.IntN(2)*3)%len(faults)]
		began, before := time.Now(), l.acknowledged()
		l.during(fault)
		switch fault {
		case "kill", "end":
			x.houses[i].signal(map[string]syscall.Signal{"kill": syscall.SIGKILL, "end": syscall.SIGTERM}[fault])
			<-x.houses[i].done
			x.start(i)
		case "freeze":
			x.houses[i].signal(syscall.SIGSTOP)
			sleep(pause)
			x.houses[i].signal(syscall.SIGCONT)
		case "store":
			must(t, syscall.Kill(x.storePid, syscall.SIGSTOP))
			sleep(pause)
			must(t, syscall.Kill(x.storePid, syscall.SIGCONT))
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
		}
		// The next one comes when writing goes on and everybody has what was written.
		l.goesOn(t, fault, before+10)
		l.settle(t, fault, l.acknowledged())
		t.Logf("round %d: %s of %d, everybody is up to date after %v; %d acknowledged", n, fault, i, time.Since(began).Round(time.Millisecond), l.acknowledged())
	}
	close(stop)
	writers.Wait()
	l.settle(t, "the end", l.acknowledged())
	l.judge(t)
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
	x       *texts
	readers []*reader
	anew    atomic.Int64 // sessions that could not be resumed

	mu    sync.Mutex
	acked []string
	fault string           // that was last
	at    map[string]noted // when each was acknowledged
}

// noted is when a message was acknowledged, and after which fault.
type noted struct {
	at    time.Time
	fault string
}

// deliveredIn bounds the time from an acknowledgement to the last session.
const deliveredIn = 5 * time.Second

func (l *ledger) during(fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// write posts one message after the other, each until it is acknowledged: by its nonce
// it is stored once.
func (l *ledger) write(t *testing.T, i int, token, channel string, stop <-chan struct{}) {
	pace := time.NewTicker(600 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		text := fmt.Sprintf("%d.%d", i, n)
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
		l.at[text] = noted{time.Now(), l.fault}
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
		for text, at := range r.had {
			n := l.at[text]
			late[n.fault] = max(late[n.fault], at.Sub(n.at))
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
	if late["kill"] > deliveredIn || late["end"] > deliveredIn {
		t.Errorf("want at most %v after an instance was killed or ended", deliveredIn)
	}
	t.Logf("%d messages acknowledged, given to %d sessions once each; %d resumes, 0 sessions begun anew", l.acknowledged(), len(l.readers), resumed)
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
		ws, _, err := gws.NewClient(r, &gws.ClientOption{Addr: fmt.Sprintf("ws://127.0.0.1:%d/gateway?v=10&encoding=json", r.ledger.x.ports[n%3]), HandshakeTimeout: 2 * time.Second})
		if err != nil {
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
	b := bytes.Clone(m.Bytes())
	m.Close()
	for r.slow.Load() {
		sleep(10 * time.Millisecond)
	}
	var f struct {
		Op int             `json:"op"`
		T  string          `json:"t"`
		S  uint64          `json:"s"`
		D  json.RawMessage `json:"d"`
	}
	if json.Unmarshal(b, &f) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	send := func(op int, d any) {
		b, err := json.Marshal(map[string]any{"op": op, "d": d})
		if err == nil {
			_ = ws.WriteMessage(gws.OpcodeText, b)
		}
	}
	switch {
	case f.Op == 10 && r.session != "":
		send(6, map[string]any{"token": r.token, "session_id": r.session, "seq": r.seq})
	case f.Op == 10:
		send(2, map[string]any{"token": r.token, "intents": 33281, "properties": map[string]any{"os": "linux", "browser": "test", "device": "test"}})
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
