package chatserver

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/balance"
)

// A hot guild is led by an emptier instance than hashing says: bus.LeadsBucket has the
// list, which all instances watch. Who leads a guild and has too much to do has another
// one load it, and then writes the entry; that one takes the guild over as any heir
// does. What is on its way meanwhile is handled by either, for the log takes each entry
// after the last one only, and each input once.

// meterTime is over how long rates are averaged.
const meterTime = 10 * time.Second

// lead is an entry of the list, with its revision.
type lead struct {
	balance.Lead
	revision uint64
}

// leads is this instance's part in it.
type leads struct {
	// Immutable.
	bucket *bus.Bucket[balance.Lead]
	synced chan struct{} // closed by known, when all entries are in given

	known  sync.Once
	moving atomic.Bool // a change is being written

	// Owned by sweep.
	balancer balance.Balancer
	rates    map[textchat.ID]float64 // entries a second of guilds led here
	counted  time.Time
	cpu      cpuMeter
}

func (l *leads) init() {
	l.synced, l.rates = make(chan struct{}), make(map[textchat.ID]float64)
	l.cpu.used = processTime
}

func (l *leads) open(ctx context.Context, c *bus.Conn) (err error) {
	l.bucket, err = bus.OpenBucket[balance.Lead](ctx, c, bus.LeadsBucket)
	return err
}

// load is what this instance tells of itself.
func (e *ensemble) load() balance.Load {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loads[e.self]
}

// seeLead takes a change of the list.
func (e *ensemble) seeLead(c bus.Change[balance.Lead]) {
	if c.Synced {
		e.leads.known.Do(func() { close(e.leads.synced) })
		return
	}
	id, err := snowflake.Parse(c.Key)
	if err != nil {
		e.srv.cfg.Log.Error("malformed entry", "bucket", bus.LeadsBucket, "key", c.Key)
		return
	}
	e.mu.Lock()
	before := e.leaderLocked(e.members, id)
	if c.Gone {
		delete(e.given, id)
	} else {
		c.Value.Since = time.Now()
		e.given[id] = lead{c.Value, c.Revision}
	}
	now := e.leaderLocked(e.members, id)
	e.mu.Unlock()
	if before == now {
		return
	}
	e.srv.mu.RLock()
	o := e.srv.owners[id]
	e.srv.mu.RUnlock()
	if o == nil && now == e.self {
		if o, err = e.srv.owner(id); err != nil {
			return
		}
	}
	if o != nil && (now == e.self || !o.asleep.Load()) {
		o.soon(o.lead)
	}
}

// balance counts what this instance does, and gives away what is too much.
func (e *ensemble) balance(now time.Time) {
	l := &e.leads
	passed := now.Sub(l.counted).Seconds()
	first := l.counted.IsZero()
	if l.counted = now; first || passed <= 0 {
		return
	}
	keep, led, sum := math.Exp(-passed/meterTime.Seconds()), 0, 0.0
	rates := make(map[textchat.ID]float64, len(l.rates))
	for _, o := range e.srv.loaded() {
		n := float64(o.work.Swap(0))
		e.srv.metrics.entries.Add(n)
		if !o.leads.Load() {
			continue
		}
		led++
		if r := l.rates[o.id]*keep + n/passed*(1-keep); r >= 0.01 {
			rates[o.id] = r
			sum += r
		}
	}
	l.rates = rates
	e.srv.metrics.led.Set(float64(led))
	load := balance.Load{Led: sum, CPU: l.cpu.share(now)}
	view := balance.View{Now: now, Self: e.self, Loads: make(map[string]balance.Load), Led: rates, Leads: make(map[textchat.ID]balance.Lead)}
	e.mu.Lock()
	e.loads[e.self] = load
	members := e.members
	for name, until := range e.alive {
		if until.IsZero() { // one that does not answer is given nothing
			view.Loads[name] = e.loads[name]
		}
	}
	suspected := len(view.Loads) < len(e.alive)
	for id, in := range e.given {
		view.Leads[id] = in.Lead
	}
	e.mu.Unlock()
	if suspected {
		return // it may be back in a moment, or gone
	}
	view.Loads[e.self] = load
	view.Home = func(id textchat.ID) string { return leaderOf(members, id) }
	moves := l.balancer.Review(view)
	if len(moves) == 0 || !l.moving.CompareAndSwap(false, true) {
		return
	}
	if !e.srv.task(func() {
		defer l.moving.Store(false)
		for _, m := range moves {
			e.move(m, load)
		}
	}) {
		l.moving.Store(false)
	}
}

// move makes a change of the list, if nobody else did meanwhile.
func (e *ensemble) move(m balance.Move, load balance.Load) {
	ctx, cancel := context.WithTimeout(e.srv.life, askTimeout)
	defer cancel()
	e.mu.Lock()
	was := e.given[m.Guild]
	e.mu.Unlock()
	if was.Epoch != m.Epoch {
		return
	}
	var err error
	key := m.Guild.String()
	switch {
	case m.To == "":
		err = e.leads.bucket.Delete(ctx, key, was.revision)
	default:
		// It loads the guild before anybody waits for it there.
		if _, err = bus.Request[warmRequest, bus.Done](ctx, e.bus, bus.TextSubject(m.To, "warm"), warmRequest{m.Guild}); err != nil {
			break
		}
		next := balance.Lead{Instance: m.To, Epoch: m.Epoch + 1, Work: m.Work}
		if was.revision == 0 {
			_, err = e.leads.bucket.Create(ctx, key, next)
		} else {
			_, err = e.leads.bucket.Update(ctx, key, next, was.revision)
		}
	}
	if err != nil {
		if !errors.Is(err, bus.ErrConflict) {
			e.srv.cfg.Log.Warn("have a guild led elsewhere", "guild", m.Guild, "to", m.To, "err", err)
		}
		return
	}
	e.srv.metrics.leadMoves.WithLabelValues(m.Why).Inc()
	e.srv.cfg.Log.Info("guild is led elsewhere", "guild", m.Guild, "to", m.To, "why", m.Why, "epoch", m.Epoch+1,
		"entries_per_second", math.Round(m.Work), "led_per_second", math.Round(load.Led), "cpu", math.Round(load.CPU*100)/100)
}

// warmRequest has an instance load a guild.
type warmRequest struct {
	Guild textchat.ID `json:"guild"`
}

func (e *ensemble) takeWarm(ctx context.Context, req warmRequest) (bus.Done, error) {
	o, err := e.srv.owner(req.Guild)
	if err != nil {
		return bus.Done{}, err
	}
	return bus.Done{}, o.ask(ctx, func() error { return nil })
}

// ledBy says who leads a guild, and whether it was given to it.
func (e *ensemble) ledBy(id textchat.ID) (name string, given bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name = e.leaderLocked(e.members, id)
	return name, e.given[id].Instance == name
}

// cpuMeter measures which share of the processors it may use this process uses.
type cpuMeter struct {
	used   func() time.Duration // by the process, so far
	at     time.Time
	before time.Duration
	mean   float64
}

// share is the mean over meterTime.
func (m *cpuMeter) share(now time.Time) float64 {
	used := m.used()
	if passed := now.Sub(m.at); !m.at.IsZero() && passed > 0 {
		keep := math.Exp(-passed.Seconds() / meterTime.Seconds())
		m.mean = m.mean*keep + float64(used-m.before)/float64(passed)/float64(runtime.GOMAXPROCS(0))*(1-keep)
	}
	m.at, m.before = now, used
	return m.mean
}

// processTime is the processor time of this process; zero where it is not known.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
