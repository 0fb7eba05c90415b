package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench/internal/child"
	"voicefleet/bench/internal/lightclient"
)

// GeneratorConfig is how a generator counts and reads.
type GeneratorConfig struct {
	Host      netip.Addr
	VoiceSize int
	Coalesce  time.Duration
}

type addRequest struct {
	Slots   int
	Sampled bool
}

// Added is a new client of a generator.
type Added struct {
	ID    int
	Offer string
	Local netip.AddrPort
}

type connectRequest struct {
	ID      int
	Answer  string
	Timeout time.Duration
}

// Connected is a client that media can flow to.
type Connected struct {
	Stages lightclient.Stages
	Slots  []uint32
}

// Voice is a client of a generator that talks.
type Voice struct {
	Client int // its id
	ID     uint16
	Phase  time.Duration
}

type talkRequest struct {
	Voices []Voice
	Speech lightclient.Speech
}

type idRequest struct{ ID int }

// generator is the child's side.
type generator struct {
	engine *lightclient.Engine

	mu sync.Mutex
	// Guarded by mu.
	last    int
	clients map[int]*lightclient.Client
}

// ServeGenerator is the child process of light clients.
func ServeGenerator(ctx context.Context, in io.Reader, out io.Writer, config GeneratorConfig) error {
	engine, err := lightclient.New(lightclient.Config{Host: config.Host, VoiceSize: config.VoiceSize, Coalesce: config.Coalesce})
	if err != nil {
		return err
	}
	g := &generator{engine: engine, clients: make(map[int]*lightclient.Client)}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	err = child.Serve(ctx, in, out, map[string]child.Verb{
		"add":     child.On(g.add),
		"connect": child.On(g.connect),
		"talk":    child.On(g.talk),
		"counts":  child.On(func(context.Context, struct{}) (lightclient.Counts, error) { return engine.Total(), nil }),
		"reset":   child.On(g.reset),
		"close":   child.On(g.close),
	})
	stop()
	return errors.Join(err, <-ended)
}

func (g *generator) add(_ context.Context, r addRequest) (Added, error) {
	c, err := g.engine.Add(r.Slots, r.Sampled)
	if err != nil {
		return Added{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	g.clients[g.last] = c
	return Added{ID: g.last, Offer: c.Offer(), Local: c.Local()}, nil
}

func (g *generator) client(id int) (*lightclient.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[id]
	if c == nil {
		return nil, fmt.Errorf("no client %d", id)
	}
	return c, nil
}

func (g *generator) connect(ctx context.Context, r connectRequest) (Connected, error) {
	c, err := g.client(r.ID)
	if err != nil {
		return Connected{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	stages, err := c.Connect(ctx, r.Answer)
	return Connected{Stages: stages, Slots: c.Slots()}, err
}

func (g *generator) talk(ctx context.Context, r talkRequest) (lightclient.Spoken, error) {
	talkers := make([]lightclient.Talker, len(r.Voices))
	for i, v := range r.Voices {
		c, err := g.client(v.Client)
		if err != nil {
			return lightclient.Spoken{}, err
		}
		talkers[i] = lightclient.Talker{Client: c, ID: v.ID, Phase: v.Phase}
	}
	return g.engine.Talk(ctx, talkers, r.Speech)
}

func (g *generator) reset(context.Context, struct{}) (*hdrhistogram.Snapshot, error) {
	return g.engine.Reset().Export(), nil
}

func (g *generator) close(_ context.Context, r idRequest) (struct{}, error) {
	c, err := g.client(r.ID)
	if err != nil {
		return struct{}{}, err
	}
	g.mu.Lock()
	delete(g.clients, r.ID)
	g.mu.Unlock()
	c.Close()
	return struct{}{}, nil
}

// Generator is the parent's handle.
type Generator struct{ *child.Process }

// Add opens a client.
func (g Generator) Add(ctx context.Context, slots int, sampled bool) (Added, error) {
	var a Added
	err := g.Call(ctx, "add", addRequest{Slots: slots, Sampled: sampled}, &a)
	return a, err
}

// Connect hands a client the server's answer and waits until media can flow.
func (g Generator) Connect(ctx context.Context, id int, answer string, timeout time.Duration) (Connected, error) {
	var c Connected
	err := g.Call(ctx, "connect", connectRequest{ID: id, Answer: answer, Timeout: timeout}, &c)
	return c, err
}

// Talk lets clients talk and returns when they are done.
func (g Generator) Talk(ctx context.Context, voices []Voice, speech lightclient.Speech) (lightclient.Spoken, error) {
	var s lightclient.Spoken
	err := g.Call(ctx, "talk", talkRequest{Voices: voices, Speech: speech}, &s)
	return s, err
}

// Counts are those of all clients together.
func (g Generator) Counts(ctx context.Context) (lightclient.Counts, error) {
	var c lightclient.Counts
	err := g.Call(ctx, "counts", nil, &c)
	return c, err
}

// Reset zeroes the counts and returns the latencies since the last time.
func (g Generator) Reset(ctx context.Context) (*hdrhistogram.Histogram, error) {
	var s hdrhistogram.Snapshot
	if err := g.Call(ctx, "reset", nil, &s); err != nil {
		return nil, err
	}
	return hdrhistogram.Import(&s), nil
}

// Close gives a client's socket back.
func (g Generator) Close(ctx context.Context, id int) error {
	return g.Call(ctx, "close", idRequest{ID: id}, nil)
}
