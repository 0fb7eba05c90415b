package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"voicefleet/bench"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/bench/internal/target"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// CallConfig of Call.
type CallConfig struct {
	Target  Target
	Command string
	Seed    uint64

	Bots    int           // all in the channel (default 5)
	Talkers int           // of them who talk (default 2)
	Length  time.Duration // of the measured window (default 20 s)
	Pauses  bool          // talk as people do, with pauses
	Slots   int           // K of each bot (default 16)
	Ears    int           // bots who decode, the last to come, with libopus (default 4)
	// Goals; negative: none.
	MaxLoss float64       // percent
	MaxP99  time.Duration // one-way latency, 0: none

	Progress io.Writer
}

// Validate fills the zero fields and refuses what cannot be measured.
func (c *CallConfig) Validate() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Bots, 5)
	def(&c.Talkers, 2)
	def(&c.Slots, 16)
	def(&c.Ears, 4)
	if c.Length == 0 {
		c.Length = 20 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	switch {
	case c.Bots < 2 || c.Bots > 500:
		return fmt.Errorf("call: %d bots, want 2 to 500", c.Bots)
	case c.Talkers < 1 || c.Talkers > c.Bots:
		return fmt.Errorf("call: %d of %d bots talk", c.Talkers, c.Bots)
	case c.Talkers > c.Slots+1:
		return fmt.Errorf("call: %d talkers need more than %d slots: who is heard would depend on loudness", c.Talkers, c.Slots)
	case c.Length < time.Second || c.Length > 24*time.Hour:
		return fmt.Errorf("call: length of %v, want 1 s to 24 h", c.Length)
	}
	return nil
}

const (
	// joinAtOnce bounds the bots on their way in.
	joinAtOnce = 8
	// settle is how long everybody is in before the window begins; drain how
	// long its last packets may take.
	settle = time.Second
	drain  = time.Second
	// progressEvery is the pace of the lines for people.
	progressEvery = 2 * time.Second
)

// bot is one member of the call.
type bot struct {
	account  target.Account
	call     *voiceclient.Call
	talker   *talker // nil: only listens
	listener atomic.Pointer[listener]
}

// call is a measurement under way.
type call struct {
	config CallConfig
	server *target.Remote
	room   target.Room
	bots   []*bot
	report *bench.Report

	late, written, refused atomic.Uint64
}

// Call measures a call.
func Call(ctx context.Context, config CallConfig) (report *bench.Report, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &call{config: config, report: &bench.Report{Kind: "call", Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()}}
	defer func() { c.report.Took = bench.Seconds(time.Since(c.report.Started)) }()
	if c.server, err = target.OpenRemote(ctx, config.Target); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tidy(ctx, c.server)) }()
	c.room = c.server.Room()
	c.say("channel %q of guild %v at %s: %d bots, %d of them talk", c.room.Name, c.room.Guild, c.server.URL(), config.Bots, config.Talkers)
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.leave()) }()
	talking, stop := context.WithCancel(ctx)
	var voices sync.WaitGroup
	defer voices.Wait()
	defer stop()
	if err := c.join(ctx, talking, &voices); err != nil {
		return nil, err
	}
	begin := time.Now().Add(settle)
	end := begin.Add(config.Length)
	for _, b := range c.bots {
		b.listener.Load().open(begin, end)
	}
	if err := c.watch(ctx, end.Add(2*speech.FrameLength)); err != nil {
		c.report.Partial = fmt.Sprintf("ended after %v: %v", time.Since(begin).Round(time.Second), err)
		for _, b := range c.bots {
			b.listener.Load().open(begin, time.Now().Add(-drain))
		}
	}
	stop()
	voices.Wait()
	if c.report.Partial == "" {
		pause(ctx, drain)
	}
	c.conclude()
	return c.report, nil
}

func (c *call) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.config.Progress, format+"\n", args...)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// prepare makes accounts and speech.
func (c *call) prepare(ctx context.Context) error {
	accounts, err := c.server.Accounts(ctx, slices.Repeat([]target.Room{c.room}, c.config.Bots))
	if err != nil {
		return err
	}
	for _, a := range accounts {
		c.bots = append(c.bots, &bot{account: a})
	}
	// As long as the window if it can be, so that frames do not come again soon.
	frames := int(min(c.config.Length, time.Minute)/speech.FrameLength) + 50
	group := errgroup.Group{}
	group.SetLimit(2)
	tracks := make([]*opus.Track, c.config.Talkers)
	for i := range tracks {
		group.Go(func() (err error) {
			tracks[i], err = opus.Talk(speech.Config{Seed: c.config.Seed, Voice: i, Pauses: c.config.Pauses, Frames: frames})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("make speech: %w", err)
	}
	for i, t := range tracks {
		c.bots[i].talker = newTalker(sfu.UserID{ID: c.bots[i].account.User}, t)
	}
	return nil
}

// join brings the bots in, talkers first; each talks from its arrival on.
func (c *call) join(ctx, talking context.Context, voices *sync.WaitGroup) error {
	random := rand.New(rand.NewPCG(c.config.Seed, 2))
	phases := make([]time.Duration, c.config.Talkers)
	for i := range phases {
		phases[i] = time.Duration(random.Int64N(int64(speech.FrameLength)))
	}
	enter := func(from, to int) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(joinAtOnce)
		for i := from; i < to; i++ {
			group.Go(func() error {
				if err := c.enter(ctx, i); err != nil {
					return fmt.Errorf("bot %d: %w", i+1, err)
				}
				if b := c.bots[i]; b.talker != nil {
					voices.Go(func() { c.talk(talking, b, phases[i]) })
				}
				return nil
			})
		}
		return group.Wait()
	}
	if err := enter(0, c.config.Talkers); err != nil {
		return err
	}
	c.say("talkers are in")
	if err := enter(c.config.Talkers, c.config.Bots); err != nil {
		return err
	}
	c.say("everybody is in")
	return nil
}

// enter brings one bot in.
func (c *call) enter(ctx context.Context, i int) error {
	b := c.bots[i]
	var others []*talker
	for k, o := range c.bots[:c.config.Talkers] {
		if k != i {
			others = append(others, o.talker)
		}
	}
	b.listener.Store(newListener(others, c.config.Talkers, i >= c.config.Bots-c.config.Ears))
	call, err := c.server.Join(ctx, c.room, b.account, voiceclient.Options{
		Slots:   c.config.Slots,
		OnAudio: func(p voiceclient.Packet) { b.listener.Load().hear(p.User, p.Opus, p.Arrived) },
	})
	if err != nil {
		return err
	}
	b.call = call
	return nil
}

// talk says the track over and over until ctx ends.
func (c *call) talk(ctx context.Context, b *bot, phase time.Duration) {
	start := time.Now().Add(phase)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * speech.FrameLength)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		} else if ctx.Err() != nil {
			return
		}
		if time.Since(due) > speech.FrameLength {
			c.late.Add(1)
		}
		f := b.talker.say(due)
		if err := b.call.WriteOpus(f.Data, speech.FrameLength, f.Level); err != nil {
			c.refused.Add(1)
		}
		c.written.Add(1)
	}
}

// watch shows progress until the end of the window.
func (c *call) watch(ctx context.Context, end time.Time) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	done := time.NewTimer(time.Until(end))
	defer done.Stop()
	for {
		select {
		case <-done.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			var sum Heard
			for _, b := range c.bots {
				select {
				case <-b.call.Done():
					return fmt.Errorf("a bot's call ended: %w", b.call.Err())
				default:
				}
				h, _ := b.listener.Load().result()
				sum.Received += h.Received
				sum.Twice += h.Twice
				sum.Misattributed += h.Misattributed
				sum.Foreign += h.Foreign
				sum.Right += h.Right
				sum.Wrong += h.Wrong
			}
			c.say("%4.0f s left: %d packets heard, %d twice, voices %d right %d wrong", time.Until(end).Seconds(), sum.Received, sum.Twice, sum.Right, sum.Wrong+sum.Misattributed+sum.Foreign)
		}
	}
}

func (c *call) leave() error {
	var group errgroup.Group
	for _, b := range c.bots {
		if b.call != nil {
			group.Go(b.call.Close)
		}
	}
	return group.Wait()
}

// rowsShown bounds the listeners listed one by one: the worst ones.
const rowsShown = 20

// listenerResult is a row of the report.
type listenerResult struct {
	Bot        int           `json:"bot"`
	FirstAudio time.Duration `json:"first_audio_ns"`
	Latency50  time.Duration `json:"latency_p50_ns"`
	Latency99  time.Duration `json:"latency_p99_ns"`
	Heard
}

func (r listenerResult) loss() float64 {
	if r.Expected == 0 {
		return 0
	}
	return 100 * (1 - float64(r.Received)/float64(r.Expected))
}

// conclude makes the report.
func (c *call) conclude() {
	all := newLatency()
	first := newLatency()
	var total listenerResult
	var rows []listenerResult
	for i, b := range c.bots {
		h, latency := b.listener.Load().result()
		stats := b.call.Stats()
		r := listenerResult{Bot: i + 1, FirstAudio: stats.FirstAudio, Heard: h,
			Latency50: time.Duration(latency.ValueAtPercentile(50)), Latency99: time.Duration(latency.ValueAtPercentile(99))}
		if len(b.listener.Load().talkers) == 0 {
			continue // the only talker hears nobody
		}
		rows = append(rows, r)
		all.Merge(latency)
		if i >= c.config.Talkers { // a talker may wait for the next one to come
			_ = first.RecordValue(stats.FirstAudio.Nanoseconds())
		}
		total.Expected += h.Expected
		total.Received += h.Received
		total.Twice += h.Twice
		total.Misattributed += h.Misattributed
		total.Foreign += h.Foreign
		total.Right += h.Right
		total.Wrong += h.Wrong
	}
	at := func(h *hdrhistogram.Histogram, q float64) time.Duration { return time.Duration(h.ValueAtPercentile(q)) }
	total.Latency50, total.Latency99, total.FirstAudio = at(all, 50), at(all, 99), at(first, 50)
	slices.SortStableFunc(rows, func(a, b listenerResult) int {
		if d := b.loss() - a.loss(); d != 0 {
			return map[bool]int{true: 1, false: -1}[d > 0]
		}
		return int(b.Latency99 - a.Latency99)
	})
	table := bench.Table{
		Title:  fmt.Sprintf("What %d listeners heard in %v (the worst first)", len(rows), c.config.Length),
		Head:   []string{"bot", "first audio", "expected", "received", "loss", "twice", "latency p50", "p99", "voices right", "wrong"},
		Values: rows,
	}
	row := func(name string, r listenerResult) []string {
		return []string{name, ms(r.FirstAudio), fmt.Sprint(r.Expected), fmt.Sprint(r.Received), fmt.Sprintf("%.3f %%", r.loss()), fmt.Sprint(r.Twice), ms(r.Latency50), ms(r.Latency99),
			fmt.Sprint(r.Right), fmt.Sprint(r.Wrong + r.Misattributed + r.Foreign)}
	}
	for i, r := range rows {
		if i == rowsShown {
			c.note("%d more listeners, none worse", len(rows)-i)
			break
		}
		table.Rows = append(table.Rows, row(fmt.Sprint(r.Bot), r))
	}
	table.Rows = append(table.Rows, row("all", total))
	c.report.Tables = append(c.report.Tables, table)
	c.note("first audio counts from the wish to join (op 4); of all, the median of those who came when others talked (p99 %s)", ms(at(first, 99)))
	c.note("%d frames sent, %d late by more than a frame, %d not sent", c.written.Load(), c.late.Load(), c.refused.Load())
	void := ""
	if n := c.written.Load(); c.late.Load() > n/100 {
		void = fmt.Sprintf("%d of %d frames were sent late: this machine is the bottleneck", c.late.Load(), n)
	}
	if total.Expected == 0 {
		void = "nobody spoke in the window"
	}
	goal := func(name string, value, bound float64, unit, void string) {
		c.report.Goals = append(c.report.Goals, bench.Goal{Name: name, Value: value, Bound: bound, Unit: unit, Void: void})
	}
	if c.config.MaxLoss >= 0 {
		goal("loss", total.loss(), c.config.MaxLoss, "%", void)
	}
	if c.config.MaxP99 > 0 {
		goal("one-way latency p99", float64(total.Latency99)/1e6, float64(c.config.MaxP99)/1e6, "ms", void)
	}
	goal("packets under a wrong name, of nobody, or twice", float64(total.Misattributed+total.Foreign+total.Twice), 0, "packets", "")
	if !opus.CanDecode {
		c.note("built without libopus: voices are known by their bytes, nobody decodes")
		return
	}
	deaf := ""
	if total.Right+total.Wrong == 0 {
		deaf = "nobody who decodes heard 100 ms of speech"
	}
	goal("decoded pieces with a wrong voice", float64(total.Wrong), 0, "pieces", deaf)
}

func (c *call) note(format string, args ...any) {
	c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
}

// ms is a duration as people compare them.
func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}
