package chatserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

const (
	// commitTries is how often an input is handled anew because another instance
	// wrote into the log first.
	commitTries = 5
	// recentInputs bounds the ids of inputs that are remembered, so that one that is
	// passed on again is not handled again.
	recentInputs = 4096
	// recentTold bounds those of which an instance is told that begins to serve a guild:
	// some 80 bytes each.
	recentTold = 1024
	// recentSpan is how far back an instance looks for them that is told by nobody, in
	// entries of all guilds: seconds.
	recentSpan = 1 << 14
	// largestEntry bounds what is told of an input, in bytes. Beyond it, as when a role
	// of very many is deleted, the others load the guild anew.
	largestEntry = 768 << 10
	// awaitEntry bounds how long an answer waits until this instance has the change too.
	awaitEntry = time.Second
	// checksAtOnce bounds the guilds that are compared with the store when an instance
	// died.
	checksAtOnce = 16
	// alignTries is how often what the leader has is asked for, alignPause after how long
	// again at first: twice that each time, 3 s in all.
	alignTries = 8
	alignPause = 12 * time.Millisecond
)

// logged is an entry of a guild's log: what an input led to.
type logged struct {
	ID    string `json:"id,omitempty"`    // of the input
	After uint64 `json:"after,omitempty"` // the entry that the leader knew last
	// Reset has everybody load the guild anew.
	Reset bool `json:"reset,omitempty"`

	Delta   *guild.Delta      `json:"delta,omitempty"`
	Changes []textchat.Change `json:"changes,omitempty"` // no more of them than spread looks at
	Events  []loggedEvent     `json:"events,omitempty"`
	Joined  []textchat.ID     `json:"joined,omitempty"`
	Parted  []textchat.ID     `json:"parted,omitempty"`
	Touched []textchat.ID     `json:"touched,omitempty"`
	Result  *result           `json:"result,omitempty"`
}

// loggedEvent is an event whose body is written already. What fan-out looks into
// comes with its type.
type loggedEvent struct {
	guild.Event
	Data   json.RawMessage `json:"data"`
	Hidden json.RawMessage `json:"hidden,omitempty"`
	Type   string          `json:"type,omitempty"`
}

// typedBodies are the bodies that fan-out looks into.
var typedBodies = map[string]reflect.Type{
	"server": reflect.TypeFor[guild.VoiceServer](), "typing": reflect.TypeFor[guild.TypingEvent](), "message": reflect.TypeFor[guild.MessageEvent](),
}

func logEvent(e guild.Event) loggedEvent {
	l := loggedEvent{Event: e, Data: encode(e.Data)}
	if e.Hidden != nil {
		l.Hidden = encode(e.Hidden)
	}
	l.Event.Data, l.Event.Hidden = nil, nil
	for name, t := range typedBodies {
		if reflect.TypeOf(e.Data) == t {
			l.Type = name
		}
	}
	return l
}

func (l *loggedEvent) event() (guild.Event, error) {
	e := l.Event
	e.Data = l.Data
	if l.Hidden != nil {
		e.Hidden = l.Hidden
	}
	if t := typedBodies[l.Type]; t != nil {
		v := reflect.New(t)
		if err := json.Unmarshal(l.Data, v.Interface()); err != nil {
			return e, fmt.Errorf("%s: %w", e.Name, err)
		}
		e.Data = v.Elem().Interface()
	}
	return e, nil
}

// brief is what spread needs of changes.
func brief(changes []textchat.Change) []textchat.Change {
	var list []textchat.Change
	for _, c := range changes {
		switch {
		case c.PutGuild != nil:
			list = append(list, textchat.Change{PutGuild: &textchat.Guild{ID: c.PutGuild.ID}})
		case c.PutRole != nil:
			list = append(list, textchat.Change{PutRole: &textchat.Role{ID: c.PutRole.ID}})
		case c.PutChannel != nil:
			list = append(list, textchat.Change{PutChannel: &textchat.Channel{ID: c.PutChannel.ID, Type: c.PutChannel.Type}})
		case c.PutMember != nil:
			list = append(list, textchat.Change{PutMember: &textchat.Member{User: textchat.User{ID: c.PutMember.User.ID}}})
		case c.DropRole != 0, c.DropChannel != 0, c.DropMember != 0:
			list = append(list, c)
		}
	}
	return list
}

// shared is what the owner of a guild has that several instances serve. Owned by
// its run.
type shared struct {
	key     string // of the guild in the log
	applied uint64 // the last entry that the core has in it
	led     bool   // this instance leads the guild
	unsure  bool   // there may be entries that the core does not have
	// owed are the effects of inputs of which it is open whether they were told.
	owed      map[string][]guild.Effect
	following []*bus.Subscription
	recent    recent[doReply] // inputs handled as of late
	waiting   []waiting
	retelling bool   // retell is under way, of a server that is alone
	untold    unsaid // what it is to tell

	spreading bool // positions are taken; see ordered
	// history are the entries since historyFrom, for sessions that come from elsewhere.
	history     []past
	historyFrom uint64

	// Safe for concurrent use: the last entry that came, and that was given out; and
	// whether there may be others before.
	toldSeq, spreadSeq atomic.Uint64
	behind             atomic.Bool
	leads              atomic.Bool  // led
	doubted            atomic.Int64 // until when, see pages.now, the bus is not asked for the last entry
	work               atomic.Int64 // entries that this instance told since they were counted
}

// settle notes how far the guild is, after each request.
func (o *owner) settle() {
	if o.srv.ensemble == nil || o.core == nil {
		return
	}
	o.behind.Store(o.unsure)
	o.leads.Store(o.led)
	if !o.unsure {
		o.spreadSeq.Store(o.applied)
		o.pagesSeq.Store(o.applied)
	}
}

// past is what an entry had for sessions.
type past struct {
	seq    uint64
	at     time.Time
	events []guild.Event
	joined []textchat.ID
	sight  bool // who sees what may have changed
}

// changesSight says whether changes may change who sees what.
func changesSight(changes []textchat.Change) bool {
	return slices.ContainsFunc(changes, func(c textchat.Change) bool {
		return c.PutGuild != nil || c.PutRole != nil || c.DropRole != 0 || c.PutChannel != nil || c.DropChannel != 0 || c.PutMember != nil
	})
}

// waiting is somebody who wants the core to have an entry.
type waiting struct {
	seq  uint64
	done chan struct{}
}

// newMessage begins the id of an input that tells of a message's creation, lostMessage
// that of one that tells of its deletion.
const (
	newMessage  = "m"
	lostMessage = "d"
)

// onceID is the id of an input that tells what can happen once, whoever tells of it;
// empty for others.
func onceID(in guild.Input) string {
	if a, ok := in.(guild.Audited); ok {
		in = a.Input
	}
	switch in := in.(type) {
	case guild.Posted:
		if !in.Edited {
			return newMessage + in.Message.ID.String()
		}
	case guild.Erased:
		return lostMessage + in.Message.String()
	}
	return ""
}

// mine says whether what the voice side tells all instances is for this one.
func (o *owner) mine() bool {
	e := o.srv.ensemble
	return e == nil || e.leader(o.id) == e.self
}

// share begins to follow the guild, and has the core begin where the others are.
func (o *owner) share(ctx context.Context) (live *guild.Delta, err error) {
	e := o.srv.ensemble
	if e.alone != nil {
		return o.inherit(ctx)
	}
	// The others may ask this one to lead before it knows whom to ask for what they have.
	if err := e.met(ctx); err != nil {
		return nil, err
	}
	if o.following == nil {
		told, err := e.told.Follow(ctx, o.key, func(r bus.Record) {
			o.toldSeq.Store(r.Seq)
			e.order.sawEntry(r.Seq)
			o.later(func() { o.follow(r) })
		})
		if err != nil {
			return nil, err
		}
		notes, err := bus.Subscribe(ctx, e.bus, bus.OnlineSubject(o.key), func(_ string, n onlineNote) {
			if n.From != e.life {
				o.later(func() { o.noted(n) })
			}
		})
		if err != nil {
			told.Unsubscribe()
			return nil, err
		}
		o.following = []*bus.Subscription{told, notes}
	}
	o.applied, o.unsure, o.led = 0, true, false
	found, err := e.gather(ctx, o.id)
	if err != nil {
		return nil, err
	}
	for name, rep := range found {
		for user, p := range rep.Online {
			o.noteOnline(cmp.Or(rep.Life, name), user, p)
		}
		if live == nil || rep.Seq > o.applied {
			live, o.applied = rep.Live, rep.Seq
		}
		for _, r := range rep.Recent {
			o.recent.put(r.ID, r.Reply)
		}
	}
	if live == nil {
		// Nobody has it: the store is all there is, and of what was handled the log.
		if err = o.remember(ctx); err != nil {
			return nil, err
		}
	}
	o.history, o.historyFrom = nil, o.applied
	o.owed = nil
	if lead := e.leader(o.id); lead != e.self {
		e.srv.task(func() { e.askLead(lead, []textchat.ID{o.id}) })
	}
	return live, nil
}

// remember has the guild begin where its log is, with what was handled as of late.
func (o *owner) remember(ctx context.Context) (err error) {
	log := o.srv.ensemble.log
	if o.applied, err = log.Last(ctx, o.key); err != nil {
		return err
	}
	list, err := log.Since(ctx, o.key, o.applied-min(o.applied, recentSpan))
	if err != nil {
		return err
	}
	for _, r := range list {
		if l, err := o.read(r); err == nil && r.Seq <= o.applied {
			o.recent.put(l.ID, doReply{Seq: r.Seq, Result: l.Result})
		}
	}
	return nil
}

// unshare ends that.
func (o *owner) unshare() {
	for _, s := range o.following {
		s.Unsubscribe()
	}
	o.following = nil
}

// commit handles an input as the leader does, once for each id.
func (o *owner) commit(in guild.Input, id string) (doReply, error) {
	if known, ok := o.recent.get(id); ok {
		return known, nil
	}
	if id == "" {
		id = randomCode(16)
	}
	if o.unsure {
		o.catchUp()
		if o.core == nil {
			return doReply{}, textchat.Unavailable("The other servers do not answer, try again.", time.Second)
		}
		if known, ok := o.recent.get(id); ok {
			return known, nil
		}
		if o.unsure {
			return doReply{}, textchat.Unavailable("The other servers do not answer, try again.", time.Second)
		}
	}
	if o.srv.isAlone() && o.untold.id != id && !o.retell() {
		return doReply{}, textchat.Unavailable("This cannot be shown to others now, try again.", time.Second)
	}
	for range commitTries {
		var out guild.Out
		o.core.Handle(time.Now(), in, &out)
		if out.Err != nil {
			return doReply{}, out.Err
		}
		if len(out.Changes) > 0 && !o.saving() {
			o.core.Revert()
			return doReply{}, textchat.Unavailable("The change could not be saved, try again.", time.Second)
		}
		if err := o.save(out.Changes); err != nil {
			return doReply{}, err
		}
		seq, err := o.append(id, &out)
		switch {
		case errors.Is(err, bus.ErrConflict):
			o.core.Revert()
			o.catchUp()
			if o.core == nil {
				return doReply{}, textchat.Unavailable("The other servers do not answer, try again.", time.Second)
			}
			if fix := o.core.Present(out.Changes); len(fix) > 0 {
				// What was saved may be older than what the other one saved.
				if err := o.save(fix); err != nil {
					return doReply{}, err
				}
			}
			if known, ok := o.recent.get(id); ok {
				return known, nil
			}
			continue
		case err != nil:
			if o.srv.isAlone() && len(out.Changes) > 0 {
				o.doubt(unsaid{id, doReply{Result: resultOf(&out)}, out.Joined, out.Effects})
			}
			o.core.Revert()
			o.unsure = true
			if o.srv.isAlone() { // it is not there, for sure
				o.seated(o.core.Live(), true)
				o.srv.cfg.Log.Warn("keep what is told", "guild", o.id, "err", err)
				return doReply{}, textchat.Unavailable("This cannot be shown to others now, try again.", time.Second)
			}
			if o.owed == nil || len(o.owed) >= recentInputs {
				o.owed = make(map[string][]guild.Effect)
			}
			o.owed[id] = out.Effects
			o.srv.cfg.Log.Warn("tell the other instances", "guild", o.id, "err", err)
			return doReply{}, textchat.Unavailable("The other servers do not answer, try again.", time.Second)
		}
		if seq != 0 && o.untold.id == id { // it is told after all
			o.undoubt()
		}
		rep := doReply{Seq: seq, Result: resultOf(&out)}
		o.recent.put(id, rep)
		o.spread(&out, seq)
		o.srv.voice.begin(o, out.Effects)
		for _, u := range out.Joined {
			// Where they have sessions nobody may follow the guild yet.
			o.srv.task(func() { _ = o.srv.tellUsers(o.srv.life, usersEntry{Enter: &usersMove{u, o.id}}) })
		}
		for _, u := range out.Parted {
			// Sessions that are on their way from elsewhere ask the guilds of now.
			o.srv.task(func() { _ = o.srv.tellUsers(o.srv.life, usersEntry{Leave: &usersMove{u, o.id}}) })
		}
		return rep, nil
	}
	return doReply{}, textchat.Unavailable("This guild is busy, try again.", time.Second)
}

// append tells the others what an input led to, if there is something to tell.
func (o *owner) append(id string, out *guild.Out) (uint64, error) {
	delta := o.core.Delta()
	if len(out.Events)+len(out.Changes)+len(out.Joined)+len(out.Parted)+len(out.Touched) == 0 && delta.Empty() {
		return 0, nil
	}
	l := logged{ID: id, After: o.applied, Delta: delta, Changes: brief(out.Changes), Joined: out.Joined, Parted: out.Parted, Touched: out.Touched, Result: resultOf(out)}
	if o.srv.isAlone() {
		o.seated(delta, false)
	}
	for _, e := range out.Events {
		l.Events = append(l.Events, logEvent(e))
	}
	body := encode(l)
	if len(body) > largestEntry {
		body = encode(logged{ID: id, After: o.applied, Reset: true, Delta: delta.Seats(), Result: l.Result})
	}
	return o.write(body)
}

func (o *owner) write(body []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
	defer cancel()
	log := o.srv.ensemble.log
	o.work.Add(1)
	seq, err := log.Append(ctx, o.key, o.applied, body)
	if errors.Is(err, bus.ErrConflict) {
		// Of a guild where nothing happened for long the log has nothing any more.
		if last, lastErr := log.Last(ctx, o.key); lastErr == nil && last == 0 {
			seq, err = log.Append(ctx, o.key, 0, body)
		}
	}
	if err != nil {
		return 0, err
	}
	if o.srv.isAlone() { // nobody else tells it
		o.toldSeq.Store(seq)
		o.srv.ensemble.order.sawEntry(seq)
	}
	o.advance(seq)
	return seq, nil
}

func (o *owner) advance(seq uint64) {
	o.applied = seq
	kept := o.waiting[:0]
	for _, w := range o.waiting {
		if seq >= w.seq {
			close(w.done)
		} else {
			kept = append(kept, w)
		}
	}
	o.waiting = kept
}

// await returns when the core here has an entry, or after a moment.
func (o *owner) await(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, awaitEntry)
	defer cancel()
	w := waiting{seq, make(chan struct{})}
	err := o.ask(ctx, func() error {
		if o.applied >= seq {
			close(w.done)
		} else {
			o.waiting = append(o.waiting, w)
		}
		return nil
	})
	if err != nil {
		return
	}
	select {
	case <-w.done:
	case <-ctx.Done():
	}
}

// follow takes an entry that was told. Each says which one came before it, so that
// none is left out and none comes twice, also when the log itself began anew.
func (o *owner) follow(r bus.Record) {
	l, err := o.read(r)
	switch {
	case r.Seq <= o.applied: // has been read already
	case err == nil && l.After == o.applied:
		o.apply(r.Seq, l)
	default:
		o.catchUp()
		if o.applied < r.Seq && !o.unsure {
			o.reload("entries are missing")
		}
	}
}

// catchUp reads what was appended since the last entry that the core has.
func (o *owner) catchUp() {
	ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
	defer cancel()
	list, err := o.srv.ensemble.log.Since(ctx, o.key, o.applied)
	if o.unsure = err != nil; err != nil {
		o.srv.cfg.Log.Warn("read what was missed", "guild", o.id, "err", err)
		return
	}
	for _, r := range list {
		if r.Seq <= o.applied {
			continue // a reload has had it
		}
		l, err := o.read(r)
		if err != nil {
			// It is passed over: what it may have said the store has, or the leader. Who
			// comes from elsewhere is given the guild anew.
			o.advance(r.Seq)
			o.remind(past{seq: r.Seq, at: time.Now(), sight: true})
			o.srv.task(o.align)
			continue
		}
		if l.After != o.applied {
			if o.unsure = o.loading.Load(); !o.unsure {
				o.reload("entries are missing")
			}
			return
		}
		o.apply(r.Seq, l)
	}
}

// knowing is the core when it knows a channel and a member. What another instance made
// just now may be on its way here.
func (o *owner) knowing(user, channel textchat.ID) (g *guild.Guild, ok bool) {
	knows := func() bool { return o.core != nil && o.core.Channel(channel) != nil && o.core.Member(user) != nil }
	if !knows() && o.srv.ensemble != nil && !o.led {
		o.catchUp()
	}
	return o.core, knows()
}

// read reads an entry; the log says when it is none.
func (o *owner) read(r bus.Record) (*logged, error) {
	l := new(logged)
	if err := json.Unmarshal(r.Body, l); err != nil {
		o.srv.cfg.Log.Error("malformed entry", "guild", o.id, "err", err)
		return nil, err
	}
	return l, nil
}

// events are those of an entry, less what cannot be read.
func (o *owner) events(l *logged) []guild.Event {
	var list []guild.Event
	for i := range l.Events {
		e, err := l.Events[i].event()
		if err != nil {
			o.srv.cfg.Log.Error("malformed entry", "guild", o.id, "err", err)
			continue
		}
		list = append(list, e)
	}
	return list
}

// apply does what an entry says.
func (o *owner) apply(seq uint64, l *logged) {
	o.recent.put(l.ID, doReply{Seq: seq, Result: l.Result})
	if l.Reset {
		o.advance(seq)
		o.reload("the leader says so")
		return
	}
	if l.Delta != nil {
		o.core.Apply(l.Delta)
	}
	o.advance(seq)
	out := guild.Out{Events: o.events(l), Changes: l.Changes, Joined: l.Joined, Parted: l.Parted, Touched: l.Touched}
	o.spread(&out, seq)
	if effects, ok := o.owed[l.ID]; ok { // it was ours, after all
		delete(o.owed, l.ID)
		o.srv.voice.begin(o, effects)
	}
}

// reload begins anew with what the others and the store have, and gives it to the
// sessions.
func (o *owner) reload(why string) {
	o.srv.cfg.Log.Warn("guild is loaded anew", "guild", o.id, "why", why)
	o.core = nil
	if err := o.load(); err != nil {
		return // the next request tries again
	}
	o.greetAll()
}

// lead looks whether this instance leads the guild now, and takes it over.
func (o *owner) lead() {
	was := o.led
	if o.led = o.mine(); !o.led || was || o.core == nil {
		return
	}
	if _, err := o.commit(guild.TakeOver{}, ""); err != nil {
		o.led = false // sweep tries again
		o.srv.cfg.Log.Warn("take a guild over", "guild", o.id, "err", err)
	}
}

// align has the guild be here as it is at its leader, after an entry that could not be
// read: the store does not have who is in voice. Where nobody leads it but this one, what
// the store has is all there is to compare with.
func (o *owner) align() {
	e := o.srv.ensemble
	for i := range alignTries {
		lead := e.leader(o.id)
		if e.alone != nil || lead == "" || lead == e.self {
			break
		}
		done, err := o.alignWith(lead)
		if done {
			return
		}
		if err != nil {
			o.srv.cfg.Log.Warn("ask the leader what it has", "guild", o.id, "err", err)
		}
		pause := time.NewTimer(alignPause << i)
		select {
		case <-pause.C:
		case <-o.srv.life.Done():
			pause.Stop()
			return
		}
	}
	o.compare()
}

// alignWith takes over what another instance has, if that is as of the entry that the core
// here has last; else it can be tried again.
func (o *owner) alignWith(lead string) (done bool, err error) {
	e := o.srv.ensemble
	select {
	case e.checks <- struct{}{}:
		defer func() { <-e.checks }()
	case <-o.srv.life.Done():
		return false, nil
	}
	ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
	defer cancel()
	rep, err := e.askLive(ctx, lead, o.id)
	if err != nil || !rep.Loaded || rep.Live == nil {
		return false, err
	}
	r, err := o.record() // has all that is told up to there
	if err != nil {
		return false, err
	}
	err = o.ask(o.srv.life, func() error {
		if o.applied < rep.Seq {
			o.catchUp()
		}
		if o.core == nil || o.unsure || o.applied != rep.Seq {
			return nil
		}
		o.core = o.core.From(r, rep.Live)
		o.lists.stale(time.Now())
		o.pagesAnew()
		o.greetAll()
		done = true
		return nil
	})
	return done, err
}

// compare looks whether an instance that died had saved what it did not tell.
func (o *owner) compare() {
	e := o.srv.ensemble
	select {
	case e.checks <- struct{}{}:
	case <-o.srv.life.Done():
		return
	}
	r, err := o.record()
	<-e.checks
	if err != nil {
		return
	}
	o.later(func() {
		if !o.core.Differs(r) {
			return
		}
		o.srv.cfg.Log.Warn("an instance died before it told of a change", "guild", o.id)
		o.core = o.core.With(r)
		o.lists.stale(time.Now())
		o.greetAll()
	})
}

// dim shows those as offline who were online at lives that are over, and are nowhere
// else.
func (o *owner) dim(over func(life string) bool) {
	for user, sh := range o.seen {
		for life := range sh.others {
			if over(life) {
				o.noteOnline(life, user, gatewaysession.PresenceUpdate{Status: gatewaysession.Offline})
			}
		}
	}
}

// bury ends the voice states of sessions of lives that are over, but for those that
// went on elsewhere.
func (o *owner) bury(over func(life string) bool) {
	if !o.led || o.core == nil {
		return
	}
	for session, user := range o.core.Sessions() {
		life, _, _ := strings.Cut(session, sessionSep)
		if a, ok := o.srv.ensemble.mirrors.adoption(session); ok {
			life = a.Life
		}
		if over(life) {
			_, _ = o.commit(guild.SessionGone{User: user, Session: session}, "")
		}
	}
}

// sessionSep stands between the life of the instance and the rest in the id of a
// session, lifeSep between its name and when it began.
const (
	sessionSep = "-"
	lifeSep    = "."
)

// ordered does what gives events to sessions. With several instances all that this one
// gives out has one order.
func (o *owner) ordered(do func()) {
	e := o.srv.ensemble
	if e == nil || o.spreading {
		do()
		return
	}
	e.order.mu.Lock()
	defer e.order.mu.Unlock()
	o.spreading = true
	defer func() { o.spreading = false }()
	do()
	e.order.signal()
}

// gave notes that the first part events of an entry have been given out, or (0) all.
func (o *owner) gave(seq uint64, part int) {
	if o.srv.ensemble == nil || seq == 0 {
		return
	}
	order := &o.srv.ensemble.order
	order.batch = append(order.batch, delivered{P: order.p, Key: o.key, Seq: seq, Part: part})
}

// place gives an event its position. Events of one session alone, and those that may be
// late, need none.
func (o *owner) place(e *gatewaysession.Event) *gatewaysession.Event {
	if o.spreading && e.At == 0 && e.Late.Kind == 0 {
		e.At = o.srv.ensemble.order.take()
	}
	return e
}

// remindOf keeps an entry for sessions that come from elsewhere.
func (o *owner) remindOf(out *guild.Out, seq uint64) {
	if o.srv.ensemble == nil || seq == 0 {
		return
	}
	o.remind(past{seq, time.Now(), out.Events, out.Joined, changesSight(out.Changes)})
}

func (o *owner) remind(p past) {
	o.history = append(o.history, p)
	for len(o.history) > historyKept || p.at.Sub(o.history[0].at) > textchat.ResumeWindow+time.Minute {
		o.historyFrom = o.history[0].seq
		o.history = o.history[1:]
	}
}

// since are the entries after one, up to those that sessions here have been given.
func (o *owner) since(seq uint64) ([]past, error) {
	if seq < o.historyFrom {
		ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
		defer cancel()
		list, err := o.srv.ensemble.log.Since(ctx, o.key, seq)
		if err != nil {
			return nil, err
		}
		var before []past
		for _, r := range list {
			if r.Seq > o.historyFrom {
				break
			}
			l, err := o.read(r)
			if err != nil {
				before = append(before, past{seq: r.Seq, at: time.Now(), sight: true})
				continue
			}
			before = append(before, past{r.Seq, time.Now(), o.events(l), l.Joined, l.Reset || changesSight(l.Changes)})
		}
		o.history, o.historyFrom = append(before, o.history...), seq
	}
	i := sort.Search(len(o.history), func(i int) bool { return o.history[i].seq > seq })
	return o.history[i:], nil
}

// resume gives a session from elsewhere what its client has not seen of the guild, and
// has it listen. One whose client may not have the guild yet is given that, too. Who is
// not a member any more is told so.
func (o *owner) resume(s *session, from spot, greet bool) error {
	if o.subs.of(s) != nil {
		return nil // it entered just now
	}
	if o.unsure || from.exact && o.applied < from.Seq {
		if o.catchUp(); o.core == nil || o.unsure || from.exact && o.applied < from.Seq {
			return textchat.Unavailable("This guild is not up to date, try again.", time.Second)
		}
	}
	after := from.Seq
	if from.Part > 0 {
		after-- // the rest of this one, too
	}
	missed, err := o.since(after)
	if err != nil {
		return err
	}
	member := o.core.Member(s.user) != nil
	for _, p := range missed {
		for i, e := range p.events {
			if p.seq == from.Seq && i < from.Part || !member && (e.Name != textchat.EventGuildDelete || e.User != s.user) {
				continue
			}
			o.publishTo(e, func(yield func(*session) bool) { yield(s) })
		}
		// What came into sight and went out of it is not an event of the entry.
		greet = greet || p.sight || slices.Contains(p.joined, s.user)
	}
	if !member || !s.listenTo(o) {
		return nil
	}
	o.listen(s, &sub{lazy: o.lazy(s)}) // what it had opened is not known: it will say so
	o.see(s.user)
	if greet {
		o.ordered(func() { o.greet(s) })
	}
	o.arrive(s)
	if s.intents&textchat.IntentPresences != 0 {
		o.relist(s)
	}
	return nil
}

// onlineNote is what instances tell one another on bus.OnlineSubject: how a user is
// seen by the sessions of one of them, or that somebody writes.
type onlineNote struct {
	From     string                         `json:"from"` // the life of an instance
	User     textchat.ID                    `json:"user,omitzero"`
	Presence *gatewaysession.PresenceUpdate `json:"presence,omitempty"`
	Typing   *guild.Typing                  `json:"typing,omitempty"`
}

// note tells the others.
func (o *owner) note(n onlineNote) {
	if o.srv.ensemble.bus == nil {
		return
	}
	n.From = o.srv.ensemble.life
	if err := bus.Publish(o.srv.ensemble.bus, bus.OnlineSubject(o.key), n); err != nil {
		o.srv.cfg.Log.Debug("tell who is online", "guild", o.id, "err", err)
	}
}

// noted takes what another one told.
func (o *owner) noted(n onlineNote) {
	switch {
	case n.Presence != nil:
		o.noteOnline(n.From, n.User, *n.Presence)
	case n.Typing != nil:
		o.typing(*n.Typing)
	}
}

func (o *owner) typing(in guild.Typing) {
	var out guild.Out
	o.core.Handle(time.Now(), in, &out)
	o.spread(&out, 0)
}

// noteOnline keeps how the sessions of another instance show a user.
func (o *owner) noteOnline(from string, user textchat.ID, p gatewaysession.PresenceUpdate) {
	sh := o.seen[user]
	if sh == nil {
		if p.Status == gatewaysession.Offline || p.Status == "" {
			return
		}
		sh = newShown()
		o.seen[user] = sh
	}
	if p.Status == gatewaysession.Offline || p.Status == "" {
		delete(sh.others, from)
	} else {
		if sh.others == nil {
			sh.others = make(map[string]gatewaysession.PresenceUpdate)
		}
		sh.others[from] = p
	}
	o.show(user)
	o.unsee(user)
}

// onlineHere is how the sessions of this instance show users.
func (o *owner) onlineHere() map[textchat.ID]gatewaysession.PresenceUpdate {
	list := make(map[textchat.ID]gatewaysession.PresenceUpdate)
	for user, sh := range o.seen {
		if sh.local.Status != "" && sh.local.Status != gatewaysession.Offline {
			list[user] = sh.local
		}
	}
	return list
}
