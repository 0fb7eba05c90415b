package load

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/role"
	"voicefleet/bench/scenario"
)

// member is somebody in a room, from arrival to leave.
type member struct {
	scenario.Member
	// Immutable.
	id    uint32 // in marks: its place in the plan, from 1
	room  scenario.Room
	voice int // of a talker, to be told by ears
	ears  bool

	// Set by join, before joined is.
	bot    *bot // faithful; nil: light
	seat   seat // light: which client of which generator
	leave  func(ctx context.Context) error
	ended  func() error // why the call ended without us; nil while it goes on
	stages stages
	// heardOthers: somebody talked in the room already.
	heardOthers bool

	// Of a talker: what it says in the window. Set before the window, or when it
	// joins within.
	talk lightclient.Talk

	// Set when the member is asked; nil: not judged.
	heard *meter.Result
	first time.Time // light: arrival of the first voice packet

	mu sync.Mutex
	// Guarded by mu.
	due    time.Time // when it was to come
	joined time.Time // zero: not in
	left   time.Time
	failed error
}

// stages are what a join took, one after the other; a stage that a door does not
// have is zero.
type stages struct {
	Placed      time.Duration // asking to join until a media node is named
	Connect     time.Duration // voice WebSocket: TCP, TLS, upgrade
	Ready       time.Duration // identify to ready; at a node: session opened
	Description time.Duration // offer to answer
	ICE         time.Duration // first check to its answer
	DTLS        time.Duration // the handshake
	Server      time.Duration // of ICE and DTLS, the waits for the server's answers
}

// joinTimeout bounds one member's way in.
const joinTimeout = 20 * time.Second

// atOnce bounds the members on their way in when all come at once; those who come
// at times of their own are never held back, up to openAtMost.
const (
	atOnce     = 32
	openAtMost = 2000
)

// arrive brings in the members who come before the window, and lets talkers talk
// from their arrival on, so that those who come later hear something.
func (r *run) arrive(ctx context.Context) error {
	var first []*member
	for _, m := range r.members {
		if !m.Within {
			first = append(first, m)
		}
	}
	closed := r.plan.Scenario.Join.Arrival == scenario.ArrivalAtOnce
	limit := openAtMost
	if closed {
		limit = atOnce
	}
	var in atomic.Int64
	for _, m := range r.members {
		if m.Talks && m.Faithful {
			if _, err := r.track(m.voice); err != nil { // before it is due
				return err
			}
		}
	}
	begun := time.Now()
	showing, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		each(showing, readEvery, func() {
			r.config.Progress.Status(fmt.Sprintf("%d of %d in after %.0f s", in.Load(), len(first), time.Since(begun).Seconds()))
		})
	})
	groups := [][]*member{first}
	if closed {
		// Talkers first: whoever comes then has somebody to hear.
		talks := func(m *member) bool { return m.Talks }
		groups = [][]*member{slices.DeleteFunc(slices.Clone(first), func(m *member) bool { return !talks(m) }), slices.DeleteFunc(slices.Clone(first), talks)}
	}
	var err error
	for _, group := range groups {
		if err = r.joinAll(ctx, group, begun, limit, !closed, func(*member) { in.Add(1) }); err != nil {
			break
		}
	}
	stop()
	shown.Wait()
	if err != nil {
		return err
	}
	r.say("everybody is in after %.1f s", time.Since(begun).Seconds())
	return nil
}

// joinAll has members join at their times since begun, limit at a time. With open
// arrivals a join counts from when it was due, however late it began, and one that
// fails is counted; otherwise the first that fails ends the run.
func (r *run) joinAll(ctx context.Context, members []*member, begun time.Time, limit int, open bool, then func(*member)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var joining sync.WaitGroup
	defer joining.Wait()
	turns := make(chan struct{}, limit)
	for _, m := range members {
		due := begun.Add(m.Arrive)
		if err := until(ctx, due); err != nil {
			return context.Cause(ctx)
		}
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !open {
			due = time.Now()
		}
		joining.Go(func() {
			defer func() { <-turns }()
			err := r.join(ctx, m, due)
			switch {
			case err == nil:
				then(m)
			case open:
				m.mu.Lock()
				m.failed = err
				m.mu.Unlock()
			default:
				cancel(fmt.Errorf("member %d of room %d: %w", m.Seat+1, m.Room+1, err))
			}
		})
	}
	joining.Wait()
	return context.Cause(ctx)
}

// until waits for a moment.
func until(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each calls f every so often until ctx ends.
func each(ctx context.Context, every time.Duration, f func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// join brings one member in.
func (r *run) join(ctx context.Context, m *member, due time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	m.mu.Lock()
	m.due = due
	m.mu.Unlock()
	for _, t := range r.talkers[m.Room] {
		if t != m && t.in() {
			m.heardOthers = true
		}
	}
	if err := r.door.enter(ctx, m); err != nil {
		return err
	}
	m.mu.Lock()
	m.joined = time.Now()
	m.mu.Unlock()
	if m.Talks && !m.Within {
		// Until the window begins all say something short, under nobody's number: what
		// is still on its way when the window's talks begin must not be taken for them.
		return r.speak(ctx, m, lightclient.Talk{Start: time.Now().Add(m.Phase), SmallSize: r.small, Size: r.small, From: never, Voice: lightclient.Filler})
	}
	return nil
}

// never is beyond every run, and still a date that JSON can tell.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// speak has a member talk.
func (r *run) speak(ctx context.Context, m *member, talk lightclient.Talk) error {
	if m.bot == nil {
		return r.light.talk(ctx, m.seat, talk)
	}
	s, err := r.script(m, talk)
	if err != nil {
		return err
	}
	m.bot.talk(context.WithoutCancel(ctx), s)
	return nil
}

// script is a talk for a faithful bot.
func (r *run) script(m *member, talk lightclient.Talk) (script, error) {
	s := script{talker: talk.ID, start: talk.Start, stop: talk.Stop, silence: talk.Silence}
	if s.stop.IsZero() {
		s.stop = never
	}
	var err error
	// Frames that come again after a while do not matter: marks tell them apart.
	if s.track, err = r.track(m.voice); err != nil {
		return s, err
	}
	if talk.Spurts == nil {
		s.speaks = func(uint32) (uint32, bool) { return 0, true }
		return s, nil
	}
	spurts, at := talk.Spurts, 0
	s.speaks = func(index uint32) (uint32, bool) {
		for at < len(spurts) && index >= spurts[at].First+spurts[at].Count {
			at++
		}
		if at < len(spurts) && index >= spurts[at].First {
			return spurts[at].First, true
		}
		return 0, false
	}
	return s, nil
}

// track is the speech of a voice, made once.
func (r *run) track(voice int) (*opus.Track, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tracks[voice]; t != nil {
		return t, nil
	}
	t, err := opus.Talk(r.speech(voice))
	if err != nil {
		return nil, fmt.Errorf("make speech: %w", err)
	}
	r.tracks[voice] = t
	return t, nil
}

// trackFrames is how much speech a faithful bot says over and over: 10 s.
const trackFrames = 500

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// withEars says whether faithful bots hear a talker: then it says real speech, as
// long as that is.
func (r *run) withEars(m *member) bool {
	group := r.plan.Scenario.Rooms[m.room.Group]
	return group.Faithful > 0 || group.Bots == scenario.BotsFaithful
}

// part is what a talker says in the window that begins and ends then.
func (r *run) part(m *member, begin, end time.Time) lightclient.Talk {
	talk := lightclient.Talk{
		ID: m.id, Start: begin.Add(-r.plan.Scenario.Warmup).Add(m.Phase), Stop: end.Add(tail), From: begin, To: end,
		SmallSize: r.small, Size: m.room.Talk.Bytes, Silence: m.room.Talk.Silence, Voice: lightclient.Filler,
	}
	if m.Within {
		// Until it surely is in, and heard by all, it says nothing.
		m.mu.Lock()
		talk.Start = later(begin.Add(m.Arrive), m.joined.Add(settleIn)).Add(m.Phase)
		m.mu.Unlock()
	}
	// On the generators' grid, so that all agree to the nanosecond what is due when.
	talk.Start = talk.Start.Truncate(role.Tick)
	if r.withEars(m) {
		talk.Voice, talk.SmallSize, talk.Size = m.voice, 0, 0
	}
	if m.Leave > 0 {
		talk.Stop = begin.Add(m.Leave)
	}
	if m.Spurts != nil {
		talk.Spurts = make([]lightclient.Spurt, len(m.Spurts))
		for i, s := range m.Spurts {
			talk.Spurts[i] = lightclient.Spurt{First: s.First, Count: s.Count}
		}
	}
	return talk
}

// present is when a member was surely in its room, within a window.
func (m *member) present(begin, end time.Time) (from, to time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = begin, end
	if m.joined.IsZero() {
		return begin, begin
	}
	if late := m.joined.Add(settleIn); late.After(from) && m.Within {
		from = late
	}
	if m.Leave > 0 {
		if leaves := begin.Add(m.Leave); leaves.Before(to) {
			to = leaves
		}
	}
	if to.Before(from) {
		to = from
	}
	return from, to
}

// expected are the spans of a talker's packets that a listener who was in from
// and to is to get.
func (m *member) expected(from, to time.Time, gated bool) []meter.Span {
	talk := m.talk
	talkFrom, talkTo := m.present(talk.From, talk.To)
	if talkFrom.After(from) {
		from = talkFrom
	}
	if talkTo.Before(to) {
		to = talkTo
	}
	if !from.Before(to) {
		return nil
	}
	talk.From, talk.To = from, to
	spans := talk.Spans(role.Tick, to)
	if gated {
		// What a server does with silence is its own affair.
		spans = slices.DeleteFunc(spans, func(s meter.Span) bool { return !s.Voiced })
	}
	return spans
}

// in says whether a member is in its room.
func (m *member) in() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.joined.IsZero() && m.left.IsZero()
}

// firstAudio is when the first voice packet came; zero: not known.
func (m *member) firstAudio() time.Time {
	if m.bot != nil {
		m.bot.mu.Lock()
		defer m.bot.mu.Unlock()
		return m.bot.first
	}
	return m.first
}
