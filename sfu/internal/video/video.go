package video

import (
	"slices"
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
	"voicefleet/sfu/internal/egress"
	"voicefleet/sfu/internal/rtcpwire"
	"voicefleet/sfu/internal/rtpwire"
)

const (
	// none is no stand and no view.
	none = 0xff
	// darkAfter is how long after its last packet a camera is off.
	darkAfter = 2 * time.Second
)

// Facts takes what a call has to tell. It is called from within the Call's methods and
// must not call them.
type Facts interface {
	Viewing(sfu.Viewing)
}

// Counters are what a worker counts. They belong to its goroutine.
type Counters struct {
	PacketsOut, BytesOut, ResentOut uint64
	RelayOut, RelayIn               uint64
}

// Config of a Call.
type Config struct {
	ID    sfu.CallID
	Echo  bool      // each sees itself, and nobody else
	Epoch time.Time // what times are counted from
	Facts Facts
	Count *Counters
	Drops *[sfu.DropReasons]uint64
}

// Call belongs to one goroutine.
type Call struct {
	// Immutable.
	cfg   Config
	ticks uint32 // the 90 kHz clock at Epoch (RFC 7741 section 4.1)

	members []*Member // in the order in which they came
	stands  [sfu.MaxCameras]*Member
	// nackers is how many members may ask for packets again.
	nackers int
	shed    bool
	relay   relay
	// lit and paused are how many cameras have a stand, and how many members get no video
	// for a while: of most calls none, and then Tick touches nobody.
	lit, paused int

	// Scratch of the call under way.
	header rtpwire.Forwarded
	asking []*Member
}

// Member is a session in a call that can send video or receive it.
type Member struct {
	// Given before Join, constant while in the call.
	Session sfu.SessionID
	User    sfu.UserID
	SSRC    sfu.SSRC // of its voice, by which it is known
	Media   *sfu.Media
	Sealer  crypt.Sealer
	// Indices are the SRTP indices that each view uses next, as call.Member has them.
	Indices []uint64

	// Owned by the call from Join to Leave.
	allowed bool
	stand   uint8 // of its camera among those of the call
	camera  camera
	views   []view
	shown   [sfu.MaxCameras]uint8 // view of each stand, or none
	path    egress.Path
	limited bool // nobody has shown yet to receive at path
	strain  strain
	unseen  sfu.Unseen // why it was told to see nobody just now, if it was
	resends int        // in the second that began at resent
	resent  time.Duration
	away    bool // it is filmed on another node; here is no session of it
}

// New makes an empty call.
func New(cfg Config) *Call {
	return &Call{cfg: cfg, ticks: uint32(cfg.Epoch.Unix()*90_000 + int64(cfg.Epoch.Nanosecond())*9/100_000)}
}

// clock is the 90 kHz clock.
func (c *Call) clock(now time.Duration) uint32 { return c.ticks + uint32(ticks(now)) }

func ticks(d time.Duration) int64 { return int64(d) * 9 / 100_000 }

// Cameras is how many are on.
func (c *Call) Cameras() int { return c.lit }

// Join adds a member. It sees the cameras that are on.
func (c *Call) Join(now time.Duration, m *Member, rights sfu.Rights, path egress.Path) {
	m.allowed, m.stand = rights.Video, none
	m.views = make([]view, len(m.Media.Views))
	for i := range m.views {
		ssrc := uint32(m.Media.Views[i].SSRC)
		// Derived from the SSRC, so that a restored session goes on in time.
		m.views[i] = view{ssrc: ssrc, base: ssrc * 0x9E3779B1, holder: none, index: m.Indices[i], live: &m.Indices[i]}
	}
	for i := range m.shown {
		m.shown[i] = none
	}
	if m.Media.VideoNACK {
		c.nackers++
	}
	c.members = append(c.members, m)
	c.Redirect(m, path)
	if c.shed {
		c.empty(m, sfu.UnseenBusy)
	}
	c.fill(now, m)
}

// Leave removes a member.
func (c *Call) Leave(now time.Duration, m *Member) {
	c.dark(now, m)
	if m.Media.VideoNACK {
		c.nackers--
	}
	if m.strain.until != 0 {
		c.paused--
	}
	i := slices.Index(c.members, m)
	c.members = slices.Delete(c.members, i, i+1)
}

// Redirect sends what m sees to another address.
func (c *Call) Redirect(m *Member, path egress.Path) {
	m.path, m.limited = path, false
	m.wait()
}

// Limit sends no video to m until the next Redirect: what may go to an address that has
// not shown to receive is needed for voices.
func (c *Call) Limit(m *Member) { m.limited = true }

// wait has all views of m begin with a key frame.
func (m *Member) wait() {
	for i := range m.views {
		m.views[i].waits = true
	}
}

// SetRights replaces what m may do.
func (c *Call) SetRights(now time.Duration, m *Member, rights sfu.Rights) {
	m.allowed = rights.Video
	if !m.allowed {
		c.dark(now, m)
	}
}

// Shed stops all video, or lets it go on.
func (c *Call) Shed(now time.Duration, on bool) {
	if c.shed == on {
		return
	}
	c.shed = on
	for _, m := range c.members {
		if on {
			c.empty(m, sfu.UnseenBusy)
		} else {
			c.refill(now, m)
		}
	}
}

// Views are whose cameras m sees, as the facts told it.
func (c *Call) Views(m *Member) (list []sfu.Viewing) {
	for k := range m.views {
		if v := &m.views[k]; v.holder != none {
			list = append(list, c.viewing(m, k, c.stands[v.holder], ""))
		}
	}
	return list
}

// viewing is the fact that a camera is in a view, or without one why none is.
func (c *Call) viewing(m *Member, k int, of *Member, why sfu.Unseen) sfu.Viewing {
	f := sfu.Viewing{Call: c.cfg.ID, Session: m.Session, View: k, MID: m.Media.Views[k].MID, Why: why}
	if of != nil {
		f.User, f.SSRC = of.User, of.SSRC
	}
	return f
}

// sees says whether a member may see the camera of another at all.
func (c *Call) sees(m, of *Member) bool {
	if c.cfg.Echo {
		return m == of
	}
	return m != of && m.User != of.User
}

// light gives a camera a stand, if there is one, and everybody a view of it.
func (c *Call) light(now time.Duration, m *Member) {
	i := slices.Index(c.stands[:], nil)
	if i < 0 {
		return
	}
	c.stands[i], m.stand = m, uint8(i)
	c.lit++
	m.camera.key = true
	for _, v := range c.members {
		c.fill(now, v)
	}
}

// dark takes a camera's stand, and all their view of it, which others get that had none.
func (c *Call) dark(now time.Duration, m *Member) {
	stand := m.stand
	if stand == none {
		return
	}
	c.stands[stand], m.stand = nil, none
	c.lit--
	m.camera.off()
	c.forget(m)
	for _, v := range c.members {
		if k := v.shown[stand]; k != none {
			c.free(v, int(k), sfu.UnseenOff)
			c.fill(now, v)
		}
	}
}

// fill gives a member a view of every camera that it has none of, as far as they last.
func (c *Call) fill(now time.Duration, m *Member) {
	if c.shed || m.strain.paused(now) {
		return
	}
	for i, of := range c.stands {
		if of != nil && m.shown[i] == none && c.sees(m, of) {
			c.show(m, of)
		}
	}
}

// refill ends a time in which a member saw nobody.
func (c *Call) refill(now time.Duration, m *Member) {
	if c.shed || m.strain.paused(now) || m.unseen == "" {
		return
	}
	c.fill(now, m)
	if m.unseen != "" { // there is nobody to be seen
		m.unseen = ""
		c.cfg.Facts.Viewing(c.viewing(m, 0, nil, ""))
	}
}

// show finds a view for a camera: the one it was in last, or the first that is free.
func (c *Call) show(m, of *Member) {
	k := -1
	for i := range m.views {
		v := &m.views[i]
		if v.holder != none {
			continue
		}
		if v.last == of.SSRC {
			k = i
			break
		}
		if k < 0 {
			k = i
		}
	}
	if k < 0 {
		return
	}
	v := &m.views[k]
	v.holder, v.last, v.waits = of.stand, of.SSRC, true
	m.shown[of.stand], m.unseen = uint8(k), ""
	of.camera.key = true
	c.cfg.Facts.Viewing(c.viewing(m, k, of, ""))
}

// free ends what a member sees in a view.
func (c *Call) free(m *Member, k int, why sfu.Unseen) {
	v := &m.views[k]
	m.shown[v.holder], v.holder = none, none
	c.cfg.Facts.Viewing(c.viewing(m, k, nil, why))
}

// empty ends all that a member sees. It is told why in any case: whoever turns a camera
// on wants to know, too.
func (c *Call) empty(m *Member, why sfu.Unseen) {
	if len(m.views) == 0 {
		return
	}
	told := false
	for k := range m.views {
		if m.views[k].holder != none {
			c.free(m, k, why)
			told = true
		}
	}
	if !told {
		c.cfg.Facts.Viewing(c.viewing(m, 0, nil, why))
	}
	m.unseen = why
}

// Tick does what the passing of time alone brings about.
func (c *Call) Tick(now time.Duration, out *egress.Batch) {
	if c.lit == 0 && c.paused == 0 {
		return
	}
	for _, m := range c.stands {
		switch {
		case m == nil:
		case now-m.camera.came >= darkAfter:
			c.dark(now, m)
		case m.away && !c.shed && m.camera.askKey(now):
			c.askAway(m, out)
		}
	}
	if c.paused == 0 {
		return
	}
	for _, m := range c.members {
		if m.strain.ends(now) {
			c.paused--
			c.refill(now, m)
		}
	}
}

func (c *Call) drop(why sfu.DropReason) { c.cfg.Drops[why]++ }

// Asking lends the members whose cameras have something to be asked for now.
func (c *Call) Asking(now time.Duration) []*Member {
	c.asking = c.asking[:0]
	if c.lit == 0 {
		return c.asking
	}
	for _, m := range c.stands {
		if m != nil && !m.away && !c.shed && m.camera.asks(now) {
			c.asking = append(c.asking, m)
		}
	}
	return c.asking
}

// AppendRequests appends the compound that asks m's camera for what is missing.
func (c *Call) AppendRequests(now time.Duration, m *Member, dst []byte) []byte {
	from := c.source(m)
	dst = rtcpwire.AppendReceiverReport(dst, from, nil)
	dst = rtcpwire.AppendDescription(dst, from, rtcpwire.CNAME)
	var scratch [maxMissing]uint16
	if missing := m.camera.ask(now, scratch[:0]); len(missing) > 0 {
		dst = rtcpwire.AppendMissing(dst, from, uint32(m.Media.CameraSSRC), missing)
	}
	if m.camera.askKey(now) {
		dst = rtcpwire.AppendPictureLoss(dst, from, uint32(m.Media.CameraSSRC))
	}
	return dst
}

// source is the SSRC under which we report to m.
func (c *Call) source(m *Member) uint32 {
	if len(m.views) > 0 {
		return m.views[0].ssrc
	}
	return uint32(m.SSRC)
}
