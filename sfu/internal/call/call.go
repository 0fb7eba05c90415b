package call

import (
	"slices"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/cache"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/ear"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/gate"
	"voicefleet/sfu/internal/rtcpwire"
	"voicefleet/sfu/internal/rtpwire"
	"voicefleet/sfu/internal/stage"
)

// none is no position and no slot.
const none = 0xff

// Facts takes what a call has to tell. It is called from within the Call's
// methods and must not call them.
type Facts interface {
	Speaking(sfu.Speaking)
	Placed(sfu.Placed)
}

// Counters are what a worker counts. They belong to its goroutine.
type Counters struct {
	PacketsOut, BytesOut, ResentOut uint64
	RelayOut, RelayIn               uint64
	// Of what listeners reported on: packets that were due, and that were lost.
	ReportedExpected, ReportedLost uint64
	Drops                          [sfu.DropReasons]uint64
}

// Config of a Call.
type Config struct {
	ID     sfu.CallID
	Echo   bool
	NoGate bool      // forward silence too
	Epoch  time.Time // what times are counted from
	Facts  Facts
	Count  *Counters
}

// Call belongs to one goroutine.
type Call struct {
	// Immutable.
	cfg   Config
	ticks uint32 // the 48 kHz clock at Epoch

	members   []*Member
	listeners []listener
	positions [stage.Positions]position
	// awake are the members that Tick must look at.
	awake []*Member
	relay relay
	// nackers is how many listeners may ask for packets again.
	nackers int
	// hushed: nothing is forwarded now.
	hushed bool
	// crowded: someone audible on stage found no slot at some listener. review
	// is the listener to look at next, misses what this round found.
	crowded  bool
	review   int
	misses   bool
	reviewed time.Duration // when the round began

	// Scratch of the call under way.
	header rtpwire.Forwarded
	seats  [stage.Positions]stage.Seat
}

// position is a place on stage.
type position struct {
	m     *Member
	since time.Duration
	arena *cache.Arena // nil until someone may ask for packets again
}

// Member is a session in a call.
type Member struct {
	// Given before Join, constant while in the call.
	Session sfu.SessionID
	User    sfu.UserID
	SSRC    sfu.SSRC
	Media   *sfu.Media // slots have their SSRCs
	Sealer  crypt.Sealer
	// Indices are the SRTP indices that each slot uses next, as many as there are
	// slots. The call keeps them up to date, each before its packet is sent, with
	// atomic stores: they may lie in memory that others read.
	Indices []uint64

	// Owned by the call from Join to Leave.
	rights    sfu.Rights
	listener  int // index in listeners, or -1
	position  uint8
	gate      gate.Gate
	awake     bool
	announced bool          // as speaking
	told      time.Duration // when that changed last
	ask       time.Duration // when it may ask for a position again
	silent    time.Duration // since when its gate is closed
	loud      stage.Loudness
	heard     bool   // a packet came
	shift     uint32 // from its timestamps to the clock
	last      uint32 // its highest timestamp, shifted
	onset     [sfu.OnsetPackets]held
	kept      int // how many of onset hold a packet, oldest first
	reception rtcpwire.Reception
	rtt       time.Duration
	ear       ear.Ear
	resends   int // in the second that began at resent
	resent    time.Duration
	away      bool   // it speaks on another node; here is no session of it
	relayed   uint32 // number of its last packet to other nodes
}

// held is a packet kept back by the gate.
type held struct {
	payload []byte // its room is kept from packet to packet
	ts      uint32 // as it came
	level   uint8
}

// listener is the hot state of a member that has slots, side by side with the
// others of the call.
type listener struct {
	sealer   crypt.Sealer
	member   *Member
	slots    []slot
	muted    map[sfu.UserID]struct{}
	path     egress.Path
	place    [stage.Positions]uint8 // slot of each position, or none
	payload  uint8                  // type
	levelExt uint8
	off      uint8 // why nothing is sent to it now; 0: it is
	nack     bool
	// limited: nobody has shown yet to receive at path; credit is how many bytes
	// may still go there.
	limited bool
	credit  int
	// recent is how many packets were sent since Listen looked last.
	recent int
	// Transport-wide congestion control: stampExt is the extension's id, 0 for
	// none; stamp numbers the next packet that bears it, at stampAt or later.
	stampExt   uint8
	stamp      uint16
	stampAt    time.Duration
	stampEvery time.Duration
	arrived    uint16 // the stamp behind the last that came
}

// Reasons not to send to a listener, as bits.
const (
	offDeaf = 1 << iota
	offSelfDeaf
	offNowhere
)

func (l *listener) set(bit uint8, on bool) {
	l.off &^= bit
	if on {
		l.off |= bit
	}
}

// slot is one receive stream of a listener.
type slot struct {
	index   uint64        // SRTP index of the next packet
	live    *uint64       // the same in Member.Indices
	sentAt  time.Duration // when the last was sent
	ssrc    uint32
	base    uint32 // the slot's own constant in timestamps
	shift   uint32 // what is added now: base, or more
	last    uint32 // timestamp of the last packet in order
	packets uint32
	octets  uint32
	fresh   bool // the next packet is its speaker's first here
	used    bool // a packet was sent
	// Seat.
	holder  uint8    // position, or none
	speaker sfu.SSRC // the last holder's
	since   time.Duration
	// Reports and resends.
	reported uint32        // packets at the last sender report
	sent     *cache.Sent   // nil until needed
	heard    ear.Stream    // as the listener reports it
	told     time.Duration // when it did last
	missing  uint16        // the highest sequence number it asked for again
}

// New makes an empty call.
func New(cfg Config) *Call {
	return &Call{
		cfg:   cfg,
		ticks: uint32(cfg.Epoch.Unix()*48000 + int64(cfg.Epoch.Nanosecond())*48/1_000_000),
	}
}

// clock is the 48 kHz clock.
func (c *Call) clock(now time.Duration) uint32 { return c.ticks + uint32(ticks(now)) }

func ticks(d time.Duration) int64 { return int64(d) * 6 / 125_000 }

// Members is how many there are.
func (c *Call) Members() int { return len(c.members) }

// Speakers is how many are heard on stage now.
func (c *Call) Speakers() int {
	n := 0
	for i := range c.positions {
		if m := c.positions[i].m; m != nil && m.gate.Open() {
			n++
		}
	}
	return n
}

// Join adds a member. Those who speak now get a slot at once.
func (c *Call) Join(now time.Duration, m *Member, rights sfu.Rights, selfDeaf bool, muted []sfu.UserID, path egress.Path) {
	m.rights, m.listener, m.position, m.told = rights, -1, none, now-tellEvery
	c.members = append(c.members, m)
	if len(m.Media.Slots) == 0 {
		return
	}
	l := listener{
		sealer: m.Sealer, member: m,
		slots:   make([]slot, len(m.Media.Slots)),
		payload: m.Media.OpusPT, levelExt: m.Media.LevelExt, nack: m.Media.NACK,
		muted:    userSet(muted),
		stampExt: m.Media.TransportCC, stampEvery: stampEvery,
	}
	l.set(offDeaf, rights.Deaf)
	l.set(offSelfDeaf, selfDeaf)
	for i := range l.place {
		l.place[i] = none
	}
	for i := range l.slots {
		ssrc := uint32(m.Media.Slots[i].SSRC)
		// Derived from the SSRC, so that a restored session goes on in time.
		base := ssrc * 0x9E3779B1
		l.slots[i] = slot{ssrc: ssrc, base: base, shift: base, holder: none, index: m.Indices[i], live: &m.Indices[i],
			missing: uint16(m.Indices[i]) - 1}
	}
	if l.nack {
		c.nackers++
	}
	m.listener = len(c.listeners)
	c.listeners = append(c.listeners, l)
	c.Redirect(m, path)
	for p := range c.positions {
		if s := c.positions[p].m; s != nil && s.gate.Open() {
			c.seat(now, &c.listeners[m.listener], s)
		}
	}
}

// Leave removes a member. Listeners get the frames of silence that end what it
// was saying.
func (c *Call) Leave(now time.Duration, m *Member, out *egress.Batch) {
	if m.position != none {
		if m.gate.Open() || m.gate.Fading() {
			for range sfu.SilenceFrames {
				c.fade(now, m, m.last+rtpwire.SilenceTicks, out)
			}
		}
		c.vacate(m)
	}
	m.gate = gate.Gate{}
	if c.crowded { // its slots are free for those who wait
		for p := range c.positions {
			if s := c.positions[p].m; s != nil && s.gate.Open() {
				c.seatAll(now, s)
			}
		}
	}
	c.announce(now, m, true)
	if i := slices.Index(c.awake, m); i >= 0 {
		c.awake = slices.Delete(c.awake, i, i+1)
	}
	if i := m.listener; i >= 0 {
		if c.listeners[i].nack {
			c.nackers--
		}
		last := len(c.listeners) - 1
		c.listeners[i] = c.listeners[last]
		c.listeners[i].member.listener = i
		c.listeners[last] = listener{}
		c.listeners = c.listeners[:last]
		m.listener = -1
	}
	i := slices.Index(c.members, m)
	c.members = slices.Delete(c.members, i, i+1)
}

// Hush stops all forwarding, or lets it go on.
func (c *Call) Hush(on bool) { c.hushed = on }

// Shown is what the facts told about m come to: whether it speaks, and who was
// last placed in each of its slots.
func (c *Call) Shown(m *Member) (speaking bool, seats []sfu.Placed) {
	if m.listener < 0 {
		return m.announced, nil
	}
	for k := range c.listeners[m.listener].slots {
		speaker := c.listeners[m.listener].slots[k].speaker
		if user, ok := c.speaker(speaker); ok {
			seats = append(seats, sfu.Placed{
				Call: c.cfg.ID, Session: m.Session, Slot: k, MID: m.Media.Slots[k].MID, User: user, SSRC: speaker,
			})
		}
	}
	return m.announced, seats
}

// speaker is the user with an SSRC, here or on another node.
func (c *Call) speaker(ssrc sfu.SSRC) (user sfu.UserID, ok bool) {
	for _, m := range c.members {
		if ssrc != 0 && m.SSRC == ssrc {
			return m.User, true
		}
	}
	for _, r := range c.relay.speakers {
		if ssrc != 0 && r.SSRC == ssrc {
			return r.User, true
		}
	}
	return user, false
}

// Redirect sends what m hears to another address, without limit.
func (c *Call) Redirect(m *Member, path egress.Path) {
	if m.listener >= 0 {
		l := &c.listeners[m.listener]
		l.path, l.limited, l.credit = path, false, 0
		l.set(offNowhere, path.Len == 0)
	}
}

// Credit allows so many more bytes to the address of m, and no more than were
// allowed since Redirect.
func (c *Call) Credit(m *Member, bytes int) {
	if m.listener >= 0 {
		l := &c.listeners[m.listener]
		l.limited = true
		l.credit += bytes
	}
}

// SetRights replaces what m may do.
func (c *Call) SetRights(m *Member, rights sfu.Rights) {
	m.rights = rights
	if rights.Mute || !rights.Speak {
		m.kept = 0
	}
	if m.listener >= 0 {
		c.listeners[m.listener].set(offDeaf, rights.Deaf)
	}
}

// SetSelfDeaf stops or starts forwarding to m.
func (c *Call) SetSelfDeaf(m *Member, deaf bool) {
	if m.listener >= 0 {
		c.listeners[m.listener].set(offSelfDeaf, deaf)
	}
}

// SetMuted replaces the users m does not want to hear.
func (c *Call) SetMuted(now time.Duration, m *Member, users []sfu.UserID) {
	if m.listener < 0 {
		return
	}
	l := &c.listeners[m.listener]
	l.muted = userSet(users)
	for p := range c.positions {
		s := c.positions[p].m
		if s == nil {
			continue
		}
		if !c.hears(l, s) {
			l.free(uint8(p))
		} else if s.gate.Open() {
			c.seat(now, l, s)
		}
	}
}

func userSet(users []sfu.UserID) map[sfu.UserID]struct{} {
	if len(users) == 0 {
		return nil
	}
	set := make(map[sfu.UserID]struct{}, len(users))
	for _, u := range users {
		set[u] = struct{}{}
	}
	return set
}
