package crowd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"voicefleet/bench"
	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/epollclient"
	"voicefleet/bench/internal/others"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/rawfan"
)

const (
	// MaxSessions is what a run may ask for: 250 halls of a source address block each.
	MaxSessions = 1_000_000
	// lead is from when something is begun until its first moment.
	lead = 200 * time.Millisecond
	// drainTime is how long the last deliveries of a step may take.
	drainTime = 20 * time.Second
	// look is between two looks at what was delivered: it takes nothing from what is
	// measured, as times are the kernel's.
	look = 25 * time.Millisecond
	// rest is between one single message and the next.
	rest = 300 * time.Millisecond
	// away is how long those that were cut are away; stormPosts are posted meanwhile
	// and while they come back.
	away       = 2 * time.Second
	stormPosts = 20
	stormEvery = 250 * time.Millisecond
)

// Size is a size of the crowd, and the goal for one message to all of it.
type Size struct {
	Sessions int
	Within   time.Duration // p99
}

// Sizes are those of the goals.
var Sizes = []Size{{20_000, 300 * time.Millisecond}, {100_000, time.Second}, {200_000, 2 * time.Second}}

// SizesOf are sizes with the goals that go with them: that of the next larger of
// Sizes.
func SizesOf(sessions []int) []Size {
	var list []Size
	for _, n := range sessions {
		s := Size{n, Sizes[len(Sizes)-1].Within}
		for i := len(Sizes) - 1; i >= 0 && n <= Sizes[i].Sessions; i-- {
			s.Within = Sizes[i].Within
		}
		list = append(list, s)
	}
	return list
}

// Config of Run.
type Config struct {
	Self    []string // this program as a child, before the role
	Program string   // default bin/voicefleet
	Command string
	Seed    uint64

	// Scale multiplies all numbers of sessions (default 1).
	Scale float64
	Sizes []Size // default Sizes; those of no sessions are left out
	Guild int    // members online in the guild (default 1,000; negative: no guild)
	// PerHall is how many sessions a server has at most (default what the limit of
	// open files lets it have).
	PerHall int
	// Store is a CQL store of yours, cql://HOST/KEYSPACE, for the text instances: what is
	// written stays there. Empty: a node is started, of this profile ("durable", or
	// "quick", see deploy/cql/run.sh).
	Store   string
	Profile string
	Rate    float64 // arrivals a second, in all (default 400)

	Messages float64       // a second, in the guild (default 160)
	Window   time.Duration // of messages and of the yardstick (default 5 s)
	Rounds   int           // windows of each (default 4)

	FanOuts  int           // single messages at each size (default 10)
	Settle   time.Duration // before memory is read (default 45 s: everybody has sent a heartbeat)
	Drop     float64       // share that resumes (default 0.5; negative: none)
	Patience time.Duration // until READY or RESUMED (default 60 s)
	LookUps  int           // of each kind (default 2,000; negative: none)

	// Goals.
	MaxMemory   float64       // KiB each session (default 10)
	MaxLast     time.Duration // p99 to the last member of the guild (default 100 ms)
	MaxRatio    float64       // CPU of a delivery to the yardstick's (default 1.3)
	MaxResumed  time.Duration // p99 (default 10 s)
	LookUpSlack float64       // multiplies the goals of look-ups (default 1)

	Log      io.Writer // of the servers
	Progress io.Writer
}

// Short makes it the run of a minute that CI makes, with goals that a busy machine
// keeps, too. What is set stays.
func (c *Config) Short() {
	if c.Sizes == nil {
		c.Sizes = []Size{{1000, 2 * time.Second}}
	}
	def(&c.PerHall, 500)
	def(&c.Profile, "quick")
	def(&c.Guild, 200)
	def(&c.Messages, 50)
	def(&c.Window, 2*time.Second)
	def(&c.Rounds, 2)
	def(&c.FanOuts, 5)
	def(&c.Settle, time.Second)
	def(&c.LookUps, 400)
	def(&c.LookUpSlack, 20)
	def(&c.MaxMemory, 64) // mostly what each server has anyway
	def(&c.MaxLast, time.Second)
	def(&c.MaxRatio, 5)
}

// def fills a field that is zero.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate fills the zero fields and refuses what cannot be measured.
func (c *Config) Validate() error {
	def(&c.Scale, 1)
	def(&c.Profile, "durable")
	def(&c.Guild, 1000)
	def(&c.Rate, 400)
	def(&c.Messages, 160)
	def(&c.Window, 5*time.Second)
	def(&c.Rounds, 4)
	def(&c.FanOuts, 10)
	def(&c.Settle, 45*time.Second)
	def(&c.Drop, 0.5)
	def(&c.Patience, time.Minute)
	def(&c.LookUps, 2000)
	def(&c.MaxMemory, 10)
	def(&c.MaxLast, 100*time.Millisecond)
	def(&c.MaxRatio, 1.3)
	def(&c.MaxResumed, 10*time.Second)
	def(&c.LookUpSlack, 1)
	if c.Sizes == nil {
		c.Sizes = Sizes
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	most, err := epollclient.MostSessions()
	if err != nil {
		return err
	}
	def(&c.PerHall, most)
	if c.PerHall < 1 || c.PerHall > most {
		return fmt.Errorf("crowd: %d sessions of one server, want 1 to %d: the limit of open files", c.PerHall, most)
	}
	if !(c.Scale > 0 && c.Scale <= 10) || !(c.Rate > 0) || !(c.Messages > 0 && c.Messages <= 2000) || !(c.Drop <= 1) {
		return fmt.Errorf("crowd: scale %v, %v arrivals/s, %v messages/s, %v dropped: out of bounds", c.Scale, c.Rate, c.Messages, c.Drop)
	}
	if c.Profile != "durable" && c.Profile != "quick" {
		return fmt.Errorf("crowd: there is no profile %q of a CQL node; there are durable and quick", c.Profile)
	}
	if c.Window < time.Second || c.Rounds < 1 || c.FanOuts < 1 || c.Patience < time.Second || c.Settle < 0 {
		return errors.New("crowd: windows, rounds, single messages, patience and rest: out of bounds")
	}
	c.Sizes = slices.Clone(c.Sizes)
	for i := range c.Sizes {
		s := &c.Sizes[i]
		s.Sessions = int(math.Ceil(float64(s.Sessions) * c.Scale))
		if s.Sessions < 1 || s.Sessions > MaxSessions || i > 0 && s.Sessions < c.Sizes[i-1].Sessions {
			return fmt.Errorf("crowd: size %d, want rising ones from 1 to %d", s.Sessions, MaxSessions)
		}
	}
	c.Guild = int(math.Ceil(float64(c.Guild) * c.Scale))
	if 2*c.Guild > most {
		return fmt.Errorf("crowd: a guild of %d, want at most %d: the yardstick has as many sockets", c.Guild, most/2)
	}
	return nil
}

// crowd is a run under way.
type crowd struct {
	config Config
	mark   string
	random *rand.Rand
	report *bench.Report
	house  *house // of the part under way, nil between parts
	begun  time.Time
}

// say tells how far the run is, after the seconds since it began.
func (c *crowd) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.config.Progress, "%4.0f s  "+format+"\n", append([]any{time.Since(c.begun).Seconds()}, args...)...)
}

// Run measures. When ctx ends early, or a part fails, the report holds what was
// measured, and says why it is not all.
func Run(ctx context.Context, config Config) (_ *bench.Report, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &crowd{config: config, begun: time.Now(), mark: fmt.Sprintf("voicebench %08x", rand.Uint32()), random: rand.New(rand.NewPCG(config.Seed, 11)),
		report: &bench.Report{Kind: "crowd", Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine(), Window: bench.Seconds(config.Window)}}
	defer func() { err = errors.Join(err, c.close()) }()
	parts := []struct {
		name string
		run  func(context.Context) error
	}{{"the guild", c.guild}, {"the sizes", c.sizes}, {"the look-ups", c.lookUps}}
	var failed []string
	for _, p := range parts {
		if err := p.run(ctx); err != nil {
			failed = append(failed, fmt.Sprintf("%s ended after %v: %v", p.name, time.Since(c.begun).Round(time.Second), err))
			c.say("%s", failed[len(failed)-1])
		}
		if ctx.Err() != nil {
			break
		}
	}
	c.report.Partial = strings.Join(failed, "; ")
	c.report.Took = bench.Seconds(time.Since(c.begun))
	return c.report, nil
}

// close ends all servers.
func (c *crowd) close() (err error) {
	if c.house != nil {
		err = c.house.close()
	}
	c.house = nil
	return err
}

// grow brings the crowd to a size, the same number in each hall.
func (c *crowd) grow(ctx context.Context, name string, size, share int) error {
	c.say("%d sessions in %d halls", size, len(c.house.halls))
	begun := time.Now()
	entered, err := c.house.grow(ctx, size, share)
	if err != nil {
		return err
	}
	a := arrivals(entered)
	a.Within = time.Since(begun).Seconds()
	c.arrived(name, a)
	return nil
}

// pause waits, and says why it could not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain waits until so many were delivered in all halls, or drainTime.
func (c *crowd) drain(ctx context.Context, want int64) error {
	for end := time.Now().Add(drainTime); time.Now().Before(end); {
		var got int64
		for _, h := range c.house.halls {
			n, err := h.count(ctx)
			if err != nil {
				return err
			}
			got += n.Delivered
		}
		if got >= want {
			return nil
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
	}
	return nil
}

// inside is how many sessions are in.
func (c *crowd) inside(ctx context.Context) (n int, err error) {
	for _, h := range c.house.halls {
		k, err := h.count(ctx)
		if err != nil {
			return 0, err
		}
		n += k.In
	}
	return n, nil
}

// tallies takes what was heard in all halls, of posts from a number on.
func (c *crowd) tallies(ctx context.Context, from int) (sum tallies, err error) {
	sum.delay = epollclient.Histogram()
	for _, h := range c.house.halls {
		t, err := h.tally(ctx, from)
		if err != nil {
			return sum, err
		}
		sum.add(t)
	}
	return sum, nil
}

// tallies are those of all halls.
type tallies struct {
	epollclient.Tally
	delay *hdrhistogram.Histogram
}

func (s *tallies) add(t epollclient.Tally) {
	s.In += t.In
	s.Delivered += t.Delivered
	s.Twice += t.Twice
	s.Repeated += t.Repeated
	s.Garbled += t.Garbled
	s.Reads += t.Reads
	s.LateReads += t.LateReads
	s.Frames += t.Frames
	s.Bytes += t.Bytes
	addCounts(&s.Lost, t.Lost)
	addCounts(&s.Retries, t.Retries)
	s.delay.Merge(hdrhistogram.Import(t.Delay))
	for i, p := range t.Posts {
		if i == len(s.Posts) {
			s.Posts = append(s.Posts, epollclient.Heard{})
		}
		s.Posts[i].Seen += p.Seen
		s.Posts[i].Last = max(s.Posts[i].Last, p.Last)
	}
}

// addCounts adds to a map that may not be made yet.
func addCounts(sum *map[string]int, more map[string]int) {
	for why, n := range more {
		if *sum == nil {
			*sum = make(map[string]int)
		}
		(*sum)[why] += n
	}
}

// guild is the first part.
func (c *crowd) guild(ctx context.Context) error {
	n := c.config.Guild
	if n <= 0 {
		return nil
	}
	var err error
	if c.house, err = openUp(ctx, &c.config, c.mark); err != nil {
		return err
	}
	defer func() { _ = c.close() }()
	if err := c.grow(ctx, "guild", n, 1); err != nil {
		return err
	}
	c.housed("guild")
	fan, err := start(c.config.Self, roleFan)
	if err != nil {
		return err
	}
	defer func() { _ = fan.Stop() }()
	h := c.house.halls[0]
	if err := c.stand(ctx, fan, h, n); err != nil {
		return err
	}
	c.say("%v messages/s to %d, by turns with the yardstick", c.config.Messages, n)
	defer others.Watch("guild", c.note)()
	var g guildResult
	g.last, g.post = epollclient.Histogram(), epollclient.Histogram()
	number := 0
	for round := range c.config.Rounds {
		plan := stream(c.random, c.config.Messages, c.config.Window)
		size, err := c.guildWindow(ctx, h, &g, plan, number)
		if err != nil {
			return err
		}
		number += len(plan)
		if err := c.fanWindow(ctx, fan, h, &g, plan, number, size); err != nil {
			return err
		}
		number += len(plan)
		c.say("  round %d: %.2f µs and %.2f µs a delivery", round+1, g.Gateway[round], g.Raw[round])
	}
	c.guildReport(&g)
	return nil
}

// stand connects the yardstick.
func (c *crowd) stand(ctx context.Context, fan *child.Process, h *hall, n int) error {
	var at netip.AddrPort
	if err := fan.Call(ctx, "addr", struct{}{}, &at); err != nil {
		return err
	}
	each, ctx := errgroup.WithContext(ctx)
	each.Go(func() error { return fan.Call(ctx, "accept", n, nil) })
	each.Go(func() error {
		var e epollclient.Entered
		err := h.loader.Call(ctx, "arrive", arriveRequest{Raw: at, Sources: h.sources, Sessions: n, Patience: c.config.Patience}, &e)
		if err == nil && e.In != n {
			err = fmt.Errorf("%d of %d sockets reached the yardstick: %v", e.In, n, e.Failed)
		}
		return err
	})
	return each.Wait()
}

// guildResult are the figures of the first part.
type guildResult struct {
	Members   int       `json:"members"`
	Gateway   []float64 `json:"gateway_us_per_delivery"`
	Raw       []float64 `json:"raw_us_per_delivery"`
	User      []float64 `json:"gateway_user_us_per_delivery"`
	Reading   []float64 `json:"sessions_us_per_delivery"`
	Expected  int64     `json:"expected"`
	Delivered int64     `json:"delivered"`
	RawLost   int64     `json:"raw_lost"`

	sum        tallies
	last, post *hdrhistogram.Histogram
}

// guildWindow posts at the rate for one window, and tells how long a frame was.
func (c *crowd) guildWindow(ctx context.Context, h *hall, g *guildResult, plan []time.Duration, number int) (size int, err error) {
	n, err := c.inside(ctx)
	if err != nil {
		return 0, err
	}
	before, err := c.house.cpu()
	if err != nil {
		return 0, err
	}
	readBefore, err := procstat.ReadCPU(h.loader.PID())
	if err != nil {
		return 0, err
	}
	begin := time.Now().Add(lead)
	taken := make([]time.Duration, len(plan))
	each, posting := errgroup.WithContext(ctx)
	for i, at := range plan {
		due := begin.Add(at)
		if err := pause(ctx, time.Until(due)); err != nil {
			return 0, err
		}
		each.Go(func() error {
			err := c.house.post(posting, number+i, due)
			taken[i] = time.Since(due)
			return err
		})
	}
	if err := each.Wait(); err != nil {
		return 0, err
	}
	want := int64(n) * int64(len(plan))
	if err := c.drain(ctx, want); err != nil {
		return 0, err
	}
	after, err := c.house.cpu()
	if err != nil {
		return 0, err
	}
	readAfter, err := procstat.ReadCPU(h.loader.PID())
	if err != nil {
		return 0, err
	}
	t, err := c.tallies(ctx, number)
	if err != nil {
		return 0, err
	}
	for i, p := range t.Posts {
		if p.Seen == n && i < len(plan) {
			_ = g.last.RecordValue(p.Last - begin.Add(plan[i]).UnixNano())
		}
	}
	for _, d := range taken {
		_ = g.post.RecordValue(int64(d))
	}
	g.Members = n
	g.Expected += want
	g.Delivered += t.Delivered
	spent := after.sub(before).servers
	g.Gateway = append(g.Gateway, micros(spent.Total(), t.Delivered))
	g.User = append(g.User, micros(spent.User, t.Delivered))
	g.Reading = append(g.Reading, micros(readAfter.Sub(readBefore).Total(), t.Delivered))
	if g.sum.delay == nil {
		g.sum.delay = epollclient.Histogram()
	}
	t.Delay = t.delay.Export()
	g.sum.add(t.Tally)
	return int(t.Bytes / max(t.Frames, 1)), nil
}

func micros(d time.Duration, n int64) float64 {
	return float64(d) / 1e3 / float64(max(n, 1))
}

// fanWindow has the yardstick write the same plan.
func (c *crowd) fanWindow(ctx context.Context, fan *child.Process, h *hall, g *guildResult, plan []time.Duration, number, size int) error {
	before, err := procstat.ReadCPU(fan.PID())
	if err != nil {
		return err
	}
	err = fan.Call(ctx, "run", rawfan.Plan{Start: time.Now().Add(lead), At: plan, First: number, Mark: c.mark, Size: size}, nil)
	if err != nil {
		return err
	}
	want := int64(c.config.Guild) * int64(len(plan))
	if err := c.drain(ctx, want); err != nil {
		return err
	}
	after, err := procstat.ReadCPU(fan.PID())
	if err != nil {
		return err
	}
	t, err := h.tally(ctx, number)
	if err != nil {
		return err
	}
	g.RawLost += want - t.Delivered
	g.Raw = append(g.Raw, micros(after.Sub(before).Total(), t.Delivered))
	return nil
}

// stream are the moments of a Poisson process of rate a second within length.
func stream(random *rand.Rand, rate float64, length time.Duration) []time.Duration {
	var at []time.Duration
	for t := random.ExpFloat64() / rate; t < length.Seconds(); t += random.ExpFloat64() / rate {
		at = append(at, time.Duration(t*float64(time.Second)))
	}
	return at
}

// halls is how many a size asks for.
func (c *crowd) halls(size int) int { return (size + c.config.PerHall - 1) / c.config.PerHall }

// sizes are the second and third part.
func (c *crowd) sizes(ctx context.Context) error {
	if len(c.config.Sizes) == 0 {
		return nil
	}
	defer func() { _ = c.close() }()
	most := c.config.Sizes[len(c.config.Sizes)-1].Sessions
	c.say("starting text instances on one bus and one store")
	var err error
	if c.house, err = openFleet(ctx, &c.config, c.mark, c.halls(c.config.Sizes[0].Sessions)); err != nil {
		return err
	}
	// Once they are there nobody's sessions are told of each new member.
	c.say("making %d accounts of one guild", (most+perAccount-1)/perAccount)
	if err := c.house.admit(ctx, (most+perAccount-1)/perAccount); err != nil {
		return err
	}
	number := 0
	for i, size := range c.config.Sizes {
		if err := c.house.open(ctx, c.halls(size.Sessions)); err != nil {
			return err
		}
		name := fmt.Sprintf("%d sessions", size.Sessions)
		if err := c.grow(ctx, name, size.Sessions, perAccount); err != nil {
			return err
		}
		c.housed(name)
		debug.FreeOSMemory() // what is ours is not to be in the servers' way
		// Memory and the storm are of the second size, or of the only one.
		middle := i == min(1, len(c.config.Sizes)-1)
		if middle {
			c.say("resting for %v", c.config.Settle)
			if err := pause(ctx, c.config.Settle); err != nil {
				return err
			}
			if err := c.memory(ctx); err != nil {
				return err
			}
		}
		if err := c.fanOut(ctx, size, number); err != nil {
			return err
		}
		number += c.config.FanOuts
		if middle && c.config.Drop > 0 {
			if err := c.storm(ctx, number); err != nil {
				return err
			}
			number += stormPosts
		}
	}
	return nil
}

// memory reads what the servers hold.
func (c *crowd) memory(ctx context.Context) error {
	n, err := c.inside(ctx)
	if err != nil {
		return err
	}
	grown, err := c.house.grown()
	if err != nil {
		return err
	}
	c.memoryReport(n, float64(grown)/1024/float64(max(n, 1)))
	return nil
}

// stepBack has the sessions read only when no server wants a core, as if they were on
// machines of their own, where it may; forward ends that.
func (c *crowd) stepBack() (forward func() error, err error) {
	all := func(back bool) (err error) {
		for _, h := range c.house.halls {
			err = errors.Join(err, h.loader.StepBack(back))
		}
		return err
	}
	switch err := all(true); {
	case errors.Is(err, child.ErrPriority):
		c.note("single messages: the sessions' processes read beside the servers: %v", err)
		return func() error { return nil }, nil
	case err != nil:
		return nil, errors.Join(err, all(false))
	}
	return func() error { return all(false) }, nil
}

// fanOut posts single messages to all, each when the one before was heard.
func (c *crowd) fanOut(ctx context.Context, size Size, number int) (err error) {
	n, err := c.inside(ctx)
	if err != nil {
		return err
	}
	earlier, err := c.tallies(ctx, number) // what came before is not ours
	if err != nil {
		return err
	}
	c.lost(fmt.Sprintf("on the way to %d", size.Sessions), earlier)
	defer others.Watch(fmt.Sprintf("one message to %d", size.Sessions), c.note)()
	c.say("%d single messages to %d", c.config.FanOuts, n)
	forward, err := c.stepBack()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, forward()) }()
	before, err := c.house.cpu()
	if err != nil {
		return err
	}
	dues, answer := make([]time.Time, c.config.FanOuts), epollclient.Histogram()
	for i := range dues {
		if err := pause(ctx, rest); err != nil {
			return err
		}
		dues[i] = time.Now()
		if err := c.house.post(ctx, number+i, dues[i]); err != nil {
			return err
		}
		_ = answer.RecordValue(int64(time.Since(dues[i])))
		if err := c.drain(ctx, int64(n)*int64(i+1)); err != nil {
			return err
		}
	}
	after, err := c.house.cpu()
	if err != nil {
		return err
	}
	t, err := c.tallies(ctx, number)
	if err != nil {
		return err
	}
	last := epollclient.Histogram()
	for i, p := range t.Posts {
		if p.Seen == n && i < len(dues) {
			_ = last.RecordValue(p.Last - dues[i].UnixNano())
		}
	}
	c.fanOutReport(size, n, t, answer, last, after.sub(before))
	return nil
}

// storm cuts a share of all connections, and lets all of them resume at one moment.
func (c *crowd) storm(ctx context.Context, number int) error {
	n, err := c.inside(ctx)
	if err != nil {
		return err
	}
	if _, err := c.tallies(ctx, number); err != nil {
		return err
	}
	gone := 0
	for _, h := range c.house.halls {
		var k int
		if err := h.loader.Call(ctx, "cut", c.config.Drop, &k); err != nil {
			return err
		}
		gone += k
	}
	c.say("%d of %d are cut, and resume at once after %v", gone, n, away)
	defer others.Watch("storm", c.note)()
	at := time.Now().Add(away)
	entered := make([]epollclient.Entered, len(c.house.halls))
	each, coming := errgroup.WithContext(ctx)
	for i, h := range c.house.halls {
		each.Go(func() error {
			return h.loader.Call(coming, "resume", resumeRequest{At: at, Patience: c.config.Patience}, &entered[i])
		})
	}
	each.Go(func() error {
		for i := range stormPosts {
			if err := c.house.post(coming, number+i, time.Now()); err != nil {
				return err
			}
			if err := pause(coming, stormEvery); err != nil {
				return err
			}
		}
		return nil
	})
	if err := each.Wait(); err != nil {
		return err
	}
	if err := c.drain(ctx, int64(n)*stormPosts); err != nil {
		return err
	}
	t, err := c.tallies(ctx, number)
	if err != nil {
		return err
	}
	c.stormReport(n, gone, arrivals(entered), t)
	return nil
}
