package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
)

// Caller carries verbs to a generator: *child.Process, or one behind the bus.
type Caller interface {
	Call(ctx context.Context, verb string, in, out any) error
}

// Tick is the grid of a generator process (lightclient.Config.Tick): fine enough that
// no two of 33 talkers share a tick, as a loop that sends each at its own time. Who
// expects what such a generator sends plans on the same grid.
const Tick = 100 * time.Microsecond

// coalesce is how long a generator sleeps between two rounds of reading, as a
// network card does between two interrupts: it keeps the wake-up of a reader out
// of the sender's time.
const coalesce = time.Millisecond

// GeneratorConfig is that of a generator process with its clients at host.
func GeneratorConfig(host netip.Addr) lightclient.Config {
	return lightclient.Config{Host: host, Coalesce: coalesce, Tick: Tick}
}

// chunk is how many clients one call carries: SDP takes up to 16 KiB each, a
// judgement up to 50 KiB, and a line of package child 16 MiB. Where a client takes
// less, it is four times as many.
const chunk = 256

// Added is a new client of a generator.
type Added struct {
	ID    int
	Offer string
	Local netip.AddrPort
}

// Answer is a server's answer to the offer of a client.
type Answer struct {
	ID      int
	SDP     string
	Timeout time.Duration // for the way in; 0: as long as the call
}

// Connected is a client that media can flow to, or why it cannot.
type Connected struct {
	ID     int
	Stages lightclient.Stages
	Slots  []uint32
	Err    string // empty: connected
}

// Talking is a client that begins to talk.
type Talking struct {
	Client int
	Talk   lightclient.Talk
}

// Expectation is what listeners must hear of a talker.
type Expectation struct {
	Clients []int // that are sampled
	Talker  uint32
	Plan    []meter.Span
}

// Heard is the judgement of one client.
type Heard struct {
	Client int
	Result meter.Result
}

// Counted is what one client received, and when the first packet of voice or silence
// came; zero: none did.
type Counted struct {
	Client int
	Counts lightclient.Counts
	First  time.Time
}

type addRequest struct{ Seats []lightclient.Seat }

type connectRequest struct{ Answers []Answer }

type talkRequest struct {
	Start []Talking
	Stop  []int
}

type judgeRequest struct {
	Clients []int // nil: all that are sampled
	Config  meter.Config
}

type expectRequest struct{ Expectations []Expectation }

type clientsRequest struct{ Clients []int }

// generator is the serving side.
type generator struct {
	engine *lightclient.Engine

	mu sync.Mutex
	// Guarded by mu.
	last    int
	clients map[int]*lightclient.Client
}

// OpenGenerator starts an engine and returns the verbs that drive it; shut ends it
// and all its clients.
func OpenGenerator(ctx context.Context, config lightclient.Config) (verbs map[string]child.Verb, shut func() error, err error) {
	engine, err := lightclient.New(config)
	if err != nil {
		return nil, nil, err
	}
	g := &generator{engine: engine, clients: make(map[int]*lightclient.Client)}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	shut = sync.OnceValue(func() error {
		stop()
		return <-ended
	})
	return map[string]child.Verb{
		"setup": child.On(func(_ context.Context, s lightclient.Setup) (struct{}, error) {
			return struct{}{}, engine.Set(s)
		}),
		"add":     child.On(g.add),
		"connect": child.On(g.connect),
		"talk":    child.On(g.talk),
		"judge":   child.On(g.judge),
		"expect":  child.On(g.expect),
		"heard":   child.On(g.heard),
		"heardby": child.On(g.heardBy),
		"counts": child.On(func(context.Context, struct{}) (lightclient.Counts, error) {
			return engine.Total(), nil
		}),
		"countsof": child.On(g.countsOf),
		"pace": child.On(func(context.Context, struct{}) (lightclient.Pace, error) {
			return engine.Pace(), nil
		}),
		"reset": child.On(func(context.Context, struct{}) (struct{}, error) {
			engine.Reset()
			return struct{}{}, nil
		}),
		"close": child.On(g.close),
	}, shut, nil
}

// ServeGenerator is the child process of light clients.
func ServeGenerator(ctx context.Context, in io.Reader, out io.Writer, config lightclient.Config) error {
	verbs, shut, err := OpenGenerator(ctx, config)
	if err != nil {
		return err
	}
	err = child.Serve(ctx, in, out, verbs)
	return errors.Join(err, shut())
}

func (g *generator) add(_ context.Context, r addRequest) ([]Added, error) {
	list := make([]Added, 0, len(r.Seats))
	for _, seat := range r.Seats {
		c, err := g.engine.Add(seat)
		if err != nil { // none of a call that fails is left behind
			ids := make([]int, len(list))
			for i, a := range list {
				ids[i] = a.ID
			}
			return nil, errors.Join(err, g.closeAll(ids))
		}
		g.mu.Lock()
		g.last++
		g.clients[g.last] = c
		list = append(list, Added{ID: g.last, Offer: c.Offer(), Local: c.Local()})
		g.mu.Unlock()
	}
	return list, nil
}

// find looks clients up; nil means all that are sampled, by rising id.
func (g *generator) find(ids []int) ([]int, []*lightclient.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ids == nil {
		for id, c := range g.clients {
			if c.Sampled() {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
	}
	clients := make([]*lightclient.Client, len(ids))
	for i, id := range ids {
		if clients[i] = g.clients[id]; clients[i] == nil {
			return nil, nil, fmt.Errorf("no client %d: it was closed, or is another generator's", id)
		}
	}
	return ids, clients, nil
}

// connect brings all in at once; the engine bounds the handshakes.
func (g *generator) connect(ctx context.Context, r connectRequest) ([]Connected, error) {
	list := make([]Connected, len(r.Answers))
	var running sync.WaitGroup
	for i, a := range r.Answers {
		running.Go(func() { list[i] = g.connectOne(ctx, a) })
	}
	running.Wait()
	return list, nil
}

func (g *generator) connectOne(ctx context.Context, a Answer) Connected {
	done := Connected{ID: a.ID}
	_, clients, err := g.find([]int{a.ID})
	if err == nil {
		if a.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.Timeout)
			defer cancel()
		}
		done.Stages, err = clients[0].Connect(ctx, a.SDP)
		done.Slots = clients[0].Slots()
	}
	if err != nil {
		done.Err = err.Error()
	}
	return done
}

func (g *generator) talk(_ context.Context, r talkRequest) (struct{}, error) {
	if r.Stop != nil {
		_, clients, err := g.find(r.Stop)
		if err != nil {
			return struct{}{}, err
		}
		for _, c := range clients {
			c.Hush()
		}
	}
	var errs []error
	for _, t := range r.Start {
		_, clients, err := g.find([]int{t.Client})
		if err == nil {
			err = clients[0].Talk(t.Talk)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("client %d: %w", t.Client, err))
		}
	}
	return struct{}{}, errors.Join(errs...)
}

func (g *generator) judge(_ context.Context, r judgeRequest) (struct{}, error) {
	_, clients, err := g.find(r.Clients)
	for _, c := range clients {
		c.Judge(r.Config)
	}
	return struct{}{}, err
}

func (g *generator) expect(_ context.Context, r expectRequest) (struct{}, error) {
	for _, e := range r.Expectations {
		if e.Clients == nil {
			continue
		}
		_, clients, err := g.find(e.Clients)
		if err != nil {
			return struct{}{}, err
		}
		for _, c := range clients {
			c.Expect(e.Talker, e.Plan)
		}
	}
	return struct{}{}, nil
}

func (g *generator) heard(_ context.Context, r clientsRequest) (meter.Result, error) {
	var sum meter.Result
	_, clients, err := g.find(r.Clients)
	for _, c := range clients {
		sum.Merge(c.Heard())
	}
	return sum, err
}

func (g *generator) heardBy(_ context.Context, r clientsRequest) ([]Heard, error) {
	ids, clients, err := g.find(r.Clients)
	list := make([]Heard, len(clients))
	for i, c := range clients {
		list[i] = Heard{Client: ids[i], Result: c.Heard()}
	}
	return list, err
}

func (g *generator) countsOf(_ context.Context, r clientsRequest) ([]Counted, error) {
	ids, clients, err := g.find(r.Clients)
	list := make([]Counted, len(clients))
	for i, c := range clients {
		list[i] = Counted{Client: ids[i], Counts: c.Counts(), First: c.First()}
	}
	return list, err
}

func (g *generator) close(_ context.Context, r clientsRequest) (struct{}, error) {
	return struct{}{}, g.closeAll(r.Clients)
}

func (g *generator) closeAll(ids []int) error {
	if len(ids) == 0 {
		return nil
	}
	_, clients, err := g.find(ids)
	if err != nil {
		return err
	}
	g.mu.Lock()
	for _, id := range ids {
		delete(g.clients, id)
	}
	g.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
	return nil
}

// Generator is its user's handle.
type Generator struct {
	Caller
	PID int // of its process; 0: on another machine
}

// Setup tells the generator of the coordinator's clock and of what counts as voice.
// Nobody may talk yet.
func (g Generator) Setup(ctx context.Context, s lightclient.Setup) error {
	return g.Call(ctx, "setup", s, nil)
}

// Add makes clients, in the order of seats.
func (g Generator) Add(ctx context.Context, seats ...lightclient.Seat) ([]Added, error) {
	var list []Added
	for part := range slices.Chunk(seats, chunk) {
		var some []Added
		if err := g.Call(ctx, "add", addRequest{Seats: part}, &some); err != nil {
			return list, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// Connect hands clients their servers' answers and waits for all of them; each
// tells for itself whether media can flow.
func (g Generator) Connect(ctx context.Context, answers ...Answer) ([]Connected, error) {
	var list []Connected
	for part := range slices.Chunk(answers, chunk) {
		var some []Connected
		if err := g.Call(ctx, "connect", connectRequest{Answers: part}, &some); err != nil {
			return list, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// Talk hushes the clients stop and lets those of start talk.
func (g Generator) Talk(ctx context.Context, start []Talking, stop []int) error {
	if len(stop) > 0 {
		if err := g.Call(ctx, "talk", talkRequest{Stop: stop}, nil); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(start, 4*chunk) {
		if err := g.Call(ctx, "talk", talkRequest{Start: part}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Judge starts a new judgement of what clients hear; nil: of all that are sampled.
func (g Generator) Judge(ctx context.Context, clients []int, config meter.Config) error {
	return g.Call(ctx, "judge", judgeRequest{Clients: clients, Config: config}, nil)
}

// Expect tells listeners what talkers send. It follows a Judge.
func (g Generator) Expect(ctx context.Context, list []Expectation) error {
	for part := range slices.Chunk(list, 4*chunk) {
		if err := g.Call(ctx, "expect", expectRequest{Expectations: part}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Heard merges what clients heard since Judge; nil: all that are sampled.
func (g Generator) Heard(ctx context.Context, clients []int) (meter.Result, error) {
	var r meter.Result
	err := g.Call(ctx, "heard", clientsRequest{Clients: clients}, &r)
	return r, err
}

// HeardBy is the same for each of the clients.
func (g Generator) HeardBy(ctx context.Context, clients []int) ([]Heard, error) {
	var list []Heard
	for part := range slices.Chunk(clients, chunk) {
		var some []Heard
		if err := g.Call(ctx, "heardby", clientsRequest{Clients: part}, &some); err != nil {
			return list, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// Counts are those of all clients together, since Reset.
func (g Generator) Counts(ctx context.Context) (lightclient.Counts, error) {
	var c lightclient.Counts
	err := g.Call(ctx, "counts", nil, &c)
	return c, err
}

// CountsOf are those of each of the clients.
func (g Generator) CountsOf(ctx context.Context, clients []int) ([]Counted, error) {
	var list []Counted
	for part := range slices.Chunk(clients, 4*chunk) {
		var some []Counted
		if err := g.Call(ctx, "countsof", clientsRequest{Clients: part}, &some); err != nil {
			return list, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// Pace tells whether the generator kept up since Reset.
func (g Generator) Pace(ctx context.Context) (lightclient.Pace, error) {
	var p lightclient.Pace
	err := g.Call(ctx, "pace", nil, &p)
	return p, err
}

// Reset zeroes counts and pace.
func (g Generator) Reset(ctx context.Context) error { return g.Call(ctx, "reset", nil, nil) }

// Close gives the addresses of clients back.
func (g Generator) Close(ctx context.Context, clients ...int) error {
	return g.Call(ctx, "close", clientsRequest{Clients: clients}, nil)
}
