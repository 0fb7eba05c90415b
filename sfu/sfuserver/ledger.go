package sfuserver

import (
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/ledger"
)

// openLedger makes or maps the ledger, with a record for each session there may
// be.
func (s *Server) openLedger() error {
	records := s.limits.Sessions + sfu.MaxReplacing
	if s.cfg.Ledger == nil {
		s.ledger = ledger.New(records)
		return nil
	}
	m, err := mapLedger(s.cfg.Ledger, ledger.Size(records))
	if err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(m.memory); err != nil {
		m.close()
		return err
	}
	s.mapped, s.shared = m, true
	return nil
}

// enter gives a new session a record. It is false when there is none left.
func (s *session) enter(l *ledger.Ledger) (ok bool) {
	s.number, s.tag, s.record, ok = l.Take()
	return ok
}

// resume has a session go on where the last engine left it: behind everything
// that was sent, and deaf to everything that came.
func (s *Server) resume(t *session, c *sfu.Snapshot) *sfu.Error {
	if c.Record == 0 {
		return s.jump(t, c)
	}
	r, ok := s.ledger.Claim(c.Record, c.Tag)
	if !ok {
		return sfu.Refuse(sfu.CodeBadCommand, "record %d of the ledger is not that of session %s", c.Record, t.id)
	}
	t.record, t.number, t.tag = r, c.Record, c.Tag
	t.indices = r.Indices(c.Media.Streams())
	t.srtcp = r.Reports()
	if index, ok := r.Highest(); ok {
		t.mic.window = crypt.Resume(index)
	}
	if index, ok := r.HighestSeen(); ok {
		t.camera.window = crypt.Resume(index)
	}
	if ssrc := r.Mic(); ssrc != 0 {
		t.media.MicSSRC = sfu.SSRC(ssrc)
	}
	for i := range ledger.Reporters {
		ssrc, index, ok := r.Reporter(i)
		if !ok {
			break
		}
		t.reporters = append(t.reporters, reporter{ssrc: ssrc, window: crypt.Resume(uint64(index))})
	}
	return nil
}

// jump has a session go on without a ledger: far enough ahead of its snapshot.
func (s *Server) jump(t *session, c *sfu.Snapshot) *sfu.Error {
	if !t.enter(s.ledger) {
		return sfu.Refuse(sfu.CodeFull, "the ledger is full")
	}
	t.indices = t.record.Indices(c.Media.Streams())
	for i, index := range c.SlotIndex {
		t.indices[i] = index + restoreJump
	}
	t.srtcp = c.SRTCPIndex + restoreJump
	t.record.Reported(t.srtcp)
	if c.InIndex > 0 {
		t.mic.window = crypt.Resume(c.InIndex)
		t.record.Heard(c.InIndex)
	}
	if c.CameraIndex > 0 {
		t.camera.window = crypt.Resume(c.CameraIndex)
		t.record.Seen(c.CameraIndex)
	}
	return nil
}
