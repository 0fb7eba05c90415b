package sfuserver

import (
	"net/netip"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/call"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/demux"
	"voicefleet/sfu/internal/dtlsterm"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/icelite"
	"voicefleet/sfu/internal/ledger"
	"voicefleet/sfu/internal/video"
)

const (
	// idleTimeout ends a session that nobody negotiates, or whose client then
	// begins no handshake.
	idleTimeout = 30 * time.Second
	// maxPaths bounds the addresses of one client: a few interfaces, each in
	// both families.
	maxPaths = 4
	// roamAfter is how long the path in use must be silent before a mere check
	// from another address moves egress there.
	roamAfter = time.Second
	// maxReporters bounds the sources of a client's RTCP: some clients report
	// about each slot from a source of its own.
	maxReporters = ledger.Reporters
	// unprovenFactor is how many times the bytes received from an address may go
	// there before it has answered a check of ours. Whatever comes from it can be
	// caught and sent on by someone on its way, or be made by the client itself in
	// the name of another, on whom our packets are to fall (RFC 8445 section 19.5.1).
	unprovenFactor = 3
	// askEvery is how often an address may be asked, when something comes from it.
	askEvery = 100 * time.Millisecond
	// snapshotStep is after how many packets in a slot, or from the client, a
	// new snapshot is due where there is no ledger. Restore jumps ahead by twice
	// as much: that leaves
	// snapshotStep packets for what is sent until the snapshot is taken (it is
	// looked at every second) and written. It must stay below 2^15, or clients
	// guess a wrong rollover counter (RFC 3711 section 3.3.1).
	snapshotStep = 1 << 13
	restoreJump  = 2 * snapshotStep
)

// session is one client. From Open to its end it belongs to its worker.
type session struct {
	// Immutable.
	id    sfu.SessionID
	user  sfu.UserID
	ssrc  sfu.SSRC
	local icelite.Credentials
	key   *icelite.Key

	call   *room
	opened time.Duration
	ended  bool

	// What the agent said.
	rights   sfu.Rights
	keep     []byte
	selfDeaf bool
	muted    []sfu.UserID

	// Negotiated.
	negotiated  time.Duration // 0: not yet
	media       sfu.Media
	remote      icelite.Credentials
	client      *icelite.Key // of its password; nil: an older engine did not tell it
	fingerprint dtlsterm.Fingerprint

	// The ledger.
	record  *ledger.Record
	number  uint32
	tag     uint64
	indices []uint64 // of the slots and the views, in record

	// Address.
	paths   [maxPaths]path
	active  int           // of paths
	checked time.Duration // the last valid check, from anywhere; 0: none yet

	// Handshake.
	handshake *dtlsterm.Handshake
	flight    dtlsterm.LastFlight
	greeted   demux.Remote // where it began: its answers show that they are received

	// Connected: opener is set.
	opener      crypt.Opener
	sealer      crypt.Sealer
	profile     crypt.Profile
	keying      []byte
	mic, camera source
	reporters   []reporter
	srtcp       uint32 // index of the next SRTCP packet to the client
	member      call.Member
	viewer      video.Member // if the session has video

	feedback int           // packets of RTCP in the second
	counted  time.Duration // that began then
	turns    int           // of the wheel
	stored   stored        // in the last snapshot
}

// source is what comes of a microphone or a camera.
type source struct {
	window  crypt.Window
	packets int // in the second
}

// path is an address from which a valid check or an authentic packet came.
type path struct {
	remote demux.Remote // zero: no path
	out    egress.Path
	heard  time.Duration // the last valid check or authentic packet
	// proven: it has shown that it receives what is sent there; else that is limited.
	proven bool
	asked  time.Duration // for that, the last time; 0: never
	nonce  [12]byte      // the transaction it is asked in
	// guessed: restored, so the address to answer from is not known yet.
	guessed bool
}

// reporter is a source of a client's RTCP.
type reporter struct {
	ssrc   uint32
	window crypt.Window
}

// stored is what tells whether a snapshot is too old.
type stored struct {
	in, camera uint64
	slots      []uint64
	srtcp      uint32
}

// room is a call with the sessions in it, connected or not.
type room struct {
	id       sfu.CallID
	echo     bool
	core     *call.Call
	video    *video.Call
	sessions []*session
	relay    *sfu.Relay // nil: it is on this node alone
}

// path is the index of an address among the session's, or -1.
func (s *session) path(remote demux.Remote) int {
	if s.paths[s.active].remote == remote {
		return s.active
	}
	for i := range s.paths {
		if s.paths[i].remote == remote {
			return i
		}
	}
	return -1
}

// filmed says whether the session has video at all.
func (s *session) filmed() bool { return s.media.CameraSSRC != 0 || len(s.media.Views) > 0 }

// count begins a new second if the last is over.
func (s *session) count(now time.Duration) {
	if now-s.counted >= time.Second {
		s.mic.packets, s.camera.packets, s.feedback, s.counted = 0, 0, 0, now
	}
}

// asOpened is the order that would make the session as it is now.
func (s *session) asOpened() sfu.Open {
	return sfu.Open{Session: s.id, Call: s.call.id, User: s.user, Rights: s.rights, Echo: s.call.echo, Keep: s.keep}
}

// snapshot is the session as Restore wants it.
func (s *session) snapshot(now time.Duration, w *worker) *sfu.Snapshot {
	snap := &sfu.Snapshot{
		Open: s.asOpened(),
		SSRC: s.ssrc, Port: w.sock.port, Taken: w.srv.start.Add(now), Remote: s.paths[s.active].remote.String(),
		LocalUfrag: s.local.Ufrag, LocalPwd: s.local.Pwd, RemoteUfrag: s.remote.Ufrag, RemotePwd: s.remote.Pwd,
		Unproven: !s.paths[s.active].proven,
		Profile:  uint16(s.profile), Keying: s.keying, Media: s.media,
	}
	if out := &s.paths[s.active].out; out.Source != [16]byte{} {
		snap.Local, snap.Interface = netip.AddrFrom16(out.Source).Unmap(), out.Interface
	}
	if w.srv.shared {
		snap.Record, snap.Tag = s.number, s.tag
		return snap
	}
	in, _ := s.mic.window.Highest()
	camera, _ := s.camera.window.Highest()
	s.stored = stored{in: in, camera: camera, slots: append(s.stored.slots[:0], s.indices...), srtcp: s.srtcp}
	snap.InIndex, snap.CameraIndex, snap.SlotIndex, snap.SRTCPIndex = in, camera, append([]uint64(nil), s.indices...), s.srtcp
	return snap
}

// outdated says whether the last snapshot lags too far behind to restore from it
// without a ledger.
func (s *session) outdated() bool {
	in, _ := s.mic.window.Highest()
	camera, _ := s.camera.window.Highest()
	if in-s.stored.in >= snapshotStep || camera-s.stored.camera >= snapshotStep || s.srtcp-s.stored.srtcp >= snapshotStep {
		return true
	}
	for i, index := range s.indices {
		if index-s.stored.slots[i] >= snapshotStep {
			return true
		}
	}
	return false
}
