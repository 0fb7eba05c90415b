package forward

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"voicefleet/bench"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/procstat"
	"voicefleet/bench/internal/rawloop"
	"voicefleet/bench/internal/role"
)

// Payload sizes in bytes: Opus of 40 kbit/s in the window, and in the warm-up
// and tail so much less that no header of any server makes up for it.
const (
	voicePayload = 100
	smallPayload = 40
	rtpHeader    = 12
)

const (
	// warm is how long talkers talk before a window: everybody is on stage and
	// every cache is warm.
	warm = time.Second
	// tail is how long they go on after it, so that the window ends in the middle
	// of speech.
	tail = 200 * time.Millisecond
	// lead is how far ahead a start is announced to all processes.
	lead = 300 * time.Millisecond
	// drain is how long the last packets may take to be counted.
	drain = 2 * time.Second
	// joinTimeout bounds one client's way in; joinAtOnce how many are on it.
	joinTimeout = 15 * time.Second
	joinAtOnce  = 16
	// lateAtMost is the share of packets a generator may send more than an
	// interval behind schedule: beyond it, it is the bottleneck, and what was
	// measured is not the server.
	lateAtMost = 0.01
	// moreRounds bounds the rounds of a case that is worse than an earlier report: a few
	// short windows differ by as much as that.
	moreRounds = 3
	// sendBatch is the datagrams of one sendmmsg of the engine (its egress batch).
	sendBatch = 128
	// sampleEvery n-th client opens every packet it hears.
	sampleEvery = 16
)

// Config of Run.
type Config struct {
	// Edge starts the node under test.
	Edge EdgeConfig
	// Self is this program with the arguments that lead to RunRole.
	Self []string
	// Command reproduces the run; for the report.
	Command string

	Cases      []Case        // default DefaultCases
	Rounds     int           // windows per arm and case (default 4)
	Window     time.Duration // default 10 s
	Generators int           // processes of light clients (default 2)
	Slots      int           // K (default 32)
	Seed       uint64
	// Against is an earlier report. With it the goals are that nothing is lost and
	// that no ratio to the raw loop that seals is more than Worse percent above its own:
	// a short run is too coarse for the goals of the long one. A case that is above is
	// measured for up to moreRounds times as many rounds, which all count; the other
	// yardsticks are not measured.
	Against *bench.Report
	Worse   float64
	// Progress is told how it goes; nil: nobody is.
	Progress bench.Progress
}

func (c *Config) validate() error {
	if len(c.Cases) == 0 {
		c.Cases = DefaultCases()
	}
	if c.Rounds == 0 {
		c.Rounds = 4
	}
	if c.Window == 0 {
		c.Window = 10 * time.Second
	}
	if c.Generators == 0 {
		c.Generators = 2
	}
	if c.Slots == 0 {
		c.Slots = 32
	}
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	switch {
	case len(c.Self) == 0:
		return errors.New("forward: this program is not named")
	case c.Rounds < 1 || c.Rounds > 100:
		return fmt.Errorf("forward: %d rounds, want 1 to 100", c.Rounds)
	case c.Window < time.Second || c.Window > time.Hour:
		return fmt.Errorf("forward: window of %v, want 1 s to 1 h", c.Window)
	case c.Generators < 1 || c.Generators > 16:
		return fmt.Errorf("forward: %d generators, want 1 to 16", c.Generators)
	}
	for _, one := range c.Cases {
		if one.Talkers > c.Slots+1 {
			return fmt.Errorf("forward: case %v needs more than %d slots", one, c.Slots)
		}
	}
	return nil
}

// loopback is where everything of a run meets.
var loopback = netip.MustParseAddr("127.0.0.1")

// server is one of the two that forward: the node and the pion forwarder.
type server interface {
	// join brings a member into the room of a case.
	join(ctx context.Context, room int, c Case, member int, offer string) (answer string, err error)
	// leave ends all sessions of a room.
	leave(ctx context.Context, room int) error
	// pids are the processes whose time counts.
	pids() ([]int, error)
}

// run is a run under way.
type run struct {
	config     Config
	generators []generator
	raw        role.Raw
	edge, pion server
	random     *rand.Rand
	size       int // of an edge's voice datagram, measured
	windows    int // that were measured
	report     *bench.Report
}

// Run measures all cases and reports. Goals that are missed are in the report; an
// error means that there is no result, or a partial one (Report.Partial).
func Run(ctx context.Context, config Config) (report *bench.Report, err error) {
	if err := errors.Join(config.validate(), config.Edge.validate()); err != nil {
		return nil, err
	}
	r := &run{config: config, random: rand.New(rand.NewPCG(config.Seed, 1))}
	r.report = &bench.Report{Kind: "forward", Command: config.Command, Seed: config.Seed, Window: bench.Seconds(config.Window), Started: time.Now().UTC(), Machine: bench.ThisMachine()}
	var stops []func() error
	defer func() {
		for i := len(stops) - 1; i >= 0; i-- {
			err = errors.Join(err, stops[i]())
		}
		r.report.Took = bench.Seconds(time.Since(r.report.Started))
	}()
	self := program(config.Self)
	for range config.Generators {
		g, err := self.generator(ctx, loopback, voicePayload+rtpHeader)
		if err != nil {
			return nil, err
		}
		stops = append(stops, g.Stop)
		r.generators = append(r.generators, g)
	}
	if r.raw, err = self.raw(); err != nil {
		return nil, err
	}
	stops = append(stops, r.raw.Stop)
	if slices.Contains(r.arms(), armPion) {
		pion, err := self.pion(loopback)
		if err != nil {
			return nil, err
		}
		stops = append(stops, pion.Stop)
		r.pion = &pionServer{pion: pion, rooms: make(map[int]bool)}
	}
	edge, err := startEdge(ctx, config.Edge)
	if err != nil {
		return nil, err
	}
	stops = append(stops, edge.stop)
	r.edge = edge

	var results []CaseResult
	for i, c := range config.Cases {
		result, err := r.measure(ctx, i, c)
		if err != nil {
			r.report.Partial = fmt.Sprintf("case %v: %v", c, err)
			if len(result.Arms[armEdge].Windows) > 0 {
				results = append(results, result)
			}
			r.conclude(results)
			return r.report, fmt.Errorf("case %v: %w", c, err)
		}
		results = append(results, result)
	}
	r.conclude(results)
	return r.report, nil
}

func (r *run) say(format string, args ...any) { r.config.Progress.Say(format, args...) }

// stands tells which window is measured, of all that the run has.
func (r *run) stands(c Case, round int, arm string) {
	m := bench.Moment{Phase: fmt.Sprintf("case %v, window %d of %d, %s", c, round+1, max(round+1, r.config.Rounds), arm), Elapsed: time.Since(r.report.Started), Loss: -1, CPU: -1, Generator: -1}
	if all := len(r.config.Cases) * r.config.Rounds * len(r.arms()); r.windows > 0 {
		m.Total = m.Elapsed / time.Duration(r.windows) * time.Duration(all)
	}
	r.config.Progress.Status(m.Status())
}

// member is a light client somewhere.
type member struct {
	generator int
	client    int // its id there
	added     role.Added
	slots     []uint32
}

// fill brings all members of a case into a server, talkers first: the pion
// forwarder gives a member the talkers that it knows of.
func (r *run) fill(ctx context.Context, s server, room int, c Case) ([]member, error) {
	members := make([]member, c.Members())
	// Which process a member lives in is drawn by lot, not by its role.
	seats := r.random.Perm(len(members))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joinAtOnce)
	for i := range members {
		group.Go(func() error {
			m := &members[i]
			m.generator = seats[i] % len(r.generators)
			g := r.generators[m.generator]
			added, err := g.Add(ctx, lightclient.Seat{Slots: r.config.Slots, Sampled: i%sampleEvery == 0})
			if err != nil {
				return err
			}
			m.client, m.added = added[0].ID, added[0]
			answer, err := s.join(ctx, room, c, i, added[0].Offer)
			if err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
			connected, err := g.Connect(ctx, role.Answer{ID: m.client, SDP: answer, Timeout: joinTimeout})
			if err == nil && connected[0].Err != "" {
				err = errors.New(connected[0].Err)
			}
			if err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
			m.slots = connected[0].Slots
			return nil
		})
	}
	return members, group.Wait()
}

func (r *run) empty(ctx context.Context, s server, room int, members []member) error {
	var errs []error
	leaving := make([][]int, len(r.generators))
	for _, m := range members {
		leaving[m.generator] = append(leaving[m.generator], m.client)
	}
	for i, g := range r.generators {
		errs = append(errs, g.Close(ctx, leaving[i]...))
	}
	return errors.Join(append(errs, s.leave(ctx, room))...)
}

// The arms of a comparison: the node, and its yardsticks.
const (
	armEdge   = "edge"
	armRaw    = "raw"
	armSealed = "sealed" // the raw loop, with each datagram encrypted
	armPion   = "pion"
)

// arms are those of this run: of what is held against an earlier report only the ratio to
// the raw loop that seals is judged, which depends least on the machine.
func (r *run) arms() []string {
	if r.config.Against != nil {
		return []string{armEdge, armSealed}
	}
	return []string{armEdge, armRaw, armSealed, armPion}
}

// forwards says whether an arm is a forwarder; else its packets carry no mark of when they
// were sent, and nobody can open them.
func forwards(arm string) bool { return arm == armEdge || arm == armPion }

// measure runs all windows of a case, the arms in turn.
func (r *run) measure(ctx context.Context, room int, c Case) (result CaseResult, err error) {
	result = CaseResult{Case: c, Arms: make(map[string]*Arm)}
	for _, arm := range r.arms() {
		result.Arms[arm] = new(Arm)
	}
	r.say("case %v: %d members, %d pairs, %d packets/s", c, c.Members(), c.Pairs(), 50*c.Pairs())
	edge, err := r.fill(ctx, r.edge, room, c)
	if err != nil {
		return result, fmt.Errorf("join node: %w", err)
	}
	defer func() { err = errors.Join(err, r.empty(context.WithoutCancel(ctx), r.edge, room, edge)) }()
	var pion []member
	if slices.Contains(r.arms(), armPion) {
		if pion, err = r.fill(ctx, r.pion, room, c); err != nil {
			return result, fmt.Errorf("join pion forwarder: %w", err)
		}
		defer func() { err = errors.Join(err, r.empty(context.WithoutCancel(ctx), r.pion, room, pion)) }()
	}
	for round := 0; round < r.config.Rounds || round < moreRounds*r.config.Rounds && r.worse(result); round++ {
		for _, arm := range r.arms() {
			var w Window
			r.stands(c, round, arm)
			switch arm {
			case armEdge:
				w, err = r.talkWindow(ctx, r.edge, c, edge)
				r.size = max(r.size, w.Datagram)
			case armRaw, armSealed:
				w, err = r.rawWindow(ctx, c, edge, arm == armSealed)
			case armPion:
				w, err = r.talkWindow(ctx, r.pion, c, pion)
			}
			if err != nil {
				return result, fmt.Errorf("round %d, %s: %w", round+1, arm, err)
			}
			result.Arms[arm].Windows = append(result.Arms[arm].Windows, w)
			r.windows++
			r.say("  round %d %-4s  %s", round+1, arm, w)
		}
	}
	return result, nil
}

// speech is how long talkers talk without pause, in intervals: Warm and Tail with
// short packets around Window with longer ones.
type speech struct {
	Start              time.Time // of the first interval
	Warm, Window, Tail int
}

// Interval is when interval i begins.
func (s speech) Interval(i int) time.Time {
	return s.Start.Add(time.Duration(i) * lightclient.FrameInterval)
}

// Len counts all intervals.
func (s speech) Len() int { return s.Warm + s.Window + s.Tail }

// speech plans one window from now.
func (r *run) speech() speech {
	intervals := func(d time.Duration) int { return int(d / lightclient.FrameInterval) }
	return speech{
		Start: time.Now().Add(lead).Truncate(time.Millisecond),
		Warm:  intervals(warm), Window: intervals(r.config.Window), Tail: intervals(tail),
	}
}

// phase spreads n talkers over the interval.
func phase(i, n int) time.Duration {
	return lightclient.FrameInterval * time.Duration(i) / time.Duration(n)
}

// talkWindow lets the talkers of a room talk through a server.
func (r *run) talkWindow(ctx context.Context, s server, c Case, members []member) (Window, error) {
	pids, err := s.pids()
	if err != nil {
		return Window{}, err
	}
	return r.window(ctx, c, pids, func(ctx context.Context, speech speech) (pace, error) {
		talking := make([][]role.Talking, len(r.generators))
		for i := range c.Talkers {
			m := members[i]
			talking[m.generator] = append(talking[m.generator], role.Talking{Client: m.client, Talk: lightclient.Talk{
				ID: uint32(i), Start: speech.Start.Add(phase(i, c.Talkers)), Stop: speech.Interval(speech.Len()),
				From: speech.Interval(speech.Warm), To: speech.Interval(speech.Warm + speech.Window),
				SmallSize: smallPayload, Size: voicePayload, Voice: lightclient.Filler,
			}})
		}
		for i, g := range r.generators {
			if err := g.Talk(ctx, talking[i], nil); err != nil {
				return pace{}, err
			}
		}
		sum, err := r.spoken(ctx, speech.Interval(speech.Len()), uint64(speech.Len()*c.Talkers))
		if want := uint64(speech.Window * c.Talkers); err == nil && (sum.Voice != want || sum.Failed != 0) {
			err = fmt.Errorf("generators sent %d of %d packets, %d failed", sum.Voice, want, sum.Failed)
		}
		return pace{late: sum.Late, worst: sum.Worst}, err
	})
}

// spoken waits until the generators have sent all that is due before end, and at
// most drain longer.
func (r *run) spoken(ctx context.Context, end time.Time, total uint64) (lightclient.Pace, error) {
	wait := time.NewTimer(time.Until(end))
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return lightclient.Pace{}, ctx.Err()
		}
		sum, err := r.pace(ctx)
		if err != nil || sum.Sent+sum.Failed >= total || time.Since(end) > drain {
			return sum, err
		}
		wait.Reset(lightclient.FrameInterval)
	}
}

// pace is that of all generators.
func (r *run) pace(ctx context.Context) (lightclient.Pace, error) {
	var sum lightclient.Pace
	for _, g := range r.generators {
		p, err := g.Pace(ctx)
		if err != nil {
			return sum, err
		}
		sum.Add(p)
	}
	return sum, nil
}

// rawWindow sends what the node would send, to the same sockets.
func (r *run) rawWindow(ctx context.Context, c Case, members []member, seal bool) (Window, error) {
	sources := make([]rawloop.Source, c.Talkers)
	for i := range sources {
		sources[i].Phase = phase(i, c.Talkers)
		for k, m := range members {
			if k != i {
				// Any slot: the receiver counts it the same.
				sources[i].Targets = append(sources[i].Targets, rawloop.Target{Addr: m.added.Local, SSRC: m.slots[i%len(m.slots)]})
			}
		}
	}
	return r.window(ctx, c, []int{r.raw.PID()}, func(ctx context.Context, speech speech) (pace, error) {
		sent, err := r.raw.Run(ctx, rawloop.Plan{
			Start: speech.Start, Interval: lightclient.FrameInterval,
			Warm: speech.Warm, Window: speech.Window, Tail: speech.Tail,
			SmallSize: r.size - (voicePayload - smallPayload), Size: r.size,
			Batch: sendBatch, Sources: sources, Seal: seal,
		})
		if err == nil && sent.Refused > 0 {
			err = fmt.Errorf("kernel refused %d datagrams", sent.Refused)
		}
		return pace{late: sent.Late, worst: sent.Worst}, err
	})
}

// pace is how a generator kept its schedule.
type pace struct {
	late  uint64 // packets of talkers, or batches
	worst time.Duration
}

// window measures what speak causes. Time counts from the first interval of the
// window to its end, as read by the clock all processes share.
func (r *run) window(ctx context.Context, c Case, pids []int, speak func(context.Context, speech) (pace, error)) (Window, error) {
	var w Window
	speech := r.speech()
	for _, g := range r.generators {
		judge := meter.Config{From: speech.Interval(speech.Warm), To: speech.Interval(speech.Warm + speech.Window)}
		if err := errors.Join(g.Reset(ctx), g.Judge(ctx, nil, judge)); err != nil {
			return w, err
		}
	}
	w.Expected = uint64(speech.Window) * uint64(c.Pairs())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		p, err := speak(ctx, speech)
		w.Late, w.LateShare = p.worst, float64(p.late)/float64(c.Talkers*speech.Len())
		return err
	})
	group.Go(func() error {
		before, err := r.reading(ctx, speech.Interval(speech.Warm), pids)
		if err != nil {
			return err
		}
		after, err := r.reading(ctx, speech.Interval(speech.Warm+speech.Window), pids)
		if err != nil {
			return err
		}
		w.CPU, w.First = after.cpu.Sub(before.cpu), after.first.Sub(before.first)
		w.Generators, w.Packets = after.generators.Sub(before.generators), after.packets-before.packets
		return nil
	})
	if err := group.Wait(); err != nil {
		return w, err
	}
	// ctx of the group has ended with it.
	total, err := r.settle(context.WithoutCancel(ctx), w.Expected)
	if err != nil {
		return w, err
	}
	w.Received, w.Other, w.Unknown = total.Voice, total.Other, total.Unknown
	w.Gaps, w.Refused, w.Opened, w.Datagram = total.Lost, total.Refused, total.Opened, total.Largest
	var heard meter.Result
	for _, g := range r.generators {
		one, err := g.Heard(context.WithoutCancel(ctx), nil)
		if err != nil {
			return w, err
		}
		heard.Merge(one)
	}
	w.Latency50, w.Latency99 = heard.Latency.Quantile(0.5), heard.Latency.Quantile(0.99)
	kept, err := r.pace(context.WithoutCancel(ctx))
	w.Overrun = kept.SocketDrops
	return w, err
}

// reading is CPU time and packets at a moment; first is the time of the first
// process alone.
type reading struct {
	cpu, first, generators procstat.CPU
	packets                uint64
}

func (r *run) reading(ctx context.Context, at time.Time, pids []int) (reading, error) {
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
		return reading{}, ctx.Err()
	}
	cpu, err := procstat.ReadCPU(pids...)
	if err != nil {
		return reading{}, err
	}
	first, err := procstat.ReadCPU(pids[0])
	if err != nil {
		return reading{}, err
	}
	own := make([]int, len(r.generators))
	for i, g := range r.generators {
		own[i] = g.PID
	}
	generators, err := procstat.ReadCPU(own...)
	if err != nil {
		return reading{}, err
	}
	total, err := r.counts(ctx)
	return reading{cpu: cpu, first: first, generators: generators, packets: total.Voice + total.Other}, err
}

// counts asks all generators at once: they are to answer at the same moment.
func (r *run) counts(ctx context.Context) (lightclient.Counts, error) {
	each := make([]lightclient.Counts, len(r.generators))
	group, ctx := errgroup.WithContext(ctx)
	for i, g := range r.generators {
		group.Go(func() (err error) {
			each[i], err = g.Counts(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return lightclient.Counts{}, err
	}
	var sum lightclient.Counts
	for _, one := range each {
		sum.Add(one)
	}
	return sum, nil
}

// settle waits until all that is expected was counted, at most drain, and then a
// little for what is too much.
func (r *run) settle(ctx context.Context, expected uint64) (lightclient.Counts, error) {
	deadline := time.Now().Add(drain)
	for {
		total, err := r.counts(ctx)
		if err != nil {
			return total, err
		}
		if total.Voice >= expected || time.Now().After(deadline) {
			time.Sleep(50 * time.Millisecond)
			return r.counts(ctx)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
