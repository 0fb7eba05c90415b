package sfuserver

import (
	"crypto/rand"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/icelite"
)

// check answers a connectivity check: the only thing that maps an address to a
// session. What is not authentic gets no answer.
func (w *worker) check(now time.Duration, d []byte, from demux.Remote, i int) {
	if icelite.IsSuccess(d) {
		w.proof(now, d, from)
		return
	}
	ufrag, ok := icelite.Peek(d)
	if !ok {
		w.drop(sfu.DropSTUN)
		return
	}
	if probe, ok := sfu.ReadProbe(ufrag); ok {
		w.probe(now, probe, ufrag, d, from, i)
		return
	}
	s, req, ok := w.authenticate(now, ufrag, d, from)
	if !ok {
		return
	}
	w.workOn(s.call)
	p := s.path(from)
	if p < 0 {
		if w.byRemote[from] != nil {
			w.drop(sfu.DropUfrag) // another client lives there
			return
		}
		p = w.newPath(s, from, i)
	}
	if t := &s.paths[p]; t.guessed {
		t.guessed, t.out = false, w.sock.arrival(i, from)
		if p == s.active {
			w.activate(now, s, p)
		}
	}
	s.paths[p].heard, s.checked = now, now
	w.count.checks++
	out := s.paths[p].out
	if !w.sock.arrivedAt(i, out.Source) {
		// The client asks another address of ours from the same one of its own: it
		// takes an answer from no other. What it nominates is where it wants to be
		// sent to from.
		out = w.sock.arrival(i, from)
		if req.UseCandidate {
			s.paths[p].out = out
			if p == s.active {
				w.activate(now, s, p)
			}
		}
	}
	w.out.Put(s.key.AppendSuccess(w.out.Next(), req.Transaction, from.AddrPort()), &out)
	w.ask(now, s, p)
	if p == s.active {
		return
	}
	active := &s.paths[s.active]
	switch {
	case !active.remote.IsValid(), s.opener == nil && req.UseCandidate:
		w.activate(now, s, p)
	case s.opener != nil && now-active.heard >= roamAfter:
		w.activate(now, s, p)
	}
}

// ask has an address of a connected client show that it receives what is sent there:
// its answer names the transaction, which nobody else has seen. One that is new to us
// is asked at its first check, and so proven before egress moves there. The ask is as
// long as the check or packet that it follows, and answers no other.
func (w *worker) ask(now time.Duration, s *session, p int) {
	t := &s.paths[p]
	switch {
	case t.proven || s.opener == nil || !t.remote.IsValid():
		return
	case s.client == nil: // as good as can be had
		w.prove(now, s, p)
		return
	case t.asked == 0:
		rand.Read(t.nonce[:]) // never fails: it ends the program instead
	case now-t.asked < askEvery:
		return
	}
	t.asked = max(now, 1)
	w.out.Put(s.client.AppendRequest(w.out.Next(), t.nonce, s.remote.Ufrag, s.local.Ufrag), &t.out)
}

// proof takes the answer of an address that was asked.
func (w *worker) proof(now time.Duration, d []byte, from demux.Remote) {
	s := w.byRemote[from]
	if s == nil || s.client == nil {
		w.drop(sfu.DropSTUN)
		return
	}
	w.workOn(s.call)
	p := s.path(from)
	if t := &s.paths[p]; t.proven || t.asked == 0 || !s.client.Answers(d, t.nonce) {
		w.drop(sfu.DropSTUN)
		return
	}
	s.paths[p].heard = now
	w.prove(now, s, p)
}

// prove lifts the limit of what goes to an address.
func (w *worker) prove(now time.Duration, s *session, p int) {
	s.paths[p].proven = true
	if p == s.active {
		w.activate(now, s, p)
	}
}

// probe answers a probe, to where it came from and from where it was asked.
func (w *worker) probe(now time.Duration, probe sfu.Probe, ufrag, d []byte, from demux.Remote, i int) {
	answer, why, ok := w.prober.AppendAnswer(w.out.Next(), w.start.Add(now), probe, ufrag, d, from.AddrPort())
	if !ok {
		w.drop(why)
		return
	}
	out := w.sock.arrival(i, from)
	w.out.Put(answer, &out)
	w.count.probes++
}

// authenticate finds the session a check is for, and verifies it.
func (w *worker) authenticate(now time.Duration, ufrag, d []byte, from demux.Remote) (*session, icelite.Request, bool) {
	none := icelite.Request{}
	s := w.byUfrag[string(ufrag)]
	if s == nil || s.negotiated == 0 {
		w.drop(sfu.DropUfrag)
		return nil, none, false
	}
	if w.byRemote[from] != s && !w.limiter.Allow(w.start.Add(now), from.AddrPort().Addr()) {
		w.drop(sfu.DropRateLimited)
		return nil, none, false
	}
	req, ok := s.key.Check(d)
	if !ok || string(req.Client) != s.remote.Ufrag {
		w.drop(sfu.DropIntegrity)
		return nil, none, false
	}
	return s, req, true
}

// newPath maps an address that is nobody's to a session.
func (w *worker) newPath(s *session, from demux.Remote, i int) int {
	p := s.spare()
	if old := s.paths[p].remote; old.IsValid() {
		delete(w.byRemote, old)
	}
	s.paths[p] = path{remote: from, out: w.sock.arrival(i, from)}
	w.byRemote[from] = s
	return p
}

// spare is the place for a new path: an empty one, or that of the path unheard
// for longest which is not in use.
func (s *session) spare() int {
	oldest := -1
	for i := range s.paths {
		switch {
		case !s.paths[i].remote.IsValid():
			return i
		case i == s.active:
		case oldest < 0 || s.paths[i].heard < s.paths[oldest].heard:
			oldest = i
		}
	}
	return oldest
}

// activate sends what the client gets to another of its addresses.
func (w *worker) activate(now time.Duration, s *session, p int) {
	s.active = p
	if s.opener != nil {
		s.call.core.Redirect(&s.member, s.paths[p].out)
		s.call.video.Redirect(&s.viewer, s.paths[p].out)
		if !s.paths[p].proven {
			s.call.core.Credit(&s.member, 0)
			s.call.video.Limit(&s.viewer)
			return
		}
		w.srv.events.snapshot(s.snapshot(now, w))
	}
}

// heard notes an authentic packet, the i-th of the batch. One newer than all
// before that came from another address moves egress there at once.
func (w *worker) heard(now time.Duration, s *session, from demux.Remote, newer bool, bytes, i int) {
	p := s.path(from)
	if p < 0 {
		if !newer {
			return
		}
		p = w.newPath(s, from, i)
	}
	s.paths[p].heard = now
	if p != s.active && newer {
		w.activate(now, s, p)
	}
	if p == s.active && !s.paths[p].proven {
		s.call.core.Credit(&s.member, unprovenFactor*bytes)
		w.ask(now, s, p)
	}
}

// dtls feeds a handshake, or repeats its last flight to a client that missed it.
// Only an address that a check has validated is listened to.
func (w *worker) dtls(now time.Duration, d []byte, from demux.Remote) {
	s := w.byRemote[from]
	if s == nil {
		w.drop(sfu.DropDTLS)
		return
	}
	w.workOn(s.call)
	if s.opener != nil {
		answer := s.flight.Answer(w.start.Add(now), d)
		if answer == nil {
			w.drop(sfu.DropDTLS)
			return
		}
		for _, a := range answer {
			w.out.Put(append(w.out.Next(), a...), &s.paths[s.path(from)].out)
		}
		return
	}
	if s.handshake == nil {
		if !w.begin(s) {
			w.drop(sfu.DropHalfOpen)
			return
		}
		s.greeted = from
	}
	s.active = s.path(from)
	if !s.handshake.Feed(d) {
		w.drop(sfu.DropDTLS)
	}
}
