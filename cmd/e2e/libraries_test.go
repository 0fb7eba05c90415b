package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// library is a stock bot library at work: logged in by its own gateway client,
// asked by verbs that each driver maps to the library's own calls.
type library interface {
	// do carries out a verb; what it gives is the verb's result. A refusal of the
	// API is an apiError, as the library tells it.
	do(verb string, args ...string) (string, error)
	// heard are the events as the library gives them to its user: "message TEXT",
	// "edited TEXT", "deleted ID", "bulk N", "reaction EMOJI", "cleared ID",
	// "thread NAME", "role NAME", "ready SHARD", "resumed".
	heard() <-chan string
	close()
}

// apiError is a refusal, by its public code.
type apiError int

func (e apiError) Error() string { return fmt.Sprintf("refused with code %d", int(e)) }

// eventsHeld bounds the events that wait for the script.
const eventsHeld = 1024

// script holds a library to the common script.
type script struct {
	t       *testing.T
	h       *house
	lib     library
	bot     scriptBot
	api     string // by which the script itself writes
	ada     string // a person's token
	adaID   string
	owner   string // the token of who owns the guild
	guild   string
	channel string
	voice   string
	begun   int // sessions, as far as was heard
}

// scriptBot is the account of a library.
type scriptBot struct {
	Token string
	User  struct{ ID string }
	Guild string `json:"guild_id"`
}

// ask is do that must succeed.
func (s *script) ask(verb string, args ...string) string {
	s.t.Helper()
	v, err := s.lib.do(verb, args...)
	if err != nil {
		s.t.Fatalf("%s %q: %v", verb, args, err)
	}
	return v
}

// hears waits for one event, past those that begin with "ready" or "resumed".
func (s *script) hears(want string) {
	s.t.Helper()
	timeout := time.After(20 * time.Second)
	var past []string
	for {
		select {
		case got := <-s.lib.heard():
			switch {
			case got == want:
				return
			case strings.HasPrefix(got, "ready"):
				s.begun++
				past = append(past, got)
			case got == "resumed":
				past = append(past, got)
			default:
				s.t.Fatalf("heard %q, want %q", got, want)
			}
		case <-timeout:
			s.t.Fatalf("did not hear %q, but %q", want, past)
		}
	}
}

// quiet proves that nothing more was heard: a message of Ada's comes next.
func (s *script) quiet() {
	s.t.Helper()
	mark := fmt.Sprint("mark ", time.Now().UnixNano())
	s.says(mark)
	s.hears("message " + mark)
}

// says has Ada write, by plain REST; it comes again when it is told to.
func (s *script) says(text string) {
	s.t.Helper()
	s.saysIn(s.channel, text)
}

func (s *script) saysIn(channel, text string) {
	s.t.Helper()
	nonce := fmt.Sprint(time.Now().UnixNano())
	for deadline := time.Now().Add(30 * time.Second); ; {
		again := s.post(s.ada, channel, text, nonce)
		if again == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("Ada cannot say %q", text)
		}
		time.Sleep(again) // what the server asked for, not a guess
	}
}

// post writes by plain REST: zero, or after how long it may be tried again, because of a
// limit or a disk that is late. Of what is tried with one nonce one message comes.
func (s *script) post(token, channel, text, nonce string) (again time.Duration) {
	s.t.Helper()
	body, status := request(s.t, "POST", s.api+"/channels/"+channel+"/messages", token, fmt.Sprintf(`{"content":%q,"nonce":%q,"enforce_nonce":true}`, text, nonce))
	var limit struct {
		After float64 `json:"retry_after"`
	}
	switch {
	case status == http.StatusOK:
		return 0
	case status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable || json.Unmarshal(body, &limit) != nil || limit.After <= 0:
		s.t.Fatalf("%q is answered %d %s", text, status, body)
	}
	return time.Duration(limit.After * float64(time.Second))
}

// limited is how many requests the house has refused for their rate.
func (s *script) limited() int {
	s.t.Helper()
	said, _ := request(s.t, "GET", strings.TrimSuffix(s.api, "/api/v10")+"/metrics", "", "")
	m := regexp.MustCompile(`(?m)^voicefleet_rest_limited_total (\d+)$`).FindSubmatch(said)
	if m == nil {
		s.t.Fatalf("no count of what was refused in %.200q", said)
	}
	n, err := strconv.Atoi(string(m[1]))
	must(s.t, err)
	return n
}

// relay passes TCP connections on to an address, cuts them when told, and has new
// ones wait meanwhile: a library whose connection is refused outright may give its
// session up, as discord.js does.
type relay struct {
	l net.Listener

	mu    sync.Mutex
	to    string
	conns []net.Conn
	shut  chan struct{} // closed when new connections may pass
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{l: l, to: to, shut: make(chan struct{})}
	close(r.shut)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(); r.open(); all.Wait() })
	return r
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	shut := r.shut
	r.conns = append(r.conns, c)
	r.mu.Unlock()
	<-shut
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	done := make(chan struct{}, 2)
	go func() { io.Copy(up, c); done <- struct{}{} }()
	go func() { io.Copy(c, up); done <- struct{}{} }()
	<-done
	c.Close()
	up.Close()
	<-done
}

// cut ends all connections, and has new ones wait until open.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = make(chan struct{})
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *relay) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.shut)
}

// lead has new connections go to another address.
func (r *relay) lead(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// startLibrary logs a library in, with this many shards.
type startLibrary func(t *testing.T, base, token string, shards int) library

// runScript is what every library has to do, through a house of its own: all
// message verbs, refusals and limits, files, roles, invites, shards, and a server that
// is killed, with every missed event once.
func runScript(t *testing.T, start startLibrary) {
	h := startUp(t, "")
	via := newRelay(t, fmt.Sprintf("127.0.0.1:%d", h.port))
	s := newScript(t, h, "Parrot")
	s.run(start, via, func() { s.missesNothing(h, via) })
}

// newScript makes the library's account, and a person that speaks to it.
func newScript(t *testing.T, h *house, name string) *script {
	s := &script{t: t, h: h, api: h.page("/api/v10")}
	must(t, json.Unmarshal([]byte(h.ctl("bot", "create", name, "--json")), &s.bot))
	s.guild = s.bot.Guild
	s.comeIn(h.invite, s.bot.User.ID, s.bot.Guild)
	return s
}

// run is the script, by way of a relay; lost is what becomes of the connection.
func (s *script) run(start startLibrary, via *relay, lost func()) {
	base := fmt.Sprintf("http://localhost:%d", via.l.Addr().(*net.TCPAddr).Port)
	s.lib = start(s.t, base, s.bot.Token, 1)
	s.messages(s.bot.User.ID)
	s.elsewhere()
	s.refusals()
	s.files()
	s.roles(s.bot.User.ID)
	s.invites()
	s.quiet()
	lost()
	s.lib.close()

	s.lib = start(s.t, base, s.bot.Token, 2)
	s.quiet() // once, though there are two sessions
	s.lib.close()
}

// comeIn makes Ada a guest, finds a text and a voice channel, and lets the bot manage its guild: by
// a role that the owner gives.
func (s *script) comeIn(invite, bot, guild string) {
	s.t.Helper()
	call := func(token, method, path, body string, into any) {
		s.t.Helper()
		req, err := http.NewRequest(method, s.api+path, strings.NewReader(body))
		must(s.t, err)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		resp, err := http.DefaultClient.Do(req)
		must(s.t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(s.t, err)
		if resp.StatusCode >= 300 {
			s.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, b)
		}
		if into != nil {
			must(s.t, json.Unmarshal(b, into))
		}
	}
	var guest, owner struct {
		Token string
		User  struct{ ID string }
	}
	call("", "POST", "/auth/guest", fmt.Sprintf(`{"invite":%q,"nickname":"Ada"}`, invite), &guest)
	call("", "POST", "/auth/owner", fmt.Sprintf(`{"code":%q,"username":"marina","password":"very long secret"}`, s.h.await(`/owner/([A-Za-z0-9_-]+)`)), &owner)
	var role struct{ ID string }
	call(owner.Token, "POST", "/guilds/"+guild+"/roles", `{"name":"bots","permissions":"8"}`, &role)
	call(owner.Token, "PUT", "/guilds/"+guild+"/members/"+bot+"/roles/"+role.ID, "", nil)
	var channels []struct {
		ID   string
		Type int
	}
	call(guest.Token, "GET", "/guilds/"+guild+"/channels", "", &channels)
	for _, c := range slices.Backward(channels) {
		switch c.Type {
		case 0:
			s.channel = c.ID
		case 2:
			s.voice = c.ID
		}
	}
	s.ada, s.adaID, s.owner = guest.Token, guest.User.ID, owner.Token
}

func (s *script) messages(bot string) {
	s.t.Helper()
	s.quiet()
	id := s.ask("send", s.channel, "hello")
	s.hears("message hello")
	answer := s.ask("reply", s.channel, "and hello again", id)
	s.hears("message and hello again")
	if got := s.ask("edit", s.channel, id, "hello, all"); got != "hello, all" {
		s.t.Errorf("edited to %q", got)
	}
	s.hears("edited hello, all")
	if got := s.ask("get", s.channel, id); got != "hello, all" {
		s.t.Errorf("got %q", got)
	}
	for _, h := range []struct{ limit, where, id, want string }{
		{"2", "", "", "and hello again|hello, all"},
		{"1", "before", answer, "hello, all"},
		{"5", "after", id, "and hello again"},
		{"2", "around", answer, "and hello again|hello, all"},
	} {
		if got := s.ask("history", s.channel, h.limit, h.where, h.id); got != h.want {
			s.t.Errorf("%s of history %s %s: %q, want %q", h.limit, h.where, h.id, got, h.want)
		}
	}
	s.ask("react", s.channel, id, "👍")
	s.hears("reaction 👍")
	if got := s.ask("reactors", s.channel, id, "👍"); got != bot {
		s.t.Errorf("reactors: %q, want %q", got, bot)
	}
	s.ask("unreact", s.channel, id, "👍")
	for _, emoji := range []string{"👍", "🎉"} {
		s.ask("react", s.channel, id, emoji)
		s.hears("reaction " + emoji)
	}
	s.ask("clear", s.channel, id, "👍")
	if got := s.ask("reactions", s.channel, id); got != "🎉" {
		s.t.Errorf("reactions without one: %q", got)
	}
	s.ask("clear", s.channel, id, "")
	s.hears("cleared " + id)
	if got := s.ask("reactions", s.channel, id); got != "" {
		s.t.Errorf("reactions that are cleared: %q", got)
	}
	s.ask("pin", s.channel, id)
	s.hears("edited hello, all") // it is pinned now
	s.hears("message ")          // tells the channel of it
	if got := s.ask("pins", s.channel); got != id {
		s.t.Errorf("pins: %q", got)
	}
	s.ask("unpin", s.channel, id)
	s.hears("edited hello, all")
	s.ask("typing", s.channel)
	s.ask("delete", s.channel, answer)
	s.hears("deleted " + answer)
	one, two := s.ask("send", s.channel, "one"), s.ask("send", s.channel, "two")
	s.hears("message one")
	s.hears("message two")
	s.ask("bulk", s.channel, one, two)
	s.hears("bulk 2")
}

// elsewhere: what is no plain message in the channel. An embed, a webhook's, one in a
// thread, and one between two people.
func (s *script) elsewhere() {
	s.t.Helper()
	id := s.ask("embed", s.channel, "Weather", "Fair, later rain.")
	s.hears("message ")
	if got := s.ask("embedded", s.channel, id); got != "Weather: Fair, later rain." {
		s.t.Errorf("embedded: %q", got)
	}

	hook := s.ask("webhook", s.channel, "Ticker")
	s.ask("post", hook, "from afar")
	s.hears("message from afar")
	s.ask("unhook", hook)

	thread := s.ask("thread", s.channel, id, "Umbrellas")
	s.hears("thread Umbrellas")
	first := s.ask("send", thread, "mine is red")
	s.hears("message mine is red")
	s.saysIn(thread, "mine is blue")
	s.hears("message mine is blue")
	if got := s.ask("history", thread, "5", "after", first); got != "mine is blue" {
		s.t.Errorf("history of the thread: %q", got)
	}

	between := s.ask("dm", s.adaID)
	s.ask("send", between, "only for you")
	s.hears("message only for you")
	s.saysIn(between, "and for you")
	s.hears("message and for you")
}

// refusals: an unknown message is refused by its code, and a burst beyond the limit
// is waited out by the library: each message stands there once. What it cannot know of,
// as another one with its token has used the limit up, is refused, and waited out too.
func (s *script) refusals() {
	s.t.Helper()
	if _, err := s.lib.do("get", s.channel, "1"); err != apiError(10008) {
		s.t.Errorf("an unknown message: %v", err)
	}
	if _, err := s.lib.do("send", s.channel, ""); err != apiError(50006) {
		s.t.Errorf("an empty message: %v", err)
	}
	const burst = 13 // the limit is 10 in 5 s
	for i := range burst {
		s.ask("send", s.channel, fmt.Sprint("burst ", i))
		s.hears(fmt.Sprint("message burst ", i))
	}
	for try, deadline := 0, time.Now().Add(90*time.Second); ; try++ {
		var again time.Duration
		for n := 0; again == 0; n++ {
			text := fmt.Sprintf("spent %d.%d", try, n)
			if again = s.post("Bot "+s.bot.Token, s.channel, text, fmt.Sprint(time.Now().UnixNano())); again == 0 {
				s.hears("message " + text)
			}
		}
		before := s.limited()
		text := fmt.Sprint("refused ", try)
		s.ask("send", s.channel, text)
		s.hears("message " + text)
		if n := s.limited() - before; n > 0 {
			s.t.Logf("the library was refused %d times for its rate, and came through", n)
			break
		}
		// The limit began anew before the library asked, or it remembered one.
		if time.Now().After(deadline) {
			s.t.Fatal("the library was never refused for its rate")
		}
	}
}

func (s *script) files() {
	s.t.Helper()
	url := s.ask("upload", s.channel, "notes.txt", "line one\nline two\n")
	s.hears("message ")
	resp, err := http.Get(url)
	must(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(s.t, err)
	if string(body) != "line one\nline two\n" {
		s.t.Errorf("the file: %d %q", resp.StatusCode, body)
	}
}

func (s *script) roles(bot string) {
	s.t.Helper()
	role := s.ask("role", s.guild, "crew")
	s.hears("role crew")
	s.ask("give", s.guild, bot, role)
	s.ask("take", s.guild, bot, role)
	s.ask("unrole", s.guild, role)
}

func (s *script) invites() {
	s.t.Helper()
	code := s.ask("invite", s.channel)
	if got := s.ask("invites", s.channel); !slices.Contains(strings.Split(got, "|"), code) {
		s.t.Errorf("invites: %q, want %q among them", got, code)
	}
	s.ask("uninvite", code)
	if got := s.ask("invites", s.channel); slices.Contains(strings.Split(got, "|"), code) {
		s.t.Errorf("invites: %q still", got)
	}
}

// missesNothing has the server killed, or ended, and started again while Ada writes: the
// library resumes its session by itself and hears each message once, those included that
// were acknowledged before it could be told of them.
func (s *script) missesNothing(h *house, via *relay) {
	s.t.Helper()
	for _, how := range []struct {
		name   string
		signal syscall.Signal
		away   bool // the library's connection is cut first
	}{{"killed unseen", syscall.SIGKILL, true}, {"killed", syscall.SIGKILL, false}, {"ended", syscall.SIGTERM, false}} {
		s.quiet()
		begun, began := s.begun, time.Now()
		if how.away {
			via.cut()
		}
		for i := range 3 {
			s.says(fmt.Sprintf("%s %d", how.name, i))
		}
		h.signal(how.signal)
		if !how.away {
			via.cut() // the new ones wait
		}
		h.again(s.t)
		for i := range 2 {
			s.says(fmt.Sprintf("%s %d", how.name, 3+i))
		}
		via.open()
		for i := range 5 {
			s.hears(fmt.Sprintf("message %s %d", how.name, i))
		}
		s.quiet()
		if s.begun != begun {
			s.t.Errorf("%s: the library began anew", how.name)
		}
		s.t.Logf("%s: all heard %v after", how.name, time.Since(began).Round(time.Millisecond))
	}
}
