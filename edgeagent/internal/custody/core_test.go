package custody

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"voicefleet/edgeagent"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

var update = flag.Bool("update", false, "write what the core says into the transcripts")

var base = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// TestTranscripts plays the conversations of testdata. A line "> verb ..." goes
// in, the lines "< ..." after it must come out, "#" is a comment:
//
//	> at 2.5s                       the time is that long after the beginning
//	> engine up | engine found      a new engine is there, or one that has sessions
//	> engine lost | engine crashed  it is gone
//	> event JSON                    the engine says an sfu.Event
//	> open N JSON                   request N opens an edgeagent.Grant (its token is its id)
//	> resume N TOKEN [why]          request N resumes; why is what is wrong with the token
//	> negotiate|update|close|drain|undrain N JSON
//	> doors                         from here on tell where sessions can be reached, too
//	> tick | shutdown | advertise ADDR | report
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(old))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compare(t, got, string(old))
		})
	}
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Fatalf("line %d:\ngot  %s\nwant %s", i+1, a, b)
		}
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	c := New(Config{
		Node: "edge-1", Limits: sfu.Limits{Sessions: 100, HalfOpen: 10, ChecksPerPrefix: 20},
		Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	})
	now := base
	doors := false
	var b strings.Builder
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "<") {
			continue
		}
		fmt.Fprintln(&b, line)
		if in, ok := strings.CutPrefix(line, "> "); ok {
			if in == "doors" {
				doors = true
				continue
			}
			for _, said := range step(t, c, &now, in) {
				if doors || !strings.HasPrefix(said, "door ") {
					fmt.Fprintln(&b, "< "+said)
				}
			}
		}
	}
	return b.String()
}

func step(t *testing.T, c *Core, now *time.Time, in string) []string {
	t.Helper()
	verb, rest, _ := strings.Cut(in, " ")
	var out []Out
	switch verb {
	case "at":
		d, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatal(err)
		}
		*now = base.Add(d)
	case "engine":
		switch rest {
		case "up":
			out = c.EngineUp(*now, nil)
		case "found":
			out = c.EngineFound(*now, nil)
		default:
			out = c.EngineLost(*now, rest == "crashed", nil)
		}
	case "event":
		out = c.Event(*now, parse[sfu.Event](t, rest), nil)
	case "tick":
		out = c.Tick(*now, nil)
	case "shutdown":
		out = c.Shutdown(*now, nil)
	case "advertise":
		out = c.Advertise(*now, []netip.Addr{netip.MustParseAddr(rest)}, nil)
	case "report":
		return []string{"report " + text(t, c.Report())}
	default:
		out = request(t, c, *now, verb, rest)
	}
	said := make([]string, len(out))
	for i, o := range out {
		said[i] = describeOut(t, o)
	}
	return said
}

func request(t *testing.T, c *Core, now time.Time, verb, rest string) []Out {
	t.Helper()
	number, body, _ := strings.Cut(rest, " ")
	var id uint64
	if _, err := fmt.Sscan(number, &id); err != nil {
		t.Fatalf("%s %s: %v", verb, rest, err)
	}
	switch verb {
	case "open":
		g := parse[edgeagent.Grant](t, body)
		if g.Expires.IsZero() {
			g.Expires = now.Add(edgeagent.GrantLife)
		}
		return c.Open(now, id, g, tokenOf(string(g.ID)), nil)
	case "resume":
		token, why, _ := strings.Cut(body, " ")
		var bad error
		if why != "" {
			bad = fmt.Errorf("%s: %w", why, edgeagent.ErrGrantKey)
		}
		return c.Resume(id, tokenOf(token), bad, nil)
	case "negotiate":
		return c.Negotiate(now, id, parse[edgeagent.NegotiateRequest](t, body), nil)
	case "update":
		return c.Update(now, id, parse[edgeagent.UpdateRequest](t, body), nil)
	case "close":
		return c.Close(now, id, parse[edgeagent.CloseRequest](t, body), nil)
	case "drain", "undrain":
		return c.Drain(id, verb == "drain", parse[edgeagent.DrainRequest](t, body), nil)
	}
	t.Fatalf("unknown verb %q", verb)
	return nil
}

func tokenOf(s string) (token Token) {
	copy(token[:], s)
	return token
}

func parse[T any](t *testing.T, s string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func describeOut(t *testing.T, o Out) string {
	t.Helper()
	switch {
	case o.Command != nil:
		return "command " + text(t, o.Command)
	case o.Event != nil:
		ev := *o.Event
		ev.Epoch = 0 // the same in each line of a call; TestEventsCarryTheEpoch looks at it
		return "event " + text(t, ev)
	case o.Bad != nil:
		return "bad " + o.Bad.Error()
	case o.Door != nil:
		return "door " + text(t, o.Door)
	case o.Quarantined != nil:
		return "quarantined " + text(t, o.Quarantined)
	case o.Reply.Err != nil:
		return fmt.Sprintf("reply %d %s (%v)", o.Reply.ID, edgeagent.CodeOf(o.Reply.Err), o.Reply.Err)
	case o.Reply.Session != nil:
		return fmt.Sprintf("reply %d %s", o.Reply.ID, text(t, o.Reply.Session))
	case o.Reply.Negotiated != nil:
		return fmt.Sprintf("reply %d %s", o.Reply.ID, text(t, o.Reply.Negotiated))
	case o.Reply.Drain != nil:
		return fmt.Sprintf("reply %d %s", o.Reply.ID, text(t, o.Reply.Drain))
	}
	return fmt.Sprintf("reply %d done", o.Reply.ID)
}

// TestUsedGrantsAreNeverForgottenEarly fills the memory of used grants.
func TestUsedGrantsAreNeverForgottenEarly(t *testing.T) {
	u := newUsed(3)
	for i := range 3 {
		if !u.add(base.Add(time.Duration(i)*time.Second), sfu.SessionID(fmt.Sprint(i))) {
			t.Fatalf("grant %d does not fit", i)
		}
	}
	if u.add(base.Add(usedKept), "3") {
		t.Error("a fourth grant fits, so that another one was forgotten early")
	}
	if !u.has("0") || !u.has("2") {
		t.Error("a used grant is forgotten")
	}
	later := base.Add(usedKept + time.Millisecond)
	if !u.add(later, "3") {
		t.Error("no room although the oldest has expired")
	}
	if u.has("0") || !u.has("1") {
		t.Error("the wrong grant was forgotten")
	}
	for i := range 10_000 {
		if later = later.Add(usedKept + 1); !u.add(later, sfu.SessionID(fmt.Sprint("x", i))) {
			t.Fatal("no room")
		}
	}
	if len(u.ids) != 1 || cap(u.order) > 64 {
		t.Errorf("%d grants are remembered in room for %d", len(u.ids), cap(u.order))
	}
}

// TestUnansweredOpensAreBounded: an engine that answers nothing costs an asker a
// refusal and the agent no session.
func TestUnansweredOpensAreBounded(t *testing.T) {
	c := New(Config{Node: "edge-1", Limits: sfu.Limits{Sessions: 10}})
	c.EngineUp(base, nil)
	c.Event(base, sfu.Event{Seq: 1, Started: &sfu.Started{}}, nil)
	refused := 0
	for i := range 5000 {
		g := edgeagent.Grant{
			ID: sfu.SessionID(fmt.Sprint(i)), Node: "edge-1", Expires: base.Add(edgeagent.GrantLife),
			Call: sfu.CallID{ID: 1}, User: sfu.UserID{ID: snowflake.ID(i + 1)},
		}
		for _, o := range c.Open(base, uint64(i+1), g, tokenOf(string(g.ID)), nil) {
			if o.Reply != nil && edgeagent.CodeOf(o.Reply.Err) == edgeagent.CodeFull {
				refused++
			}
		}
	}
	if len(c.pending) > 1024 || refused != 5000-1024 || len(c.sessions) != 0 {
		t.Errorf("%d pending, %d refused, %d sessions", len(c.pending), refused, len(c.sessions))
	}
}
