package chatserver

import (
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/balance"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// Several instances on one store serve the same guilds together: an ensemble. One
// instance leads a guild: inputs are its to handle. All that have sessions of the
// guild, or were asked for it, follow it: they have a core of their own, to which
// they apply what the leader writes into the guild's log, and from which they serve
// their own sessions and requests. Which instance leads is agreed without a word
// (rendezvous hashing over the live ones), but for hot guilds that one gave to an
// emptier one, see leads.go; should two believe that they do, the log
// takes the entries of one, and the other learns of it.

const (
	// leaseEvery is how often an instance says that it lives, suspectFor how long one
	// whose connection closed, or that did not answer, is passed over if it says
	// nothing more.
	leaseEvery = time.Second
	suspectFor = 5 * time.Second
	// largestDo bounds an input that is passed on, in bytes: a message with all it may
	// have, every character of it escaped.
	largestDo = 900 << 10
	// leadTry is how long one attempt waits for the leader of a guild, retryPause what
	// passes before the next.
	leadTry    = 1500 * time.Millisecond
	retryPause = 100 * time.Millisecond
	// liveTry is how long an instance waits for what others have of a guild, or for a part
	// of it of livePart bytes, which are a third more as they travel; liveMost bounds all
	// parts: with 200,000 online they are some 15 MiB.
	liveTry  = 2 * time.Second
	livePart = 384 << 10
	liveMost = 64 << 20
	// partsKept is how long the rest of an answer is kept for who asked, partsMost how many
	// of them.
	partsKept = 10 * time.Second
	partsMost = 16
	// instanceGrace is how long the sessions of an instance that died may take to go on
	// elsewhere before their users are shown as offline.
	instanceGrace = 10 * time.Second
	// nameWait is how long an instance waits for its name: longer than the lease of one
	// that died, and an election of the bus.
	nameWait = 20 * time.Second
	// firstKey is a key of the log: who appends first makes the first guild, in at most
	// firstWait.
	firstKey  = "first"
	firstWait = 10 * time.Second
	// leadBatch bounds the guilds named in one message.
	leadBatch = 1000
)

// Instance is what an instance tells of itself in bus.TextsBucket.
type Instance struct {
	Began time.Time    `json:"began"`
	Life  string       `json:"life,omitempty"` // of this run
	Load  balance.Load `json:"load"`
}

// ensemble is this instance's view of all of them, and how it speaks to the others.
type ensemble struct {
	// Immutable.
	srv    *Server
	bus    *bus.Conn // nil: this instance is alone
	self   string
	life   string // of this run of the instance
	aead   cipher.AEAD
	all    *bus.Bucket[Instance]
	log    guildLog
	told   *bus.Log // log, of several
	*alone          // nil: there are others, or may be

	known  sync.Once
	synced chan struct{} // closed by known, when all others are in alive
	leads  leads

	mu sync.Mutex
	// Guarded by mu.
	alive   map[string]time.Time // zero, or until when it is passed over
	lives   map[string]string    // of those, where it is known
	members []string             // those that lead guilds, sorted
	loads   map[string]balance.Load
	given   map[textchat.ID]lead // guilds that are led elsewhere than hashing says

	lasts   joints[textchat.ID, uint64] // readings of the last entry of a guild
	order   order
	echoes  echoes
	rounds  rounds
	probed  probe // owned by runOrder
	mirrors mirrors
	parts   parts
	claimed bool // it is this instance's to make what there must be once

	checks chan struct{} // holds one token for each guild that is compared with the store

	usersMu turn
	// Guarded by usersMu.
	users    uint64 // the last entry of bus.UsersKey that was delivered
	usersIDs recent[struct{}]
	past     []usersPast // the last ones
	pastFrom uint64      // since when

	usersBehind atomic.Bool // entries may be missing
}

// guildLog is where the entries of guilds are: a [bus.Log] of several instances, a
// [journal.Journal] of one. Their methods are as those of the first.
type guildLog interface {
	Append(ctx context.Context, key string, last uint64, body []byte) (uint64, error)
	Since(ctx context.Context, key string, after uint64) ([]bus.Record, error)
	Last(ctx context.Context, key string) (uint64, error)
	Position(ctx context.Context) (uint64, error)
}

// turn is a lock that may be held while others are waited for.
type turn chan struct{}

func newTurn() turn    { return make(turn, 1) }
func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// lifeOf names a run of an instance.
func lifeOf(name string, began time.Time) string {
	return name + lifeSep + strconv.FormatInt(began.UnixMilli(), 36)
}

// ensembleOf is the ensemble of an instance that knows of no other.
func ensembleOf(s *Server, name string, began time.Time) *ensemble {
	e := &ensemble{srv: s, bus: s.cfg.Bus, self: name, life: lifeOf(name, began), alive: map[string]time.Time{name: {}}, lives: make(map[string]string), members: []string{name},
		loads: make(map[string]balance.Load), given: make(map[textchat.ID]lead), synced: make(chan struct{}), order: order{tell: make(chan struct{}, 1)}, usersMu: newTurn(), checks: make(chan struct{}, checksAtOnce),
		mirrors: mirrors{of: make(map[string]*mirror), adopted: make(map[string]adoption), adopting: make(map[string]bool)}}
	e.leads.init()
	return e
}

// newEnsemble joins; the server must be served by run.
func newEnsemble(ctx context.Context, s *Server) (*ensemble, error) {
	began := time.Now()
	e := ensembleOf(s, s.cfg.Instance, began)
	e.rounds.torn, e.rounds.unmet = e.bus.Reconnects(), true
	var err error
	if e.all, err = bus.OpenBucket[Instance](ctx, e.bus, bus.TextsBucket); err != nil {
		return nil, err
	}
	if err = e.leads.open(ctx, e.bus); err != nil {
		return nil, err
	}
	if e.told, err = bus.OpenLog(ctx, e.bus, bus.GuildsLog); err != nil {
		return nil, err
	}
	e.log = e.told
	for { // one of this name may have died just now
		_, err = e.all.Create(ctx, e.self, Instance{Began: began, Life: e.life})
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrConflict) {
			return nil, err
		}
		if time.Since(began) > nameWait {
			return nil, fmt.Errorf("another instance %s runs: give each its own --worker", e.self)
		}
		time.Sleep(retryPause)
	}
	if err := e.claim(ctx); err != nil {
		return nil, err
	}
	if e.aead, err = e.sealer(ctx); err != nil {
		return nil, err
	}
	return e, e.begin(ctx)
}

// begin has the order begin where the log is.
func (e *ensemble) begin(ctx context.Context) error {
	seen, err := e.log.Position(ctx)
	if err != nil {
		return err
	}
	e.order.seen.Store(seen)
	e.order.previous = [2]uint64{seen, seen}
	return nil
}

// beginUsers has what belongs to users begin where the log is.
func (e *ensemble) beginUsers(ctx context.Context) error {
	last, err := e.log.Last(ctx, bus.UsersKey)
	if err != nil {
		return err
	}
	e.usersMu.Lock()
	defer e.usersMu.Unlock()
	e.users = max(e.users, last)
	e.pastFrom = max(e.pastFrom, last)
	e.order.mu.Lock()
	defer e.order.mu.Unlock()
	e.order.batch = append(e.order.batch, delivered{P: e.order.p, Key: bus.UsersKey, Seq: e.users})
	return nil
}

// claim finds out whether this instance is the first for a while.
func (e *ensemble) claim(ctx context.Context) error {
	_, err := e.log.Append(ctx, firstKey, 0, []byte(e.self))
	if e.claimed = err == nil; e.claimed || errors.Is(err, bus.ErrConflict) {
		return nil
	}
	return err
}

// run takes part until ctx ends; ready is called when the others are known and can
// ask.
func (e *ensemble) run(ctx context.Context, ready func()) error {
	if e.alone != nil {
		return e.runAlone(ctx, ready)
	}
	users, err := e.told.Follow(ctx, bus.UsersKey, e.toldUsers)
	if err != nil {
		return err
	}
	defer users.Unsubscribe()
	if err := e.beginUsers(ctx); err != nil {
		return err
	}
	serving, err := bus.Serve(ctx, e.bus, bus.Service{
		Name: bus.TextService, Subject: bus.TextSubject(e.self, ""), Metadata: map[string]string{"instance": e.self},
		Verbs: []bus.Verb{bus.HandleUpTo("do", largestDo, e.takeDo), bus.Handle("live", e.takeLive), bus.Handle("lead", e.takeLead),
			bus.Handle("warm", e.takeWarm), bus.Handle("mirror", e.takeMirror), bus.Handle("yield", e.takeYield)},
		Code: refusalOf, Concurrency: 1024, Timeout: askTimeout, Metrics: e.srv.cfg.Metrics, Log: e.srv.cfg.Log,
	})
	if err != nil {
		return err
	}
	defer serving.Stop()
	heard, err := bus.Subscribe(ctx, e.bus, bus.DeliveredSubject, e.hear)
	if err != nil {
		return err
	}
	defer heard.Unsubscribe()
	e.tellOrder(ctx, true)
	var parts sync.WaitGroup
	defer parts.Wait()
	now := time.Now()
	parts.Go(func() {
		bus.LeaseOf(ctx, e.all, e.self, func() Instance { return Instance{now, e.life, e.load()} }, leaseEvery)
	})
	parts.Go(func() { e.all.Watch(ctx, e.see) })
	parts.Go(func() { e.leads.bucket.Watch(ctx, e.seeLead) })
	parts.Go(func() {
		_ = bus.Disconnects(ctx, e.bus, func(name string, _ time.Time) {
			if other, ok := bus.TextOf(name); ok && other != e.self {
				e.suspect(other, true)
			}
		})
	})
	parts.Go(func() { e.sweep(ctx) })
	parts.Go(func() { e.runOrder(ctx) })
	if err := e.met(ctx); err != nil {
		return nil
	}
	for {
		if _, ok := e.abreast(); ok {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryPause):
		}
	}
	ready()
	e.srv.task(func() { e.bury(e.self) }) // what is left of the life before this one
	<-ctx.Done()
	return nil
}

// met waits until it is known who the others are and what they gave one another.
func (e *ensemble) met(ctx context.Context) error {
	for _, known := range []chan struct{}{e.synced, e.leads.synced} {
		select {
		case <-known:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// first says whether this instance is the one that makes what there must be once.
// Another one then has made it.
func (e *ensemble) first(ctx context.Context) (bool, error) {
	if e.claimed {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for {
		if _, err := e.srv.firstGuild(ctx); !errors.Is(err, textchat.ErrNoRecord) && !errors.Is(err, textchat.ErrBusy) {
			return false, err
		}
		select {
		case <-ctx.Done():
			return true, nil // it died on the way
		case <-time.After(retryPause):
		}
	}
}

// sweep looks after what no message tells: suspects that were none, and what was
// missed while the bus was away.
func (e *ensemble) sweep(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		var reconnected <-chan struct{} // never, of one that is alone
		if e.bus != nil {
			reconnected = e.bus.Reconnected()
		}
		select {
		case <-ctx.Done():
			return
		case <-reconnected:
			e.heal()
			e.catchUpUsers()
			for _, o := range e.srv.loaded() {
				o.soon(func() {
					o.catchUp()
					o.pagesAnew()
				})
			}
		case now := <-tick.C:
			e.mu.Lock()
			for name, until := range e.alive {
				if !until.IsZero() && now.After(until) {
					e.alive[name] = time.Time{}
				}
			}
			e.mu.Unlock()
			e.review("")
			for _, o := range e.srv.loaded() {
				switch {
				case o.behind.Load():
					o.soon(o.catchUp)
				case o.mine() != o.leads.Load():
					o.soon(o.lead)
				}
			}
			if e.usersBehind.Load() {
				e.catchUpUsers()
			}
			e.heal()
			e.parts.sweep(now)
			e.balance(now)
		}
	}
}

// see takes a change of the list of instances.
func (e *ensemble) see(c bus.Change[Instance]) {
	if c.Synced {
		e.known.Do(func() { close(e.synced) })
		return
	}
	e.mu.Lock()
	died, again := "", false
	if c.Gone {
		delete(e.alive, c.Key)
		delete(e.loads, c.Key)
		delete(e.lives, c.Key)
		died = c.Key
	} else {
		e.alive[c.Key] = time.Time{}
		before, known := e.lives[c.Key]
		again = known && before != c.Value.Life
		e.lives[c.Key] = c.Value.Life
		if c.Key != e.self {
			e.loads[c.Key] = c.Value.Load
		}
	}
	e.mu.Unlock()
	if again {
		e.srv.task(func() { e.bury(c.Key) })
	}
	e.review(died)
}

// suspect passes an instance over until it says again that it lives; died says that
// its connection is closed, not only that it does not answer.
func (e *ensemble) suspect(name string, died bool) {
	e.mu.Lock()
	if _, ok := e.alive[name]; ok && name != e.self {
		e.alive[name] = time.Now().Add(suspectFor)
	}
	e.mu.Unlock()
	if !died {
		name = ""
	}
	e.review(name)
}

// review makes the list of members anew. When it is another one guilds may have
// other leaders. died, when set, is an instance that ended without having told all,
// perhaps.
func (e *ensemble) review(died string) {
	e.mu.Lock()
	members := []string{}
	for name, until := range e.alive {
		if until.IsZero() || name == e.self {
			members = append(members, name)
		}
	}
	if !slices.Contains(members, e.self) {
		members = append(members, e.self)
	}
	slices.Sort(members)
	before := e.members
	same := slices.Equal(before, members)
	e.members = members
	e.mu.Unlock()
	if same {
		return
	}
	e.srv.metrics.instances.Set(float64(len(members)))
	e.srv.cfg.Log.Info("text instances", "now", members, "before", before)
	for _, name := range members {
		if !slices.Contains(before, name) {
			e.srv.task(func() { _ = e.learn(name) })
		}
	}
	led := make(map[string][]textchat.ID)
	for _, o := range e.srv.loaded() {
		if lead := e.leader(o.id); lead != e.self {
			led[lead] = append(led[lead], o.id)
		}
		o.soon(o.lead)
		if died != "" && e.leaderOf(before, o.id) == died {
			e.srv.task(o.compare)
		}
	}
	for lead, ids := range led {
		for batch := range slices.Chunk(ids, leadBatch) {
			e.srv.task(func() { e.askLead(lead, batch) })
		}
	}
	for _, name := range before {
		if !slices.Contains(members, name) {
			e.srv.task(func() { e.bury(name) })
		}
	}
}

// bury has the sessions of the lives of an instance forgotten that are over.
func (e *ensemble) bury(name string) {
	over := func(life string) bool { return instanceOf(life) == name && e.over(life) }
	for _, step := range []struct {
		after time.Duration
		do    func(o *owner)
	}{{e.srv.instanceGrace, func(o *owner) { o.dim(over) }}, {e.srv.resumeWindow, func(o *owner) { o.bury(over) }}} {
		select {
		case <-e.srv.life.Done():
			return
		case <-time.After(step.after):
		}
		for _, o := range e.srv.loaded() {
			o.soon(func() { step.do(o) })
		}
	}
}

// over says whether a life of an instance has ended: it has another one now, or has
// vanished and nothing is heard of it.
func (e *ensemble) over(life string) bool {
	name := instanceOf(life)
	e.mu.Lock()
	_, alive := e.alive[name]
	now := e.lives[name]
	e.mu.Unlock()
	switch {
	case alive && now != "":
		return life != now
	case alive && life == name:
		return false
	}
	return !e.mirrors.lives(life)
}

// leader is the instance that leads a guild, of those that live.
func (e *ensemble) leader(id textchat.ID) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leaderLocked(e.members, id)
}

// leaderOf is leader when others live.
func (e *ensemble) leaderOf(members []string, id textchat.ID) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leaderLocked(members, id)
}

func (e *ensemble) leaderLocked(members []string, id textchat.ID) string {
	if l, ok := e.given[id]; ok && slices.Contains(members, l.Instance) {
		return l.Instance
	}
	return leaderOf(members, id)
}

// leaderOf is rendezvous hashing: every instance has a weight for the guild, the
// heaviest leads. Whoever comes or goes changes nothing between the others.
func leaderOf(members []string, id textchat.ID) string {
	return slices.MaxFunc(members, func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(a, id), weight(b, id)), cmp.Compare(a, b))
	})
}

func weight(name string, id textchat.ID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	x := h.Sum64() ^ uint64(id)
	// The finalizer of splitmix64: neighbours do not stay neighbours.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// others are the instances besides this one that are believed to live.
func (e *ensemble) others() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.members), func(n string) bool { return n == e.self })
}

// neighbours are the others, those that are passed over for a while included.
func (e *ensemble) neighbours() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e.alive)), func(n string) bool { return n == e.self })
}

// Requests of one instance to another.
type (
	doRequest struct {
		Guild textchat.ID  `json:"guild"`
		ID    string       `json:"id"` // of the input: it is handled once
		Input guild.Parcel `json:"input"`
	}
	doReply struct {
		Seq    uint64  `json:"seq"` // of the entry that it led to, zero for none
		Result *result `json:"result,omitempty"`
	}
	// result is what a guild.Out has for who asked.
	result struct {
		Role    *textchat.Role    `json:"role,omitempty"`
		Channel *textchat.Channel `json:"channel,omitempty"`
		Member  *textchat.Member  `json:"member,omitempty"`
		Guild   *textchat.Guild   `json:"guild,omitempty"`
	}
	liveRequest struct {
		Guild  textchat.ID `json:"guild"`
		From   string      `json:"from"`
		Parted bool        `json:"parted"` // the answer may come in parts
		// Parts, when set, names the answer of which the part from Offset on is wanted.
		Parts  string `json:"parts,omitempty"`
		Offset int    `json:"offset,omitempty"`
	}
	// liveReply is what an instance has of a guild, if it has it; or one part of that.
	liveReply struct {
		Parts string `json:"parts,omitempty"`
		Size  int    `json:"size,omitempty"` // of all parts, in bytes
		Part  []byte `json:"part,omitempty"`

		Loaded bool                                          `json:"loaded"`
		Life   string                                        `json:"life,omitempty"` // of the instance
		Seq    uint64                                        `json:"seq"`
		Live   *guild.Delta                                  `json:"live,omitempty"`
		Online map[textchat.ID]gatewaysession.PresenceUpdate `json:"online,omitempty"` // by its own sessions
		Recent []recentInput                                 `json:"recent,omitempty"` // inputs handled as of late
	}
	recentInput struct {
		ID    string  `json:"id"`
		Reply doReply `json:"reply"`
	}
	leadRequest struct {
		Guilds []textchat.ID `json:"guilds"`
	}
)

func resultOf(out *guild.Out) *result {
	if out.Role == nil && out.Channel == nil && out.Member == nil && out.Guild == nil {
		return nil
	}
	return &result{out.Role, out.Channel, out.Member, out.Guild}
}

func (r *result) out() (out guild.Out) {
	if r != nil {
		out.Role, out.Channel, out.Member, out.Guild = r.Role, r.Channel, r.Member, r.Guild
	}
	return out
}

// final says that asking again changes nothing.
func final(err error) bool {
	var refusal *textchat.Error
	return errors.As(err, &refusal) && refusal.Status != http.StatusServiceUnavailable
}

// refused is a textchat.Error with what JSON leaves out, as it crosses the bus.
type refused struct {
	Status     int                            `json:"status"`
	Code       int                            `json:"code"`
	Message    string                         `json:"message"`
	Fields     map[string]textchat.FieldError `json:"fields,omitempty"` // as they are, not nested
	RetryAfter time.Duration                  `json:"retry_after,omitempty"`
}

const codeRefused = "refused"

// refusalOf puts a refusal into words that errorOf understands.
func refusalOf(err error) (code, message string) {
	var e *textchat.Error
	if !errors.As(err, &e) {
		return "unavailable", err.Error()
	}
	r := refused{Status: e.Status, Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter, Fields: e.Fields}
	return codeRefused, string(encode(r))
}

// errorOf is the refusal that came over the bus, or nil when it was none.
func errorOf(err error) *textchat.Error {
	var e *bus.Error
	var r refused
	if !errors.As(err, &e) || e.Code != codeRefused || json.Unmarshal([]byte(e.Message), &r) != nil {
		return nil
	}
	return &textchat.Error{Status: r.Status, Code: r.Code, Message: r.Message, RetryAfter: r.RetryAfter, Fields: r.Fields}
}

// takeDo handles an input that another instance passes on. Who asks believes that
// this one leads; if it does not the log refuses.
func (e *ensemble) takeDo(ctx context.Context, req doRequest) (doReply, error) {
	if req.Input.Input == nil || req.ID == "" {
		return doReply{}, textchat.Refuse(400, textchat.CodeGeneral, "This is no input.")
	}
	o, err := e.srv.owner(req.Guild)
	if err != nil {
		return doReply{}, err
	}
	var rep doReply
	err = o.ask(ctx, func() error {
		var err error
		rep, err = o.commit(req.Input.Input, req.ID)
		return err
	})
	if err != nil {
		return doReply{}, err // the owner may write the other still
	}
	return rep, nil
}

// takeLive tells what this instance has of a guild.
func (e *ensemble) takeLive(ctx context.Context, req liveRequest) (liveReply, error) {
	if req.Parts != "" {
		return e.parts.part(req.Parts, req.Offset)
	}
	e.srv.mu.RLock()
	o := e.srv.owners[req.Guild]
	e.srv.mu.RUnlock()
	if o == nil || o.loading.Load() || o.asleep.Load() || req.From == e.self {
		return liveReply{}, nil
	}
	var rep liveReply
	err := o.ask(ctx, func() error {
		b, err := json.Marshal(o.core.Live()) // it must not change while it is written
		if err != nil {
			return err
		}
		rep = liveReply{Loaded: true, Life: e.life, Seq: o.applied, Live: new(guild.Delta), Online: o.onlineHere()}
		for _, id := range o.recent.order[max(0, len(o.recent.order)-recentTold):] {
			known, _ := o.recent.get(id)
			rep.Recent = append(rep.Recent, recentInput{id, known})
		}
		return json.Unmarshal(b, rep.Live)
	})
	if err != nil {
		return liveReply{}, err
	}
	if req.Parted {
		if body := encode(rep); len(body) > livePart {
			return e.parts.keep(time.Now(), body)
		}
	}
	return rep, nil
}

// errNotLed says that the instance that was asked does not lead the guild yet.
var errNotLed = errors.New("chatserver: this guild is led elsewhere, as far as is known here")

// takeLead has this instance look after guilds that it leads now. Those it does not
// lead yet, as far as it knows, are to be asked for again.
func (e *ensemble) takeLead(_ context.Context, req leadRequest) (bus.Done, error) {
	var refused error
	for _, id := range req.Guilds {
		if e.leader(id) != e.self {
			refused = errNotLed
			continue
		}
		if o, err := e.srv.owner(id); err == nil {
			o.soon(o.lead)
		}
	}
	return bus.Done{}, refused
}

// askLead has another instance look after guilds that it leads. It may learn that later
// than this one did.
func (e *ensemble) askLead(name string, ids []textchat.ID) {
	ctx, cancel := context.WithTimeout(e.srv.life, askTimeout)
	defer cancel()
	for {
		if _, err := bus.Request[leadRequest, bus.Done](ctx, e.bus, bus.TextSubject(name, "lead"), leadRequest{ids}); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryPause):
		}
		ids = slices.DeleteFunc(ids, func(id textchat.ID) bool { return e.leader(id) != name })
		if len(ids) == 0 {
			return
		}
	}
}

// pass has the leader of a guild handle an input, whoever that is by then, once for
// each id.
func (e *ensemble) pass(ctx context.Context, o *owner, in guild.Input, id string) (guild.Out, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req := doRequest{Guild: o.id, ID: id, Input: guild.Parcel{Input: in}}
	for {
		lead := e.leader(o.id)
		var rep doReply
		var err error
		if lead == e.self {
			err = o.ask(ctx, func() error {
				var err error
				rep, err = o.commit(in, req.ID)
				return err
			})
		} else {
			rep, err = e.askDo(ctx, lead, req)
		}
		switch {
		case err == nil:
			if lead != e.self && rep.Seq != 0 {
				o.await(ctx, rep.Seq)
			}
			return rep.Result.out(), nil
		case final(err):
			return guild.Out{}, err
		}
		select {
		case <-ctx.Done():
			return guild.Out{}, textchat.Unavailable("This guild is busy, try again.", time.Second)
		case <-e.srv.life.Done():
			return guild.Out{}, textchat.Unavailable("The server is going away.", time.Second)
		case <-time.After(retryPause):
		}
	}
}

func (e *ensemble) askDo(ctx context.Context, lead string, req doRequest) (doReply, error) {
	try, cancel := context.WithTimeout(ctx, leadTry)
	defer cancel()
	rep, err := bus.Request[doRequest, doReply](try, e.bus, bus.TextSubject(lead, "do"), req)
	if refusal := errorOf(err); refusal != nil {
		return rep, refusal
	}
	answered := (*bus.Error)(nil)
	switch {
	case err == nil || ctx.Err() != nil || e.bus.Ready() != nil:
	case errors.As(err, &answered):
		if answered.Code == bus.CodeBadRequest {
			return rep, textchat.Refuse(http.StatusBadRequest, textchat.CodeTooLarge, "This is too large.")
		}
	default:
		e.suspect(lead, errors.Is(err, bus.ErrNobody)) // gone, or frozen: if it is not it says so within a second
	}
	return rep, err
}

// gather asks all others what they have of a guild. One that lives and does not answer
// may have it.
func (e *ensemble) gather(ctx context.Context, id textchat.ID) (map[string]liveReply, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	found := make(map[string]liveReply)
	var failed error
	for _, name := range e.others() {
		all.Go(func() {
			rep, err := e.askLive(ctx, name, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, bus.ErrNobody):
				e.srv.task(func() { e.suspect(name, true) })
			case err != nil:
				failed = err
			case rep.Loaded:
				found[name] = rep
			}
		})
	}
	all.Wait()
	return found, failed
}

// usersPast is one that was, for sessions that come from elsewhere.
type usersPast struct {
	seq   uint64
	at    time.Time
	entry usersEntry
}

// usersEntry is an entry of bus.UsersKey; one of its parts is set.
type usersEntry struct {
	ID    string      `json:"id,omitempty"` // of several with one id the first counts
	Event *usersEvent `json:"event,omitempty"`
	End   *usersEnd   `json:"end,omitempty"`
	Enter *usersMove  `json:"enter,omitempty"`
	Leave *usersMove  `json:"leave,omitempty"`
}

type (
	// usersEvent is an event for all sessions of users that want it.
	usersEvent struct {
		Users  []textchat.ID    `json:"users"`
		Name   string           `json:"name"`
		Intent textchat.Intents `json:"intent"`
		Body   json.RawMessage  `json:"body"`
	}
	// usersEnd ends the sessions of a user, all or those of one token.
	usersEnd struct {
		User  textchat.ID         `json:"user"`
		Token *textchat.TokenHash `json:"token,omitempty"`
	}
	// usersMove makes a user's sessions listen to a guild that it entered. That it left
	// one is for sessions that come from elsewhere.
	usersMove struct {
		User  textchat.ID `json:"user"`
		Guild textchat.ID `json:"guild"`
	}
)

// tellUsers does something for the sessions of users, wherever they are.
func (s *Server) tellUsers(ctx context.Context, u usersEntry) error {
	if s.ensemble == nil {
		s.forUsers(u, 0)
		return nil
	}
	if s.isAlone() {
		return s.ensemble.tellUsersAlone(u)
	}
	// What is said of a user is not lost because an asker does not wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	if _, err := s.ensemble.log.Append(ctx, bus.UsersKey, bus.Any, encode(u)); err != nil {
		s.cfg.Log.Warn("tell the other instances", "err", err)
		return textchat.Unavailable("The other servers cannot be told now, try again.", time.Second)
	}
	return nil
}

// forUsers does it here; at is the position of an event.
func (s *Server) forUsers(u usersEntry, at uint64) {
	switch {
	case u.Event != nil:
		e := gatewayEvent(u.Event.Name, u.Event.Body)
		e.At = at
		files := filedBody(e)
		for _, id := range u.Event.Users {
			for _, x := range s.hub.of(id) {
				switch {
				case u.Event.Intent&^x.intents != 0 || !x.shardHas(0):
				case files != nil:
					x.deliver(files.of(x))
				default:
					x.deliver(e)
				}
			}
		}
	case u.End != nil:
		for _, x := range s.hub.of(u.End.User) {
			if u.End.Token == nil || x.token == *u.End.Token {
				x.finish(textchat.CloseAuthFailed)
			}
		}
	case u.Enter != nil:
		list := s.hub.of(u.Enter.User)
		if len(list) == 0 {
			return
		}
		if o, err := s.owner(u.Enter.Guild); err == nil {
			o.soon(func() {
				if s.ensemble != nil && o.core.Member(u.Enter.User) == nil {
					o.catchUp() // that entry is on its way
				}
				if o.core == nil || o.core.Member(u.Enter.User) == nil {
					return // it has left again
				}
				for _, x := range list {
					o.add(x)
				}
			})
		}
	}
}

func (e *ensemble) toldUsers(r bus.Record) {
	e.usersMu.Lock()
	defer e.usersMu.Unlock()
	switch {
	case r.Seq <= e.users:
	case r.Prev > e.users || r.Prev == 0:
		e.catchUpUsersLocked()
	default:
		e.usersLocked(r)
	}
}

func (e *ensemble) usersLocked(r bus.Record) {
	e.users = r.Seq
	e.order.sawEntry(r.Seq)
	var u usersEntry
	if err := json.Unmarshal(r.Body, &u); err != nil {
		e.srv.cfg.Log.Error("malformed entry", "key", bus.UsersKey, "err", err)
		return
	}
	if e.knownLocked(u.ID) {
		return
	}
	e.usersIDs.put(u.ID, struct{}{})
	now := time.Now()
	e.past = append(e.past, usersPast{r.Seq, now, u})
	for len(e.past) > historyKept || now.Sub(e.past[0].at) > textchat.ResumeWindow+time.Minute {
		e.pastFrom = e.past[0].seq
		e.past = e.past[1:]
	}
	if u.Event == nil {
		e.srv.forUsers(u, 0)
		return
	}
	e.order.mu.Lock()
	defer e.order.mu.Unlock()
	at := e.order.take()
	e.srv.forUsers(u, at)
	e.order.batch = append(e.order.batch, delivered{P: at, Key: bus.UsersKey, Seq: r.Seq})
	e.order.signal()
}

// knownLocked says whether an entry of an id has been told.
func (e *ensemble) knownLocked(id string) bool {
	_, known := e.usersIDs.get(id)
	return known
}

func (e *ensemble) catchUpUsers() {
	e.usersMu.Lock()
	defer e.usersMu.Unlock()
	e.catchUpUsersLocked()
}

func (e *ensemble) catchUpUsersLocked() {
	ctx, cancel := context.WithTimeout(e.srv.life, askTimeout)
	defer cancel()
	list, err := e.log.Since(ctx, bus.UsersKey, e.users)
	e.usersBehind.Store(err != nil)
	if err != nil {
		e.srv.cfg.Log.Warn("read what was missed", "key", bus.UsersKey, "err", err)
		return
	}
	for _, r := range list {
		e.usersLocked(r)
	}
}

// recent remembers values by id, the last ones.
type recent[V any] struct {
	values map[string]V
	order  []string // oldest first
}

func (r *recent[V]) get(id string) (V, bool) {
	v, ok := r.values[id]
	return v, ok
}

func (r *recent[V]) put(id string, v V) {
	if id == "" {
		return
	}
	if r.values == nil {
		r.values = make(map[string]V)
	}
	if _, known := r.values[id]; !known {
		r.order = append(r.order, id)
	}
	r.values[id] = v
	if len(r.order) > recentInputs {
		delete(r.values, r.order[0])
		r.order = r.order[1:]
	}
}

// loaded are the guilds that are loaded here, or about to be.
func (s *Server) loaded() []*owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*owner, 0, len(s.owners))
	for _, o := range s.owners {
		if !o.asleep.Load() {
			list = append(list, o)
		}
	}
	return list
}
