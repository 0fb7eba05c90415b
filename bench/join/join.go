package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/bench/internal/tap"
	"voicefleet/bench/internal/target"
	"voicefleet/signaling/voiceclient"
)

// Goals of the project for joins on loopback.
const (
	goalHeard50     = 350.0 // ms
	goalHeard99     = 600.0
	goalServer99    = 30.0
	goalDescribed50 = 8.0
)

// Target says which running server, and who the bots are there.
type Target = target.RemoteConfig

// UpConfig is how a server of our own is started for one run.
type UpConfig = target.UpConfig

// Config of Run.
type Config struct {
	// Target is a server that runs; one that names neither Server nor Data has one
	// started as Up says, and the goals for joins on one machine apply.
	Target  Target
	Up      UpConfig
	Command string
	Seed    uint64

	Joins    int // default 200
	Accounts int // who take turns (default 8)
	Slots    int // K (default 16)

	// Progress is told how it goes; nil: nobody is.
	Progress bench.Progress
}

// own says whether the run starts a server of its own.
func (c *Config) own() bool { return c.Target.Server == "" && c.Target.Data == "" }

// validate fills the zero fields and refuses what cannot be measured.
func (c *Config) validate() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Joins, 200)
	def(&c.Accounts, 8)
	def(&c.Slots, 16)
	if c.Progress == nil {
		c.Progress = bench.Silent
	}
	if c.own() && (c.Target.Invite != "" || len(c.Target.Tokens) > 0) {
		return errors.New("join: an invite or tokens need the server they are for: name it with --server")
	}
	if c.Joins < 1 || c.Joins > 100_000 || c.Accounts < 1 || c.Accounts > 1000 {
		return fmt.Errorf("join: %d joins of %d accounts, want 1 to 100,000 of 1 to 1,000", c.Joins, c.Accounts)
	}
	return nil
}

// tidyTimeout bounds what is removed after a run, also after one that was ended.
const tidyTimeout = 30 * time.Second

// silenceFrame is the longest payload that carries no speech: TOC and at most two
// bytes (DTX, and the frames a server ends a talk spurt with).
const silenceFrame = 3

// heardTimeout is how long a bot that is in may wait for sound.
const heardTimeout = 10 * time.Second

// The stages of a join, in their order. All but the first and the last two are
// parts of "heard".
const (
	stageGateway   = "gateway: dial to READY"
	stagePlaced    = "op 4 to VOICE_SERVER_UPDATE"
	stageDial      = "voice WebSocket: dial to open"
	stageReady     = "identify to ready"
	stageDescribed = "select protocol to description"
	stageICE       = "ICE: answer to path"
	stageDTLS      = "DTLS: path to keys"
	stageHeard     = "op 4 to first audio heard"
	stageSTUN      = "server: a STUN check to its answer"
	stageFlights   = "server: DTLS flights, summed"
	stageServer    = "server's own share, summed"
)

var stages = []string{stageGateway, stagePlaced, stageDial, stageReady, stageDescribed, stageICE, stageDTLS, stageHeard, stageSTUN, stageFlights, stageServer}

// joiner is a measurement under way.
type joiner struct {
	config Config
	server *target.Remote
	room   target.Room
	report *bench.Report
	times  map[string]*hdrhistogram.Histogram
	each   map[string][]float64 // the same one by one, in ms
	failed []error
}

// Run measures joins one after the other, while somebody talks in the channel
// without pause. Goals that are missed are in the report; an error means that there is
// no result, or a partial one (Report.Partial).
func Run(ctx context.Context, config Config) (report *bench.Report, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	j := &joiner{config: config, times: make(map[string]*hdrhistogram.Histogram), each: make(map[string][]float64),
		report: &bench.Report{Kind: "join", Command: config.Command, Seed: config.Seed, Started: time.Now().UTC(), Machine: bench.ThisMachine()}}
	defer func() { j.report.Took = bench.Seconds(time.Since(j.report.Started)) }()
	for _, s := range stages {
		j.times[s] = hdrhistogram.New(1000, 60_000_000_000, 3) // ns, from 1 µs to 60 s
	}
	within, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	if config.own() {
		up, err := target.StartUp(ctx, config.Up)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, up.Stop()) }()
		watching.Go(func() {
			select {
			case <-up.Done():
				cancel(fmt.Errorf("server ended: %w", up.Err()))
			case <-within.Done():
			}
		})
		j.server, err = up.Remote(ctx, target.Shape{})
	} else {
		j.server, err = target.OpenRemote(ctx, config.Target)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
		defer cancel()
		err = errors.Join(err, j.server.Close(ctx))
	}()
	if err = j.perform(within); err == nil {
		j.conclude()
		return j.report, nil
	}
	if j.times[stageHeard].TotalCount() == 0 && len(j.failed) == 0 && ctx.Err() == nil {
		return nil, err
	}
	j.report.Partial = err.Error()
	j.conclude()
	if ctx.Err() != nil {
		return j.report, nil // ended by whoever asked: the report says so
	}
	return j.report, err
}

// perform brings in the talker and has the others join in turn.
func (j *joiner) perform(ctx context.Context) (err error) {
	j.room = j.server.Room()
	accounts, err := j.server.Accounts(ctx, slices.Repeat([]target.Room{j.room}, j.config.Accounts+1)) // and the talker
	if err != nil {
		return err
	}
	stop, err := j.speaker(ctx, accounts[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	j.config.Progress.Say("channel %q at %s: %d joins", j.room.Name, j.server.URL(), j.config.Joins)
	for i := range j.config.Joins {
		err := j.once(ctx, accounts[1+i%j.config.Accounts])
		if ctx.Err() != nil {
			return fmt.Errorf("ended after %d joins: %w", i, context.Cause(ctx))
		}
		if err != nil {
			j.failed = append(j.failed, fmt.Errorf("join %d: %w", i+1, err))
			j.config.Progress.Say("%v", j.failed[len(j.failed)-1])
		}
		h := j.times[stageHeard]
		j.config.Progress.Status(fmt.Sprintf("%d of %d joins: first audio p50 %s, p99 %s", i+1, j.config.Joins, at(h, 50), at(h, 99)))
	}
	return nil
}

func at(h *hdrhistogram.Histogram, q float64) string {
	if h.TotalCount() == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(h.ValueAtPercentile(q))/1e6)
}

// speaker enters the channel and talks until it is stopped.
func (j *joiner) speaker(ctx context.Context, a target.Account) (stop func() error, err error) {
	track, err := opus.Talk(speech.Config{Seed: j.config.Seed, Frames: 500})
	if err != nil {
		return nil, fmt.Errorf("make speech: %w", err)
	}
	v, err := j.server.Join(ctx, j.room, a, voiceclient.Options{})
	if err != nil {
		return nil, fmt.Errorf("talker: %w", err)
	}
	talking, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { talk(talking, v, track) })
	return func() error {
		cancel()
		running.Wait()
		return v.Close()
	}, nil
}

// talk says a track over and over until ctx ends.
func talk(ctx context.Context, v *voiceclient.Call, track *opus.Track) {
	tick := time.NewTicker(speech.FrameLength)
	defer tick.Stop()
	for n := 0; ; n++ {
		f := track.Frames[n%len(track.Frames)]
		// While it is placed anew the talker says nothing; whoever waits for sound
		// notices.
		_ = v.WriteOpus(f.Data, speech.FrameLength, f.Level)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// once measures one join and leaves again.
func (j *joiner) once(ctx context.Context, a target.Account) error {
	eyes, err := tap.New()
	if err != nil {
		return fmt.Errorf("look at sockets: %w", err)
	}
	heard := make(chan struct{})
	var first sync.Once
	v, err := j.server.Join(ctx, j.room, a, voiceclient.Options{
		Slots: j.config.Slots, Net: eyes,
		OnAudio: func(p voiceclient.Packet) {
			if len(p.Opus) > silenceFrame {
				first.Do(func() { close(heard) })
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()
	timer := time.NewTimer(heardTimeout)
	defer timer.Stop()
	select {
	case <-heard:
	case <-timer.C:
		return fmt.Errorf("in, but nothing heard for %v", heardTimeout)
	case <-v.Done():
		return fmt.Errorf("call ended: %w", v.Err())
	case <-ctx.Done():
		return ctx.Err()
	}
	s, wire := v.Stats(), eyes.Times()
	took := map[string]time.Duration{
		stageGateway: s.Gateway, stagePlaced: s.Placed, stageDial: s.Voice.Connect, stageReady: s.Voice.Ready, stageDescribed: s.Voice.Description,
		stageICE: s.Voice.ICE, stageDTLS: s.Voice.DTLS, stageHeard: s.FirstAudio, stageSTUN: wire.STUN, stageFlights: wire.Flights,
		stageServer: s.Placed + s.Voice.Ready + s.Voice.Description + wire.STUN + wire.Flights,
	}
	for _, stage := range stages {
		if took[stage] <= 0 {
			return fmt.Errorf("no time for stage %q", stage)
		}
	}
	for stage, d := range took {
		_ = j.times[stage].RecordValue(d.Nanoseconds())
		j.each[stage] = append(j.each[stage], float64(d)/1e6)
	}
	return nil
}

// stageResult is a stage as numbers, in milliseconds.
type stageResult struct {
	Stage string  `json:"stage"`
	N     int64   `json:"n"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// conclude makes the report.
func (j *joiner) conclude() {
	results := make(map[string]stageResult, len(stages))
	table := bench.Table{Title: fmt.Sprintf("%d joins", j.times[stageHeard].TotalCount()), Head: []string{"stage", "p50", "p90", "p99", "max"}}
	var values []stageResult
	for _, s := range stages {
		h := j.times[s]
		q := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1e6 }
		r := stageResult{Stage: s, N: h.TotalCount(), P50: q(50), P90: q(90), P99: q(99), Max: float64(h.Max()) / 1e6}
		results[s] = r
		values = append(values, r)
		if r.N > 0 {
			j.report.Metrics = append(j.report.Metrics, bench.Metric{Name: s, Unit: "ms", Better: bench.Less, Samples: j.each[s]})
			if s == stageHeard || s == stageServer {
				j.report.Distributions = append(j.report.Distributions, bench.DistributionOf(s, "ms", h, 1e6))
			}
		}
		table.Rows = append(table.Rows, []string{s, at(h, 50), at(h, 90), at(h, 99), at(h, 100)})
	}
	table.Values = values
	j.report.Tables = append(j.report.Tables, table)
	j.report.Notes = append(j.report.Notes,
		"the server's own share is the sum of: op 4 to VOICE_SERVER_UPDATE, identify to ready, select protocol to description, the longest STUN check, all DTLS flights; each from our message to its answer, so it holds the way and our own delay in noticing it")
	for i, err := range j.failed {
		if i == 5 {
			j.report.Notes = append(j.report.Notes, fmt.Sprintf("%d more joins failed", len(j.failed)-i))
			break
		}
		j.report.Notes = append(j.report.Notes, err.Error())
	}
	void := ""
	if j.times[stageHeard].TotalCount() == 0 {
		void = "no join succeeded"
	}
	goal := func(name string, value, bound float64, unit string) {
		j.report.Goals = append(j.report.Goals, bench.Goal{Name: name, Value: value, Bound: bound, Unit: unit, Void: void})
	}
	goal("joins that failed", float64(len(j.failed)), 0, "joins")
	if !j.config.own() {
		return
	}
	goal("op 4 to first audio, p50", results[stageHeard].P50, goalHeard50, "ms")
	goal("op 4 to first audio, p99", results[stageHeard].P99, goalHeard99, "ms")
	goal("server's own share, p99", results[stageServer].P99, goalServer99, "ms")
	goal("select protocol to description, p50", results[stageDescribed].P50, goalDescribed50, "ms")
}
