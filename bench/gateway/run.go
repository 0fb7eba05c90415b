package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/target"
)

// What a run may be at most.
const (
	MaxSessions = 100_000
	MaxRate     = 10_000 // messages or arrivals a second
	MaxPosts    = 1_000_000
)

const (
	// perAccount is how many sessions share an account at most: a user may have 16,
	// and one is left for whoever uses the account meanwhile.
	perAccount = 15
	// ownAccounts is up to how many sessions each has an account of its own, where
	// accounts can be made at will.
	ownAccounts = 500
	// perSource is how many sessions share a source address: of one a server takes
	// 128 connections at once that have said nothing yet, 1,024 in all, and 3,000
	// attempts a minute. maxSources is enough for MaxSessions.
	perSource  = 100
	maxSources = 1000
	// inFlight bounds the posts without an answer; one more is not sent.
	inFlight = 1024
	// drainTime is how long the last deliveries of a step may take.
	drainTime = 5 * time.Second
	// fanOutEvery is the distance of single posts.
	fanOutEvery = 500 * time.Millisecond
	// lead is from when a step is begun until its first moment, tail how long posts
	// go on after everybody was told to resume.
	lead = 100 * time.Millisecond
	tail = 2 * time.Second
	// tidyTime bounds taking accounts away again.
	tidyTime = 20 * time.Second
	// points is how often the rate step is looked at, a multiple of rateSlices.
	points = 4 * rateSlices
)

// Config of Run.
type Config struct {
	Target  Target
	Command string
	Seed    uint64

	Sessions int     // gateway sessions (default 500)
	Rate     float64 // arrivals a second (default 100)
	Accounts int     // they share (default: one each up to 500, then as few as can be; guests: as few as can be)
	// Sources are the local addresses 127.0.0.2 and on that connections to a server
	// on this machine come from (default: one for 100 sessions); elsewhere the kernel
	// chooses.
	Sources int
	// Patience is how long a connection may take until READY or RESUMED (default
	// 30 s), Settle how long sessions rest before memory is read (default 2 s).
	Patience time.Duration
	Settle   time.Duration

	FanOuts  int           // single posts (default 10; negative: none)
	Messages float64       // a second (default 20; negative: none)
	Length   time.Duration // of the rate step (default 20 s)
	Writers  int           // accounts that post in turn (default: so many that each posts once a second)

	Drop float64       // share of the connections that is cut and resumes (default 0.5; negative: none)
	Away time.Duration // until they resume (default 2 s)

	// Up is how a server of our own is started, when Target names none.
	Up UpConfig
	// PID is the process of a server on this machine that is not ours; its children
	// count, too. 0: unknown.
	PID int

	// Goals; negative: none. Times at zero: none.
	MaxFailed   float64       // percent of the sessions that did not get in, or did not resume
	MaxLost     float64       // percent of the deliveries
	MaxRefused  float64       // percent of the posts answered with 429, or not taken otherwise
	MaxReady    time.Duration // p99 from the moment of arrival to READY
	MaxDelivery time.Duration // p99 from the moment a post is due to each session, in the rate step
	MaxLast     time.Duration // p99 to the last session, in the rate step
	MaxResumed  time.Duration // p99 from the moment of the resume to RESUMED
	MaxCPU      time.Duration // of the server per delivery
	MaxMemory   float64       // KiB per session

	Progress io.Writer
}

// Validate fills the zero fields and refuses what cannot be measured.
func (c *Config) Validate() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	defF := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	defD := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Sessions, 500)
	def(&c.FanOuts, 10)
	defF(&c.Rate, 100)
	defF(&c.Messages, 20)
	defF(&c.Drop, 0.5)
	defD(&c.Patience, 30*time.Second)
	defD(&c.Settle, 2*time.Second)
	defD(&c.Length, 20*time.Second)
	defD(&c.Away, 2*time.Second)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	c.FanOuts, c.Messages, c.Drop = max(c.FanOuts, 0), max(c.Messages, 0), max(c.Drop, 0)
	switch {
	case c.Sessions < 1 || c.Sessions > MaxSessions:
		return fmt.Errorf("gateway: %d sessions, want 1 to %d", c.Sessions, MaxSessions)
	case !(c.Rate > 0 && c.Rate <= MaxRate):
		return fmt.Errorf("gateway: %v arrivals a second, want more than 0 and at most %d", c.Rate, MaxRate)
	case !(c.Messages <= MaxRate):
		return fmt.Errorf("gateway: %v messages a second, want at most %d", c.Messages, MaxRate)
	case c.Length < time.Second || c.Length > 24*time.Hour:
		return fmt.Errorf("gateway: length of %v, want 1 s to 24 h", c.Length)
	case c.Messages*(c.Length+c.Away+tail).Seconds()+float64(c.FanOuts) > MaxPosts:
		return fmt.Errorf("gateway: %v messages a second for %v are more than %d: take a shorter --length", c.Messages, c.Length, MaxPosts)
	case !(c.Drop <= 1):
		return fmt.Errorf("gateway: a share of %v cannot be dropped, want 0 to 1", c.Drop)
	case c.Away < 0 || c.Away > 100*time.Second:
		return fmt.Errorf("gateway: away for %v, want at most 100 s: a session outlives its connection by 2 min", c.Away)
	case c.Patience < time.Second || c.Settle < 0:
		return fmt.Errorf("gateway: patience of %v and settling for %v, want at least 1 s and 0", c.Patience, c.Settle)
	case c.Accounts < 0 || c.Writers < 0 || c.Sources < 0 || c.Sources > maxSources:
		return fmt.Errorf("gateway: %d accounts, %d writers, %d sources: want none below 0, and at most %d sources", c.Accounts, c.Writers, c.Sources, maxSources)
	case c.Accounts > 0 && c.Accounts*perAccount < c.Sessions:
		return fmt.Errorf("gateway: %d accounts for %d sessions, want at least %d: a user may have 16 sessions", c.Accounts, c.Sessions, ceil(c.Sessions, perAccount))
	}
	return nil
}

func ceil(n, by int) int { return (n + by - 1) / by }

// load is a run under way.
type load struct {
	// Immutable.
	config  Config
	up      *target.Up // nil: the server is not ours
	server  *server
	mark    []byte // before the number in a post's text
	run     string
	started time.Time

	// Owned by Run.
	report   *bench.Report
	random   *rand.Rand
	accounts []target.Account
	writers  []target.Account
	sessions []*session
	first    []*link // each session's first, nil when it did not connect
	ledger   *ledger
	plans    [steps][]time.Duration
	resumed  resumption
	readers  sync.WaitGroup
	usage    usage

	pace       pace
	interval   atomic.Int64 // of heartbeats, ms
	unanswered atomic.Int64 // heartbeats without acknowledgement
	reconnects atomic.Int64 // op 7
	garbled    atomic.Int64 // frames nobody could read
	guilds     atomic.Int64 // first GUILD_CREATEs
	leaving    atomic.Bool

	mu sync.Mutex
	// Guarded by mu: how often what went wrong.
	notIn, notResumed, lost, notTaken map[string]int
}

// resumption is what the resume step saw beside its posts.
type resumption struct {
	dropped int
	links   []*link
	pace    pace
}

// count adds a reason to one of the maps.
func (l *load) count(m *map[string]int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *m == nil {
		*m = make(map[string]int)
	}
	(*m)[reason]++
}

// lostLink takes note of a connection that ended by itself.
func (l *load) lostLink(err error) {
	if !l.leaving.Load() {
		l.count(&l.lost, reason(err))
	}
}

func (l *load) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.config.Progress, format+"\n", args...)
}

// Run measures. When ctx ends early the report holds what was measured until
// then, and says so.
func Run(ctx context.Context, config Config) (report *bench.Report, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := checkFiles(config.Sessions); err != nil {
		return nil, err
	}
	l := &load{config: config, started: time.Now(), random: rand.New(rand.NewPCG(config.Seed, 5)), report: &bench.Report{Kind: "gateway", Command: config.Command,
		Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()}}
	// Not of the seed: two runs of the same one must not hear each other.
	l.run = fmt.Sprintf("%08x", rand.Uint32())
	l.mark = fmt.Appendf(nil, "voicebench %s ", l.run)
	defer func() { l.report.Took = bench.Seconds(time.Since(l.started)) }()
	if config.Target.Server == "" && config.Target.Data == "" {
		if config.Target.Invite != "" || len(config.Target.Tokens) > 0 {
			return nil, errors.New("an invite and tokens (--invite, --token) need the server they are for (--server)")
		}
		if l.up, err = target.StartUp(ctx, config.Up); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, l.up.Stop()) }()
		l.config.Target.Data = l.up.Data
	}
	if l.server, err = open(ctx, l.config.Target); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.server.close(l.up != nil)) }()
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	if err := l.measure(ctx); err != nil {
		return nil, err
	}
	l.conclude()
	return l.report, nil
}

// prepare makes accounts and the plan.
func (l *load) prepare(ctx context.Context) error {
	c := &l.config
	if c.Writers == 0 {
		c.Writers = max(2, int(math.Ceil(c.Messages)))
	}
	accounts := c.Accounts
	switch {
	case len(c.Target.Tokens) > 0:
		accounts = len(c.Target.Tokens)
		if accounts*perAccount < c.Sessions {
			return fmt.Errorf("%d tokens for %d sessions, want at least %d: a user may have 16 sessions", accounts, c.Sessions, ceil(c.Sessions, perAccount))
		}
	case accounts == 0 && c.Target.Data != "":
		accounts = max(min(c.Sessions, ownAccounts), ceil(c.Sessions, perAccount))
	case accounts == 0:
		accounts = ceil(c.Sessions, perAccount)
	}
	if len(c.Target.Tokens) == 0 {
		accounts = max(accounts, c.Writers)
	}
	l.say("%s: making %d accounts", l.server.url, accounts)
	if err := l.server.enter(ctx, accounts); err != nil {
		return fmt.Errorf("let accounts in: %w", err)
	}
	l.accounts = l.server.accounts
	l.writers = l.accounts[:min(c.Writers, len(l.accounts))]
	sources, err := l.sources()
	if err != nil {
		return err
	}
	for i := range c.Sessions {
		s := &session{load: l, token: l.accounts[i%len(l.accounts)].Token}
		if len(sources) > 0 {
			s.source = sources[i%len(sources)]
		}
		l.sessions = append(l.sessions, s)
	}
	l.plans[stepFanOut] = evenly(c.FanOuts, fanOutEvery)
	if c.Messages > 0 {
		l.plans[stepRate] = stream(l.random, c.Messages, c.Length)
		if c.Drop > 0 {
			l.plans[stepResume] = stream(l.random, c.Messages, c.Away+tail)
		}
	}
	return nil
}

// sources are the local addresses to connect from, none for the kernel's choice.
func (l *load) sources() ([]netip.Addr, error) {
	host := l.server.url.Hostname()
	addr, err := netip.ParseAddr(host)
	loopback := err == nil && addr.Is4() && addr.IsLoopback()
	if !loopback {
		if l.config.Sources > 0 {
			return nil, fmt.Errorf("--sources are addresses 127.0.0.x: they need a --server on one, not on %s", host)
		}
		return nil, nil
	}
	n := l.config.Sources
	if n == 0 {
		n = ceil(l.config.Sessions, perSource)
	}
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{127, 0, byte(i / 250), byte(2 + i%250)})
	}
	return list, nil
}

// measure is the five steps. An error means that there is nothing to report.
func (l *load) measure(ctx context.Context) error {
	defer l.leave()
	l.usage.before(l.pids)
	heart, still := context.WithCancel(context.WithoutCancel(ctx))
	var beater sync.WaitGroup
	beater.Go(func() { l.beat(heart) })
	defer beater.Wait()
	defer still()

	l.say("channel %q: %d sessions arrive at %v/s", l.server.name, l.config.Sessions, l.config.Rate)
	l.arrive(ctx)
	in := l.inside()
	if len(in) == 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("ended before a session was in: %w", ctx.Err())
		}
		return fmt.Errorf("no session got in: %s", mostFrequent(l.notIn))
	}
	l.say("%d sessions are in", len(in))
	if l.partial(ctx, "while sessions arrived") {
		return nil
	}
	pause(ctx, l.config.Settle)
	l.usage.connected(len(in))
	var counts [steps]int
	for s := range counts {
		counts[s] = len(l.plans[s])
	}
	l.ledger = newLedger(counts, len(in))
	for i, s := range in {
		s.receiver.Store(&l.ledger.receivers[i])
	}
	for _, s := range []struct {
		name string
		run  func(context.Context)
	}{{"during the fan-out", l.fanOut}, {"while messages were posted", l.rate}, {"while sessions resumed", l.resume}} {
		s.run(ctx)
		if l.partial(ctx, s.name) {
			return nil
		}
	}
	l.usage.after()
	return nil
}

// partial says whether the run was ended, and notes when.
func (l *load) partial(ctx context.Context, when string) bool {
	if ctx.Err() == nil {
		return false
	}
	l.report.Partial = fmt.Sprintf("ended after %v, %s", time.Since(l.started).Round(time.Second), when)
	return true
}

// until waits for a moment, and says whether it came.
func until(ctx context.Context, at time.Time) bool { return pause(ctx, time.Until(at)) }

// pause waits, and says whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// inside are the sessions that are in.
func (l *load) inside() []*session {
	var in []*session
	for _, s := range l.sessions {
		if s.current() != nil {
			in = append(in, s)
		}
	}
	return in
}

// arrive lets the sessions come, and returns when each is in or is not to come.
func (l *load) arrive(ctx context.Context) {
	at := arrivals(l.random, l.config.Rate, len(l.sessions))
	l.first = make([]*link, len(l.sessions))
	begin := time.Now().Add(lead)
	var coming sync.WaitGroup
	for i, s := range l.sessions {
		due := begin.Add(at[i])
		if !until(ctx, due) {
			break
		}
		coming.Go(func() { l.first[i] = l.enter(ctx, s, due, false, &l.notIn) })
	}
	coming.Wait()
}

// enter brings a session in and counts why if it does not come.
func (l *load) enter(ctx context.Context, s *session, due time.Time, resumes bool, failed *map[string]int) *link {
	if !resumes {
		l.pace.began(time.Since(due))
	}
	ctx, cancel := context.WithDeadline(ctx, due.Add(l.config.Patience))
	defer cancel()
	k, err := s.dial(ctx, due, resumes, &l.readers)
	if err == nil {
		err = k.await(ctx)
	}
	if err != nil {
		l.count(failed, reason(err))
	}
	return k
}

// beatBuckets spread the sessions over the interval of the heartbeats.
const beatBuckets = 256

// beat sends every session's heartbeats. Its first comes within one interval of
// Hello, wherever in it the session's bucket lies, as the protocol wants.
func (l *load) beat(ctx context.Context) {
	for n := 0; ; n++ {
		interval := time.Duration(l.interval.Load()) * time.Millisecond
		if interval == 0 {
			interval = beatBuckets * 100 * time.Millisecond
		}
		if !pause(ctx, interval/beatBuckets) {
			return
		}
		for i := n % beatBuckets; i < len(l.sessions); i += beatBuckets {
			if k := l.sessions[i].current(); k != nil {
				k.beat()
			}
		}
	}
}

// post sends the posts of a step at their moments, and returns when each has its
// answer.
func (l *load) post(ctx context.Context, s step, begin time.Time, length time.Duration) {
	var senders sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	posts := l.ledger.of(s)
	for i, at := range l.plans[s] {
		due := begin.Add(at)
		if !until(ctx, due) {
			break
		}
		p := &posts[i]
		if s == stepRate {
			p.slice = sliceOf(at, length, rateSlices)
		}
		p.due.Store(due.UnixNano())
		select {
		case slots <- struct{}{}:
		default:
			p.fate = failed
			l.pace.skipped()
			l.count(&l.notTaken, fmt.Sprintf("not sent: %d without an answer", inFlight))
			continue
		}
		number := l.ledger.first[s] + i
		senders.Go(func() {
			defer func() { <-slots }()
			l.send(context.WithoutCancel(ctx), p, number, due)
		})
	}
	senders.Wait()
}

// send posts one message.
func (l *load) send(ctx context.Context, p *post, number int, due time.Time) {
	body, err := json.Marshal(map[string]string{"content": fmt.Sprintf("%s%d", l.mark, number), "nonce": fmt.Sprintf("%s-%d", l.run, number)})
	if err != nil {
		p.fate = failed // two strings
		return
	}
	writer := l.writers[number%len(l.writers)]
	p.sent = time.Now()
	l.pace.began(p.sent.Sub(due))
	_, err = l.server.once(ctx, http.MethodPost, "/api/v10/channels/"+l.server.channel.String()+"/messages", writer.Token, body)
	p.answered = time.Now()
	r := (*refusal)(nil)
	var no *net.OpError
	switch {
	case err == nil:
		p.fate = taken
	case errors.As(err, &r) && r.Status == http.StatusTooManyRequests:
		p.fate = refused
		l.count(&l.notTaken, "429: "+r.Message)
	case errors.As(err, &r):
		p.fate = failed
		l.count(&l.notTaken, r.Error())
	case errors.As(err, &no) && no.Op == "dial":
		p.fate = failed
		l.count(&l.notTaken, "no connection: "+shortest(err))
	default:
		p.fate = unknown
		l.count(&l.notTaken, "no answer: "+shortest(err))
	}
}

// drain waits until everybody has everything of a step, or drainTime; also when
// the run was ended, as what was posted is judged.
func (l *load) drain(s step) {
	for end := time.Now().Add(drainTime); l.ledger.owing(s) > 0 && time.Now().Before(end); {
		pause(context.Background(), 20*time.Millisecond)
	}
}

func (l *load) fanOut(ctx context.Context) {
	if len(l.plans[stepFanOut]) == 0 {
		return
	}
	l.say("%d single messages", len(l.plans[stepFanOut]))
	l.post(ctx, stepFanOut, time.Now().Add(lead), 0)
	l.drain(stepFanOut)
}

func (l *load) rate(ctx context.Context) {
	if len(l.plans[stepRate]) == 0 {
		return
	}
	length := l.config.Length
	l.say("%v messages/s for %v by %d writers", l.config.Messages, length, len(l.writers))
	begin := time.Now().Add(lead)
	var watcher sync.WaitGroup
	watcher.Go(func() { l.watch(ctx, begin, length) })
	l.post(ctx, stepRate, begin, length)
	watcher.Wait()
	l.drain(stepRate)
	l.usage.end(l.ledger.delivered.Load())
}

// watch reads the usage through the rate step and tells how it goes.
func (l *load) watch(ctx context.Context, begin time.Time, length time.Duration) {
	for n := range points + 1 {
		if !until(ctx, begin.Add(length*time.Duration(n)/points)) {
			return
		}
		l.usage.look(begin, l.ledger.delivered.Load())
		if n > 0 && n%(points/rateSlices) == 0 {
			l.say("  %v: %d delivered", (length * time.Duration(n) / points).Round(time.Second/10), l.ledger.delivered.Load())
		}
	}
}

func (l *load) resume(ctx context.Context) {
	in := l.inside()
	n := int(math.Round(float64(len(in)) * l.config.Drop))
	if n == 0 {
		return
	}
	l.random.Shuffle(len(in), func(i, k int) { in[i], in[k] = in[k], in[i] })
	gone := in[:n]
	l.say("%d connections are cut, and resume at once after %v", n, l.config.Away)
	l.resumed.pace.limit = lateStorm
	begin := time.Now().Add(lead)
	back := begin.Add(l.config.Away)
	var posting sync.WaitGroup
	posting.Go(func() { l.post(ctx, stepResume, begin, 0) })
	until(ctx, begin)
	for _, s := range gone {
		if k := s.current(); k != nil {
			k.cut()
			<-k.ended
			l.resumed.dropped++
		}
	}
	if until(ctx, back) {
		l.resumed.links = make([]*link, n)
		var coming sync.WaitGroup
		for i, s := range gone {
			coming.Go(func() {
				l.resumed.pace.began(time.Since(back))
				l.resumed.links[i] = l.enter(ctx, s, back, true, &l.notResumed)
			})
		}
		coming.Wait()
	}
	posting.Wait()
	l.drain(stepResume)
}

// leave ends all sessions.
func (l *load) leave() {
	l.leaving.Store(true)
	var group errgroup.Group
	group.SetLimit(64)
	for _, s := range l.sessions {
		if k := s.current(); k != nil {
			group.Go(func() error { k.leave(); return nil })
		}
	}
	_ = group.Wait() // they return nil
	l.readers.Wait()
}

// pids are the server's processes.
func (l *load) pids() ([]int, error) {
	switch {
	case l.up != nil:
		return l.up.PIDs()
	case l.config.PID != 0:
		return procstat.Tree(l.config.PID)
	}
	return nil, errors.New("the server is not ours, so its processes are not known (--pid names them)")
}

// mostFrequent is the reason that was counted most often.
func mostFrequent(m map[string]int) string {
	best := ""
	for r, n := range m {
		if n > m[best] || n == m[best] && r < best {
			best = r
		}
	}
	if best == "" {
		return "nobody tried"
	}
	return best
}

// usage is what server and generator took.
type usage struct {
	// Owned by Run, and by watch while it runs.
	pids     []int
	why      string // there are no pids
	idleRSS  int64
	fullRSS  int64
	sessions int
	lastRSS  int64
	looks    []look
	drained  look
}

// look is one reading.
type look struct {
	at        time.Duration
	server    procstat.CPU
	generator procstat.CPU
	delivered int64
}

// before reads what the server is without us.
func (u *usage) before(pids func() ([]int, error)) {
	var err error
	if u.pids, err = pids(); err == nil {
		u.idleRSS, err = procstat.ReadRSS(u.pids...)
	}
	u.missed(err)
}

// missed notes that the server's processes cannot be read.
func (u *usage) missed(err error) {
	if err != nil {
		u.pids, u.why = nil, err.Error()
	}
}

func (u *usage) connected(sessions int) {
	if u.pids == nil {
		return
	}
	var err error
	u.sessions = sessions
	u.fullRSS, err = procstat.ReadRSS(u.pids...)
	u.missed(err)
}

func (u *usage) after() {
	if u.pids == nil {
		return
	}
	var err error
	u.lastRSS, err = procstat.ReadRSS(u.pids...)
	u.missed(err)
}

func (u *usage) read(begin time.Time, delivered int64) look {
	k := look{at: time.Since(begin), delivered: delivered}
	k.generator, _ = procstat.ReadCPU(os.Getpid()) // it is there
	if u.pids != nil {
		var err error
		k.server, err = procstat.ReadCPU(u.pids...)
		u.missed(err)
	}
	return k
}

func (u *usage) look(begin time.Time, delivered int64) {
	u.looks = append(u.looks, u.read(begin, delivered))
}

// end reads once more, when all is delivered.
func (u *usage) end(delivered int64) { u.drained = u.read(time.Now(), delivered) }
