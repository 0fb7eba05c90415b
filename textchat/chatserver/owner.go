package chatserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

const (
	// inboxLen bounds the requests that wait for a guild; whoever asks when it is
	// full waits for room, at most askTimeout.
	inboxLen   = 256
	askTimeout = 5 * time.Second
	// loadTimeout bounds reading a guild from the store. It is longer than anybody waits for
	// an answer: one of 200,000 members is some 4,000 queries, and should they be given up
	// the next who asks begins anew.
	loadTimeout = 30 * time.Second
	// idleTime is how long a guild stays loaded that no session listens to and nobody
	// asks for.
	idleTime = 10 * time.Minute
)

// owner is the one goroutine of this instance that touches a guild: it passes inputs
// to the core, writes its changes, publishes its events, begins its effects, in this
// order. Where several instances serve the guild see ensemble.
type owner struct {
	// Immutable.
	srv   *Server
	id    textchat.ID
	inbox chan request
	gone  chan struct{} // closed when it turned out that there is no such guild

	settings atomic.Pointer[settings] // stored by run alone; nil while the guild is not loaded
	// Of pages of the guild's channels, stored by run alone: what they must have been read
	// at, zero while the guild is not loaded; and the last entry of which they know.
	pagesVersion, pagesSeq atomic.Uint64

	// Owned by run.
	core   *guild.Guild // nil: must be loaded
	habits *guild.Delta // of the guild, while it is unloaded
	subs   listeners
	hear   map[*session]*sub // those of subs that asked for presences
	// What was shown to whom: the presence of each member online, and the channels
	// that each user with a session sees.
	seen    map[textchat.ID]*shown
	visits  map[*session]chan struct{} // of temporary members; closed when the core knows, or never will
	sights  map[textchat.ID][]textchat.ID
	sight   *guild.Sight // nil: look anew
	absence absence

	unread marks
	lists  lists
	used   time.Time // when somebody asked for the guild last, or it was loaded
	wake   time.Time // when a guild that is asleep must be loaded; zero: when somebody asks
	count  bool      // it counts as loaded
	broke  bool      // a panic threw the core away: sessions have the guild as it was before

	newcomers newcomers // safe for concurrent use

	loading atomic.Bool // it has nothing to tell others yet
	asleep  atomic.Bool // it was unloaded, and is loaded again with the next request
	shared              // of a guild that several instances serve
}

var (
	// errStartsAgain is the answer to who asked what made the guild's goroutine panic.
	errStartsAgain error = textchat.Unavailable("This guild starts again.", time.Second)
	errGoingAway   error = textchat.Unavailable("The server is going away.", time.Second)
)

// request is one thing to do on the owner's goroutine.
type request struct {
	do   func() error
	done chan error // nil: nobody waits
	use  bool       // somebody wants something of the guild
}

func newOwner(s *Server, id textchat.ID) *owner {
	return &owner{srv: s, id: id, inbox: make(chan request, inboxLen), gone: make(chan struct{}), hear: make(map[*session]*sub),
		seen: make(map[textchat.ID]*shown), visits: make(map[*session]chan struct{}), sights: make(map[textchat.ID][]textchat.ID), newcomers: newNewcomers(), shared: shared{key: id.String()}}
}

func (o *owner) run() {
	defer o.unshare()
	defer o.counted(false)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-o.srv.life.Done():
			return
		case r := <-o.inbox:
			if r.use {
				o.used = time.Now()
			}
			err = o.guarded(r.do)
			if r.done != nil {
				r.done <- err
			}
			o.settle()
		case <-o.newcomers.door:
			o.used = time.Now()
			err = o.letIn()
			o.settle()
		case now := <-timer.C:
			switch at := o.deadline(); {
			case at.IsZero() || now.Before(at):
			case o.core == nil:
				o.wake = now.Add(askTimeout) // if it cannot be loaded
				err = o.letIn()
			default:
				_ = o.guarded(func() error { return o.handle(guild.Tick{}, nil) })
			}
			if at := o.toldAt(); !at.IsZero() && !now.Before(at) {
				_ = o.guarded(func() error { o.tellWatchers(now); return nil })
			}
			o.settle()
			if at := o.idleAt(); !at.IsZero() && !now.Before(at) {
				o.unload(now)
			}
		}
		if errors.Is(err, textchat.ErrUnknownGuild) && o.core == nil {
			o.srv.forget(o.id)
			close(o.gone)
			return
		}
		if o.core != nil && o.newcomers.waiting() {
			o.newcomers.knock()
		}
		wait := time.Hour
		for _, at := range []time.Time{o.deadline(), o.toldAt(), o.idleAt()} {
			if !at.IsZero() {
				wait = min(wait, max(time.Until(at), time.Millisecond))
			}
		}
		timer.Reset(wait)
	}
}

// deadline is when the core wants a Tick.
func (o *owner) deadline() time.Time {
	if o.core == nil {
		return o.wake
	}
	if !o.led && o.srv.ensemble != nil {
		return time.Time{}
	}
	return o.core.Deadline()
}

// idleAt is when the guild is to be unloaded, if nothing happens until then.
func (o *owner) idleAt() time.Time {
	if o.core == nil || o.subs.len() > 0 {
		return time.Time{}
	}
	return o.used.Add(o.srv.idleTime)
}

// unload forgets the guild, unless there is something of it that is kept nowhere else,
// or is being done. The next request loads it again.
func (o *owner) unload(now time.Time) {
	if !o.core.Quiet() || len(o.inbox) > 0 || len(o.waiting) > 0 || len(o.owed) > 0 || o.unsure {
		o.used = now // looked at again then
		return
	}
	o.asleep.Store(true)
	o.leads.Store(false)
	o.wake = o.deadline()
	o.unshare()
	for id := range o.core.ByID() {
		o.srv.dropChannel(id)
	}
	o.core, o.habits = nil, o.core.Habits()
	o.turn()
	clear(o.seen)
	o.absence = absence{}
	clear(o.sights)
	o.sight, o.unread, o.lists = nil, marks{}, lists{}
	o.led, o.history, o.recent = false, nil, recent[doReply]{}
	o.counted(false)
	o.srv.metrics.unloaded.Inc()
}

// counted counts the guild as loaded, or not.
func (o *owner) counted(loaded bool) {
	switch {
	case loaded && !o.count:
		o.srv.metrics.guilds.Inc()
	case !loaded && o.count:
		o.srv.metrics.guilds.Dec()
	}
	o.count = loaded
}

// guarded runs one request. A panic throws the core away: it starts again from
// the store, its calls end, and its sessions get the guild anew.
func (o *owner) guarded(do func() error) (err error) {
	defer o.turn()
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		o.srv.panicked("guild", r)
		err = errStartsAgain
		if o.core == nil {
			return
		}
		if e := o.srv.ensemble; e == nil || e.alone != nil { // else others have it still
			func() {
				defer func() { _ = recover() }() // the core may be broken
				o.srv.voice.begin(o, o.core.Abandon())
			}()
			if e != nil {
				o.seated(new(guild.Delta), true)
			}
		}
		o.core, o.broke = nil, true
		_ = o.restart()
	}()
	if err := o.restart(); err != nil {
		return err
	}
	return do()
}

// restart is load, which is tried again soon while sessions wait for the guild.
func (o *owner) restart() error {
	err := o.load()
	switch {
	case !o.broke:
	case err == nil:
		o.broke = false
		o.greetAll()
	case !errors.Is(err, textchat.ErrUnknownGuild):
		o.wake = time.Now().Add(time.Second)
	}
	return err
}

// greetAll gives all sessions the guild anew.
func (o *owner) greetAll() {
	clear(o.sights)
	o.sight = nil
	o.ordered(func() {
		for s := range o.subs.all() {
			if o.core.Member(s.user) != nil {
				o.greet(s)
				o.visit(s)
				continue
			}
			s.deliver(o.place(&gatewaysession.Event{Name: textchat.EventGuildDelete, Body: encode(guild.Gone{ID: o.id})}))
			o.part(s)
		}
	})
}

// load reads the guild, if it is not there.
func (o *owner) load() error {
	if o.core != nil {
		return nil
	}
	o.loading.Store(true)
	defer o.loading.Store(false)
	var live *guild.Delta
	if o.srv.ensemble != nil {
		ctx, cancel := context.WithTimeout(o.srv.life, askTimeout)
		defer cancel()
		var err error
		if live, err = o.share(ctx); err != nil {
			o.srv.cfg.Log.Warn("share guild", "guild", o.id, "err", err)
			return textchat.Unavailable("The other servers do not answer, try again.", time.Second)
		}
	}
	r, err := o.record()
	if errors.Is(err, textchat.ErrNoRecord) {
		if o.srv.isAlone() {
			o.inherited()
		}
		return textchat.ErrUnknownGuild
	}
	if err != nil {
		if live != nil && o.srv.isAlone() {
			o.wake = time.Now().Add(time.Second) // its calls may go on, whoever asks for it
		}
		o.srv.cfg.Log.Error("load guild", "guild", o.id, "err", err)
		return textchat.Unavailable("This guild cannot be loaded now.", time.Second)
	}
	timeout := textchat.OpenTimeout
	if o.srv.cfg.Presence == nil {
		timeout = 0
	}
	o.core = guild.New(r, timeout)
	o.asleep.Store(false)
	o.used, o.wake = time.Now(), time.Time{}
	o.absence = absence{watched: o.used, went: make(map[textchat.ID]time.Time)}
	o.counted(true)
	o.lists.stale(time.Now())
	switch {
	case live != nil:
		o.core.Apply(live)
		if o.srv.isAlone() {
			o.core.Doubt(time.Now()) // calls may have ended with the life before
		}
	case o.habits != nil:
		o.core.Apply(o.habits)
	}
	if o.srv.isAlone() {
		o.inherited() // not before: a store that was busy is asked again
	}
	o.habits = nil
	ids := make([]textchat.ID, len(r.Channels))
	for i, c := range r.Channels {
		ids[i] = c.ID
	}
	o.srv.noteChannels(o.id, ids...)
	// What was told before it was followed nobody forgot pages for, and which messages have
	// threads was not known.
	o.pagesAnew()
	if o.srv.ensemble != nil {
		// Who is given the guild, or what it missed of it, has all up to here.
		o.ordered(func() { o.gave(o.applied, 0) })
		o.catchUp()
		o.soon(o.lead)
	}
	return nil
}

// record reads the guild from the store.
func (o *owner) record() (textchat.GuildRecord, error) {
	ctx, cancel := context.WithTimeout(o.srv.life, loadTimeout)
	defer cancel()
	return o.srv.store.Guild(ctx, o.id)
}

// save writes changes, or takes the input back that led to them.
func (o *owner) save(changes []textchat.Change) error {
	if len(changes) == 0 {
		return nil
	}
	// No deadline: giving up would leave open whether it was done. Whoever asked
	// waits no longer than it likes.
	err := o.srv.store.Save(o.srv.life, o.id, changes)
	if err == nil {
		return nil
	}
	o.core.Revert()
	if !errors.Is(err, textchat.ErrBusy) {
		o.srv.cfg.Log.Error("save guild", "guild", o.id, "err", err)
	}
	return textchat.Unavailable("The change could not be saved, try again.", time.Second)
}

// handle passes one input through the core. result, when not nil, gets what the
// core put out.
func (o *owner) handle(in guild.Input, result *guild.Out) error {
	if o.srv.ensemble != nil {
		_, err := o.commit(in, "")
		return err
	}
	var out guild.Out
	o.core.Handle(time.Now(), in, &out)
	if out.Err != nil {
		return out.Err
	}
	if err := o.save(out.Changes); err != nil {
		return err
	}
	o.spread(&out, 0)
	o.srv.voice.begin(o, out.Effects)
	if result != nil {
		*result = out
	}
	return nil
}

// spread has everybody here see what came of an input, which is an entry of the log
// where several instances serve the guild.
func (o *owner) spread(out *guild.Out, seq uint64) {
	o.turn()
	o.slowDown(out.Events)
	o.repage(out, seq)
	o.ordered(func() { o.spreadOrdered(out, seq) })
	o.remindOf(out, seq)
}

func (o *owner) spreadOrdered(out *guild.Out, seq uint64) {
	for i, e := range out.Events {
		o.publish(e)
		if i < len(out.Events)-1 {
			o.gave(seq, i+1)
		}
	}
	for _, c := range out.Changes {
		switch {
		case c.PutChannel != nil:
			if o.srv.noteChannels(o.id, c.PutChannel.ID) {
				o.rethread(c, seq)
			}
		case c.DropChannel != 0:
			o.core.Forget(c.DropChannel)
			o.srv.dropChannel(c.DropChannel)
			o.rethread(c, seq)
		}
	}
	for _, u := range out.Joined {
		for _, s := range o.srv.hub.of(u) {
			o.add(s)
		}
	}
	for _, u := range out.Parted {
		for s := range o.subs.all() {
			if s.user == u {
				o.part(s)
			}
		}
		delete(o.absence.went, u)
	}
	o.review(out.Changes, out.Events)
	o.relookAfter(out.Changes)
	o.gave(seq, 0)
}

// wants says whether a session gets an event, and whether in its open form. public
// says that every member sees the event's channel.
func (o *owner) wants(s *session, e guild.Event, public bool) (show, open bool) {
	switch {
	case e.Name == textchat.EventChannelUpdate && !o.knows(s.user, e.Channel):
		return false, false // CHANNEL_CREATE follows, see review
	case e.Session != "":
		return s.id == e.Session, true
	case e.User != 0:
		return s.user == e.User, true
	case e.Except == s.user:
		return false, false
	case e.Own == s.user:
		return true, true
	case e.Intent&^s.intents != 0:
		return false, false
	case e.NeedAny != 0 && o.core.Base(s.user)&e.NeedAny == 0:
		return false, false
	case e.Need != 0:
		has := o.core.Permissions(s.user, e.Channel).Has(textchat.ViewChannel | e.Need)
		return has, has
	case public && o.core.Member(s.user) != nil, e.Channel == 0, o.core.Permissions(s.user, e.Channel).Has(textchat.ViewChannel):
		return true, true
	}
	return e.Was != 0 && o.core.Permissions(s.user, e.Was).Has(textchat.ViewChannel), false
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err)) // our own plain structs
	}
	return b
}

// add makes a session listen, from its GUILD_CREATE on.
func (o *owner) add(s *session) {
	if o.subs.of(s) != nil || !s.shardHas(o.id) || !s.listenTo(o) {
		return
	}
	o.listen(s, &sub{closed: s.passive})
	o.ordered(func() { o.greet(s) })
	o.arrive(s)
}

// listen notes a session that is in.
func (o *owner) listen(s *session, b *sub) {
	o.subs.put(s, b)
	if s.intents&textchat.IntentPresences != 0 {
		o.hear[s] = b
	}
}

// part ends that: what it would have got it does not get any more.
func (o *owner) part(s *session) {
	if b := o.subs.of(s); b != nil {
		o.look(s, b, nil)
		o.subs.drop(s)
		delete(o.hear, s)
		s.leaves(o)
		o.leave(s)
		delete(o.visits, s)
	}
}

// ask runs do on the owner's goroutine and waits for it.
func (o *owner) ask(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r := request{do: do, done: make(chan error, 1), use: true}
	select {
	case o.inbox <- r:
	case <-ctx.Done():
		return textchat.Unavailable("This guild is busy, try again.", time.Second)
	case <-o.gone:
		return textchat.ErrUnknownGuild
	case <-o.srv.life.Done():
		return errGoingAway
	}
	select {
	case err := <-r.done:
		return err
	case <-o.gone:
		return textchat.ErrUnknownGuild
	case <-ctx.Done():
		return textchat.Unavailable("This guild is busy, try again.", time.Second)
	case <-o.srv.life.Done():
		return errGoingAway
	}
}

// do passes an input and waits for what came of it.
func (o *owner) do(ctx context.Context, in guild.Input) (guild.Out, error) {
	if e := o.srv.ensemble; e != nil {
		return e.pass(ctx, o, in, randomCode(16))
	}
	result := new(guild.Out) // not a local of ours: we may stop waiting first
	if err := o.ask(ctx, func() error { return o.handle(in, result) }); err != nil {
		return guild.Out{}, err
	}
	return *result, nil
}

// post passes an input and does not wait for what comes of it, only for room in
// the queue.
func (o *owner) post(in guild.Input) {
	if e := o.srv.ensemble; e != nil {
		id := randomCode(16)
		pass := func() { o.srv.task(func() { _, _ = e.pass(o.srv.life, o, in, id) }) }
		if e.leader(o.id) != e.self {
			pass()
			return
		}
		o.later(func() {
			if _, err := o.commit(in, id); err != nil && !final(err) {
				pass() // it may be handled already, and then is not again
			}
		})
		return
	}
	select {
	case o.inbox <- request{do: func() error { return o.handle(in, nil) }, use: true}:
	case <-o.gone:
	case <-o.srv.life.Done():
	}
}

// tell passes an input that must not be lost, and returns when its events are out: that
// may take as long as the guild is busy, or others do not answer. False: they will not be,
// as the server goes away, or the input breaks the guild. See call.told.
func (o *owner) tell(in guild.Input) bool {
	pass := o.handled
	if e := o.srv.ensemble; e != nil {
		if t, ok := in.(guild.Typing); ok {
			o.note(onlineNote{Typing: &t})
			o.later(func() { o.typing(t) })
			return true
		}
		id := cmp.Or(onceID(in), randomCode(16))
		pass = func(in guild.Input) error { _, err := e.pass(o.srv.life, o, in, id); return err }
	}
	for {
		err := pass(in)
		switch {
		case err == nil || final(err):
			return true
		case err == errStartsAgain:
			return false
		}
		select {
		case <-o.srv.life.Done():
			return false
		case <-time.After(retryPause):
		}
	}
}

// handled passes an input and waits for it, however long that takes.
func (o *owner) handled(in guild.Input) error {
	r := request{do: func() error { return o.handle(in, nil) }, done: make(chan error, 1), use: true}
	select {
	case o.inbox <- r:
	case <-o.gone:
		return textchat.ErrUnknownGuild
	case <-o.srv.life.Done():
		return errGoingAway
	}
	select {
	case err := <-r.done:
		return err
	case <-o.gone:
		return textchat.ErrUnknownGuild
	case <-o.srv.life.Done():
		return errGoingAway
	}
}

// read looks at the guild. look must keep nothing that a core may change: what
// its methods return is safe. Its results are safe to use only when read
// returned nil.
func read[T any](ctx context.Context, o *owner, look func(*guild.Guild) (T, error)) (T, error) {
	result := new(T)
	err := o.ask(ctx, func() error {
		v, err := look(o.core)
		if err == nil {
			*result = v
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return *result, nil
}
