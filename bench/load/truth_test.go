package load

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench"
	"voicefleet/bench/forward"
	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/impair"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/remote"
	"voicefleet/bench/internal/role"
	"voicefleet/bench/scenario"
	"voicefleet/internal/bus"
	"voicefleet/internal/freeport"
)

// The tests of this package that begin with TestTruth hold the whole pipeline against
// what is known beforehand: a real node, light clients in processes of their own, the
// real proxy between, and the report that comes out.

// Roles of this program as a child; the arguments of forward.RunRole follow.
const (
	usual   = "usual" // just forward.RunRole
	deaf    = "deaf"  // generator that reads seldom, into a small buffer
	ahead37 = "ahead" // generator whose clock is wrong
)

// wrong is how far the clock of a generator in the role ahead37 is ahead.
const wrong = 37 * time.Millisecond

var programs struct {
	dir   string
	build func() (string, error)
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && slices.Contains([]string{usual, deaf, ahead37}, os.Args[1]) {
		if err := serveRole(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// A run mostly waits: for its window, for the last packets.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "voicefleet-load-")
	if err != nil {
		panic(err)
	}
	programs.dir = dir
	programs.build = sync.OnceValues(func() (string, error) {
		program := filepath.Join(dir, "voicefleet")
		cmd := exec.Command("go", "build", "-o", program, "voicefleet/cmd/voicefleet")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return program, nil
	})
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}

func serveRole(name string, args []string) error {
	ctx := context.Background()
	if name == usual {
		return forward.RunRole(ctx, args, os.Stdin, os.Stdout)
	}
	host, err := netip.ParseAddr(args[len(args)-1])
	if err != nil {
		return err
	}
	config := role.GeneratorConfig(host)
	switch name {
	case deaf:
		// Room for a handshake, not for what four talkers send between two reads.
		config.Coalesce, config.ReceiveBuffer = 100*time.Millisecond, 24<<10
	case ahead37:
		config.Ahead = wrong
	}
	return role.ServeGenerator(ctx, os.Stdin, os.Stdout, config)
}

// as is this program in a role.
func as(name string) []string { return []string{os.Args[0], name} }

// attempts bounds how often a run is made until the harness kept up: other programs
// may take the processors meanwhile.
const attempts = 4

// truth runs a scenario that is written down, until the harness itself kept up or
// was only somewhat late.
func truth(t *testing.T, text string, change ...func(*Config)) *bench.Report {
	t.Helper()
	s, err := scenario.Parse("truth.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return truthOf(t, s, change...)
}

func truthOf(t *testing.T, s *scenario.Scenario, change ...func(*Config)) *bench.Report {
	t.Helper()
	for n := 1; ; n++ {
		r := once(t, s, change...)
		why := voidOf(r)
		if why == "" {
			return r
		}
		t.Logf("run %d is void: %s", n, why)
		switch {
		case n < attempts:
		case strings.Contains(why, "were sent more than 20 ms late"), strings.Contains(why, "it stood still: a packet"):
			// Some packets in a hundred: neither what was lost nor a median depends on
			// them, so the bounds stand.
			return r
		default:
			t.Fatalf("void in %d runs", n)
		}
	}
}

// once is one run, void or not.
func once(t *testing.T, s *scenario.Scenario, change ...func(*Config)) *bench.Report {
	t.Helper()
	program, err := programs.build()
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Scenario: s, Program: program, Self: as(usual), Command: t.Name(), Progress: talkative{t}}
	for _, c := range change {
		c(&config)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := again(func() (*bench.Report, error) { return Run(ctx, config) })
	if err != nil {
		t.Fatal(err)
	}
	if r.Partial != "" {
		t.Fatalf("partial: %s", r.Partial)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text.String())
	return r
}

// unlucky is in an error when a port that was free is not so any more, or the machine
// had no time: a server that falls behind refuses the newest joins.
var unlucky = []string{"address already in use", " is taken by ", "not ready after", "did not end within", "is full, and no other"}

// again starts something anew when it was unlucky.
func again[T any](start func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := start()
		if n == attempts || err == nil || !slices.ContainsFunc(unlucky, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			return v, err
		}
	}
}

// talkative is a Progress into the log of a test.
type talkative struct{ testing.TB }

func (t talkative) Say(format string, args ...any) { t.Logf(format, args...) }
func (t talkative) Status(string)                  {}

// voidOf says why a report's figures do not count, or nothing.
func voidOf(r *bench.Report) string {
	for _, n := range r.Notes {
		if strings.Contains(n, "was the bottleneck") {
			return n
		}
	}
	return ""
}

// voidLate is by how many ms a packet may be late for anything to be judged that it moves.
const voidLate = 200

// latest is by how many ms the latest packet of a talker was behind its schedule: a gap
// that begins or ends with it is so much longer or shorter.
func latest(t *testing.T, r *bench.Report) float64 {
	t.Helper()
	for _, n := range r.Notes {
		if m := latestBy.FindStringSubmatch(n); m != nil {
			by, err := time.ParseDuration(m[1])
			if err != nil {
				t.Fatal(err)
			}
			return millis(by)
		}
	}
	t.Fatalf("no note of how late the generator was in %q", r.Notes)
	return 0
}

var latestBy = regexp.MustCompile(`the latest by ([^;]+);`)

// figure finds a metric of a report.
func figure(t *testing.T, r *bench.Report, name string) float64 {
	t.Helper()
	for _, m := range r.Metrics {
		if m.Name == name {
			return m.Samples[0]
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// near fails unless a metric is as it must be.
func near(t *testing.T, r *bench.Report, name string, want, within float64) {
	t.Helper()
	if got := figure(t, r, name); got < want-within || got > want+within {
		t.Errorf("%s: %.4f, want %.4f ± %.4f", name, got, want, within)
	}
}

// values finds what tables of a report hold for programs.
func values[V any](t *testing.T, r *bench.Report) V {
	t.Helper()
	for _, table := range r.Tables {
		if v, ok := table.Values.(V); ok {
			return v
		}
	}
	var none V
	t.Fatalf("no table of %T", none)
	return none
}

// distribution finds one by how its name begins.
func distribution(t *testing.T, r *bench.Report, name string) bench.Distribution {
	t.Helper()
	for _, d := range r.Distributions {
		if strings.HasPrefix(d.Name, name) {
			return d
		}
	}
	t.Fatalf("no distribution %q", name)
	return bench.Distribution{}
}

// quantiles are how many values a distribution has, the least and the greatest.
func quantiles(t *testing.T, r *bench.Report, name string) (count int64, least, most float64) {
	t.Helper()
	d := distribution(t, r, name)
	return d.Count, d.Points[0].V, d.Points[len(d.Points)-1].V
}

func quantile(t *testing.T, r *bench.Report, name string, q float64) float64 {
	t.Helper()
	for _, p := range distribution(t, r, name).Points {
		if p.Q == q {
			return p.V
		}
	}
	t.Fatalf("%s: no quantile %v", name, q)
	return 0
}

// everybody lists listeners whose figure is not as it must be.
func everybody(t *testing.T, r *bench.Report, what string, ok func(heard) bool) {
	t.Helper()
	list := values[[]heard](t, r)
	if len(list) == 0 {
		t.Error("nobody was judged")
	}
	for _, h := range list {
		if !ok(h) {
			t.Errorf("%s: %+v", what, h)
		}
	}
}

// room is one of 12 with 3 talkers: 33 flows to listeners, 1,650 packets/s.
const room = `
rooms:
  - members: 12
    talkers: 3
warmup: 500ms
`

// TestTruthLoss holds that a proxy that drops exactly every 100th packet of each flow
// is measured as 1 %.
func TestTruthLoss(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: loss`+room+`duration: 8s
faults:
  - {at: 0s, do: loss, direction: down, loss_percent: 1, exact: true}
`)
	near(t, r, "loss_percent", 1, 0.05)
	near(t, r, "loss_worst_percent", 1, 0.3) // 1 of 400 packets is 0.25 points
	near(t, r, "duplicates", 0, 0)
	everybody(t, r, "lost", func(h heard) bool { return h.Lost > 0 && h.Expected-h.Lost == h.Received })
}

// TestTruthCounts holds that what is lost in bursts, doubled and put out of order is
// measured to the packet.
func TestTruthCounts(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: counts`+room+`duration: 8s
faults:
  - {at: 500ms, for: 3s, do: duplicate, direction: down, duplicate_percent: 5, reorder_percent: 3}
  - {at: 4s, for: 3s, do: loss, direction: down, loss_percent: 10, burst: 4}
`)
	down := values[impair.Counts](t, r).Down
	if down.Lost < 100 || down.Duplicated < 100 || down.Reordered < 50 {
		t.Fatalf("the proxy did %+v", down)
	}
	var lost uint64
	for _, h := range values[[]heard](t, r) {
		lost += h.Lost
	}
	if lost != down.Lost {
		t.Errorf("lost %d, truth %d", lost, down.Lost)
	}
	near(t, r, "duplicates", float64(down.Duplicated), 0)
	near(t, r, "reordered", float64(down.Reordered), 0)
	// A packet lost alone is a gap of 40 ms; bursts of 4 in the mean make longer ones,
	// and those that follow one another closely one.
	if count, _, most := quantiles(t, r, "audible gaps"); count < 30 || most < 100 {
		t.Errorf("%d gaps of up to %.0f ms", count, most)
	}
}

// TestTruthDelay holds that 7 ms more on the way are measured as 7 ms more, and that a
// goal that cannot be met is missed. The way is longer in every other second, so that
// both ways are measured on the same machine, however busy it is.
func TestTruthDelay(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: delay`+room+`duration: 6s
faults:
  - {at: 0s, for: 1s, do: delay, direction: up, delay: 7ms}
  - {at: 2s, for: 1s, do: delay, direction: up, delay: 7ms}
  - {at: 4s, for: 1s, do: delay, direction: up, delay: 7ms}
goals:
  - {metric: latency_p50_ms, at_most: 0.001}
  - {metric: loss_percent, at_most: 0}
`)
	// The lower half of all latencies is of the short way, the upper one of the long:
	// the quantiles 0.2 and 0.7 are 0.4 of each, just below its median.
	short, long := quantile(t, r, "one-way latency", .2), quantile(t, r, "one-way latency", .7)
	// What a busy machine sends late is behind both ways, and moves the upper half.
	if more := long - short; more < 6.5 || more > 7.5 && (voidOf(r) == "" || more > 7.5+voidLate) {
		t.Errorf("7 ms are measured as %.3f", more)
	}
	if w := values[impair.Counts](t, r).Up; w.Delayed < 400 || w.Delayed > 500 {
		t.Errorf("the proxy delayed %d of 450 packets", w.Delayed)
	}
	if missed := r.Missed(); voidOf(r) == "" && (len(missed) != 1 || missed[0].Name != "latency_p50_ms" || missed[0].Void != "") {
		t.Errorf("missed %v", missed)
	}
}

// TestTruthClip holds that 100 ms off the start of each spurt are measured as such.
func TestTruthClip(t *testing.T) {
	t.Parallel()
	s, err := scenario.Parse("clip.yaml", []byte(`name: clip
rooms:
  - count: 3
    members: 4
    talkers: 2
    talk: {pattern: p59}
warmup: 500ms
duration: 8s
faults:
  - {at: 0s, do: clip, direction: up, clip_onset: 100ms}
`))
	if err != nil {
		t.Fatal(err)
	}
	// A pause of 200 ms or less is none to the proxy, and what is shorter than 100 ms
	// is lost whole.
	for !distinct(s.Plan()) {
		s.Seed++
	}
	r := truthOf(t, s)
	near(t, r, "clipped_percent", 100, 0)
	count, least, most := quantiles(t, r, "speech lost")
	if count < 20 || least < 80 || most > 120 {
		t.Errorf("%d spurts clipped by %.0f to %.0f ms", count, least, most)
	}
}

// distinct says whether all spurts and pauses of a plan are longer than 300 ms, and no
// spurt begins in the first 500 of the window, which is after as much of warm-up: the
// proxy begins to clip when the machine has time for it.
func distinct(p *scenario.Plan) bool {
	const least, window, clips = 15, 25, 50 // intervals
	for _, m := range p.Members {
		end := uint32(0)
		for i, s := range m.Spurts {
			if s.Count < least || s.First >= window && s.First < clips || i > 0 && s.First-end < least {
				return false
			}
			end = s.First + s.Count
		}
	}
	return true
}

// TestTruthCut holds that ways that are cut for 2 s are gaps of 2 s at each listener,
// for each talker.
func TestTruthCut(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: cut`+room+`duration: 8s
faults:
  - {at: 500ms, for: 2s, do: cut, direction: up}
  - {at: 5s, for: 2s, do: cut, direction: down}
`)
	const pairs = 33
	// A packet that a busy machine sends or brings late is a gap too, and moves the edges
	// of the others.
	late := latest(t, r) + figure(t, r, "latency_max_ms")
	near(t, r, "loss_percent", 50, 0.5+late/80) // of 8 s
	if late > voidLate {
		t.Logf("a packet was %.0f ms late: what gaps are told is not judged", late)
		return
	}
	within := 60 + late
	count, _, most := quantiles(t, r, "audible gaps")
	if count < 2*pairs || most > 2000+within {
		t.Errorf("%d gaps of up to %.0f ms, want %d of 2000 ± %.0f", count, most, 2*pairs, within)
	}
	near(t, r, "gap_p50_ms", 2000, within)
	everybody(t, r, "gap", func(h heard) bool { return math.Abs(h.WorstGap-2000) < within })
}

// TestTruthChurn holds that nothing is lost when members come and go, talkers too.
func TestTruthChurn(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: churn
rooms:
  - count: 4
    members: 5
    talkers: 2
  - count: 2
    members: 4
    talkers: 2
    talk: {pattern: p59, silence: true}
join: {arrival: poisson, rate: 20}
churn: {rate: 4, who: all}
warmup: 500ms
duration: 8s
`)
	near(t, r, "loss_percent", 0, 0)
	near(t, r, "duplicates", 0, 0)
	near(t, r, "wrong_voice", 0, 0)
	near(t, r, "join_failed", 0, 0)
	came := 0
	for _, h := range values[[]heard](t, r) {
		if h.Expected > 0 && h.Expected < 300 {
			came++
		}
	}
	if came < 10 {
		t.Errorf("%d listeners came or went", came)
	}
}

// TestTruthOverflow holds that a generator that loses datagrams says so.
func TestTruthOverflow(t *testing.T) {
	t.Parallel()
	s, err := scenario.Parse("overflow.yaml", []byte(`name: overflow
rooms:
  - members: 24
    talkers: 4
join: {arrival: ramp, over: 2s}
warmup: 500ms
duration: 2s
`)) // one by one: its buffer has no room for the handshakes of all
	if err != nil {
		t.Fatal(err)
	}
	r := once(t, s, func(c *Config) { c.Self = as(deaf) })
	if drops := figure(t, r, "generator_drops"); drops == 0 || voidOf(r) == "" || len(r.Missed()) == 0 {
		t.Errorf("%.0f drops, void: %q, missed %v", drops, voidOf(r), r.Missed())
	}
	// A generator that is late besides says that first.
	if figure(t, r, "late_percent") == 0 && !strings.Contains(voidOf(r), "receive buffers lost") {
		t.Errorf("void: %q", voidOf(r))
	}
}

// TestTruthStall holds that a generator that stood still for a second is found out.
func TestTruthStall(t *testing.T) {
	t.Parallel()
	g, err := StartGenerator(as(usual), t.Name(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	}()
	stop := &stopper{talkative: talkative{t}, pid: g.PID, stopped: make(chan error, 2)}
	s, err := scenario.Parse("stall.yaml", []byte(`name: stall`+room+`duration: 4s
goals:
  - {metric: loss_percent, at_most: 100}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := once(t, s, func(c *Config) { c.Remote, c.Progress = []Generator{g}, stop })
	for range 2 {
		if err := <-stop.stopped; err != nil {
			t.Fatal(err)
		}
	}
	if why := voidOf(r); !strings.Contains(why, "stood still") && !strings.Contains(why, "more than 20 ms late") {
		t.Errorf("void: %q", why)
	}
	if missed := r.Missed(); len(missed) != 1 || missed[0].Void == "" {
		t.Errorf("missed %v", missed)
	}
}

// stopper stops a process for a second once the window has begun.
type stopper struct {
	talkative
	pid     int
	once    sync.Once
	stopped chan error // both results
}

func (s *stopper) Status(line string) {
	if !strings.Contains(line, "s left") {
		return
	}
	s.once.Do(func() {
		s.stopped <- syscall.Kill(s.pid, syscall.SIGSTOP)
		time.AfterFunc(time.Second, func() { s.stopped <- syscall.Kill(s.pid, syscall.SIGCONT) })
	})
}

// TestTruthBots holds that faithful bots and light clients of one room find the same,
// and hear the right voices.
func TestTruthBots(t *testing.T) {
	t.Parallel()
	r := truth(t, `name: bots
server: {kind: up}
rooms:
  - members: 6
    talkers: 2
    faithful: 3
warmup: 500ms
duration: 6s
goals:
  - {metric: wrong_voice, at_most: 0}
`)
	near(t, r, "wrong_voice", 0, 0)
	if missed := r.Missed(); voidOf(r) == "" && len(missed) > 0 {
		t.Errorf("missed %v", missed)
	}
	var light, faithful []heard
	for _, h := range values[[]heard](t, r) {
		if h.Kind == "light" {
			light = append(light, h)
			continue
		}
		faithful = append(faithful, h)
		if opus.CanDecode != (h.Right > 20) || h.Wrong+h.Misattributed+h.Unmarked > 0 {
			t.Errorf("%+v", h)
		}
	}
	if len(light) != 3 || len(faithful) != 3 {
		t.Fatalf("%d light clients and %d faithful bots", len(light), len(faithful))
	}
	for _, l := range light {
		for _, f := range faithful {
			loss := func(h heard) float64 { return 100 * float64(h.Lost) / float64(h.Expected) }
			if math.Abs(loss(l)-loss(f)) > 0.1 || voidOf(r) == "" && math.Abs(l.P50-f.P50) > 2 {
				t.Errorf("%+v and %+v", l, f)
			}
		}
	}
}

// TestTruthFreeze holds that the gap of a frozen node is what the journal says.
func TestTruthFreeze(t *testing.T) {
	t.Parallel()
	s, err := scenario.Load("node-frozen")
	if err != nil {
		t.Fatal(err)
	}
	s.Warmup, s.Duration, s.Faults[0].At = 500*time.Millisecond, 6*time.Second, 2*time.Second
	// After a second a node first looks where its calls are, and drops what came
	// meanwhile: then more is lost than was frozen.
	s.Faults[0].For = 700 * time.Millisecond
	r := truthOf(t, s)
	near(t, r, "duplicates", 0, 0)
	near(t, r, "loss_percent", 0, 0.5)
	late := latest(t, r)
	frozen := 1000 * (event(t, r, "goes on") - event(t, r, "stopped"))
	// Up to an interval on either side. The node itself needs a while to go on, more on
	// a busy machine, and that is its gap too.
	everybody(t, r, fmt.Sprintf("gap of a freeze of %.0f ms", frozen), func(h heard) bool {
		return h.WorstGap > frozen-60-late && h.WorstGap < frozen+200+late
	})
}

// event is when a report's journal tells of something, in seconds since the window
// began.
func event(t *testing.T, r *bench.Report, what string) float64 {
	t.Helper()
	for _, e := range r.Events {
		if strings.Contains(e.Text, what) {
			return e.At
		}
	}
	t.Fatalf("no %q in %v", what, r.Events)
	return 0
}

// TestTruthGenerators holds that two generators on a bus give one report with the
// same figures as local ones, and that it does not matter that the clock of one is
// 37 ms ahead.
func TestTruthGenerators(t *testing.T) {
	t.Parallel()
	server, err := again(func() (*bus.Embedded, error) {
		port, err := freeport.TCP()
		if err != nil {
			return nil, err
		}
		return bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: t.TempDir(), Port: port})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	serve(t, server, "exact", usual, time.Now)
	serve(t, server, "wrong", ahead37, func() time.Time { return time.Now().Add(wrong) })
	if _, _, err := Borrow(t.Context(), server.URL(), []string{"exact", "nobody"}, talkative{t}); err == nil || !strings.Contains(err.Error(), `no generator "nobody"`) {
		t.Errorf("borrowed nobody: %v", err)
	}
	list, free, err := Borrow(t.Context(), server.URL(), []string{"exact", "wrong"}, talkative{t})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := free(); err != nil {
			t.Error(err)
		}
	}()
	// One talker, whom half of the listeners hear in its own generator.
	r := truth(t, `name: apart
rooms:
  - members: 13
warmup: 500ms
duration: 5s
`, func(c *Config) { c.Remote = list })
	near(t, r, "loss_percent", 0, 0)
	near(t, r, "loss_all_percent", 0, 0)
	if expected := int(values[[]heard](t, r)[0].Expected); expected != 250 || len(values[[]heard](t, r)) != 12 {
		t.Errorf("%d listeners of %d packets", len(values[[]heard](t, r)), expected)
	}
	within := time.Duration(0)
	for _, c := range values[[]remote.Named](t, r) {
		want := map[string]time.Duration{"exact": 0, "wrong": wrong}[c.Name]
		if (c.Offset-want).Abs() > c.Uncertainty || c.Uncertainty > 10*time.Millisecond {
			t.Errorf("%+v, want an offset of %v", c, want)
		}
		within += c.Uncertainty
	}
	least, most := math.Inf(1), 0.0
	everybody(t, r, "early", func(h heard) bool {
		least, most = min(least, h.P50), max(most, h.P50)
		return h.P50 > 0
	})
	// The clock of loopback arrivals is the sender's moment, so that listeners differ
	// by little more than their clocks.
	if apart := most - least; apart > millis(within)+0.3 {
		t.Errorf("medians from %.3f to %.3f ms, with clocks known to %v", least, most, within)
	}
}

// serve offers a generator in a role on a bus until the test ends.
func serve(t *testing.T, server *bus.Embedded, name, in string, now func() time.Time) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{Embedded: server, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- remote.Serve(ctx, conn, remote.Config{Name: name, Host: loopback.String(), Now: now,
			Open: remote.Children(func() (*child.Process, error) {
				return child.Start(name, os.Args[0], in, "generator", loopback.String())
			})})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		found, err := remote.Find(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(found, func(i remote.Info) bool { return i.Name == name }) {
			return
		}
		<-look.C
	}
}

// TestHomes holds that rooms stay whole where there are enough of them.
func TestHomes(t *testing.T) {
	for _, c := range []struct {
		members    []int
		generators int
		want       []int
	}{
		{[]int{8}, 1, []int{0}},
		{[]int{8}, 2, nil},
		{[]int{8, 8}, 2, []int{0, 1}},
		{[]int{9, 2, 2, 2, 4}, 2, []int{0, 1, 1, 1, 1}},
		{[]int{2, 3, 4, 5, 6, 7}, 3, []int{0, 1, 2, 0, 1, 2}},
	} {
		var rooms []scenario.Room
		for _, m := range c.members {
			rooms = append(rooms, scenario.Room{Members: m})
		}
		if got := homes(rooms, c.generators); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestTruthKill holds that what a killed engine costs is found when the journal says
// that it was killed, and at no other time. The next one may be there before anybody
// hears that the first was gone; when that is killed, too, the agent waits before it
// starts a third.
func TestTruthKill(t *testing.T) {
	t.Parallel()
	s, err := scenario.Load("engine-killed")
	if err != nil {
		t.Fatal(err)
	}
	s.Warmup, s.Duration, s.Faults[0].At = 500*time.Millisecond, 6*time.Second, 1200*time.Millisecond
	second := s.Faults[0]
	second.At = 2500 * time.Millisecond
	s.Faults = append(s.Faults, second)
	r := truthOf(t, s)
	var killed []float64
	for _, e := range r.Events {
		if strings.Contains(e.Text, "killed engine") {
			killed = append(killed, e.At)
		}
	}
	if len(killed) != 2 {
		t.Fatalf("killed at %v", killed)
	}
	count, _, most := quantiles(t, r, "audible gaps")
	if count == 0 || most < 35 {
		t.Errorf("%d gaps of up to %.0f ms", count, most)
	}
	lost := 0
	for _, p := range series(t, r, "Loss", "lost") { // by the second
		if p.V == 0 {
			continue
		}
		lost++
		if !slices.ContainsFunc(killed, func(k float64) bool { return p.At >= math.Floor(k) && p.At <= k+most/1000 }) {
			t.Errorf("%.2f %% lost from second %.0f on, killed at %.3f for up to %.0f ms", p.V, p.At, killed, most)
		}
	}
	if lost == 0 {
		t.Error("nothing was lost")
	}
}

// series finds what is drawn over time.
func series(t *testing.T, r *bench.Report, plot, name string) []bench.Point {
	t.Helper()
	for _, s := range r.Series {
		if s.Plot == plot && s.Name == name {
			return s.Points
		}
	}
	t.Fatalf("no series %q of %q", name, plot)
	return nil
}
