package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/journal"
)

// A server that is alone is an ensemble of one: what others would remember of it a
// journal does, which the life after this one reads. So its sessions go on after it was
// killed as they do elsewhere where there are several, by the same rules: an input is an
// entry of the journal before it is acknowledged, and what was given out to sessions at
// which position is noted there before a client can see it. The bus has no part in it.
//
// What the store does not have of a guild, who is in voice, is in the entries, too; each
// file of the journal begins with what it is by then. A guild goes on with that, and has
// the nodes asked whether they have these calls still. A change of which the store was
// told, and then nobody, is not known to any session: a note before it says that there may
// be one, and the guild's sessions are given it anew.

const (
	// aloneName is the instance in the ids of sessions.
	aloneName = "one"
	// untold bounds the positions that sessions took for themselves before they were
	// noted: the order is told all the while.
	untold = 1024
)

// alone is what an ensemble of one has.
type alone struct {
	// Immutable.
	journal *journal.Journal

	aloneMu sync.Mutex
	// Guarded by aloneMu.
	seats  map[string]*seats // by key of the guild; those that are not empty
	legacy map[string]*seats // of the life before this one, of guilds that were not loaded yet
	doubts map[string]bool   // guilds of which that one may have saved what it did not tell
}

// seats are who is in voice of a guild, and who is there for as long as its sessions, as a
// [guild.Delta] has them.
type seats struct {
	Voice   map[textchat.ID]json.RawMessage `json:",omitempty"`
	Pending map[textchat.ID]json.RawMessage `json:",omitempty"`
	Queues  map[textchat.ID]json.RawMessage `json:",omitempty"`
	Visits  map[textchat.ID]json.RawMessage `json:",omitempty"`
	Attempt uint64                          `json:",omitempty"`
}

func (s *seats) empty() bool {
	return s == nil || len(s.Voice)+len(s.Pending)+len(s.Queues)+len(s.Visits) == 0
}

// and is what there is after a change; both stay as they are.
func (s *seats) and(change *seats) *seats {
	next := &seats{}
	if s != nil {
		*next = *s
	}
	for _, m := range []struct {
		to   *map[textchat.ID]json.RawMessage
		from map[textchat.ID]json.RawMessage
	}{{&next.Voice, change.Voice}, {&next.Pending, change.Pending}, {&next.Queues, change.Queues}, {&next.Visits, change.Visits}} {
		if len(m.from) == 0 {
			continue
		}
		all := maps.Clone(*m.to)
		if all == nil {
			all = make(map[textchat.ID]json.RawMessage)
		}
		for id, v := range m.from {
			if string(v) == "null" {
				delete(all, id)
			} else {
				all[id] = v
			}
		}
		*m.to = all
	}
	next.Attempt = max(next.Attempt, change.Attempt)
	return next
}

// aloneNote is a note of the journal.
type aloneNote struct {
	orderNote
	Saving string            `json:"saving,omitempty"` // a guild of which the store is told a change
	Anew   bool              `json:"anew,omitempty"`   // of no other guild anybody is in voice
	Seats  map[string]*seats `json:"seats,omitempty"`  // by guild, all of it
}

// newAlone goes on where the life before this one ended.
func newAlone(ctx context.Context, s *Server) (*ensemble, error) {
	e := ensembleOf(s, aloneName, time.Now())
	e.alone = &alone{seats: make(map[string]*seats), doubts: make(map[string]bool)}
	var err error
	if e.journal, err = journal.Open(journal.Config{Dir: s.cfg.Told, Past: e.recall, Head: e.head, Now: s.cfg.toldNow}); err != nil {
		return nil, err
	}
	e.log, e.claimed = e.journal, true
	for at := time.Now(); e.mirrors.of[e.life] != nil; at = at.Add(time.Millisecond) { // the clock was put back
		e.life = lifeOf(aloneName, at)
	}
	e.lives[e.self] = e.life
	e.mirrors.forget(time.Now().Add(-textchat.ResumeWindow - time.Minute))
	e.legacy = maps.Clone(e.seats)
	e.known.Do(func() { close(e.synced) })
	e.leads.known.Do(func() { close(e.leads.synced) })
	if e.aead, err = e.sealer(ctx); err == nil {
		err = e.begin(ctx)
	}
	if err == nil {
		err = e.beginUsers(ctx)
	}
	if err == nil {
		err = e.recallUsers(ctx)
	}
	if err != nil {
		e.journal.Close()
		return nil, err
	}
	return e, nil
}

// recall takes what the lives before this one wrote.
func (e *ensemble) recall(r journal.Record) {
	if r.Key != "" {
		delete(e.doubts, r.Key)
		if !slices.ContainsFunc([]string{`"Voice":`, `"Pending":`, `"Queues":`, `"Visits":`}, func(part string) bool { return bytes.Contains(r.Body, []byte(part)) }) {
			return // most entries tell of messages
		}
		var entry struct {
			Delta *seats `json:"delta"`
		}
		if json.Unmarshal(r.Body, &entry) == nil && entry.Delta != nil {
			e.seat(r.Key, e.seats[r.Key].and(entry.Delta))
		}
		return
	}
	var t aloneNote
	if err := json.Unmarshal(r.Body, &t); err != nil {
		e.srv.cfg.Log.Error("malformed note of the journal", "err", err)
		return
	}
	if t.Life != "" {
		e.mirrors.add(t.Life, t.List)
		e.mirrors.fill(t.Life, t.N, false)
		e.mirrors.adopt(t.Adopted)
	}
	if t.Saving != "" {
		e.doubts[t.Saving] = true
	}
	if t.Anew {
		clear(e.seats)
	}
	for key, s := range t.Seats {
		e.seat(key, s)
	}
}

// recallUsers remembers what was told of users, so that it is not told again.
func (e *ensemble) recallUsers(ctx context.Context) error {
	list, err := e.log.Since(ctx, bus.UsersKey, e.users-min(e.users, recentSpan))
	if err != nil {
		return err
	}
	for _, r := range list {
		var u usersEntry
		if json.Unmarshal(r.Body, &u) == nil {
			e.usersIDs.put(u.ID, struct{}{})
		}
	}
	return nil
}

// seat notes who is in voice of a guild. The caller holds aloneMu, or is alone itself.
func (a *alone) seat(key string, s *seats) {
	if s.empty() {
		delete(a.seats, key)
		return
	}
	a.seats[key] = s
}

// head is what each file of the journal begins with.
func (e *ensemble) head() (notes [][]byte) {
	e.aloneMu.Lock()
	notes = append(notes, encode(aloneNote{Anew: true}))
	for key, s := range e.seats {
		notes = append(notes, encode(aloneNote{Seats: map[string]*seats{key: s}}))
	}
	for key := range e.doubts {
		notes = append(notes, encode(aloneNote{Saving: key}))
	}
	e.aloneMu.Unlock()
	m := &e.mirrors
	m.mu.Lock()
	defer m.mu.Unlock()
	for page := range slices.Chunk(slices.Collect(maps.Keys(m.adopted)), adoptedPage) {
		list := make(map[string]adoption, len(page))
		for _, id := range page {
			list[id] = m.adopted[id]
		}
		notes = append(notes, encode(aloneNote{orderNote: orderNote{Life: e.life, Adopted: list}}))
	}
	return notes
}

// keep writes a note; false: it cannot be.
func (e *ensemble) keep(n aloneNote) bool {
	err := e.journal.Note(encode(n))
	if err != nil {
		e.srv.cfg.Log.Warn("note what is told", "err", err)
	}
	return err == nil
}

// keepOrder notes what stood at positions. Of its own order this life knows what it must:
// that it lives. A mark tells of the notes before it, too: where nothing happens there are
// no entries, and the journal drops what is older than any mark may be.
func (e *ensemble) keepOrder(list []delivered) bool {
	for part := range slices.Chunk(list, 500) {
		if e.say(orderNote{List: part}) == 0 {
			return false
		}
	}
	if at, err := e.journal.Position(e.srv.life); err == nil {
		e.order.sawEntry(at)
	}
	if last := list[len(list)-1]; last.T != 0 {
		e.mirrors.add(e.life, []delivered{last})
	}
	return true
}

// runAlone is run for who is alone.
func (e *ensemble) runAlone(ctx context.Context, ready func()) error {
	e.tellOrder(ctx, true)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { e.sweep(ctx) })
	parts.Go(func() { e.runOrder(ctx) })
	ready()
	e.aloneMu.Lock()
	left := slices.Collect(maps.Keys(e.legacy))
	e.aloneMu.Unlock()
	for _, key := range left { // their calls may go on
		if id, err := snowflake.Parse(key); err == nil {
			if o, err := e.srv.owner(id); err == nil {
				o.soon(o.lead)
			}
		}
	}
	e.srv.task(func() { e.bury(e.self) }) // what is left of the life before this one
	<-ctx.Done()
	return nil
}

// tellUsersAlone is tellUsers for who is alone: it is done when this returns.
func (e *ensemble) tellUsersAlone(u usersEntry) error {
	e.usersMu.Lock()
	defer e.usersMu.Unlock()
	if u.ID != "" && e.knownLocked(u.ID) {
		return nil
	}
	body := encode(u)
	seq, err := e.journal.Append(e.srv.life, bus.UsersKey, bus.Any, body)
	if err != nil {
		e.srv.cfg.Log.Warn("keep what is told", "err", err)
		return textchat.Unavailable("This cannot be shown to others now, try again.", time.Second)
	}
	e.usersLocked(bus.Record{Seq: seq, Prev: e.users, Body: body})
	return nil
}

// inherit has the core begin where the life before this one ended; when it does, inherited
// is to be told.
func (o *owner) inherit(ctx context.Context) (live *guild.Delta, err error) {
	e := o.srv.ensemble
	o.applied, o.unsure, o.led = 0, true, false
	if err := o.remember(ctx); err != nil {
		return nil, err
	}
	e.aloneMu.Lock()
	left, doubted := e.legacy[o.key], e.doubts[o.key]
	e.aloneMu.Unlock()
	if doubted {
		if _, err := o.write(encode(logged{ID: randomCode(16), After: o.applied, Reset: true})); err != nil {
			return nil, err
		}
	}
	o.history, o.historyFrom, o.owed = nil, o.applied, nil
	e.aloneMu.Lock()
	delete(e.doubts, o.key)
	e.aloneMu.Unlock()
	if left == nil {
		return nil, nil
	}
	live = new(guild.Delta)
	if err := json.Unmarshal(encode(left), live); err != nil {
		o.srv.cfg.Log.Error("malformed seats of the journal", "guild", o.id, "err", err)
		return nil, nil
	}
	return live, nil
}

// inherited forgets what the life before this one left of the guild.
func (o *owner) inherited() {
	e := o.srv.ensemble
	e.aloneMu.Lock()
	delete(e.legacy, o.key)
	e.aloneMu.Unlock()
}

// unsaid is an input of which the store was told, and then nobody else.
type unsaid struct {
	id      string
	rep     doReply
	joined  []textchat.ID
	effects []guild.Effect
}

// doubt notes that the journal refused what was saved. Until it is told no other input is
// handled, and the core is as it was for the same one, which may come again.
func (o *owner) doubt(u unsaid) {
	e := o.srv.ensemble
	o.untold = u
	e.aloneMu.Lock()
	e.doubts[o.key] = true
	e.aloneMu.Unlock()
	o.retellSoon()
}

func (o *owner) undoubt() {
	e := o.srv.ensemble
	e.aloneMu.Lock()
	delete(e.doubts, o.key)
	e.aloneMu.Unlock()
	o.untold = unsaid{}
}

// retellSoon has it told in a moment, whether or not somebody wants something of the guild.
func (o *owner) retellSoon() {
	if o.retelling {
		return
	}
	o.retelling = o.srv.task(func() {
		select {
		case <-o.srv.life.Done():
			return
		case <-time.After(time.Second):
		}
		o.later(func() {
			o.retelling = false
			if o.unsure {
				o.catchUp()
			}
			o.retell()
		})
	})
}

// retell has the guild be as the store has it where there is a doubt, and gives it to its
// sessions anew: to those that are here at once, to those to come by an entry. False: it
// cannot be now.
func (o *owner) retell() bool {
	e := o.srv.ensemble
	e.aloneMu.Lock()
	doubted := e.doubts[o.key]
	e.aloneMu.Unlock()
	if !doubted {
		return true
	}
	if o.core == nil {
		return false // inherit does it
	}
	ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
	defer cancel()
	r, err := o.srv.store.Guild(ctx, o.id)
	if errors.Is(err, textchat.ErrNoRecord) {
		o.core = nil
		return false
	}
	if err == nil {
		_, err = o.write(encode(logged{ID: randomCode(16), After: o.applied, Reset: true}))
	}
	if err != nil {
		o.srv.cfg.Log.Warn("tell of a change that was saved", "guild", o.id, "err", err)
		o.retellSoon()
		return false
	}
	u := o.untold
	o.undoubt()
	u.rep.Seq = o.applied
	o.recent.put(u.id, u.rep)
	o.core = o.core.With(r)
	o.lists.stale(time.Now())
	ids := make([]textchat.ID, len(r.Channels))
	for i, c := range r.Channels {
		ids[i] = c.ID
	}
	o.srv.noteChannels(o.id, ids...)
	o.pagesAnew()
	o.greetAll()
	o.ordered(func() {
		for _, id := range u.joined {
			for _, s := range o.srv.hub.of(id) {
				o.add(s)
			}
		}
		o.gave(o.applied, 0)
	})
	o.srv.voice.begin(o, u.effects)
	o.remind(past{seq: o.applied, at: time.Now(), sight: true})
	return true
}

// isAlone says whether there is no other instance but the life after this one.
func (s *Server) isAlone() bool { return s.ensemble != nil && s.ensemble.alone != nil }

// saving notes that the store is about to be told of a change; false: it cannot be noted.
func (o *owner) saving() bool {
	e := o.srv.ensemble
	return e.alone == nil || e.keep(aloneNote{Saving: o.key})
}

// seated notes what a delta tells of who is in voice, or, as whole, that this is all.
func (o *owner) seated(d *guild.Delta, whole bool) {
	if d = d.Seats(); d.Empty() && !whole {
		return
	}
	var change seats
	if err := json.Unmarshal(encode(d), &change); err != nil {
		panic(err) // our own
	}
	e := o.srv.ensemble
	e.aloneMu.Lock()
	if whole {
		e.seat(o.key, &change)
	} else {
		e.seat(o.key, e.seats[o.key].and(&change))
	}
	e.aloneMu.Unlock()
	if whole {
		e.keep(aloneNote{Seats: map[string]*seats{o.key: &change}})
	}
}

// kept is how far sessions of a life can have been given what is in the log, of those that
// are at a position: what they took for themselves then may not be noted.
func (m *mirrors) kept(life string, p uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.of[life]; r != nil && len(r.list) > 0 {
		if last := r.list[len(r.list)-1].P; p > last && p-last <= untold {
			return last
		}
	}
	return p
}
