package sfuserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/call"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/dtlsterm"
	"voicefleet/sfu/internal/ear"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/icelite"
	"voicefleet/sfu/internal/video"
)

// wheelSlots is how many ticks one turn of the wheel takes: a second. Each
// session hangs in one slot, so that their periodic work is spread evenly
// without a timer each.
const wheelSlots = int(time.Second / call.TickEvery)

// briskGap is how far apart packets may come to a worker that waits for them alone.
const briskGap = sfu.RelayEvery + time.Millisecond

// worker owns one port, and the calls and sessions on it.
type worker struct {
	// Immutable.
	srv    *Server
	number int // among the workers
	sock   *socket
	mail   *mail
	start  time.Time
	noGate bool

	// Owned by run.
	sessions map[sfu.SessionID]*session
	calls    map[sfu.CallID]*room
	byUfrag  map[string]*session
	byRemote map[demux.Remote]*session
	bySSRC   map[uint32]*session // of their microphones; the first of equals
	agent    agent
	limiter  *icelite.Limiter
	prober   *icelite.Prober
	wheel    [wheelSlots][]*session
	turn     int
	due      time.Duration // the next tick
	out      *egress.Batch
	relay    *egress.Bundle
	count    counters
	turned   time.Duration // when the loop did last
	came     time.Duration // when packets did last
	gap      time.Duration // the widest between packets since the last tick
	widest   time.Duration // that of the tick before
	worked   time.Duration // at work in all, not waiting
	fence    uint64        // number of the fence that is up; 0: none
	fencedAt time.Duration
	blame    *room      // whose packet, order or tick is worked on
	busy     sfu.CallID // its id, or that of the last one, as the ledger has it
	shed     shedder

	// Scratch of the call under way.
	compound, sealed []byte

	mu sync.Mutex
	// Guarded by mu: what the load is told from, written once a second.
	reading reading
}

// counters are what a worker counts.
type counters struct {
	call.Counters
	video                                                  video.Counters
	packetsIn, bytesIn, checks, probes, handshakes, panics uint64
}

// The names of evidence, and one for none of it.
var _ [ear.Kinds + 1]string = sfu.Hearings

// reading is a worker's part of the load.
type reading struct {
	counters
	socketDrops         uint64
	sessions, connected int
	cameras             int
	shedding            bool
	calls               []sfu.CallReading
	losses              []float64 // of its sessions
	worked, at          time.Duration
	busy                float64 // share of the time since the reading before
	hearing             [ear.Kinds + 1]int
}

func newWorker(srv *Server, number int, sock *socket, limits sfu.Limits, noGate bool) *worker {
	w := &worker{
		srv: srv, number: number, sock: sock, start: srv.start, noGate: noGate,
		sessions: make(map[sfu.SessionID]*session),
		calls:    make(map[sfu.CallID]*room),
		byUfrag:  make(map[string]*session),
		byRemote: make(map[demux.Remote]*session),
		bySSRC:   make(map[uint32]*session),
		limiter:  icelite.NewLimiter(limits.ChecksPerPrefix, srv.start),
		prober:   icelite.NewProber(srv.start),
		compound: make([]byte, 0, sfu.MaxDatagram),
		sealed:   make([]byte, 0, sfu.MaxDatagram),
	}
	w.shed.limit = limits.ShedVideo
	w.mail, w.relay = &mail{wake: sock.wake}, egress.NewBundle()
	w.out = egress.NewBatch(func(b *egress.Batch) {
		if w.late() {
			w.count.Drops[sfu.DropFenced] += uint64(b.Len())
			return
		}
		w.count.Drops[sfu.DropSend] += sock.send(b)
	})
	return w
}

// run serves until the context ends. Whoever cancels it wakes the socket, too.
func (w *worker) run(ctx context.Context) error {
	defer w.stop()
	armed := time.Duration(-1) // until when the socket waits
	w.turned = time.Since(w.start)
	for ctx.Err() == nil {
		until := w.due
		if !w.brisk() {
			until = min(until, w.relay.Due())
		}
		if until != armed {
			// Orders posted before this wake nobody; those posted after it end
			// the wait.
			if err := w.sock.conn.SetReadDeadline(w.start.Add(until)); err != nil {
				return fmt.Errorf("arm socket: %w", err)
			}
			armed = until
			if !w.mail.empty() || ctx.Err() != nil {
				now := time.Since(w.start)
				w.looped(now)
				w.orders(now)
				w.flush(now)
				continue
			}
		}
		n, err := w.sock.receive()
		if err != nil {
			return err
		}
		now := time.Since(w.start)
		w.looped(now)
		for at := 0; at < n; {
			at = w.packets(now, at, n)
		}
		if n == 0 {
			armed = -1
		} else {
			w.pace(now)
		}
		w.orders(now)
		if now >= w.due {
			w.tick(now)
		}
		w.flush(now)
		w.worked += time.Since(w.start) - now
	}
	return nil
}

// brisk says that packets come so steadily that the next ones bring about what is due
// with no timer. Arming one wakes a thread of Go's scheduler, and it ends a wait by
// itself: together that costs more than it takes to send what waits. Voice repeats
// itself every tick, so the gaps of the last one are those of this one; should nothing
// come any more, what waits goes with the next tick.
func (w *worker) brisk() bool { return w.widest <= briskGap }

// pace notes that packets came.
func (w *worker) pace(now time.Duration) {
	w.gap = max(w.gap, now-w.came)
	w.came = now
}

// flush ends a round: all that is to be sent goes, and nobody's work is under way.
func (w *worker) flush(now time.Duration) {
	w.relay.Send(now, w.out)
	w.out.Flush()
	w.rest()
}

// stop ends what the sessions have running elsewhere.
func (w *worker) stop() {
	for _, s := range w.sessions {
		s.ended = true
		if s.handshake != nil {
			s.handshake.Cancel()
		}
	}
}

// orders does what was posted.
func (w *worker) orders(now time.Duration) {
	for _, o := range w.mail.take() {
		w.guard(now, func() { o(now) })
	}
}

// guard runs work that may panic; if it does, the call to blame ends.
func (w *worker) guard(now time.Duration, work func()) {
	defer w.recovered(now)
	w.blame = nil
	work()
}

// workOn notes whose work begins: for a panic, and for the engine after this one
// if that work ends the process.
func (w *worker) workOn(r *room) {
	w.blame = r
	if w.busy != r.id {
		w.busy = r.id
		w.srv.ledger.Busy(w.number, uint64(r.id.ID))
	}
}

// rest notes that nobody's work is under way.
func (w *worker) rest() {
	if w.busy.ID != 0 {
		w.busy = sfu.CallID{}
		w.srv.ledger.Busy(w.number, 0)
	}
}

// recovered is deferred around all work for calls: a panic ends the call it
// happened in, and no other.
func (w *worker) recovered(now time.Duration) {
	what := recover()
	if what == nil {
		return
	}
	w.count.panics++
	w.srv.log.Error("panic in a call", "panic", what, "stack", string(debug.Stack()))
	r := w.blame
	w.blame = nil
	if r == nil {
		return
	}
	// The core's state is not to be trusted any more: the sessions go without it.
	for _, s := range slices.Clone(r.sessions) {
		w.forget(s, sfu.EndPanic)
	}
}

// tick does what time alone brings about.
func (w *worker) tick(now time.Duration) {
	w.due = now + call.TickEvery
	w.widest, w.gap = max(w.gap, now-w.came), 0
	w.lift(now)
	if w.fence == 0 {
		for _, r := range w.calls {
			w.tickCall(now, r)
		}
	}
	w.turn = (w.turn + 1) % wheelSlots
	for _, s := range slices.Clone(w.wheel[w.turn]) {
		w.tickSession(now, s)
	}
	if w.turn == 0 {
		w.publish(now)
		if w.shed.second(now, w.reading.busy) {
			w.shedVideo(now)
		}
	}
}

func (w *worker) tickCall(now time.Duration, r *room) {
	defer w.recovered(now)
	w.workOn(r)
	r.core.Tick(now, w.out)
	r.video.Tick(now, w.out)
	for _, m := range r.video.Asking(now) {
		if s := w.sessions[m.Session]; s != nil {
			w.sendRTCP(s, r.video.AppendRequests(now, m, w.compound[:0]))
		}
	}
}

// tickSession is the work of one second for a session.
func (w *worker) tickSession(now time.Duration, s *session) {
	defer w.recovered(now)
	w.workOn(s.call)
	connected := s.opener != nil
	switch {
	case w.fence != 0:
		return
	case s.negotiated == 0:
		if now-s.opened >= idleTimeout {
			w.end(now, s, sfu.EndIdle)
		}
		return
	case now-max(s.checked, s.negotiated) >= sfu.ConsentTimeout:
		w.end(now, s, sfu.EndConsent)
		return
	case !connected:
		// A handshake ends by itself, but a client may never begin one.
		if s.handshake == nil && now-s.negotiated >= idleTimeout {
			w.end(now, s, sfu.EndHandshake)
		}
		return
	}
	switch s.call.core.Listen(now, &s.member, max(s.checked, s.paths[s.active].heard)) {
	case ear.Deaf:
		w.srv.events.deaf(sfu.Deaf{Call: s.call.id, Session: s.id, User: s.user})
	case ear.Hears:
		w.srv.events.deaf(sfu.Deaf{Call: s.call.id, Session: s.id, User: s.user, Hears: true})
	}
	if s.turns++; s.turns%int(call.ReportEvery/time.Second) == 0 {
		w.report(now, s)
	}
	if s.filmed() {
		w.sendRTCP(s, s.call.video.AppendReport(now, &s.viewer, w.compound[:0]))
	}
	if !w.srv.shared && s.outdated() {
		w.srv.events.snapshot(s.snapshot(now, w))
	}
}

// report sends the RTCP that is due to a session.
func (w *worker) report(now time.Duration, s *session) {
	w.sendRTCP(s, s.call.core.AppendReport(now, &s.member, w.compound[:0]))
}

// sendRTCP sends a compound, if there is any, to a session that has shown to receive.
func (w *worker) sendRTCP(s *session, compound []byte) {
	if len(compound) == 0 || !s.paths[s.active].proven || s.srtcp > crypt.MaxRTCPIndex {
		return
	}
	datagram := s.sealer.SealRTCP(w.out.Next(), compound, s.srtcp)
	s.srtcp++
	s.record.Reported(s.srtcp)
	w.out.Put(datagram, &s.paths[s.active].out)
}

// publish writes the worker's part of the load.
func (w *worker) publish(now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.reading
	if now > r.at {
		r.busy = min(1, float64(w.worked-r.worked)/float64(now-r.at))
	}
	r.worked, r.at = w.worked, now
	r.cameras, r.shedding = 0, w.shed.on
	r.counters, r.socketDrops = w.count, w.sock.drops()
	r.sessions, r.connected, r.calls = len(w.sessions), 0, r.calls[:0]
	for id, c := range w.calls {
		r.connected += c.core.Members()
		r.cameras += c.video.Cameras()
		r.calls = append(r.calls, sfu.CallReading{Call: id, Sessions: len(c.sessions), Speakers: c.core.Speakers()})
	}
	r.losses, r.hearing = r.losses[:0], [ear.Kinds + 1]int{}
	for _, s := range w.sessions {
		if s.opener == nil {
			continue
		}
		e := s.member.Ear()
		down, known := e.Down.Fraction(now)
		up, also := e.Up.Fraction(now)
		switch {
		case known && also:
			r.losses = append(r.losses, max(down, up))
		case known:
			r.losses = append(r.losses, down)
		case also:
			r.losses = append(r.losses, up)
		}
		by, any := e.By()
		if !any {
			by = ear.Kinds
		}
		r.hearing[by]++
	}
}

// shedVideo has all calls forward video or not, as the shedder says.
func (w *worker) shedVideo(now time.Duration) {
	for _, r := range w.calls {
		r.video.Shed(now, w.shed.on)
	}
	if w.shed.on {
		w.srv.log.Warn("too much to do: video is not forwarded, so that voices are", "worker", w.number, "busy", w.shed.busy, "for", w.shed.hold)
	} else {
		w.srv.log.Info("video is forwarded again", "worker", w.number)
	}
}

// add takes a session over.
func (w *worker) add(now time.Duration, s *session, id sfu.CallID, echo bool) {
	r := w.calls[id]
	if r == nil {
		r = &room{id: id, echo: echo, core: call.New(call.Config{
			ID: id, Echo: echo, NoGate: w.noGate, Epoch: w.start, Facts: w.srv.events, Count: &w.count.Counters,
		}), video: video.New(video.Config{
			ID: id, Echo: echo, Epoch: w.start, Facts: w.srv.events, Count: &w.count.video, Drops: &w.count.Drops,
		})}
		r.video.Shed(now, w.shed.on)
		w.calls[id] = r
	}
	s.call, s.opened = r, now
	r.sessions = append(r.sessions, s)
	w.sessions[s.id] = s
	w.byUfrag[s.local.Ufrag] = s
	slot := len(w.sessions) % wheelSlots
	for i := range w.wheel { // the emptiest, so that bursts of joins spread
		if len(w.wheel[i]) < len(w.wheel[slot]) {
			slot = i
		}
	}
	w.wheel[slot] = append(w.wheel[slot], s)
}

// end ends a session in order: its call hears it stop.
func (w *worker) end(now time.Duration, s *session, why sfu.EndReason) {
	w.workOn(s.call)
	if s.opener != nil {
		s.call.core.Hush(w.fence != 0) // the others may have moved, too
		s.call.core.Leave(now, &s.member, w.out)
		s.call.core.Hush(false)
		if s.filmed() {
			s.call.video.Leave(now, &s.viewer)
		}
	}
	w.forget(s, why)
}

// forget takes a session out of all tables and tells of its end.
func (w *worker) forget(s *session, why sfu.EndReason) {
	s.ended = true
	if s.handshake != nil {
		s.handshake.Cancel()
	}
	delete(w.sessions, s.id)
	delete(w.byUfrag, s.local.Ufrag)
	for i := range s.paths {
		if s.paths[i].remote.IsValid() {
			delete(w.byRemote, s.paths[i].remote)
		}
	}
	for i := range w.wheel {
		if at := slices.Index(w.wheel[i], s); at >= 0 {
			w.wheel[i] = slices.Delete(w.wheel[i], at, at+1)
		}
	}
	if ssrc := uint32(s.media.MicSSRC); w.bySSRC[ssrc] == s {
		delete(w.bySSRC, ssrc)
	}
	r := s.call
	at := slices.Index(r.sessions, s)
	r.sessions = slices.Delete(r.sessions, at, at+1)
	if len(r.sessions) == 0 {
		delete(w.calls, r.id)
	}
	w.srv.ledger.Release(s.number)
	ended := sfu.Ended{Session: s.id, Call: r.id, User: s.user, Reason: why}
	w.srv.routes.ended(ended, time.Now())
	w.srv.events.post(sfu.Event{Ended: &ended})
}

// begin starts the handshake of a session.
func (w *worker) begin(s *session) bool {
	send := func(datagram []byte) {
		w.mail.post(func(time.Duration) {
			if !s.ended && s.opener == nil {
				w.out.Put(append(w.out.Next(), datagram...), &s.paths[s.active].out)
			}
		})
	}
	done := func(r dtlsterm.Result) {
		w.mail.post(func(now time.Duration) { w.shaken(now, s, r) })
	}
	h, ok := w.srv.term.Begin(s.fingerprint, send, done)
	s.handshake = h
	return ok
}

// shaken takes the outcome of a handshake.
func (w *worker) shaken(now time.Duration, s *session, r dtlsterm.Result) {
	if s.ended {
		return
	}
	s.handshake = nil
	w.count.handshakes++
	if r.Err != nil {
		w.end(now, s, sfu.EndHandshake)
		return
	}
	s.flight = r.Flight
	if err := w.connect(now, s, r.Profile, r.Keying); err != nil {
		w.end(now, s, sfu.EndHandshake)
		return
	}
	w.srv.events.post(sfu.Event{Connected: &sfu.Connected{
		Session: s.id, Call: s.call.id, Remote: s.paths[s.active].remote.AddrPort(),
	}})
}

// connect gives a session its keys and a place in its call.
func (w *worker) connect(now time.Duration, s *session, p crypt.Profile, keying []byte) error {
	client, server, err := crypt.Split(p, keying)
	if err != nil {
		return err
	}
	opener, err := crypt.NewOpener(p, client)
	if err != nil {
		return err
	}
	sealer, err := crypt.NewSealer(p, server)
	if err != nil {
		return err
	}
	s.opener, s.sealer, s.profile, s.keying = opener, sealer, p, keying
	slots := len(s.media.Slots)
	s.member = call.Member{
		Session: s.id, User: s.user, SSRC: s.ssrc, Media: &s.media, Sealer: sealer, Indices: s.indices[:slots:slots],
	}
	s.viewer = video.Member{
		Session: s.id, User: s.user, SSRC: s.ssrc, Media: &s.media, Sealer: sealer, Indices: s.indices[slots:],
	}
	w.latch(s, uint32(s.media.MicSSRC))
	w.workOn(s.call)
	s.call.core.Join(now, &s.member, s.rights, s.selfDeaf, s.muted, s.paths[s.active].out)
	if s.filmed() {
		s.call.video.Join(now, &s.viewer, s.rights, s.paths[s.active].out)
	}
	// Who ends a handshake where it began has received our half of it there.
	if t := &s.paths[s.active]; t.remote == s.greeted {
		t.proven = t.remote.IsValid()
	} else {
		s.call.core.Credit(&s.member, 0)
		s.call.video.Limit(&s.viewer)
		w.ask(now, s, s.active)
	}
	w.srv.events.snapshot(s.snapshot(now, w))
	return nil
}

// latch notes the source of a session's microphone.
func (w *worker) latch(s *session, ssrc uint32) {
	s.media.MicSSRC = sfu.SSRC(ssrc)
	s.record.SetMic(ssrc)
	if ssrc != 0 && w.bySSRC[ssrc] == nil {
		w.bySSRC[ssrc] = s
	}
}
