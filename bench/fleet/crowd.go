package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/target"
	"voicefleet/signaling/voiceclient"
)

const (
	// slots are the receive streams of a client: two talk at a time.
	slots = 4
	// voiceBytes is the length of a talker's packets, Opus and mark.
	voiceBytes = 90
	// planned is how many slots a talk is laid out for; at its end it is laid out anew.
	planned = 4 * 3600 * 50
	// haunt is how long a path that was left still counts what comes.
	haunt = 30 * time.Second
	// againAfter is the wait of a member whose call has ended before it joins anew,
	// as a person would.
	againAfter = 500 * time.Millisecond
	// stagger is what lies between the first joins of two members.
	stagger = 20 * time.Millisecond
	// guests is how many there are.
	guests = 6
	// joinTime bounds one join.
	joinTime = 30 * time.Second
)

// crowd is everybody in the calls.
type crowd struct {
	// Immutable once opened.
	clock   clock
	turns   turns
	remote  *target.Remote
	engine  *lightclient.Engine
	speech  bool         // members have voices
	log     *slog.Logger // what clients say
	members []*member
	// guests come and go when a trial asks for them, in a call of their own.
	guests []*member
	// far are the accounts of those two that listen from afar, by call.
	far [][farKinds]target.Account

	stop   context.CancelFunc
	living sync.WaitGroup // members, graves, the engine
	failed chan error     // of the engine
}

// member is one of a call.
type member struct {
	crowd   *crowd
	ear     *ear
	call    int // which
	seat    int // in it
	room    target.Room
	account target.Account

	opened atomic.Int64 // paths that were opened
	ended  atomic.Int64 // calls that ended of themselves

	mu sync.Mutex
	// Guarded by mu.
	joined  *voiceclient.Call // nil while it is not in
	why     error             // of the last end or failed join
	resumes int               // of calls that have ended
	graves  map[*path]struct{}
}

// openCrowd makes rooms and accounts, and starts the engine of the light clients.
func openCrowd(ctx context.Context, remote *target.Remote, host netip.Addr, config Config) (*crowd, error) {
	calls, members := config.Calls, config.Members
	c := &crowd{turns: turns{members}, remote: remote, speech: config.speech, failed: make(chan error, 1),
		clock: clock{time.Now().Truncate(time.Second)}}
	c.log = slog.New(slog.DiscardHandler)
	if config.Log != nil {
		c.log = slog.New(slog.NewTextHandler(config.Log, nil))
	}
	rooms, err := remote.Rooms(ctx, calls+1)
	if err != nil {
		return nil, err
	}
	var seats []target.Room
	for _, r := range rooms[:calls] {
		for range members {
			seats = append(seats, r)
		}
	}
	for range guests {
		seats = append(seats, rooms[calls])
	}
	accounts, err := remote.Accounts(ctx, append(seats, farSeats(rooms[:calls])...))
	if err != nil {
		return nil, err
	}
	for i := range calls {
		c.far = append(c.far, [farKinds]target.Account(accounts[len(seats)+i*farKinds:]))
	}
	for i := range seats {
		m := &member{crowd: c, call: min(i/members, calls), room: seats[i], account: accounts[i], graves: make(map[*path]struct{})}
		m.seat = i - m.call*members
		m.ear = &ear{clock: c.clock, turns: c.turns, seat: m.seat, first: uint32(m.call*members) + 1, member: i}
		if m.call < calls {
			c.members = append(c.members, m)
		} else {
			c.guests = append(c.guests, m)
		}
	}
	if c.engine, err = lightclient.New(lightclient.Config{Host: host}); err != nil {
		return nil, err
	}
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.living.Go(func() { c.failed <- c.engine.Run(live) })
	for i, m := range c.members {
		c.living.Go(func() {
			select { // not all in the same moment
			case <-live.Done():
			case <-time.After(time.Duration(i) * stagger):
			}
			m.live(live)
		})
	}
	return c, nil
}

// close takes everybody out.
func (c *crowd) close() error {
	c.stop()
	c.living.Wait()
	return <-c.failed
}

// live keeps a member in its call until ctx ends. What it does after its call has
// ended is what a person would do; what happens before is the client's own.
func (m *member) live(ctx context.Context) {
	defer m.bury()
	for ctx.Err() == nil {
		call, err := m.join(ctx)
		if err == nil {
			select {
			case <-ctx.Done():
				_ = call.Close()
				return
			case <-call.Done():
				err = errors.Join(errors.New("call ended"), call.Err())
				m.ended.Add(1)
			}
			m.mu.Lock()
			m.resumes += call.Stats().Voice.Resumes
			m.mu.Unlock()
		}
		m.mu.Lock()
		m.joined, m.why = nil, err
		m.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

func (m *member) join(ctx context.Context) (*voiceclient.Call, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	call, err := m.crowd.remote.Join(ctx, m.room, m.account, voiceclient.Options{
		Transport: func() voiceclient.Transport { return &path{member: m} },
		Log:       m.crowd.log.With("member", m.ear.member),
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.joined = call
	return call, nil
}

// state is how a member stands.
func (m *member) state() (node string, resumes int, in bool, why error) {
	m.mu.Lock()
	call := m.joined
	resumes, why = m.resumes, m.why
	m.mu.Unlock()
	if call == nil {
		return "", resumes, false, why
	}
	s := call.Stats().Voice
	return s.Node, resumes + s.Resumes, call.Voice() != nil, why
}

// talk begins what the member says on a path, from the next slot on.
func (m *member) talk(c *lightclient.Client) error {
	from := m.crowd.clock.slot(time.Now()) + 1
	t := lightclient.Talk{
		ID: m.ear.first + uint32(m.seat), Start: m.crowd.clock.due(from), Spurts: m.crowd.turns.spurts(m.seat, from, planned),
		SmallSize: voiceBytes, Size: voiceBytes, Voice: lightclient.Filler,
	}
	if m.crowd.speech {
		t.SmallSize, t.Size, t.Voice = 0, 0, m.seat
	}
	return c.Talk(t)
}

// path is the media of one voice session.
type path struct {
	member *member

	// Set by Offer.
	client *lightclient.Client

	open      atomic.Bool // what comes is heard
	ice, dtls time.Duration
}

var (
	_ voiceclient.Transport = (*path)(nil)
	_ voiceclient.Staged    = (*path)(nil)
	_ voiceclient.Watched   = (*path)(nil)
)

// Offer adds a light client.
func (p *path) Offer(context.Context) (string, error) {
	c, err := p.member.crowd.engine.Add(lightclient.Seat{Slots: slots, Sampled: true})
	if err != nil {
		return "", err
	}
	p.client = c
	p.open.Store(true)
	c.Tell(func(m mark.Mark, arrived time.Time) {
		if p.open.Load() {
			p.member.ear.hear(m, arrived)
		}
	})
	return c.Offer(), nil
}

// Accept connects it, and has the member talk there.
func (p *path) Accept(ctx context.Context, answer string) error {
	s, err := p.client.Connect(ctx, answer)
	if err != nil {
		return err
	}
	p.ice, p.dtls = s.Check, s.Handshake
	if err := p.member.talk(p.client); err != nil {
		return fmt.Errorf("talk: %w", err)
	}
	p.client.Watch()
	p.member.opened.Add(1)
	return nil
}

// Stages are those of Accept.
func (p *path) Stages() (ice, dtls time.Duration) { return p.ice, p.dtls }

// Heard is what came on the path: the client looks at it to find out by itself.
func (p *path) Heard() (received uint64, last time.Time) { return p.client.Received() }

// Lost is never closed: the client hears of a path that is gone by its own means.
func (p *path) Lost() <-chan struct{} { return nil }

// Close leaves the path. It goes on to count what comes, which should be nothing.
func (p *path) Close() {
	if p.client == nil || !p.open.CompareAndSwap(true, false) {
		return
	}
	p.client.Retire()
	m := p.member
	m.mu.Lock()
	m.graves[p] = struct{}{}
	m.mu.Unlock()
	time.AfterFunc(haunt, p.bury)
}

// bury ends a path that was left for good.
func (p *path) bury() {
	m := p.member
	m.mu.Lock()
	_, there := m.graves[p]
	delete(m.graves, p)
	m.mu.Unlock()
	if there {
		p.client.Close()
	}
}

// bury ends all paths that were left.
func (m *member) bury() {
	m.mu.Lock()
	var all []*path
	for p := range m.graves {
		all = append(all, p)
	}
	m.mu.Unlock()
	for _, p := range all {
		p.bury()
	}
}

// haunted is what came so far on paths that were left, by path.
func (c *crowd) haunted() map[*path]uint64 {
	all := make(map[*path]uint64)
	for _, m := range c.members {
		m.mu.Lock()
		for p := range m.graves {
			n := p.client.Counts()
			all[p] = n.Voice + n.Other + n.Unknown
		}
		m.mu.Unlock()
	}
	return all
}

// standing is how the whole crowd stands.
type standing struct {
	in      int // members with media
	opened  int64
	ended   int64
	resumes int
	nodes   map[string]int // members of each
	split   int            // calls whose members are on several nodes
	why     error          // of somebody who is not in
}

func (c *crowd) stand() standing {
	s := standing{nodes: make(map[string]int)}
	where := make(map[int]string)
	split := make(map[int]bool)
	for _, m := range c.members {
		node, resumes, in, why := m.state()
		s.opened += m.opened.Load()
		s.ended += m.ended.Load()
		s.resumes += resumes
		if !in {
			s.why = why
			continue
		}
		s.in++
		s.nodes[node]++
		if before, ok := where[m.call]; ok && before != node {
			split[m.call] = true
		}
		where[m.call] = node
	}
	s.split = len(split)
	return s
}

// connected waits until everybody's gateway has answered since a time at which none could,
// and gives how long after another, from when it could, each did, in seconds and in order:
// zero for those who were quicker than the word that it can.
func (c *crowd) connected(ctx context.Context, since, from time.Time, within time.Duration) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	back := make(map[*member]float64)
	for {
		var missing *member
		for _, m := range c.members {
			if _, known := back[m]; known {
				continue
			}
			m.mu.Lock()
			call := m.joined
			m.mu.Unlock()
			if call == nil || !call.Stats().Online.After(since) {
				missing = m
				continue
			}
			back[m] = max(call.Stats().Online.Sub(from).Seconds(), 0)
		}
		if len(back) == len(c.members) {
			return slices.Sorted(maps.Values(back)), nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			node, _, in, why := missing.state()
			return nil, fmt.Errorf("%d of %d are back after %v; of others, member %d: in its call %v, on node %q, its last join: %v", len(back), len(c.members), within, missing.ear.member, in, node, why)
		}
	}
}

// settled waits until everybody is in and has heard somebody of late.
func (c *crowd) settled(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		s := c.stand()
		deaf := 0
		for _, m := range c.members {
			if m.ear.silentFor() > 5*slotTime {
				deaf++
			}
		}
		if s.in == len(c.members) && deaf == 0 && s.split == 0 {
			return nil
		}
		select {
		case <-look.C:
		case err := <-c.failed:
			c.failed <- err
			return fmt.Errorf("light clients ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d are in, %d hear nothing, %d calls are split after %v: %w",
				s.in, len(c.members), deaf, s.split, within, errors.Join(ctx.Err(), s.why))
		}
	}
}
