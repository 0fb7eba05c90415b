package chatserver

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
)

// A session can be resumed at another instance, and its own may be gone by then. That
// needs two things of which neither is kept anywhere: what the session is, which its
// id says, sealed; and which events the client has, which the number of the last one
// says. For an instance gives out entries one at a time, to all sessions: each has a
// position in that order, and the number of an event is made of it. Which entry stood
// at which position every instance tells the others before a client can see it.

const (
	// numbers lie between two positions: those of events for one session alone.
	numbers = 16
	// lastNumber is where a session ends: many clients keep numbers in 32 bits.
	lastNumber = 1<<31 - numbers
	// markEvery is how often an instance says how far it is, whatever happens.
	markEvery = time.Second
	// mirrorKept bounds what is kept of the order of another instance, beside the
	// time in which a session can be resumed.
	mirrorKept = 1 << 18
	// mirrorPage is how much of it is told at once.
	mirrorPage = 4000
	// adoptedPage bounds the sessions that went on elsewhere in it: some 400 bytes each.
	adoptedPage = 1000
	// endedKept is how long it is known of a session that went on elsewhere that it has
	// ended there: longer than anybody knows what the one knew where it began, unless
	// that has only just ended.
	endedKept = time.Hour
	// adoptedSweep is how often is looked for what need not be known of sessions.
	adoptedSweep = time.Minute
	// historyKept bounds the entries of a guild that are kept for sessions to come.
	historyKept = 4096
	// yieldTry is how long an instance is asked for a session that is resumed here.
	yieldTry = time.Second
	// quietAfter is how long a life has said nothing, while all there was to hear was heard,
	// when it is taken to have said all.
	quietAfter = 3 * markEvery
	// holeTry is how long nobody is asked again for what nobody knew.
	holeTry = 5 * time.Second
)

// delivered says what stood at a position.
type delivered struct {
	P   uint64 `json:"p"`
	Key string `json:"k,omitempty"` // of the log; empty: a mark, see below
	// Seq is the entry that was given out, whole (Part 0) or its first Part events. Of
	// a mark: all entries up to it that were to be given out were, by this position;
	// zero: nothing stood there.
	Seq  uint64 `json:"s,omitempty"`
	Part int    `json:"i,omitempty"`
	T    int64  `json:"t,omitempty"` // of a mark: when, in Unix milliseconds
}

// order is the order in which this instance gives out entries.
type order struct {
	mu sync.Mutex
	// Guarded by mu.
	p     uint64
	batch []delivered
	wake  []sleeper // that have events which nobody may see yet

	noteMu sync.Mutex
	notes  uint64 // guarded by noteMu: those that were published

	told     atomic.Uint64 // the position up to which the others know
	tell     chan struct{} // holds a token when there is something to tell
	seen     atomic.Uint64 // the highest number of an entry that came
	previous [2]uint64     // what seen was, one and two marks ago; owned by runOrder
}

// sleeper is a connection to wake; now: before those whose events are patient.
type sleeper struct {
	c   *conn
	now bool
}

// take is the next position. The caller holds mu.
func (o *order) take() uint64 { o.p++; return o.p }

func (o *order) sawEntry(seq uint64) {
	for {
		was := o.seen.Load()
		if seq <= was || o.seen.CompareAndSwap(was, seq) {
			return
		}
	}
}

// wakeLater wakes a connection when the others know of all there is now.
func (o *order) wakeLater(c *conn) {
	o.mu.Lock()
	o.wake = append(o.wake, sleeper{c, true})
	o.mu.Unlock()
	o.signal()
}

// signal has the others told soon.
func (o *order) signal() {
	select {
	case o.tell <- struct{}{}:
	default:
	}
}

// mirror is the order of one life of an instance, as far as it was told.
type mirror struct {
	list  []delivered // by position
	note  uint64      // the last one that came
	heard time.Time   // when, or when it was told by another
	quiet bool        // nothing more is expected: it has ended in order, or is silent
	holes []hole
	vain  vain
}

// vain is when whom was asked for the holes before a note, and nobody knew.
type vain struct {
	at     time.Time
	note   uint64
	others []string
}

// hole is where the notes before one are missing, from a position to another. What
// they said was said before seen, by the clock here.
type hole struct {
	from, to, note uint64
	seen           time.Time
	quiet          bool // there may be none: the life had said all, as far as was known
}

// adoption says where a session is that was resumed elsewhere than it began.
type adoption struct {
	whence
	// At is when the connection was opened on which the session went on: of two
	// adoptions the one of the newer connection counts, however long the other takes.
	At time.Time `json:"at"`
	// From is the number at which the session was resumed: a client that has no more has
	// seen nothing there, and what it has is told by Before. After is the number up to
	// which it was given what it had missed, zero until that is done.
	From   uint64 `json:"from"`
	After  uint64 `json:"after,omitempty"`
	Before whence `json:"before"`
	// Ended is when the session ended there.
	Ended time.Time `json:"ended,omitzero"`

	heard time.Time // here
}

// after says whether a counts, and not b.
func (a adoption) after(b adoption) bool {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Life, b.Life), cmp.Compare(a.After, b.After), a.Ended.Compare(b.Ended)) > 0
}

// whence is what the numbers of a session count: positions in the order of a life, from
// Base on.
type whence struct {
	Life string `json:"life"`
	Base int64  `json:"base"`
}

// mirrors are those of all instances, this one's own included.
type mirrors struct {
	mu sync.Mutex
	// Guarded by mu.
	of       map[string]*mirror  // by life
	adopted  map[string]adoption // by session
	ids      []string            // of adopted, sorted; some are gone
	fresh    []string            // those that are not in ids yet
	adopting map[string]bool     // sessions that are being resumed here
}

// orderNote is what instances say on bus.DeliveredSubject. Each life numbers its own,
// from 1 on, so that others see when they miss one.
type orderNote struct {
	Life    string              `json:"life"`
	N       uint64              `json:"n"`
	List    []delivered         `json:"list,omitempty"`
	Adopted map[string]adoption `json:"adopted,omitempty"`
	Last    bool                `json:"last,omitempty"` // the life ends
}

// runOrder tells the others what this instance gives out, and lets clients see it
// when they know.
func (e *ensemble) runOrder(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	swept := time.Now()
	for {
		mark := false
		select {
		case <-ctx.Done():
			return
		case <-e.order.tell:
		case <-tick.C:
			mark = true
		}
		now, said := time.Now(), e.said()
		e.tellOrder(ctx, mark)
		if mark {
			if n := e.said(); e.bus != nil && n > said {
				e.probe(n, now)
			}
			e.mirrors.forget(now.Add(-textchat.ResumeWindow - time.Minute))
			if now.Sub(swept) >= adoptedSweep {
				swept = now
				e.sweepAdopted(now)
			}
		}
	}
}

// sweepAdopted forgets of sessions that went on elsewhere what need not be known any more, and
// tells which of those that came here are here no more, as one that could not be given
// what it had missed.
func (e *ensemble) sweepAdopted(now time.Time) {
	for id, a := range e.mirrors.sweep(e.life, now) {
		if e.srv.hub.session(id) == nil {
			a.Ended = now
			e.adopt(id, a)
		}
	}
}

func (e *ensemble) tellOrder(ctx context.Context, mark bool) {
	o := &e.order
	seq := uint64(0)
	if mark {
		// What came two marks ago has been given out, but where a guild lags behind.
		seq = o.previous[1]
		o.previous = [2]uint64{o.seen.Load(), o.previous[0]}
		for _, g := range e.srv.loaded() {
			if done := g.spreadSeq.Load(); g.toldSeq.Load() > done || g.behind.Load() {
				seq = min(seq, done)
			}
		}
		if e.usersBehind.Load() {
			seq = 0
		}
	}
	o.mu.Lock()
	batch, wake, p := o.batch, o.wake, o.p
	o.batch, o.wake = nil, nil
	o.mu.Unlock()
	if n := len(batch); p > o.told.Load() && (n == 0 || batch[n-1].P < p) {
		batch = append(batch, delivered{P: p}) // of sessions alone
	}
	if seq != 0 {
		batch = append(batch, delivered{P: p, Seq: seq, T: time.Now().UnixMilli()})
	}
	switch {
	case len(batch) == 0:
	case e.alone != nil:
		if !e.keepOrder(batch) {
			o.mu.Lock() // nobody sees it before it can be kept
			o.batch, o.wake = append(pressed(batch), o.batch...), append(wake, o.wake...)
			o.mu.Unlock()
			return
		}
	default:
		e.mirrors.add(e.life, batch)
		for part := range slices.Chunk(batch, 500) {
			e.say(orderNote{List: part})
		}
		flush, cancel := context.WithTimeout(ctx, time.Second)
		_ = e.bus.Flush(flush) // when the bus is away nobody can resume elsewhere, and all go on here
		cancel()
	}
	o.told.Store(p)
	for _, s := range wake {
		s.c.wake(s.now)
	}
}

// pressed is what must be told of a batch, in place: the entries, of the marks the last one,
// which says what those before it did, and where all ends.
func pressed(batch []delivered) []delivered {
	mark, end := -1, len(batch)-1
	for i, d := range batch {
		if d.T != 0 {
			mark = i
		}
	}
	kept := batch[:0]
	for i, d := range batch {
		if d.Key != "" || i == mark || i == end {
			kept = append(kept, d)
		}
	}
	return kept
}

// say tells all others something, and returns its number. What cannot be told is a
// hole that they see. Who is alone tells the life after this one; zero: it cannot.
func (e *ensemble) say(t orderNote) uint64 {
	o := &e.order
	o.noteMu.Lock()
	defer o.noteMu.Unlock()
	o.notes++
	t.Life, t.N = e.life, o.notes
	if e.alone != nil {
		if !e.keep(aloneNote{orderNote: t}) {
			return 0
		}
		return t.N
	}
	_ = bus.Publish(e.bus, bus.DeliveredSubject, t) // counted there
	return t.N
}

// echoes are this instance's own notes, as they come back.
type echoes struct {
	mu sync.Mutex
	// Guarded by mu.
	heard   uint64
	waiting []waiting
}

func (h *echoes) hear(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = max(h.heard, n)
	h.waiting = slices.DeleteFunc(h.waiting, func(w waiting) bool {
		if w.seq <= h.heard {
			close(w.done)
		}
		return w.seq <= h.heard
	})
}

// probe is a note that this instance said, and when, and on which connection.
type probe struct {
	n, conn uint64
	at      time.Time
}

// probe takes a note that was said since a time. When the one before has come back on the
// connection on which it went, those that had been silent for long by then had said all:
// it would have come before.
func (e *ensemble) probe(n uint64, at time.Time) {
	conn, was := e.bus.Reconnects(), e.probed
	if was.n != 0 && was.conn == conn {
		if !e.echoes.has(was.n) {
			return // its time will come
		}
		if e.rounds.whole.Load() == conn+1 {
			e.mirrors.hush(was.at.Add(-quietAfter))
		}
	}
	e.probed = probe{n, conn, at}
}

// said is the number of the last note of this instance.
func (e *ensemble) said() uint64 {
	e.order.noteMu.Lock()
	defer e.order.noteMu.Unlock()
	return e.order.notes
}

// bye tells that nothing more comes of this life.
func (e *ensemble) bye() {
	e.say(orderNote{Last: true})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = e.bus.Flush(ctx) // else it is taken to be silent
}

func (h *echoes) has(n uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return n <= h.heard
}

func (h *echoes) await(ctx context.Context, n uint64) bool {
	h.mu.Lock()
	w := waiting{n, make(chan struct{})}
	if n <= h.heard {
		close(w.done)
	} else {
		h.waiting = append(h.waiting, w)
	}
	h.mu.Unlock()
	select {
	case <-w.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// rounds are those in which an instance finds out what others have said. Whoever asks
// while one is under way waits for the next, with all others.
type rounds struct {
	mu sync.Mutex
	// Guarded by mu.
	next    *round
	running bool

	// Owned by runRounds.
	torn  uint64 // how often the bus had come back when mirrors were torn last
	unmet bool   // somebody may have come of whom nothing is known

	whole   atomic.Uint64 // one more than torn of the last whole round
	healing atomic.Bool
}

type round struct {
	done chan struct{}
	// Set before done is closed.
	lost []string
	ok   bool
}

// abreast returns when this instance knows all that the others had said before, with
// the lives of which that cannot be; false: it is not to be had now.
func (e *ensemble) abreast() (lost []string, ok bool) {
	if len(e.neighbours()) == 0 {
		return e.mirrors.holed(), true
	}
	g := &e.rounds
	g.mu.Lock()
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
	}
	r := g.next
	if !g.running {
		g.running = e.srv.task(e.runRounds)
	}
	running := g.running
	g.mu.Unlock()
	if !running {
		return nil, false // the server goes away
	}
	<-r.done
	return r.lost, r.ok
}

func (e *ensemble) runRounds() {
	g := &e.rounds
	for {
		g.mu.Lock()
		r := g.next
		g.next = nil
		g.running = r != nil
		g.mu.Unlock()
		if r == nil {
			return
		}
		r.lost, r.ok = e.round()
		close(r.done)
	}
}

func (e *ensemble) round() (lost []string, ok bool) {
	ctx, cancel := context.WithTimeout(e.srv.life, yieldTry)
	defer cancel()
	if !e.echoes.await(ctx, e.say(orderNote{})) {
		return nil, false
	}
	g := &e.rounds
	if back := e.bus.Reconnects(); back != g.torn { // what was said meanwhile did not come
		e.mirrors.tear(e.life)
		g.torn, g.unmet = back, true
	}
	others := e.neighbours()
	if g.unmet {
		if others, ok = e.meet(ctx, others); !ok {
			return nil, false
		}
		g.unmet = false
	}
	for _, life := range e.mirrors.holed() {
		if e.mirrors.inVain(life, others) {
			lost = append(lost, life)
			continue
		}
		note, known, silent := e.mirrors.torn(life), false, false
		for _, name := range others {
			_, err := e.learnLife(ctx, name, life)
			if known = err == nil; known {
				break
			}
			if !errors.Is(err, bus.ErrNobody) && !errors.Is(err, errHoled) {
				if name == instanceOf(life) {
					return nil, false
				}
				silent = true
			}
		}
		// Of one that had said all before, everybody has told what there was.
		if !known && (silent || !e.mirrors.saidAll(life)) {
			e.mirrors.gaveUp(life, vain{time.Now(), note, others})
			lost = append(lost, life)
		}
	}
	g.whole.Store(g.torn + 1)
	return lost, true
}

// meet learns what the others know, and who came while the bus was away and is not among
// the neighbours yet. What of one that is gone is known the others tell.
func (e *ensemble) meet(ctx context.Context, others []string) (all []string, ok bool) {
	var gone, here []string
	learn := func(names []string) bool {
		ok := true
		for _, name := range names {
			switch err := e.learn(name); {
			case err == nil:
				here = append(here, name)
			case errors.Is(err, bus.ErrNobody):
				gone = append(gone, name)
			default:
				ok = false
			}
		}
		return ok
	}
	if !learn(others) {
		return nil, false
	}
	names, err := e.all.Keys(ctx)
	if err != nil {
		return nil, false
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == e.self || slices.Contains(others, n) })
	if !learn(names) {
		return nil, false
	}
	if len(gone) > 0 {
		for _, name := range here {
			_ = e.learn(name, gone...)
		}
	}
	return append(others, names...), true
}

// heal has a round begun when something is missing that may be known still: who knows it
// may end before a session is resumed here.
func (e *ensemble) heal() {
	if e.bus == nil {
		return
	}
	g := &e.rounds
	missing := g.whole.Load() != e.bus.Reconnects()+1
	if !missing {
		names := e.neighbours()
		missing = slices.ContainsFunc(e.mirrors.holed(), func(life string) bool { return slices.Contains(names, instanceOf(life)) })
	}
	if !missing || !g.healing.CompareAndSwap(false, true) {
		return
	}
	if !e.srv.task(func() { defer g.healing.Store(false); e.abreast() }) {
		g.healing.Store(false)
	}
}

func (m *mirrors) mirror(life string) *mirror {
	if m.of[life] == nil {
		m.of[life] = &mirror{}
	}
	return m.of[life]
}

// add keeps what an instance told, less what is known.
func (m *mirrors) add(life string, list []delivered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.mirror(life)
	var late []delivered
	for _, d := range list {
		switch n := len(r.list); {
		case n == 0 || r.list[n-1].P < d.P:
			r.list = append(r.list, d)
		case r.has(d):
		case r.list[n-1].P == d.P:
			r.list = append(r.list, d)
		default:
			late = append(late, d)
		}
	}
	if len(late) > 0 {
		r.list = append(r.list, late...)
		slices.SortStableFunc(r.list, func(a, b delivered) int { return cmp.Compare(a.P, b.P) })
	}
	if len(r.list) > mirrorKept {
		r.list = slices.Delete(r.list, 0, mirrorKept/8)
	}
}

// has says whether the list has an entry.
func (r *mirror) has(d delivered) bool {
	end := len(r.list)
	if r.list[end-1].P != d.P {
		end = sort.Search(end, func(i int) bool { return r.list[i].P > d.P })
	}
	for _, x := range slices.Backward(r.list[:end]) {
		if x.P != d.P {
			break
		}
		if x == d {
			return true
		}
	}
	return false
}

// follow notes that a note came; false: some before it did not.
func (m *mirrors) follow(t orderNote) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.mirror(t.Life)
	last := r.note
	r.note, r.heard, r.quiet = max(last, t.N), time.Now(), t.Last
	if t.N == last+1 { // none is missing between the last one and this
		r.holes = slices.DeleteFunc(r.holes, func(h hole) bool { return h.note == t.N })
	}
	if t.N <= last+1 {
		return true
	}
	h := hole{to: ^uint64(0), note: t.N, seen: time.Now()}
	if len(r.list) > 0 {
		h.from = r.list[len(r.list)-1].P
	}
	if len(t.List) > 0 {
		h.to = t.List[0].P
	}
	r.holes = append(r.holes, h)
	return false
}

// tear notes that what was said last may be missing of all lives but one.
func (m *mirrors) tear(but string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for life, r := range m.of {
		r.vain = vain{}
		if life == but || len(r.holes) > 0 {
			continue
		}
		h := hole{to: ^uint64(0), note: r.note + 1, seen: time.Now(), quiet: r.quiet}
		if len(r.list) > 0 {
			h.from = r.list[len(r.list)-1].P
		}
		r.holes = append(r.holes, h)
	}
}

// hush notes which lives had said all: nothing of them is missing, and nothing came since a
// time.
func (m *mirrors) hush(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.of {
		r.quiet = r.quiet || len(r.holes) == 0 && r.note > 0 && r.heard.Before(since)
	}
}

// saidAll says whether nothing need be missing of a life, which had said all before the bus
// was away, and takes it to be whole then.
func (m *mirrors) saidAll(life string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of[life]
	if r == nil || slices.ContainsFunc(r.holes, func(h hole) bool { return !h.quiet }) {
		return false
	}
	r.holes = nil
	return true
}

// fill notes that all up to a note is known, which is quiet when nothing more is expected.
func (m *mirrors) fill(life string, note uint64, quiet bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.mirror(life)
	r.quiet = quiet && r.note <= note
	r.note, r.heard = max(r.note, note), time.Now()
	r.holes = slices.DeleteFunc(r.holes, func(h hole) bool { return h.note <= note+1 })
}

// holed lists the lives of which notes are missing.
func (m *mirrors) holed() (lives []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for life, r := range m.of {
		if len(r.holes) > 0 {
			lives = append(lives, life)
		}
	}
	return lives
}

// missing is from where on a life may not be known: from the first hole on, or from the
// last position that was told.
func (m *mirrors) missing(life string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r := m.of[life]; {
	case r == nil:
		return 0
	case len(r.holes) > 0:
		return r.holes[0].from
	case len(r.list) > 0 && r.note > 0:
		return r.list[len(r.list)-1].P
	}
	return 0
}

// newest is the last life of an instance of which something is known.
func (m *mirrors) newest(name string) (life string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.of {
		if instanceOf(l) == name && (life == "" || cmp.Or(cmp.Compare(len(l), len(life)), cmp.Compare(l, life)) > 0) {
			life = l
		}
	}
	return life
}

// torn is the note before which the last hole of a life is.
func (m *mirrors) torn(life string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.of[life]; r != nil && len(r.holes) > 0 {
		return r.holes[len(r.holes)-1].note
	}
	return 0
}

// gaveUp notes that nobody knew what is missing of a life.
func (m *mirrors) gaveUp(life string, v vain) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.of[life]; r != nil {
		r.vain = v
	}
}

// inVain says whether the same were asked a moment ago for what is missing of a life,
// and did not know it.
func (m *mirrors) inVain(life string, others []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of[life]
	return r != nil && len(r.holes) > 0 && r.holes[len(r.holes)-1].note == r.vain.note &&
		time.Since(r.vain.at) < holeTry && slices.Equal(r.vain.others, others)
}

// blind says whether one of the lives, but for one, may have said after a time what is
// not known.
func (m *mirrors) blind(lives []string, but string, after time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(lives, func(life string) bool {
		r := m.of[life]
		return life != but && r != nil && slices.ContainsFunc(r.holes, func(h hole) bool { return h.seen.After(after) })
	})
}

// whole lists the lives of which nothing is missing.
func (m *mirrors) whole() (lives []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for life, r := range m.of {
		if len(r.holes) == 0 && r.note > 0 {
			lives = append(lives, life)
		}
	}
	return lives
}

// adopt notes where sessions are now.
func (m *mirrors) adopt(list map[string]adoption) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, a := range list {
		old, ok := m.adopted[id]
		if !ok {
			m.fresh = append(m.fresh, id)
		}
		if !ok || a.after(old) {
			a.heard = time.Now()
			m.adopted[id] = a
		}
	}
}

func (m *mirrors) adoption(id string) (adoption, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.adopted[id]
	return a, ok
}

// sweep forgets where sessions were that ended long ago, or went on at a life of which
// nothing is known any more, and lists those of one life that were not heard of for
// longer than a session waits for its client.
func (m *mirrors) sweep(life string, now time.Time) map[string]adoption {
	before := now.Add(-textchat.ResumeWindow - time.Minute)
	m.mu.Lock()
	defer m.mu.Unlock()
	quiet, known := make(map[string]adoption), len(m.adopted)
	for id, a := range m.adopted {
		switch ended := !a.Ended.IsZero(); {
		case ended && now.Sub(a.Ended) > endedKept, m.of[a.Life] == nil && a.heard.Before(before):
			delete(m.adopted, id)
		case a.Life == life && !ended && a.heard.Before(before):
			quiet[id] = a
		}
	}
	if len(m.adopted) < known {
		m.tidyLocked()
	}
	return quiet
}

// tidyLocked drops the ids of those that were forgotten.
func (m *mirrors) tidyLocked() {
	gone := func(id string) bool { _, ok := m.adopted[id]; return !ok }
	m.ids, m.fresh = slices.Compact(slices.DeleteFunc(m.ids, gone)), slices.DeleteFunc(m.fresh, gone)
}

// prune forgets the sessions that went on at a life, and that it did not list when it
// was asked at a time: they have ended there, and it was not heard.
func (m *mirrors) prune(life string, listed map[string]bool, asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, a := range m.adopted {
		if a.Life == life && !listed[id] && a.heard.Before(asked) {
			delete(m.adopted, id)
		}
	}
	m.tidyLocked()
}

// adoptedAfter is a page of the sessions that went on elsewhere, in the order of their
// ids: those after one, at a life if it is not empty.
func (m *mirrors) adoptedAfter(session, life string) (list map[string]adoption, more bool) {
	if len(m.fresh) > 0 {
		slices.Sort(m.fresh)
		m.ids, m.fresh = merge(m.ids, m.fresh), nil
	}
	from, _ := slices.BinarySearch(m.ids, session+"\x00")
	list = make(map[string]adoption)
	for _, id := range m.ids[from:] {
		a, ok := m.adopted[id]
		switch {
		case !ok || life != "" && a.Life != life:
		case len(list) == adoptedPage:
			return list, true
		default:
			list[id] = a
		}
	}
	return list, false
}

// merge is all of two sorted lists, sorted.
func merge(a, b []string) []string {
	all := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		from := &a
		if b[0] < a[0] {
			from = &b
		}
		all = append(all, (*from)[0])
		*from = (*from)[1:]
	}
	return append(append(all, a...), b...)
}

// begin says whether this is the only attempt to resume a session here; done ends it.
func (m *mirrors) begin(id string) (done func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.adopting[id] {
		return nil, false
	}
	m.adopting[id] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.adopting, id)
	}, true
}

// forget drops what was told before a time, but for the last mark before it, and
// lives of which nothing was heard since.
func (m *mirrors) forget(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for life, r := range m.of {
		old, ended := 0, true
		for i, d := range r.list {
			if d.T == 0 {
				continue
			}
			if ended = d.T < before.UnixMilli(); !ended {
				break
			}
			old = i
		}
		if r.list = slices.Delete(r.list, 0, old); ended {
			delete(m.of, life)
		}
	}
}

// spot is how far a client is in one key: it has the entry Seq, or its first Part
// events, and all before.
type spot struct {
	Seq   uint64
	Part  int
	exact bool // there is such an entry
}

// spots are how far a client is: in some keys where it says, in all others at all.
type spots struct {
	all uint64
	at  int64 // when that was told, in Unix milliseconds
	of  map[string]spot
}

func (s spots) in(key string) spot {
	if at, ok := s.of[key]; ok && at.Seq > s.all {
		return at
	}
	return spot{Seq: s.all}
}

// spotsBack is how far before the mark that counts an entry may stand that the mark
// does not count: guilds lag behind by no more.
const spotsBack = 30 * time.Second

// spots finds what a client has that was given everything up to a position by a life
// of an instance. ok is false when that is not known.
func (m *mirrors) spots(life string, p uint64) (at spots, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of[life]
	if r == nil || len(r.list) == 0 || r.list[len(r.list)-1].P < p {
		return at, false // it was given what nobody was told of
	}
	end := sort.Search(len(r.list), func(i int) bool { return r.list[i].P > p })
	at.of = make(map[string]spot)
	stop := uint64(0)
	defer func() {
		ok = ok && !slices.ContainsFunc(r.holes, func(h hole) bool { return h.to >= stop && h.from <= p })
	}()
	for _, d := range slices.Backward(r.list[:end]) {
		stop = d.P
		switch {
		case d.T != 0 && at.all == 0:
			at.all, at.at = d.Seq, d.T
		case d.T != 0 && d.T < at.at-spotsBack.Milliseconds():
			return at, true
		case d.Key != "":
			if _, later := at.of[d.Key]; !later {
				at.of[d.Key] = spot{d.Seq, d.Part, true}
			}
		}
	}
	if at.all != 0 {
		return at, true
	}
	for _, d := range r.list[end:] {
		if d.T != 0 {
			// A client that is behind all that is known was given nothing for longer than
			// a session can be resumed, or it would have it.
			at.all, at.at = d.Seq, d.T
			return at, time.Since(time.UnixMilli(d.T)) > textchat.ResumeWindow
		}
	}
	return at, false
}

// lives says whether something was heard of a life of late.
func (m *mirrors) lives(life string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of[life]
	if r == nil {
		return false
	}
	for _, d := range slices.Backward(r.list) {
		if d.T != 0 {
			return time.Since(time.UnixMilli(d.T)) < suspectFor
		}
	}
	return false
}

// hear takes what another instance told.
func (e *ensemble) hear(_ string, t orderNote) {
	if t.Life == e.life {
		e.echoes.hear(t.N)
		return
	}
	if !e.mirrors.follow(t) {
		e.srv.task(func() { _ = e.learn(instanceOf(t.Life)) })
	}
	if len(t.List) > 0 {
		e.mirrors.add(t.Life, t.List)
	}
	e.adopted(t.Adopted)
}

// adopted takes where sessions are now; those that were here are not any more.
func (e *ensemble) adopted(list map[string]adoption) {
	e.mirrors.adopt(list)
	for id := range list {
		s := e.srv.hub.session(id)
		if s == nil {
			continue
		}
		a, ok := e.mirrors.adoption(id)
		if !ok || a.Life == e.life {
			continue
		}
		if claim, ok := s.claimAfter(a.At); ok {
			e.adopt(id, claim)
		} else {
			s.handOver()
		}
	}
}

// claimAfter is what this instance says of a session whose client has connected here
// after a time.
func (s *session) claimAfter(at time.Time) (adoption, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened.After(at) {
		return adoption{}, false
	}
	if s.claim.Life == "" { // it began here: all its numbers are of this instance
		s.claim = adoption{whence: whence{s.srv.ensemble.life, s.base}, From: ^uint64(0), After: 1}
	}
	s.claim.At = s.opened
	return s.claim, true
}

// lastOpened is when the last connection of a session was opened.
func (s *session) lastOpened() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// mirrorRequest asks an instance for what it knows, a page at a time.
type (
	mirrorRequest struct {
		Life    string `json:"life,omitempty"`    // empty: its own
		From    uint64 `json:"from"`              // position
		Session string `json:"session,omitempty"` // list those that went on elsewhere, or at Life, after this one
	}
	mirrorReply struct {
		Life    string              `json:"life"`
		N       uint64              `json:"n"`               // all up to this note is told
		Quiet   bool                `json:"quiet,omitempty"` // and nothing more is expected
		List    []delivered         `json:"list,omitempty"`
		Adopted map[string]adoption `json:"adopted,omitempty"`
		More    bool                `json:"more,omitempty"`
		Lives   []string            `json:"lives,omitempty"` // that it knows, too
	}
)

func (e *ensemble) takeMirror(_ context.Context, req mirrorRequest) (mirrorReply, error) {
	rep := mirrorReply{Life: cmp.Or(req.Life, e.life), Lives: e.mirrors.whole()}
	e.order.noteMu.Lock()
	own := e.order.notes // before what they said is looked at
	e.order.noteMu.Unlock()
	m := &e.mirrors
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.mirror(rep.Life)
	switch {
	case rep.Life == e.life:
		rep.N = own
	case len(r.holes) == 0:
		rep.N, rep.Quiet = r.note, r.quiet
	}
	rep.List, rep.More = r.page(req.From)
	var more bool
	rep.Adopted, more = m.adoptedAfter(req.Session, req.Life)
	rep.More = rep.More || more
	return rep, nil
}

// page is what stands from a position on, whole positions of it.
func (r *mirror) page(from uint64) (list []delivered, more bool) {
	rest := r.list[sort.Search(len(r.list), func(i int) bool { return r.list[i].P >= from }):]
	to := min(mirrorPage, len(rest))
	for to > 0 && to < len(rest) && rest[to].P == rest[to-1].P {
		to++
	}
	return slices.Clone(rest[:to]), to < len(rest)
}

// learn asks another instance for its order so far, as it may die in a moment, and
// this one has only begun to listen, or has missed some; and for the lives before that
// it knows and this one does not. Neighbours are asked for theirs themselves, but for those
// that are gone.
func (e *ensemble) learn(name string, gone ...string) error {
	ctx := e.srv.life // each page has its time
	lives, err := e.learnLife(ctx, name, "")
	known := e.mirrors.whole()
	for _, life := range lives {
		of := instanceOf(life)
		if life != e.life && !slices.Contains(known, life) && of != name && (slices.Contains(gone, of) || !slices.Contains(e.neighbours(), of)) {
			_, _ = e.learnLife(ctx, name, life)
		}
	}
	return err
}

// errHoled is what one says who does not know all of a life.
var errHoled = errors.New("not all of it is known")

// learnLife asks for one, and which others there are.
func (e *ensemble) learnLife(ctx context.Context, name, life string) (others []string, err error) {
	begun := cmp.Or(life, e.mirrors.newest(name))
	req, note := mirrorRequest{Life: life, From: e.mirrors.missing(begun)}, uint64(0)
	quiet, asked, listed := false, time.Now(), make(map[string]bool)
	for first := true; ; {
		rep, err := e.askMirror(ctx, name, req)
		if err == nil && (rep.Life == "" || rep.Life == e.life) {
			err = errHoled
		}
		if err != nil {
			return nil, err
		}
		switch {
		case rep.Life == begun:
		case first && req.From == 0:
			begun = rep.Life
		default: // it has begun anew
			begun, first = rep.Life, true
			req.From, req.Session = e.mirrors.missing(rep.Life), ""
			clear(listed)
			continue
		}
		if first {
			first, note, quiet = false, rep.N, rep.Quiet // what comes later it says again
		}
		e.mirrors.add(rep.Life, rep.List)
		e.adopted(rep.Adopted)
		for id := range rep.Adopted {
			listed[id] = true
		}
		if !rep.More {
			if life == "" {
				e.mirrors.prune(rep.Life, listed, asked)
			}
			if note == 0 {
				return rep.Lives, errHoled
			}
			e.mirrors.fill(rep.Life, note, quiet)
			return rep.Lives, nil
		}
		if n := len(rep.List); n > 0 {
			req.From = rep.List[n-1].P + 1
		}
		for id := range rep.Adopted {
			req.Session = max(req.Session, id)
		}
	}
}

func (e *ensemble) askMirror(ctx context.Context, name string, req mirrorRequest) (mirrorReply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return bus.Request[mirrorRequest, mirrorReply](ctx, e.bus, bus.TextSubject(name, "mirror"), req)
}

// instanceOf is the name of the instance that a life is of.
func instanceOf(life string) string {
	name, _, _ := strings.Cut(life, lifeSep)
	return name
}

// yieldRequest asks an instance to let a session go that is resumed elsewhere.
type (
	yieldRequest struct {
		Session string    `json:"session"`
		Opened  time.Time `json:"opened"` // when the connection was on which it is resumed
	}
	yieldReply struct {
		Known bool   `json:"known"`
		Newer bool   `json:"newer,omitempty"` // not let go: it has a newer connection here
		Life  string `json:"life"`
	}
)

func (e *ensemble) takeYield(_ context.Context, req yieldRequest) (yieldReply, error) {
	rep := yieldReply{Life: e.life}
	if s := e.srv.hub.session(req.Session); s != nil {
		rep.Known = true
		if rep.Newer = s.lastOpened().After(req.Opened); !rep.Newer {
			s.handOver()
		}
	}
	return rep, nil
}

// handOver ends the session here: it goes on elsewhere.
func (s *session) handOver() { s.end(textchat.CloseUnknown, true) }

// sealed is what the id of a session says of it.
type sealed struct {
	User     textchat.ID
	Intents  textchat.Intents
	Large    int
	Shard    [2]uint64
	Compress bool
	Passive  bool
	Version  int
	Base     int64 // position at which its numbers begin
}

// settingSessionKey names the key by which the ids of sessions are sealed.
const settingSessionKey = "session_key"

// sealer opens the key, and makes it on the first start.
func (e *ensemble) sealer(ctx context.Context) (cipher.AEAD, error) {
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for {
		text, err := e.srv.store.Setting(ctx, settingSessionKey)
		switch {
		case err == nil:
			key, err := hex.DecodeString(text)
			if err != nil {
				return nil, fmt.Errorf("setting %s: %w", settingSessionKey, err)
			}
			block, err := aes.NewCipher(key)
			if err != nil {
				return nil, fmt.Errorf("setting %s: %w", settingSessionKey, err)
			}
			return cipher.NewGCM(block)
		case errors.Is(err, textchat.ErrBusy): // it has much to do: others start, too
		case !errors.Is(err, textchat.ErrNoRecord):
			return nil, err
		case e.claimed:
			var key [32]byte
			rand.Read(key[:])
			if err := e.srv.store.SetSetting(ctx, settingSessionKey, hex.EncodeToString(key[:])); err != nil && !errors.Is(err, textchat.ErrBusy) {
				return nil, err
			}
			continue
		}
		select {
		case <-ctx.Done():
			if e.claimed || err != nil && !errors.Is(err, textchat.ErrNoRecord) {
				return nil, err
			}
			e.claimed = true // who was to make it died on the way
			ctx = e.srv.life
		case <-time.After(retryPause):
		}
	}
}

// seal makes the id of a session: the life of the instance where it begins, in the
// clear, and what it is.
func (e *ensemble) seal(s sealed) string {
	var nonce [12]byte
	rand.Read(nonce[:])
	return e.life + sessionSep + base64.RawURLEncoding.EncodeToString(e.aead.Seal(nonce[:], nonce[:], packSealed(s), []byte(e.life)))
}

func (e *ensemble) unseal(id string) (life string, s sealed, ok bool) {
	life, text, _ := strings.Cut(id, sessionSep)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 12 {
		return "", s, false
	}
	plain, err := e.aead.Open(nil, b[:12], b[12:], []byte(life))
	if err != nil {
		return "", s, false
	}
	s, ok = unpackSealed(plain)
	return life, s, ok
}

// loginTime is how long a session may take to be given its guilds.
const loginTime = 10 * time.Second

// resumeElsewhere finds a session that began at another instance, with what its client
// has not seen; nil when it cannot be resumed, again when it cannot be now. lost are
// lives that may have had it.
func (c *conn) resumeElsewhere(in gatewaysession.Resume, user textchat.ID, token textchat.TokenHash, lost []string) (found *session, again bool) {
	e := c.srv.ensemble
	life, what, ok := e.unseal(in.Session)
	if !ok || what.User != user {
		return nil, false
	}
	done, ok := e.mirrors.begin(in.Session)
	if !ok {
		return nil, true
	}
	defer done()
	ctx, cancel := context.WithTimeout(c.srv.life, askTimeout)
	defer cancel()
	origin := whence{life, what.Base}
	from, unseen := origin, false
	if a, ok := e.mirrors.adoption(in.Session); ok {
		life = a.Life
		switch {
		case a.At.After(c.opened):
			return nil, true // its client is elsewhere by now
		case !a.Ended.IsZero():
			return nil, false
		case e.mirrors.blind(lost, life, a.At):
			return nil, false // one that is gone may have had it since
		case in.Seq == a.From:
			from, unseen = a.Before, true
		case a.Life == e.life:
			return nil, false // it has ended
		case a.After == 0 || in.Seq < a.After:
			return nil, false // in the middle of what it had missed
		default:
			from = a.whence
		}
	} else if life == e.life || slices.ContainsFunc(lost, func(l string) bool { return l != life }) {
		return nil, false // it has ended, or one that is gone may have had it last
	}
	switch ended, newer := e.yield(ctx, life, in.Session, c.opened); {
	case newer:
		return nil, true
	case ended && !unseen:
		return nil, false
	}
	p := uint64(from.Base) + in.Seq/numbers
	if e.alone != nil {
		p = e.mirrors.kept(from.Life, p)
	}
	at, ok := e.mirrors.spots(from.Life, p)
	if !ok || e.alone != nil && at.all < e.alone.journal.First() {
		return nil, false
	}
	// One that was cut off in the middle of its log-in may not have all guilds.
	greet := false
	if from == origin {
		first, ok := e.mirrors.spots(from.Life, uint64(from.Base))
		greet = !ok || at.at-first.at < loginTime.Milliseconds()
	}
	s := &session{srv: c.srv, id: in.Session, url: c.url, user: user, token: token, intents: what.Intents, large: what.Large, shard: what.Shard,
		compress: what.Compress, passive: what.Passive, version: what.Version, presence: gatewaysession.PresenceUpdate{Status: gatewaysession.Online}, ready: true,
		replay: gatewaysession.Replay{Count: textchat.ReplayEvents, Bytes: textchat.ReplayBytes}}
	s.replay.Begin(in.Seq)
	e.order.mu.Lock()
	s.base = int64(e.order.p) - int64(in.Seq/numbers)
	e.order.mu.Unlock()
	a := adoption{whence: whence{e.life, s.base}, At: c.opened, From: in.Seq, Before: from}
	if !e.adopt(in.Session, a) {
		return nil, true // what its numbers count must be known
	}
	c.srv.metrics.sessions.Inc()
	if err := s.catchUp(ctx, at, greet); err != nil {
		again := !errors.Is(err, errEnded)
		s.end(textchat.CloseSessionTimeout, again)
		return nil, again
	}
	s.advance()
	s.mu.Lock()
	a.After = s.replay.Last()
	s.claim = a
	s.mu.Unlock()
	if !e.adopt(in.Session, a) {
		s.end(textchat.CloseSessionTimeout, true)
		return nil, true
	}
	if e.bus != nil {
		flush, enough := context.WithTimeout(ctx, time.Second)
		_ = e.bus.Flush(flush) // the others know before the client does; see tellOrder
		enough()
	}
	if now, ok := e.mirrors.adoption(in.Session); ok && now.Life != e.life {
		s.handOver() // it was resumed once more meanwhile
		return nil, true
	}
	return s, false
}

// adopt tells where a session is now.
func (e *ensemble) adopt(id string, a adoption) (told bool) {
	here := map[string]adoption{id: a}
	e.mirrors.adopt(here)
	return e.say(orderNote{Adopted: here}) != 0
}

// yield has another instance let a session go. It says ended when that one lives and
// has no such session, and newer when its client is there by now.
func (e *ensemble) yield(ctx context.Context, life, id string, opened time.Time) (ended, newer bool) {
	name := instanceOf(life)
	if !slices.Contains(e.others(), name) {
		return false, false
	}
	ctx, cancel := context.WithTimeout(ctx, yieldTry)
	defer cancel()
	rep, err := bus.Request[yieldRequest, yieldReply](ctx, e.bus, bus.TextSubject(name, "yield"), yieldRequest{id, opened})
	return err == nil && !rep.Known && rep.Life == life, rep.Newer
}

// errEnded tells that a session has ended.
var errEnded = errors.New("the session has ended")

// catchUp gives a session what its client has not seen, and has it listen.
func (s *session) catchUp(ctx context.Context, at spots, greet bool) error {
	ids, err := s.srv.store.GuildIDs(ctx, s.user)
	if err != nil {
		return err
	}
	without := make(map[textchat.ID]spot) // guilds that it does not listen to, and how far it is there
	for _, id := range ids {
		seq, in, err := s.catchUpGuild(ctx, id, at.in(id.String()), greet)
		if err != nil {
			return err
		}
		if !in {
			without[id] = spot{Seq: seq}
		}
	}
	moves, err := s.catchUpUsers(ctx, at)
	if err != nil {
		return err
	}
	// Who enters a guild from now on is found. Those that it entered before, or left,
	// may not have said so when they were asked.
	for _, id := range moves {
		if _, asked := without[id]; !asked && !slices.Contains(ids, id) {
			without[id] = at.in(id.String())
		}
	}
	for id, from := range without {
		if _, _, err := s.catchUpGuild(ctx, id, from, true); err != nil {
			return err
		}
	}
	return nil
}

// catchUpGuild is catchUp for one guild, and says how far it is there, and whether it
// listens.
func (s *session) catchUpGuild(ctx context.Context, id textchat.ID, from spot, greet bool) (seq uint64, in bool, err error) {
	if !s.shardHas(id) {
		return 0, true, nil
	}
	o, err := s.srv.owner(id)
	if err == nil {
		err = o.ask(ctx, func() error {
			if err := o.resume(s, from, greet); err != nil {
				return err
			}
			seq, in = o.applied, o.subs.of(s) != nil
			return nil
		})
	}
	switch {
	case errors.Is(err, textchat.ErrUnknownGuild):
		return 0, true, nil
	case err != nil:
		return 0, false, err // the owner may write the others still
	}
	return seq, in, nil
}

// catchUpUsers is catchUp for what belongs to users, and makes the session known. moves
// are the guilds that its user entered or left.
func (s *session) catchUpUsers(ctx context.Context, at spots) (moves []textchat.ID, err error) {
	e := s.srv.ensemble
	e.usersMu.Lock()
	defer e.usersMu.Unlock()
	past, err := e.usersSinceLocked(ctx, at.in(bus.UsersKey))
	if err != nil {
		return nil, err
	}
	for _, u := range past {
		switch {
		case u.End != nil && u.End.User == s.user && (u.End.Token == nil || *u.End.Token == s.token):
			return nil, errEnded
		case u.Enter != nil && u.Enter.User == s.user:
			moves = append(moves, u.Enter.Guild)
		case u.Leave != nil && u.Leave.User == s.user:
			moves = append(moves, u.Leave.Guild)
		case u.Event != nil && slices.Contains(u.Event.Users, s.user) && u.Event.Intent&^s.intents == 0 && s.shardHas(0):
			e := gatewayEvent(u.Event.Name, u.Event.Body)
			if files := filedBody(e); files != nil {
				e = files.of(s)
			}
			s.deliver(e)
		}
	}
	if surplus := s.srv.hub.addSession(s); surplus != nil {
		surplus.finish(textchat.CloseSessionTimeout)
	}
	return moves, nil
}

// usersSinceLocked are the entries of bus.UsersKey that sessions here have been given
// since one.
func (e *ensemble) usersSinceLocked(ctx context.Context, from spot) ([]usersEntry, error) {
	if from.exact && e.users < from.Seq {
		if e.catchUpUsersLocked(); e.users < from.Seq {
			return nil, textchat.Unavailable("What belongs to users is not up to date, try again.", time.Second)
		}
	}
	if from.Seq < e.pastFrom {
		list, err := e.log.Since(ctx, bus.UsersKey, from.Seq)
		if err != nil {
			return nil, err
		}
		var before []usersPast
		for _, r := range list {
			var u usersEntry
			if r.Seq > e.pastFrom {
				break
			}
			if json.Unmarshal(r.Body, &u) == nil {
				before = append(before, usersPast{r.Seq, time.Now(), u})
			}
		}
		e.past, e.pastFrom = append(before, e.past...), from.Seq
	}
	var found []usersEntry
	for _, p := range slices.Backward(e.past) {
		if p.seq <= from.Seq {
			break
		}
		found = append(found, p.entry)
	}
	slices.Reverse(found)
	return found, nil
}

// packSealed writes what the id of a session holds.
func packSealed(s sealed) []byte {
	flags := uint64(0)
	if s.Compress {
		flags = 1
	}
	if s.Passive {
		flags |= 2
	}
	var b []byte
	for _, v := range []uint64{uint64(s.User), uint64(s.Intents), uint64(s.Large), s.Shard[0], s.Shard[1], flags, uint64(s.Version)} {
		b = binary.AppendUvarint(b, v)
	}
	return binary.AppendVarint(b, s.Base)
}

func unpackSealed(b []byte) (s sealed, ok bool) {
	var v [7]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return s, false
		}
		b = b[n:]
	}
	base, n := binary.Varint(b)
	return sealed{User: textchat.ID(v[0]), Intents: textchat.Intents(v[1]), Large: int(v[2]), Shard: [2]uint64{v[3], v[4]},
		Compress: v[5]&1 != 0, Passive: v[5]&2 != 0, Version: int(v[6]), Base: base}, n > 0
}
