package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/balance"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/textchattest"
)

const (
	// schedulesEnv is how many schedules TestSchedules runs; without it few.
	schedulesEnv = "VOICEFLEET_SCHEDULES"
	// seedEnv is the seed of the first of them.
	seedEnv = "VOICEFLEET_SEED"
	// bubbleEnv marks the process in which they run.
	bubbleEnv = "VOICEFLEET_BUBBLE"
	// blindEnv has them run on a bus that takes every entry of a log, whatever its sender
	// takes for the last one.
	blindEnv = "VOICEFLEET_BLIND"
	// trustEnv has them show pages that are remembered without asking what was told since.
	trustEnv = "VOICEFLEET_TRUST"
	// rollEnv has all instances be ended and begun anew, one after the other, after faults
	// that were got over.
	rollEnv = "VOICEFLEET_ROLL"
	// crowdEnv has each be of 50 sessions and 10 writers, of which else one in 25 is.
	crowdEnv = "VOICEFLEET_CROWD"
)

// TestSchedules keeps a ledger of what was acknowledged to writers and what sessions
// were given by three instances on one store and one bus, in virtual time, while all
// that may fail does, at moments drawn from a seed: nothing that was acknowledged is
// missing or comes twice at anybody, and all see one order. Pages of history are read
// meanwhile, too, and have all that was acknowledged, or told to anybody, before.
//
// All is real but the store and the network between: chatserver, the client and the
// server of the bus. What a seed draws is always the same; which of two goroutines
// runs first is not.
func TestSchedules(t *testing.T) {
	n, first := wanted(t)
	if os.Getenv(bubbleEnv) != "" {
		inBubble(t, first, n)
		return
	}
	t.Parallel()
	said, err := outside(t, first, n)
	if err != nil {
		t.Errorf("%v\n%s", err, tail(said))
		return
	}
	logTally(t, said)
}

func logTally(t *testing.T, said []byte) {
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "schedules:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// wanted is how many schedules are to run, from which seed on.
func wanted(t *testing.T) (n, first int) {
	if os.Getenv(seedEnv) != "" && os.Getenv(schedulesEnv) == "" {
		return 1, number(t, seedEnv, 1)
	}
	return number(t, schedulesEnv, 10), number(t, seedEnv, 1)
}

// outside runs schedules in a process of their own: timers that nats.go keeps to use
// again must not get into virtual time, nor out of it.
func outside(t *testing.T, first, n int, env ...string) (said []byte, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(60+6*n)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSchedules$", "-test.v", "-test.timeout="+fmt.Sprint(60+6*n)+"s")
	cmd.Env = append(append(os.Environ(), env...), bubbleEnv+"=1", fmt.Sprint(schedulesEnv, "=", n), fmt.Sprint(seedEnv, "=", first))
	return cmd.CombinedOutput()
}

// TestSchedulesNotice holds that the ledger tells when a log takes what it must refuse:
// the entry of who does not know the last one.
func TestSchedulesNotice(t *testing.T) {
	t.Parallel()
	for _, seed := range []int{20, 28, 37, 60, 62, 75, 83, 87} { // of one in nine
		said, err := outside(t, seed, 1, blindEnv+"=1")
		if err != nil && bytes.Contains(said, fmt.Appendf(nil, "seed %d:\n", seed)) {
			return
		}
	}
	t.Error("nobody noticed")
}

// TestSchedulesNoticePages holds that the ledger tells when a page that is remembered is
// shown by who does not know what was told since.
func TestSchedulesNoticePages(t *testing.T) {
	t.Parallel()
	for _, seed := range []int{1, 4, 5, 8, 9, 10, 11, 12} { // of two in three
		said, err := outside(t, seed, 1, trustEnv+"=1")
		if err != nil && bytes.Contains(said, fmt.Appendf(nil, "seed %d:\n", seed)) && bytes.Contains(said, []byte("a page of")) {
			return
		}
	}
	t.Error("nobody noticed")
}

// TestSchedulesRoll holds that every session is resumed when all instances are ended and
// begun anew, one after the other, whatever there was before: instances that were killed,
// and breaks of the bus, some of them a moment before.
func TestSchedulesRoll(t *testing.T) {
	t.Parallel()
	n, first := wanted(t)
	said, err := outside(t, first, n, rollEnv+"=1")
	if err != nil {
		t.Errorf("%v\n%s", err, tail(said))
		return
	}
	logTally(t, said)
}

func number(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tail(b []byte) []byte { return b[max(0, len(b)-16<<10):] }

func inBubble(t *testing.T, first, n int) {
	ats.Register() // else nats-server begins it in the bubble, with a channel of outside
	defer ats.Unregister()
	dir := t.TempDir()
	sum := tally{}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))) // ids are of no time before 2015
		defer time.Sleep(time.Minute)                                       // what is on its way ends; no time passes afterwards
		for seed := first; seed < first+n; seed++ {
			l := &schedule{t: t, seed: seed, ledger: make(map[string]*booked), rnd: rand.New(rand.NewPCG(uint64(seed), 1))}
			if n == 1 {
				l.said = new(bytes.Buffer)
			}
			l.run(filepath.Join(dir, fmt.Sprint(seed)))
			sum.add(l.tally)
			if l.said != nil {
				t.Logf("%s", l.said)
			}
			if len(l.faults) > 0 {
				name := "TestSchedules"
				if os.Getenv(rollEnv) != "" {
					name = "TestSchedulesRoll"
				}
				again := fmt.Sprintf("%s=%d", seedEnv, seed)
				if os.Getenv(crowdEnv) != "" {
					again += " " + crowdEnv + "=1"
				}
				t.Errorf("seed %d:\n  %s\nagain: %s go test -run '^%s$' ./textchat/chatserver\nit was: %s", seed, strings.Join(l.faults, "\n  "), again, name, strings.Join(l.events, "; "))
			}
		}
		t.Logf("%d schedules: %+v", n, sum)
	})
}

// tally is what schedules amounted to.
type tally struct{ Messages, Edits, Deletes, Marks, Pages, Hits, Sessions, Resumes, Anew, Kills, Moves, Faults int }

func (t *tally) add(o tally) {
	t.Messages += o.Messages
	t.Edits += o.Edits
	t.Deletes += o.Deletes
	t.Marks += o.Marks
	t.Moves += o.Moves
	t.Pages += o.Pages
	t.Hits += o.Hits
	t.Sessions += o.Sessions
	t.Resumes += o.Resumes
	t.Anew += o.Anew
	t.Kills += o.Kills
	t.Faults += o.Faults
}

// schedule is one run.
type schedule struct {
	t     *testing.T
	seed  int
	rnd   *rand.Rand // of run alone
	bus   *bus.Embedded
	store *shelf
	files Files
	first FirstGuild

	channels []textchat.ID
	readers  []*reader
	tally    tally

	mu sync.Mutex
	// Guarded by mu.
	jitter *rand.Rand
	houses []*house           // nil: it does not run
	ledger map[string]*booked // by text
	faults []string           // what went wrong
	events []string           // what was done
	said   *bytes.Buffer      // nil: one of many
	began  time.Time
}

func (l *schedule) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < 10 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *schedule) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said != nil {
		fmt.Fprintf(l.said, "%s "+format+"\n", append([]any{time.Now().Format("05.000")}, args...)...)
	}
	l.events = append(l.events, fmt.Sprintf("%.2fs ", time.Since(l.began).Seconds())+fmt.Sprintf(format, args...))
}

// trace tells what happens, of one schedule alone.
func (l *schedule) trace(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said != nil {
		fmt.Fprintf(l.said, "%s "+format+"\n", append([]any{time.Now().Format("05.000")}, args...)...)
	}
}

// Write takes a line of a log.
func (l *schedule) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said != nil {
		l.said.Write(b)
	}
	return len(b), nil
}

// delay is how long something is on the way.
func (l *schedule) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := time.Duration(l.jitter.IntN(3000)) * time.Microsecond
	if l.jitter.IntN(20) == 0 {
		d *= 20
	}
	return d
}

// house is one run of an instance.
type house struct {
	name  string
	srv   *Server
	still pause // of the process
	// What it says to the bus, and hears of it, stands still now and then: that it takes
	// time on its way is no choice, as nats.go waits for answers with locks held, and
	// while somebody waits for a lock no time passes.
	up, down pause

	mu sync.Mutex
	// Guarded by mu.
	dead  bool
	lines map[*line]struct{}
	buses map[*line]struct{}
	gone  chan struct{} // closed when it is killed
	end   func()
	ended chan struct{}
}

func (h *house) killed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

func (h *house) attend(l *line) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return false
	}
	h.lines[l] = struct{}{}
	return true
}

func (h *house) leave(l *line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.lines, l)
}

// kill ends it without a word: nothing comes out of it any more.
func (h *house) kill() {
	h.mu.Lock()
	h.dead = true
	close(h.gone)
	for l := range h.lines {
		l.cut()
	}
	for l := range h.buses {
		l.cut()
	}
	h.mu.Unlock()
	h.end()
}

// cutBus breaks its connections to the bus.
func (h *house) cutBus() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.buses {
		l.cut()
	}
	clear(h.buses)
}

func atOnce() time.Duration { return 0 }

// jitter has what is on the way to the bus and back come late, until the house ends.
func (h *house) jitter(rnd *rand.Rand) {
	for {
		select {
		case <-h.ended:
			return
		case <-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond):
		}
		d := time.Duration(rnd.IntN(20)) * time.Millisecond
		if rnd.IntN(20) == 0 {
			d *= 20
		}
		if rnd.IntN(2) == 0 {
			h.up.set(d)
		} else {
			h.down.set(d)
		}
	}
}

var errDead = errors.New("nobody is there")

// build starts an instance.
func (l *schedule) build(i int) *house {
	h := &house{name: fmt.Sprint("t", i), lines: make(map[*line]struct{}), buses: make(map[*line]struct{}), gone: make(chan struct{}), ended: make(chan struct{})}
	up, down := []*pause{&h.still, &h.up}, []*pause{&h.still, &h.down}
	dial := func() (net.Conn, error) {
		if h.still.on() || h.up.on() || h.down.on() {
			return nil, errDead // nobody waits here, see newLine
		}
		far, err := l.bus.InProcessConn()
		if err != nil {
			return nil, err
		}
		near, ours := net.Pipe()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.dead {
			_ = far.Close()
			return nil, errDead
		}
		if os.Getenv(blindEnv) != "" {
			ours = blinded{ours}
		}
		h.buses[newLine(ours, far, endless, atOnce, up, down)] = struct{}{}
		return near, nil
	}
	counted := prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := bus.Connect(ctx, bus.Config{Dial: dial, Name: bus.ClientName(bus.RoleText, h.name)})
	if err != nil {
		l.fail("connect %s: %v", h.name, err)
		cancel()
		return nil
	}
	h.srv, err = New(Config{Store: &desk{l.store, h}, Files: l.files, Bus: conn, Instance: h.name, Worker: uint16(i),
		Log:     slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", h.name),
		Metrics: counted, Limits: Limits{Guests: 1e6, Registers: 1e6, Logins: 1e6, Invites: 1e6, Requests: 1e6, Attempts: 1e6, Messages: 1e6}})
	if err != nil {
		l.fail("start %s: %v", h.name, err)
		cancel()
		conn.Close()
		return nil
	}
	if os.Getenv(trustEnv) != "" {
		h.srv.pages.confirmed = func(context.Context, *owner) bool { return true }
	}
	if l.first.Guild == 0 {
		if l.first, err = h.srv.Bootstrap(ctx, "Ledger"); err != nil {
			l.fail("bootstrap: %v", err)
		}
	}
	h.end = cancel
	go h.jitter(rand.New(rand.NewPCG(uint64(l.seed), uint64(10+i))))
	go func() {
		defer close(h.ended)
		err := h.srv.Run(ctx)
		l.countHits(counted)
		if err != nil && !h.killed() {
			l.fail("run %s: %v", h.name, err)
		}
		conn.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		for l := range h.buses {
			l.cut()
		}
	}()
	return h
}

// house is one of those that run, or nil.
func (l *schedule) house(n int) *house {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.houses[n%len(l.houses)]
}

func (l *schedule) put(i int, h *house) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.houses[i] = h
}

// ask makes a request of an instance, as over a network.
func (l *schedule) ask(h *house, method, path, token string, body any) (int, []byte, error) {
	if h == nil {
		return 0, nil, errDead
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	answer := make(chan *httptest.ResponseRecorder, 1)
	there, back := l.delay(), l.delay()
	go func() {
		time.Sleep(there)
		h.still.wait()
		if h.killed() {
			return
		}
		req := httptest.NewRequest(method, "/api/v10"+path, strings.NewReader(string(encode(body)))).WithContext(ctx)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		rec := httptest.NewRecorder()
		h.srv.Handler().ServeHTTP(rec, req)
		h.still.wait()
		time.Sleep(back)
		if !h.killed() {
			answer <- rec
		}
	}()
	select {
	case rec := <-answer:
		return rec.Code, rec.Body.Bytes(), ctx.Err()
	case <-h.gone:
		return 0, nil, errDead
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// must asks while everything is well.
func (l *schedule) must(h *house, method, path, token string, body any) map[string]any {
	status, b, err := l.ask(h, method, path, token, body)
	if err != nil || status >= 300 {
		l.fail("%s %s: %d %s %v", method, path, status, b, err)
		return nil
	}
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	return m
}

// text says of a map what is there as a string.
func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

func (l *schedule) guest(i int) string {
	return text(l.must(l.house(i), "POST", "/auth/guest", "", map[string]any{"invite": l.first.Invite, "nickname": fmt.Sprint("guest ", i)}), "token")
}

// run runs it.
func (l *schedule) run(dir string) {
	l.began = time.Now()
	l.jitter = rand.New(rand.NewPCG(uint64(l.seed), 2))
	l.store = &shelf{Model: textchattest.NewModel(), rnd: rand.New(rand.NewPCG(uint64(l.seed), 3))}
	var err error
	if l.files, err = filestore.Open(dir); err != nil {
		l.fail("%v", err)
		return
	}
	if l.bus, err = bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: dir}); err != nil {
		l.fail("%v", err)
		return
	}
	defer os.RemoveAll(dir)
	defer l.bus.Shutdown()
	const instances = 3
	l.houses = make([]*house, instances)
	for i := range instances {
		h := l.build(i)
		if h == nil {
			return
		}
		l.put(i, h)
	}
	defer func() {
		for i := range instances {
			if h := l.house(i); h != nil {
				h.end()
				<-h.ended
			}
		}
	}()
	time.Sleep(5 * time.Second) // they know of each other
	sessions, writers := 4+l.rnd.IntN(6), 4
	if l.seed%25 == 1 || os.Getenv(crowdEnv) != "" {
		sessions, writers = 50, 10
	}
	l.tally.Sessions = sessions
	boss := text(l.must(l.house(0), "POST", "/auth/owner", "", map[string]any{"code": l.first.OwnerCode, "username": "boss", "password": "correct horse"}), "token")
	// Whoever writes may pin, and delete many at once.
	l.must(l.house(0), "PATCH", "/guilds/"+l.first.Guild.String()+"/roles/"+l.first.Guild.String(), boss,
		map[string]any{"permissions": strconv.FormatUint(uint64(textchat.DefaultPermissions|textchat.ManageMessages), 10)})
	place := func(at string, form map[string]any) {
		id, err := snowflake.Parse(text(l.must(l.house(0), "POST", at, boss, form), "id"))
		if err != nil {
			l.fail("%v", err)
		}
		l.channels = append(l.channels, id)
	}
	for _, name := range []string{"one", "two"} {
		place("/guilds/"+l.first.Guild.String()+"/channels", map[string]any{"name": name})
	}
	place("/channels/"+l.channels[0].String()+"/threads", map[string]any{"name": "three", "type": textchat.ChannelPublicThread})
	var reading sync.WaitGroup
	for i := range sessions {
		r := &reader{l: l, name: fmt.Sprint("session ", i), token: l.guest(i), rnd: rand.New(rand.NewPCG(uint64(l.seed), 100+uint64(i))),
			had: make(map[string]bool), shown: make(map[string]int), marked: make(map[textchat.ID]onIt), shaky: l.rnd.IntN(3) == 0}
		l.readers = append(l.readers, r)
		reading.Go(r.run)
	}
	defer reading.Wait()
	defer func() {
		for _, r := range l.readers {
			r.end()
		}
	}()
	if !l.waitFor(30*time.Second, func() bool {
		return !slices.ContainsFunc(l.readers, func(r *reader) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return !r.entered
		})
	}) {
		l.fail("not everybody is in")
		return
	}
	var writing sync.WaitGroup
	stop := make(chan struct{})
	for i := range 3 {
		token, rnd := l.guest(sessions+writers+i), rand.New(rand.NewPCG(uint64(l.seed), 2000+uint64(i)))
		writing.Go(func() { l.browse(token, rnd, stop) })
	}
	for i := range writers {
		token, rnd := l.guest(sessions+i), rand.New(rand.NewPCG(uint64(l.seed), 1000+uint64(i)))
		writing.Go(func() { l.write(i, token, rnd, stop) })
	}
	if os.Getenv(rollEnv) != "" {
		l.roll()
	} else {
		l.disturb()
	}
	time.Sleep(3 * time.Second)
	close(stop)
	writing.Wait()
	l.tally.Messages = len(l.ledger)
	for _, r := range l.readers {
		if !l.waitFor(60*time.Second, func() bool { return r.misses() == "" }) {
			l.fail("%s %s", r.name, r.misses())
		}
	}
	l.judge()
}

// waitFor waits until something is so.
func (l *schedule) waitFor(most time.Duration, is func() bool) bool {
	for until := time.Now().Add(most); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// write posts one message after the other, each until it is acknowledged: by its nonce
// it is stored once. Some it edits, marks and deletes.
func (l *schedule) write(i int, token string, rnd *rand.Rand, stop <-chan struct{}) {
	var own []*booked
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(1500)) * time.Millisecond):
		}
		if what := rnd.IntN(10); what < 5 && len(own) > 0 {
			at := rnd.IntN(len(own))
			e := own[at]
			switch what {
			case 2, 3:
				l.mark(e, what-2, token, rnd)
				continue
			case 4:
				if many := slices.DeleteFunc(slices.Clone(own), func(o *booked) bool { return o.channel != e.channel }); len(many) >= 4 {
					many = many[:2+rnd.IntN(2)]
					own = slices.DeleteFunc(own, func(o *booked) bool { return slices.Contains(many, o) })
					l.deleteMany(many, token, rnd)
				}
				continue
			}
			if what == 1 && e.unsure[pinned] { // it may be told of with what it says now
				continue
			}
			if what == 1 && l.edit(e, token, rnd) {
				continue
			}
			own = slices.Delete(own, at, at+1)
			if what == 0 {
				l.delete(e, token, rnd)
			}
			continue
		}
		text := fmt.Sprintf("%d.%d", i, n)
		body := map[string]any{"content": text, "nonce": text, "enforce_nonce": true}
		channel := l.channels[rnd.IntN(len(l.channels))]
		for try := 0; ; try++ {
			h := l.house(rnd.IntN(len(l.houses)))
			status, b, err := l.ask(h, "POST", "/channels/"+channel.String()+"/messages", token, body)
			if err == nil && status == http.StatusOK {
				l.trace("%s is acknowledged", text)
				var m struct{ ID textchat.ID }
				_ = json.Unmarshal(b, &m)
				e := l.known(text, channel, m.ID)
				l.mu.Lock()
				e.acked = true
				l.mu.Unlock()
				if try == 0 { // else an earlier try may come over what is done to it
					own = append(own, e)
				}
				break
			}
			if err == nil && status < 500 && status != http.StatusTooManyRequests {
				l.fail("%s is answered %d %s", text, status, b)
				return
			}
			if try > 600 {
				l.fail("%s is not taken: %d %s %v", text, status, b, err)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// disturb lets happen what the seed says, and mends it all.
func (l *schedule) disturb() {
	var mending sync.WaitGroup
	for range 4 + l.rnd.IntN(5) {
		time.Sleep(time.Duration(l.rnd.IntN(3000)) * time.Millisecond)
		i := l.rnd.IntN(len(l.houses))
		h := l.house(i)
		d := time.Duration(50+l.rnd.IntN(4000)) * time.Millisecond
		if h == nil { // it was killed: another one
			i = (i + 1) % len(l.houses)
			h = l.house(i)
		}
		if l.rnd.IntN(4) == 0 {
			d /= 20
		}
		l.tally.Faults++
		switch what := l.rnd.IntN(12); what {
		case 0, 1, 2: // an instance is killed, or ends
			mending.Wait() // the others live
			h = l.house(i)
			l.tally.Kills++
			l.put(i, nil)
			if what == 2 {
				l.note("end %d", i)
				h.end()
			} else {
				l.note("kill %d", i)
				h.kill()
			}
			mending.Go(func() {
				<-h.ended
				time.Sleep(d)
				l.put(i, l.build(i))
			})
		case 3, 4: // it stands still
			l.note("freeze %d for %v", i, d)
			h.still.set(d)
			mending.Go(h.still.wait)
		case 5: // its connection to the bus breaks
			l.note("cut %d off the bus", i)
			h.cutBus()
		case 6:
			m := mood(1 + l.rnd.IntN(3))
			l.note("store %d for %v", m, d)
			l.store.set(m)
			mending.Go(func() {
				time.Sleep(d)
				l.store.set(fine)
			})
		case 7, 8: // sessions are cut
			l.note("cut sessions")
			for _, r := range l.readers {
				if l.rnd.IntN(2) == 0 {
					r.cut()
				}
			}
		case 9: // and slow
			l.note("slow sessions for %v", 4*d)
			for _, r := range l.readers {
				if l.rnd.IntN(3) == 0 {
					r.hold.set(4 * d)
				}
			}
		case 10, 11: // the lead moves
			to := l.rnd.IntN(len(l.houses))
			l.note("%d is to lead, says %d", to, i)
			mending.Go(func() { l.moveLead(h, to, what == 10) })
		}
	}
	mending.Wait()
	l.store.set(fine)
}

// roll ends all instances and begins them anew, one after the other, after faults of which
// each was got over before the next. No session begins anew by that.
func (l *schedule) roll() {
	for _, r := range l.readers {
		r.mu.Lock()
		r.shaky = false
		r.mu.Unlock()
	}
	cut := func() {
		some := 1 + l.rnd.IntN(7) // a bit for each
		for i := range l.houses {
			if h := l.house(i); h != nil && some>>i&1 != 0 {
				l.note("cut %d off the bus", i)
				h.cutBus()
			}
		}
	}
	anew := func(i int, kill bool) {
		h := l.house(i)
		if h == nil {
			return // it could not be begun, which is a fault
		}
		l.put(i, nil)
		l.note("end %d: killed %v", i, kill)
		if kill {
			h.kill()
		} else {
			h.end()
		}
		<-h.ended
		h = l.build(i)
		l.put(i, h)
		if h != nil {
			select {
			case <-h.srv.Joined():
			case <-h.ended:
			}
		}
	}
	for range 2 + l.rnd.IntN(5) {
		l.tally.Faults++
		switch i := l.rnd.IntN(len(l.houses)); l.rnd.IntN(6) {
		case 0, 1:
			l.tally.Kills++
			anew(i, true)
		case 2:
			anew(i, false)
		case 3:
			l.note("cut sessions")
			for _, r := range l.readers {
				if l.rnd.IntN(2) == 0 {
					r.cut()
				}
			}
		default:
			cut()
		}
		time.Sleep(time.Duration(l.rnd.IntN(6000)) * time.Millisecond)
		l.settle()
	}
	if l.rnd.IntN(4) != 0 {
		cut()
		time.Sleep(time.Duration(l.rnd.IntN(3000)) * time.Millisecond)
		l.settle()
	}
	l.mu.Lock()
	before := l.tally.Anew
	l.mu.Unlock()
	for i := range l.houses {
		anew(i, false)
		l.settle()
	}
	l.mu.Lock()
	n := l.tally.Anew - before
	l.mu.Unlock()
	if n > 0 {
		l.fail("%d of %d sessions began anew when all instances did", n, len(l.readers))
	}
}

// settle waits until all sessions are there.
func (l *schedule) settle() {
	time.Sleep(200 * time.Millisecond) // who was left behind notices
	for _, r := range l.readers {
		if !l.waitFor(60*time.Second, func() bool {
			r.mu.Lock()
			on := r.on
			r.mu.Unlock()
			return on
		}) {
			l.fail("%s is not there", r.name)
		}
	}
}

// moveLead has an instance write that another one leads the guild, which may have loaded
// it before.
func (l *schedule) moveLead(h *house, to int, warm bool) {
	e, id := h.srv.ensemble, l.first.Guild
	e.mu.Lock()
	was := e.given[id]
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(e.srv.life, askTimeout)
	defer cancel()
	next := balance.Lead{Instance: fmt.Sprint("t", to), Epoch: was.Epoch + 1, Work: 1}
	var err error
	if warm {
		_, err = bus.Request[warmRequest, bus.Done](ctx, e.bus, bus.TextSubject(next.Instance, "warm"), warmRequest{id})
	}
	switch {
	case err != nil:
	case was.revision == 0:
		_, err = e.leads.bucket.Create(ctx, id.String(), next)
	default:
		_, err = e.leads.bucket.Update(ctx, id.String(), next, was.revision)
	}
	if err != nil { // somebody is not there, or knew better
		l.trace("%s does not lead: %v", next.Instance, err)
		return
	}
	l.trace("%s leads", next.Instance)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Moves++
}

// judge holds all sessions to the ledger, and the store.
func (l *schedule) judge() {
	after := make(map[string]map[string]string)
	for _, r := range l.readers {
		r.end()
		r.judge(after)
		r.mu.Lock()
		l.tally.Resumes += r.resumed
		r.mu.Unlock()
	}
	l.judgeOrder(after)
	stored, marked := l.history()
	for text, e := range l.ledger {
		switch got := stored[text]; {
		case e.gone && len(got) > 0:
			l.fail("%s is deleted, and stands in the history", text)
		case !e.acked || e.deleting:
		case len(got) != 1:
			l.fail("%s stands in the history %d times", text, len(got))
		case got[0] < e.version:
			l.fail("%s stands in the history in its %d. form of %d", text, got[0], e.version)
		case marked[e.id] != e.marks:
			l.fail("%s stands in the history with marks %v, not %v", text, marked[e.id], e.marks)
		}
	}
}

// judgeOrder looks for a circle in what came after what: without one there is an order
// that all have seen.
func (l *schedule) judgeOrder(after map[string]map[string]string) {
	const visiting, done = 1, 2
	state := make(map[string]int)
	var visit func(text string) bool
	visit = func(text string) bool {
		switch state[text] {
		case visiting:
			return false
		case done:
			return true
		}
		state[text] = visiting
		for next, by := range after[text] {
			if !visit(next) {
				l.fail("%s has %s after %s, others not", by, next, text)
				return false
			}
		}
		state[text] = done
		return true
	}
	for text := range after {
		if !visit(text) {
			return
		}
	}
}

// anew notes that a session could not be resumed.
func (l *schedule) anew(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Anew++
}

// history are the messages of all channels: the forms in which each is there, and the
// marks on it.
func (l *schedule) history() (stored map[string][]int, marked map[textchat.ID]onIt) {
	stored, marked = make(map[string][]int), make(map[textchat.ID]onIt)
	for _, c := range l.channels {
		for before := textchat.ID(0); ; {
			page, err := l.store.Page(context.Background(), c, textchat.PageQuery{Limit: 100, Before: before})
			if err != nil {
				l.fail("%v", err)
				return stored, marked
			}
			var ids []textchat.ID
			for _, m := range page {
				before = m.ID
				if m.Type == textchat.MessagePinned {
					continue
				}
				text, version := formOf(m.Content)
				stored[text] = append(stored[text], version)
				ids = append(ids, m.ID)
			}
			on, err := l.store.Marks(context.Background(), c, ids, 0)
			if err != nil {
				l.fail("%v", err)
				return stored, marked
			}
			for id, m := range on {
				marked[id] = onIt{len(m.Reactions) > 0, m.Pinned}
			}
			if len(page) < 100 {
				break
			}
		}
	}
	return stored, marked
}

// closed is told of close frames.
func (l *schedule) closed(r *reader, code uint16) {
	switch textchat.CloseCode(code) {
	case textchat.CloseAuthFailed, textchat.CloseInvalidSeq, textchat.CloseDecode:
		l.fail("%s was closed with %d", r.name, code)
	}
}
