package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"voicefleet/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program builds the server.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts a program")
	}
	name := filepath.Join(t.TempDir(), "voicefleet")
	cmd := exec.Command("go", "build", "-o", name, "voicefleet/cmd/voicefleet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return name
}

// goalOf finds a goal that must be right on any machine.
func goalOf(t *testing.T, r *bench.Report, name string) bench.Goal {
	t.Helper()
	i := slices.IndexFunc(r.Goals, func(g bench.Goal) bool { return strings.Contains(g.Name, name) })
	if i < 0 {
		t.Fatalf("no goal %q in %+v", name, r.Goals)
	}
	return r.Goals[i]
}

// tableOf finds the values of a table.
func tableOf[T any](t *testing.T, r *bench.Report, title string) T {
	t.Helper()
	for _, table := range r.Tables {
		if v, ok := table.Values.(T); ok && strings.HasPrefix(table.Title, title) {
			return v
		}
	}
	t.Fatalf("no table %q", title)
	panic("not reached")
}

// TestRun runs all steps against the real server, then some against its limits.
func TestRun(t *testing.T) {
	up := UpConfig{Program: program(t)}
	t.Run("all steps", func(t *testing.T) {
		r, err := Run(t.Context(), Config{Up: up, Seed: 7, Sessions: 40, Rate: 200, Settle: 100 * time.Millisecond, FanOuts: 2, Messages: 20, Length: 2 * time.Second, Away: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if a := tableOf[arrivalResult](t, r, "Arrivals"); a.Sessions != 40 || a.In != 40 || len(a.Failed)+len(a.Lost) != 0 {
			t.Errorf("arrivals: %+v", a)
		}
		if a := tableOf[arrivalResult](t, r, "Resume"); a.Sessions != 20 || a.In != 20 {
			t.Errorf("resume: %+v", a)
		}
		list := tableOf[[]stepResult](t, r, "Deliveries")
		if len(list) != 3 {
			t.Fatalf("%d steps", len(list))
		}
		for _, s := range list {
			if s.Planned == 0 || s.Taken != s.Planned || s.Expected != int64(40*s.Taken) || s.Delivered != s.Expected || s.Twice+s.Swapped+s.Contradicted != 0 {
				t.Errorf("%s: %+v", s.Step, s.tally)
			}
		}
		if c := tableOf[costResult](t, r, "Costs"); c.Deliveries < int64(40*list[1].Taken) || c.User+c.System <= 0 || c.Full <= c.Idle || c.Generator <= 0 {
			t.Errorf("costs: %+v", c)
		}
		if r.Kind != "gateway" || r.Partial != "" || len(r.Series) < 5 || len(r.Distributions) < 15 || len(r.Metrics) < 6 {
			t.Errorf("%s, %q: %d series, %d distributions, %d metrics", r.Kind, r.Partial, len(r.Series), len(r.Distributions), len(r.Metrics))
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
	t.Run("one writer is refused", func(t *testing.T) {
		// 40 messages in 2 s of an account that may send 10 in 5 s.
		r, err := Run(t.Context(), Config{Up: up, Seed: 7, Sessions: 4, Rate: 200, Settle: time.Nanosecond, FanOuts: -1, Drop: -1, Messages: 20, Length: 2 * time.Second, Writers: 1})
		if err != nil {
			t.Fatal(err)
		}
		s := tableOf[[]stepResult](t, r, "Deliveries")[0]
		if s.Taken != 10 || s.Refused != s.Planned-10 || s.Delivered != 40 || s.Lost != 0 {
			t.Errorf("%+v", s.tally)
		}
		if g := goalOf(t, r, "429"); g.Met() || math.Abs(g.Value-100*float64(s.Refused)/float64(s.Planned)) > 1e-9 {
			t.Errorf("%+v", g)
		}
		if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "posts not taken: ") && strings.Contains(n, "429") }) {
			t.Errorf("%q", r.Notes)
		}
	})
	t.Run("ended early", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := Run(ctx, Config{Up: up, Seed: 7, Sessions: 8, Rate: 200, Settle: time.Nanosecond, FanOuts: 2, Messages: 20, Length: 5 * time.Second, Progress: ender{cancel}})
		if err != nil {
			t.Fatal(err)
		}
		list := tableOf[[]stepResult](t, r, "Deliveries")
		if !strings.Contains(r.Partial, "while messages were posted") || len(list) != 2 || list[0].Delivered != 16 || list[1].Lost != 0 || list[1].Unsent == 0 {
			t.Errorf("%q: %+v", r.Partial, list)
		}
	})
}

// ender ends a run when it first says how many of the messages at a rate were delivered.
type ender struct{ end context.CancelFunc }

func (e ender) Write(b []byte) (int, error) {
	if strings.Contains(string(b), " delivered") {
		e.end()
	}
	return len(b), nil
}

// TestRefused holds that what cannot be measured is told with what to do.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Sessions: -1}, "want 1 to"},
		{Config{Rate: math.NaN()}, "arrivals a second"},
		{Config{Messages: math.NaN()}, "messages a second"},
		{Config{Messages: 10_000, Length: time.Hour}, "shorter --length"},
		{Config{Length: time.Millisecond}, "want 1 s"},
		{Config{Drop: 2}, "0 to 1"},
		{Config{Away: time.Hour}, "at most 100 s"},
		{Config{Patience: 1}, "patience"},
		{Config{Writers: -1}, "below 0"},
		{Config{Sessions: 100, Accounts: 6}, "at least 7"},
		{Config{Sessions: MaxSessions}, "ulimit -n"},
		{Config{Up: UpConfig{Program: "no-such-program"}}, "no program"},
		{Config{Target: Target{Invite: "x"}}, "--server"},
		{Config{Target: Target{Server: closed, Invite: "x"}}, "connection refused"},
		{Config{Target: Target{Server: secure.URL, Invite: "x"}}, "--insecure"},
		{Config{Target: Target{Server: secure.URL, Invite: "x", Insecure: true}}, "404"},
	} {
		if _, err := Run(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.config, err, c.want)
		}
	}
}

func TestReadFrames(t *testing.T) {
	mark := []byte("voicebench 0badcafe ")
	for _, c := range []struct {
		frame string
		seq   uint64
		post  int
		ok    bool
	}{
		{`{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"content":"voicebench 0badcafe 17","nonce":"0badcafe-17"}}`, 42, 17, true},
		{`{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"content":"voicebench 0badcaff 17"}}`, 42, -1, true},
		{`{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"content":"voicebench 0badcafe x"}}`, 42, -1, true},
		{`{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"content":"voicebench 0badcafe 99999999999999999999"}}`, 42, -1, true},
		{`{"t":"MESSAGE_CREATE","s":x,"op":0}`, 0, -1, false},
		{`{"t":"MESSAGE_UPDATE","s":42,"op":0,"d":{}}`, 0, -1, false},
		{`{"op":0,"t":"MESSAGE_CREATE","s":42,"d":{}}`, 0, -1, false},
	} {
		seq, rest, ok := quickHead([]byte(c.frame))
		if seq != c.seq || ok != c.ok {
			t.Errorf("%s: %d, %v", c.frame, seq, ok)
		}
		if ok && postNumber(rest, mark) != c.post {
			t.Errorf("%s: post %d, want %d", c.frame, postNumber(rest, mark), c.post)
		}
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&refusedUpgrade{429}, "429 at the upgrade"},
		{&refusedUpgrade{502}, "status 502"},
		{&gws.CloseError{Code: 4008, Reason: []byte("too many frames")}, "4008 too many frames"},
		{errInvalid, "op 9"},
		{errEarly, "before it answered the upgrade"},
		{context.DeadlineExceeded, "--patience"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}, "--sources"},
		{errors.New("odd"), "connection ended: odd"},
		{nil, "connection ended"},
	} {
		if got := reason(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
	if got := mostFrequent(map[string]int{"a": 1, "b": 3, "c": 3}); got != "b" {
		t.Errorf("%q", got)
	}
}

// TestWire holds that the kernel says when it had the bytes, however late they are
// read.
func TestWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := newWire(c.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel begins to stamp a moment after the first socket asked for it.
	var b [16]byte
	var begin, written time.Time
	for end := time.Now().Add(10 * time.Second); w.arrived.IsZero() && time.Now().Before(end); {
		begin = time.Now()
		if _, err := peer.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		written = time.Now()
		if n, err := w.Read(b[:]); err != nil || string(b[:n]) != "hello" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
	// The wall clock may be set meanwhile, by less than this.
	const slack = 100 * time.Millisecond
	if w.arrived.Before(begin.Add(-slack)) || w.arrived.After(written.Add(slack)) {
		t.Errorf("arrived at %v, written from %v to %v", w.arrived, begin, written)
	}
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(b[:]); err == nil {
		t.Error("read after the end")
	}
}

// TestPace holds that a stalled generator is told.
func TestPace(t *testing.T) {
	var p pace
	for range 97 {
		p.began(lateSend - 1)
	}
	p.began(lateSend)
	p.began(lateSend)
	p.skipped()
	if got := p.share(); got != 3 {
		t.Errorf("%v %% late", got)
	}
	l := &load{report: &bench.Report{}, ledger: newLedger([steps]int{stepRate: 1}, 1)}
	for range 3 {
		l.pace.began(time.Second)
	}
	l.generator()
	if g := goalOf(t, l.report, "begun more than 10ms late"); g.Met() || g.Value != 100 || len(l.report.Notes) != 1 || !strings.Contains(l.report.Notes[0], "the generator was the bottleneck") {
		t.Errorf("%+v, %q", g, l.report.Notes)
	}
}
