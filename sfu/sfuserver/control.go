package sfuserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"runtime/debug"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/call"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/dtlsterm"
	"voicefleet/sfu/internal/icelite"
	"voicefleet/sfu/internal/sdpanswer"
	"voicefleet/sfu/internal/video"
)

// maxMuted bounds the users one session can mute for itself.
const maxMuted = 1000

// control reads and executes commands until the stream ends.
func (s *Server) control(ctx context.Context, stream io.Reader, start func(func(context.Context) error)) error {
	dec := sfu.NewDecoder(stream)
	for {
		if err := s.events.expect(ctx); err != nil {
			return err
		}
		var c sfu.Command
		if err := dec.Decode(&c); err != nil {
			return err
		}
		s.command(c, start)
	}
}

// command executes one command. What a worker must do it answers from there.
func (s *Server) command(c sfu.Command, start func(func(context.Context) error)) {
	defer func() {
		if what := recover(); what != nil {
			s.log.Error("panic in a command", "panic", what, "stack", string(debug.Stack()))
			s.refuse(c.Seq, sfu.Refuse(sfu.CodeInternal, "recovered from a panic"))
		}
	}()
	set := 0
	for _, is := range []bool{c.Start != nil, c.Adopt != nil, c.Advertise != nil, c.Open != nil, c.Negotiate != nil,
		c.Update != nil, c.Close != nil, c.Restore != nil, c.Confirm != nil, c.Remember != nil, c.Relay != nil} {
		if is {
			set++
		}
	}
	var err *sfu.Error
	switch {
	case set != 1 || c.Seq == 0:
		err = sfu.Refuse(sfu.CodeBadCommand, "%d orders in command %d", set, c.Seq)
	case c.Start != nil:
		err = s.handleStart(c.Seq, c.Start, start)
	case s.workers == nil:
		err = sfu.Refuse(sfu.CodeUnavailable, "not started")
	case c.Adopt != nil:
		err = s.handleAdopt(c.Seq, c.Adopt)
	case c.Advertise != nil:
		if err = checkAddresses(c.Advertise.Addrs); err == nil {
			s.advertise = c.Advertise.Addrs
			s.events.answer(c.Seq, nil, sfu.Event{})
		}
	case c.Open != nil:
		err = s.handleOpen(c.Seq, c.Open)
	case c.Negotiate != nil:
		err = s.handleNegotiate(c.Seq, c.Negotiate)
	case c.Update != nil:
		err = s.handleUpdate(c.Seq, c.Update)
	case c.Close != nil:
		err = s.handleClose(c.Seq, c.Close)
	case c.Confirm != nil:
		err = s.handleConfirm(c.Seq, c.Confirm)
	case c.Remember != nil:
		if len(c.Remember.Data) > sfu.MaxKeep {
			err = sfu.Refuse(sfu.CodeBadCommand, "%d bytes to remember, at most %d", len(c.Remember.Data), sfu.MaxKeep)
			break
		}
		s.remembered = c.Remember.Data
		s.events.answer(c.Seq, nil, sfu.Event{})
	case c.Restore != nil:
		err = s.handleRestore(c.Seq, c.Restore)
	case c.Relay != nil:
		err = s.handleRelay(c.Seq, c.Relay)
	}
	if err != nil {
		s.refuse(c.Seq, err)
	}
}

// refuse answers with an error. A command without Seq cannot be answered, but
// its place among the pending is free again.
func (s *Server) refuse(seq uint64, err *sfu.Error) {
	if seq == 0 {
		<-s.events.slots
		return
	}
	s.events.answer(seq, err, sfu.Event{})
}

func checkAddresses(list []netip.Addr) *sfu.Error {
	if len(list) == 0 {
		return sfu.Refuse(sfu.CodeBadCommand, "no address to advertise")
	}
	for _, a := range list {
		if !a.IsValid() || a.IsUnspecified() {
			return sfu.Refuse(sfu.CodeBadCommand, "address %v cannot be advertised", a)
		}
	}
	return nil
}

func (s *Server) handleStart(seq uint64, c *sfu.Start, start func(func(context.Context) error)) *sfu.Error {
	if s.workers != nil {
		return sfu.Refuse(sfu.CodeBadCommand, "started already")
	}
	if err := checkAddresses(c.Advertise); err != nil {
		return err
	}
	if c.ProbeKey != nil && !c.ProbeKey.Valid() {
		return sfu.Refuse(sfu.CodeBadCommand, "probe key of %d bytes, want %d", len(c.ProbeKey), sfu.ProbeKeyLen)
	}
	if c.Limits.Sessions < 0 || c.Limits.HalfOpen < 0 || c.Limits.ChecksPerPrefix < 0 || c.Limits.ShedVideo < 0 {
		return sfu.Refuse(sfu.CodeBadCommand, "negative limit")
	}
	s.limits, s.advertise, s.tcp = c.Limits.WithDefaults(), c.Advertise, c.TCP
	term, err := dtlsterm.New(dtlsterm.Config{HalfOpen: s.limits.HalfOpen})
	if err != nil {
		return sfu.Refuse(sfu.CodeInternal, "%v", err)
	}
	if err := s.openLedger(); err != nil {
		term.Close()
		return sfu.Refuse(sfu.CodeInternal, "%v", err)
	}
	s.term = term
	answer := s.started()
	for _, id := range s.ledger.Blamed() {
		answer.Blamed = append(answer.Blamed, sfu.CallID{ID: snowflake.ID(id)})
	}
	for i, sock := range s.socks {
		s.workers = append(s.workers, newWorker(s, i, sock, s.limits, c.NoSilenceGate))
	}
	s.setProbeKey(c.ProbeKey)
	for _, w := range s.workers {
		start(w.run)
	}
	start(s.tellLoad)
	s.events.answer(seq, nil, sfu.Event{Started: answer})
	return nil
}

// setProbeKey has the workers answer the probes that are made under a key.
func (s *Server) setProbeKey(key sfu.ProbeKey) {
	if !key.Valid() {
		return
	}
	s.probeKey = key
	for _, w := range s.workers {
		w.mail.post(func(time.Duration) { w.prober.SetKey(key) })
	}
}

// started says what the engine is.
func (s *Server) started() *sfu.Started {
	started := &sfu.Started{Fingerprint: s.term.Fingerprint().String()}
	for _, sock := range s.socks {
		started.Ports = append(started.Ports, sock.port)
	}
	return started
}

func (s *Server) handleOpen(seq uint64, c *sfu.Open) *sfu.Error {
	if !c.Session.Valid() || c.Call.ID == 0 || c.User.ID == 0 {
		return sfu.Refuse(sfu.CodeBadCommand, "session %q, call %v or user %v is no id", c.Session, c.Call, c.User)
	}
	if len(c.Keep) > sfu.MaxKeep {
		return sfu.Refuse(sfu.CodeBadCommand, "%d bytes to keep, at most %d", len(c.Keep), sfu.MaxKeep)
	}
	limit := s.limits.Sessions
	if c.Replaces != "" && s.routes.find(c.Replaces) != nil {
		limit += sfu.MaxReplacing
	}
	r, refused := s.routes.add(c.Session, c.Call, nil, 0, s.workers, limit)
	if refused != nil {
		return refused
	}
	r.local = icelite.Mint()
	w := r.worker
	r.session = &session{
		id: c.Session, user: c.User, ssrc: r.ssrc, local: r.local, key: icelite.NewKey(r.local.Pwd), rights: c.Rights,
		keep: c.Keep,
	}
	if !r.session.enter(s.ledger) {
		s.routes.remove(c.Session)
		return sfu.Refuse(sfu.CodeFull, "the ledger is full")
	}
	w.mail.post(func(now time.Duration) { w.add(now, r.session, c.Call, c.Echo) })
	s.events.answer(seq, nil, sfu.Event{Opened: &sfu.Opened{SSRC: r.ssrc, Addrs: s.advertise, Port: w.sock.port}})
	return nil
}

// session hands an order about a session to its worker, which answers the
// command there.
func (s *Server) session(seq uint64, id sfu.SessionID, do func(now time.Duration, w *worker, t *session) *sfu.Event) *sfu.Error {
	r := s.routes.find(id)
	if r == nil {
		return sfu.Refuse(sfu.CodeNoSession, "no session %.64q", id)
	}
	w, t := r.worker, r.session
	w.mail.post(func(now time.Duration) {
		answered := false
		defer func() {
			if !answered {
				s.refuse(seq, sfu.Refuse(sfu.CodeInternal, "recovered from a panic"))
			}
		}()
		if t.ended {
			answered = true
			s.refuse(seq, sfu.Refuse(sfu.CodeNoSession, "session %s has ended", id))
			return
		}
		w.workOn(t.call)
		ev := do(now, w, t)
		answered = true
		s.events.answer(seq, nil, *ev)
	})
	return nil
}

func (s *Server) handleNegotiate(seq uint64, c *sfu.Negotiate) *sfu.Error {
	r := s.routes.find(c.Session)
	switch {
	case r == nil:
		return sfu.Refuse(sfu.CodeNoSession, "no session %.64q", c.Session)
	case r.negotiated:
		return sfu.Refuse(sfu.CodeExists, "session %s has had its offer", c.Session)
	}
	offer, err := sdpanswer.Parse(c.Offer)
	if err != nil {
		var refused *sfu.Error
		if errors.As(err, &refused) {
			return refused
		}
		return sfu.Refuse(sfu.CodeBadOffer, "%v", err)
	}
	// Slots are told by SSRC, so they need no MID.
	m := &offer.Media
	m.MIDExt = 0
	used := map[sfu.SSRC]bool{m.MicSSRC: true, m.CameraSSRC: true}
	for _, streams := range [][]sfu.Slot{m.Slots, m.Views} {
		for i := range streams {
			for streams[i].SSRC == 0 || used[streams[i].SSRC] {
				streams[i].SSRC = randomSSRC()
			}
			used[streams[i].SSRC] = true
		}
	}
	local := sdpanswer.Local{
		Ufrag: r.local.Ufrag, Pwd: r.local.Pwd, Fingerprint: s.term.Fingerprint(), SessionID: uint64(r.ssrc),
	}
	for _, a := range s.advertise {
		local.Candidates = append(local.Candidates, netip.AddrPortFrom(a, r.worker.sock.port))
		if s.tcp != 0 {
			local.TCP = append(local.TCP, netip.AddrPortFrom(a, s.tcp))
		}
	}
	answer, err := offer.Answer(local)
	if err != nil {
		return sfu.Refuse(sfu.CodeBadOffer, "%v", err)
	}
	r.negotiated = true
	return s.session(seq, c.Session, func(now time.Duration, w *worker, t *session) *sfu.Event {
		t.negotiated, t.media = max(now, 1), *m
		t.remote, t.fingerprint = icelite.Credentials{Ufrag: offer.Ufrag, Pwd: offer.Pwd}, offer.Fingerprint
		t.client = icelite.NewKey(offer.Pwd)
		t.indices = t.record.Indices(m.Streams())
		copy(t.indices, firstIndices(m.Streams()))
		return &sfu.Event{Negotiated: &sfu.Negotiated{Answer: answer, Slots: m.Slots, Views: m.Views, Ufrag: t.local.Ufrag}}
	})
}

// firstIndices are random, as RFC 3550 section 5.1 wants sequence numbers, but
// below 2^15: a receiver that misses the first packets still guesses rollover
// counter zero (RFC 3711 section 3.3.1).
func firstIndices(streams int) []uint64 {
	b := make([]byte, 2*streams)
	rand.Read(b) // never fails: it ends the program instead
	list := make([]uint64, streams)
	for i := range list {
		list[i] = uint64(binary.BigEndian.Uint16(b[2*i:]) & 0x3fff)
	}
	return list
}

func (s *Server) handleUpdate(seq uint64, c *sfu.Update) *sfu.Error {
	if c.Muted != nil && len(*c.Muted) > maxMuted {
		return sfu.Refuse(sfu.CodeBadCommand, "%d muted users, at most %d", len(*c.Muted), maxMuted)
	}
	return s.session(seq, c.Session, func(now time.Duration, w *worker, t *session) *sfu.Event {
		if c.Rights != nil {
			t.rights = *c.Rights
		}
		if c.SelfDeaf != nil {
			t.selfDeaf = *c.SelfDeaf
		}
		if c.Muted != nil {
			t.muted = *c.Muted
		}
		if t.opener != nil {
			t.call.core.SetRights(&t.member, t.rights)
			if t.filmed() {
				t.call.video.SetRights(now, &t.viewer, t.rights)
			}
			t.call.core.SetSelfDeaf(&t.member, t.selfDeaf)
			if c.Muted != nil {
				t.call.core.SetMuted(now, &t.member, t.muted)
			}
			if c.Rights != nil {
				s.events.snapshot(t.snapshot(now, w))
			}
			if c.Hears != nil {
				t.call.core.Say(&t.member, *c.Hears)
			}
		}
		return &sfu.Event{}
	})
}

func (s *Server) handleClose(seq uint64, c *sfu.Close) *sfu.Error {
	return s.session(seq, c.Session, func(now time.Duration, w *worker, t *session) *sfu.Event {
		w.end(now, t, sfu.EndClosed)
		return &sfu.Event{}
	})
}

// handleRestore makes a session again that another engine process had. Its
// client notices nothing but the pause.
func (s *Server) handleRestore(seq uint64, c *sfu.Snapshot) *sfu.Error {
	w, t, refused := s.rebuild(c)
	if refused != nil {
		return refused
	}
	r, refused := s.routes.add(t.id, c.Open.Call, w, t.ssrc, s.workers, s.limits.Sessions)
	if refused != nil {
		return refused
	}
	if refused := s.resume(t, c); refused != nil {
		s.routes.remove(t.id)
		return refused
	}
	r.local, r.session, r.negotiated = t.local, t, true
	w.mail.post(func(now time.Duration) { w.add(now, t, c.Open.Call, c.Open.Echo) })
	return s.session(seq, t.id, func(now time.Duration, w *worker, t *session) *sfu.Event {
		remote := t.paths[0].remote
		if w.byRemote[remote] == nil {
			w.byRemote[remote] = t
		} else {
			t.paths[0] = path{} // the next check finds the client
		}
		t.negotiated, t.checked = max(now, 1), now
		if err := w.connect(now, t, t.profile, t.keying); err != nil {
			w.end(now, t, sfu.EndHandshake)
		}
		return &sfu.Event{}
	})
}

// rebuild makes the session of a snapshot and finds its worker.
func (s *Server) rebuild(c *sfu.Snapshot) (*worker, *session, *sfu.Error) {
	var w *worker
	for _, each := range s.workers {
		if each.sock.port == c.Port {
			w = each
		}
	}
	profile := crypt.Profile(c.Profile)
	remote, err := netip.ParseAddrPort(c.Remote)
	switch {
	case w == nil:
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "no worker has port %d", c.Port)
	case err != nil:
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "remote address %.64q", c.Remote)
	case !c.Open.Session.Valid() || c.Open.Call.ID == 0 || c.Open.User.ID == 0 || c.SSRC == 0:
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "snapshot without ids")
	case c.LocalUfrag == "" || c.LocalPwd == "" || c.RemoteUfrag == "":
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "snapshot without ICE credentials")
	case profile.KeyingLen() == 0 || len(c.Keying) != profile.KeyingLen():
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "snapshot without keys")
	case c.Media.Streams() > sfu.MaxSlots || c.Record == 0 && len(c.SlotIndex) != c.Media.Streams():
		return nil, nil, sfu.Refuse(sfu.CodeBadCommand, "snapshot with %d slots and views and %d indices",
			c.Media.Streams(), len(c.SlotIndex))
	}
	local := icelite.Credentials{Ufrag: c.LocalUfrag, Pwd: c.LocalPwd}
	t := &session{
		id: c.Open.Session, user: c.Open.User, ssrc: c.SSRC, local: local, key: icelite.NewKey(local.Pwd),
		rights: c.Open.Rights, keep: c.Open.Keep, media: c.Media,
		remote: icelite.Credentials{Ufrag: c.RemoteUfrag, Pwd: c.RemotePwd}, profile: profile, keying: c.Keying,
	}
	if c.RemotePwd != "" {
		t.client = icelite.NewKey(c.RemotePwd)
	}
	key := demux.RemoteFrom(remote)
	t.paths[0] = path{remote: key, out: w.sock.leave(key, c.Local, c.Interface), guessed: !c.Local.IsValid()}
	if !c.Unproven {
		t.greeted = key
	}
	return w, t, nil
}

var (
	_ call.Facts  = (*events)(nil)
	_ video.Facts = (*events)(nil)
)
