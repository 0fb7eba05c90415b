package session

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling"
)

// A transcript is a conversation with one session. Lines at the margin are what
// happens to it, indented lines what it does about that:
//
//	connect V                a connection of version V, at the time the grant was signed
//	frame JSON               the client says this; $TOKEN is a good grant, $OLD an expired,
//	                         $FORGED one by another key
//	binary | ping | gone clean | gone lost | attach V SEEN | notheld | lost | shutdown
//	+DURATION                time passes, in steps of what Next asks for
//	opened [negotiated] [USER:SSRC:FLAGS ...] [seat SLOT:MID:USER:SSRC ...]
//	refused CODE             the node refuses to open, resume or list
//	negotiated | unnegotiated CODE
//	updated | notupdated CODE
//	joined|speaking USER SSRC FLAGS | left SESSION USER REASON | seated SESSION SLOT MID USER SSRC
//	elsewhere ...            the same, said by a node that the call was moved away from
//	shared ...               the same, said by another node that the call is on
//
// With -update the indented lines are written anew.
var update = flag.Bool("update", false, "write the transcripts anew")

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				g, w := strings.Split(got, "\n"), strings.Split(string(text), "\n")
				for i := range g {
					if i >= len(w) || g[i] != w[i] {
						t.Fatalf("line %d:\n got %s\nwant %s", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
					}
				}
				t.Fatalf("the transcript goes on at line %d: %s", len(g), w[len(g)])
			}
		})
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type player struct {
	t      *testing.T
	now    time.Time
	s      *Session
	tokens map[string]string
	keys   func(string) ed25519.PublicKey
}

func newPlayer(t *testing.T) *player {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	p := &player{t: t, now: start, tokens: make(map[string]string)}
	p.keys = func(kid string) ed25519.PublicKey {
		if pub := key.Public().(ed25519.PublicKey); kid == edgeagent.KeyID(pub) {
			return pub
		}
		return nil
	}
	g := edgeagent.Grant{
		ID: "mine", Node: "n1", Guild: "10", Call: sfu.CallID{ID: 20}, User: sfu.UserID{ID: 1},
		Session: "gw", Rights: sfu.Rights{Speak: true}, Expires: start.Add(edgeagent.GrantLife),
	}
	sign := func(name string, key ed25519.PrivateKey, g edgeagent.Grant) {
		token, err := edgeagent.SignGrant(key, g)
		if err != nil {
			t.Fatal(err)
		}
		p.tokens[name] = token
	}
	sign("$TOKEN", key, g)
	sign("$FORGED", other, g)
	g.Expires = start.Add(-time.Minute)
	sign("$OLD", key, g)
	return p
}

func play(t *testing.T, text string) string {
	p := newPlayer(t)
	var got strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "\t") {
			continue
		}
		got.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		p.do(line, &got)
	}
	return got.String()
}

func (p *player) do(line string, got *strings.Builder) {
	word, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	var out Out
	switch {
	case word == "connect":
		v, err := strconv.Atoi(rest)
		if err != nil {
			p.t.Fatal(err)
		}
		p.now = start
		p.s = New(p.now, signaling.Version(v), Settings{Heartbeat: 10 * time.Second, Keys: p.keys, Build: "test"}, &out)
	case word[0] == '+':
		d, err := time.ParseDuration(word[1:])
		if err != nil {
			p.t.Fatal(err)
		}
		for end := p.now.Add(d); ; {
			next := p.s.Next()
			if next.IsZero() || next.After(end) {
				p.now = end
				break
			}
			p.now = next
			p.s.Tick(p.now, &out)
		}
	default:
		p.s.Handle(p.now, p.in(word, args, rest), &out)
	}
	p.print(&out, got)
}

func (p *player) in(word string, args []string, rest string) In {
	num := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", rest, err)
		}
		return n
	}
	user := func(s string) sfu.UserID { return sfu.UserID{ID: snowflake.ID(num(s))} }
	refusal := func() error {
		if rest == "bus" {
			return errors.New("no responders")
		}
		return &edgeagent.Error{Code: edgeagent.ErrorCode(rest)}
	}
	member := func(a []string) *edgeagent.Member {
		return &edgeagent.Member{User: user(a[0]), SSRC: sfu.SSRC(num(a[1])), Flags: int(num(a[2]))}
	}
	event := edgeagent.CallEvent{Call: sfu.CallID{ID: 20}, Node: "n1", Epoch: 3}
	if word == "elsewhere" { // the call is at another node too
		event.Node, event.Epoch = "n2", 2
		word, args = args[0], args[1:]
	}
	if word == "shared" {
		event.Node = "n3"
		word, args = args[0], args[1:]
	}
	switch word {
	case "frame":
		for name, token := range p.tokens {
			rest = strings.ReplaceAll(rest, name, token)
		}
		return In{Frame: []byte(rest)}
	case "binary":
		return In{Binary: true}
	case "ping":
		return In{Ping: true}
	case "gone":
		return In{Gone: &Gone{Clean: rest == "clean"}}
	case "attach":
		return In{Attach: &Attach{Version: signaling.Version(num(args[0])), Seen: num(args[1])}}
	case "notheld":
		return In{NotHeld: true}
	case "lost":
		return In{Lost: true}
	case "shutdown":
		return In{Shutdown: true}
	case "opened":
		r := &SessionResult{Reply: edgeagent.SessionReply{
			Record: edgeagent.Record{
				Session: "mine", Node: "n1", Guild: "10", Call: sfu.CallID{ID: 20}, Epoch: 3, User: sfu.UserID{ID: 1}, Gateway: "gw", SSRC: 1001,
				Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}, Port: 50000,
			},
			Roster: []edgeagent.Member{{User: sfu.UserID{ID: 1}, SSRC: 1001}},
		}}
		seats := false
		for _, a := range args {
			f := strings.Split(a, ":")
			switch {
			case a == "negotiated":
				r.Reply.Record.Negotiated = true
			case a == "seat":
				seats = true
			case seats:
				r.Reply.Slots = append(r.Reply.Slots, edgeagent.Seat{Slot: int(num(f[0])), MID: f[1], User: user(f[2]), SSRC: sfu.SSRC(num(f[3]))})
			default:
				r.Reply.Roster = append(r.Reply.Roster, *member(f))
			}
		}
		return In{Session: r}
	case "refused":
		return In{Session: &SessionResult{Err: refusal()}}
	case "negotiated":
		return In{Negotiated: &NegotiateResult{Reply: edgeagent.NegotiateReply{Answer: "v=0 answer", Slots: []sfu.Slot{{MID: "1", SSRC: 501}}}}}
	case "unnegotiated":
		return In{Negotiated: &NegotiateResult{Err: refusal()}}
	case "updated":
		return In{Updated: &UpdateResult{}}
	case "notupdated":
		return In{Updated: &UpdateResult{Err: refusal()}}
	case "joined":
		event.Joined = member(args)
	case "speaking":
		event.Speaking = member(args)
	case "left":
		event.Left = &edgeagent.Left{Session: sfu.SessionID(args[0]), User: user(args[1]), Reason: args[2]}
	case "seated":
		event.Seated = &edgeagent.Seated{Session: sfu.SessionID(args[0]), Seat: edgeagent.Seat{Slot: int(num(args[1])), MID: args[2], User: user(args[3]), SSRC: sfu.SSRC(num(args[4]))}}
	default:
		p.t.Fatalf("unknown line %s %s", word, rest)
	}
	return In{Event: &event}
}

func (p *player) print(out *Out, got *strings.Builder) {
	say := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		for name, token := range p.tokens {
			line = strings.ReplaceAll(line, token, name)
		}
		got.WriteString("\t" + line + "\n")
	}
	if out.Authenticated {
		say("authenticated")
	}
	if out.Subscribe.ID != 0 {
		say("subscribe %v", out.Subscribe)
	}
	if out.Take != "" {
		say("take %s, version %d, seen %d", out.Take, out.Attach.Version, out.Attach.Seen)
	}
	if out.Hold != "" {
		say("hold %s", out.Hold)
	}
	for _, c := range out.Calls {
		for verb, body := range map[string]any{"open": c.Open, "resume": c.Resume, "negotiate": c.Negotiate, "update": c.Update, "close": c.Close} {
			if b, _ := json.Marshal(body); string(b) != "null" {
				say("call %s %s %s", c.Node, verb, b)
			}
		}
	}
	for _, frame := range out.Send {
		say("send %s", frame)
	}
	if out.Pong {
		say("pong")
	}
	if r := out.Report; r != nil {
		say("report %s %s received %d silent %v", r.Node, r.Session, r.Received, r.Silent)
	}
	for _, took := range out.Took {
		say("took %s %v", took.Stage, took.For)
	}
	if out.Close != 0 {
		say("close %v", out.Close)
	}
	if out.End {
		say("end")
	}
}
