package lightclient

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"voicefleet/bench/internal/mark"
)

const (
	// catchUp is how far behind schedule a packet is still sent; older ones fail.
	catchUp = time.Second
	// longestNap bounds the pacer's sleep while anybody talks: who begins to talk
	// waits no longer than that.
	longestNap = time.Millisecond
	// longestServe is how much of a schedule is caught up with before the clock
	// is read again.
	longestServe = 20 * time.Millisecond
)

// pacer sends the packets of all talkers from one thread. Talkers stand in a wheel
// by the tick of their phase; each tick of a slot they have one packet due.
type pacer struct {
	// Immutable.
	tick   time.Duration
	kick   chan struct{} // has room for one: somebody begins to talk
	thread atomic.Int32  // id while it runs

	mu sync.Mutex
	// Guarded by mu, which the pacer holds while it sends a tick.
	sweep   time.Duration
	wheel   [][]*talker
	talkers int
	fresh   []*talker // began to talk since the last round
	done    int64     // last tick that was served
	out     *outbox
	pace    Pace
	frames  voices
}

// talker is a client that talks.
type talker struct {
	client *Client
	id     uint32
	speech speech
	next   uint32 // interval
	slot   int    // of the wheel
	gone   bool
	small  []frameOf // frames outside the window, used round
	large  []frameOf // within it
	sizes  [2]int    // of packets outside and within
}

func newPacer(tick, sweep time.Duration) *pacer {
	return &pacer{
		tick: tick, sweep: sweep, kick: make(chan struct{}, 1),
		wheel: make([][]*talker, FrameInterval/tick), out: newOutbox(),
	}
}

// sweepSteps is how many turns of the wheel a sweep takes in one direction: 1 s.
const sweepSteps = 50

// set changes the grid and, by shift, the clock.
func (p *pacer) set(sweep time.Duration, shift func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.talkers > 0 {
		return errors.New("set up generator: somebody talks; set it up before")
	}
	p.sweep, p.done = sweep, 0
	shift()
	return nil
}

// at is when a tick is due, in nanoseconds since 1970. mu is held.
func (p *pacer) at(tick int64) int64 {
	step := tick / int64(len(p.wheel)) % (2 * sweepSteps)
	return tick*int64(p.tick) + min(step, 2*sweepSteps-step)*int64(p.sweep)/sweepSteps
}

// connect gives a client its sending keys.
func (p *pacer) connect(c *Client, out *transform, a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.out, c.to, c.level = out, rawAddress(a.remote), a.level
}

// talk puts a client into the wheel.
func (p *pacer) talk(c *Client, t Talk) error {
	if err := t.validate(); err != nil {
		return err
	}
	small, err := p.frames.of(t.Voice, t.SmallSize)
	if err != nil {
		return err
	}
	large, err := p.frames.of(t.Voice, t.Size)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.gone || c.out == nil {
		return errors.New("talk: the client is not connected, or closed")
	}
	p.hushLocked(c)
	k := &talker{client: c, id: t.ID, speech: newSpeech(&t, p.tick), small: small, large: large, sizes: [2]int{t.SmallSize, t.Size}}
	k.slot = int(k.speech.first % int64(len(p.wheel)))
	c.talker = k
	p.wheel[k.slot] = append(p.wheel[k.slot], k)
	p.talkers++
	p.fresh = append(p.fresh, k)
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return nil
}

func (p *pacer) hush(c *Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hushLocked(c)
}

// leave hushes a client for ever.
func (p *pacer) leave(c *Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.gone = true
	p.hushLocked(c)
}

func (p *pacer) hushLocked(c *Client) {
	k := c.talker
	if k == nil {
		return
	}
	c.talker, k.gone = nil, true
	p.talkers--
	list := p.wheel[k.slot]
	for i := range list {
		if list[i] == k {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			p.wheel[k.slot] = list[:len(list)-1]
			return
		}
	}
}

func (p *pacer) spoken() Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pace
}

func (p *pacer) resetSpoken() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = Pace{}
}

// run is the pacer's goroutine. Its thread is its own and ends with it, as its
// timers are set sharper than those of other threads and, where that is allowed, the
// scheduler wakes it ahead of others (nice -10): a server that takes all processors
// must get what is due all the same, as it would from another machine. Its time is the coordinator's:
// the kernel's less shift.
func (p *pacer) run(ctx context.Context, shift *atomic.Int64) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // ns, not 50 µs
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	p.thread.Store(int32(unix.Gettid()))
	defer p.thread.Store(0)
	for ctx.Err() == nil {
		ahead := shift.Load()
		now := time.Now().UnixNano() - ahead
		next := p.serve(now)
		if next == never {
			select {
			case <-p.kick:
			case <-ctx.Done():
			}
			continue
		}
		wake := unix.NsecToTimespec(min(next, now+int64(longestNap)) + ahead)
		_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&wake)), 0, 0, 0)
	}
}

// serve sends all that is due at now, nanoseconds since 1970, and tells when the
// next tick with work is due, never if nobody talks.
func (p *pacer) serve(now int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	tick := now / int64(p.tick)
	for _, k := range p.fresh {
		if !k.gone {
			p.upTo(k, p.done, now)
		}
	}
	clear(p.fresh)
	p.fresh = p.fresh[:0]
	// Packets of ticks before the bound fail when their talker's slot comes.
	p.done = max(p.done, tick-int64(catchUp/p.tick))
	for upto := p.done + int64(longestServe/p.tick); p.done < upto && p.at(p.done+1) <= now; {
		p.done++
		list := p.wheel[p.done%int64(len(p.wheel))]
		for i := len(list) - 1; i >= 0; i-- { // who ends gives the place to the last
			p.upTo(list[i], p.done, now)
		}
	}
	p.flush()
	if p.talkers == 0 {
		return never
	}
	for next := p.done + 1; ; next++ {
		if len(p.wheel[next%int64(len(p.wheel))]) > 0 {
			return p.at(next)
		}
	}
}

// upTo sends what a talker has due until a tick.
func (p *pacer) upTo(k *talker, tick, now int64) {
	s := &k.speech
	for due := s.due(k.next); due <= tick; due += s.perFrame {
		if due >= s.stop {
			p.hushLocked(k.client)
			return
		}
		f := s.at(k.next)
		if f.sent {
			p.speak(k, f, p.at(due), time.Duration(now-p.at(due)))
		}
		k.next++
	}
}

// speak seals one packet that is due at a time in nanoseconds since 1970.
func (p *pacer) speak(k *talker, f frame, due int64, behind time.Duration) {
	c := k.client
	p.pace.Worst = max(p.pace.Worst, behind)
	if behind > FrameInterval {
		p.pace.Late++
	}
	if behind > catchUp+FrameInterval {
		p.pace.Failed++
		return
	}
	if p.out.used == writeBatch || p.out.used > 0 && p.out.socket != c.socket {
		p.flush()
	}
	p.out.socket = c.socket
	voice := f.voice && f.voiced
	one, size := silent, k.sizes[0]
	switch {
	case voice:
		one, size = k.large[int(k.next)%len(k.large)], k.sizes[1]
	case f.voiced:
		one = k.small[int(k.next)%len(k.small)]
	}
	b := p.out.next()
	n := c.header(b, k.next == f.onset, one.level, due)
	packet, err := mark.Append(b[:n], one.data, mark.Mark{
		Talker: k.id, Index: k.next, Onset: f.onset, Voiced: f.voiced, Due: time.Unix(0, due),
	}, size)
	if err != nil {
		p.pace.Failed++ // sizes were checked when the talk began
		return
	}
	roc := c.roc
	if c.seq++; c.seq == 0 {
		c.roc++
	}
	p.out.put(len(c.out.seal(packet, n, roc)), c.source, &c.to, voice)
}

// header writes the RTP header (RFC 3550 section 5.1) with the level (RFC 6464, one
// byte form of RFC 8285) if that was agreed, and tells its length.
func (c *Client) header(b []byte, onset bool, level byte, due int64) int {
	b[0], b[1] = 0x80, opusPT
	if onset {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], c.seq)
	// 48 kHz of the due time, so that pauses and talks keep their distance.
	binary.BigEndian.PutUint32(b[4:], c.ts+uint32(uint64(due)/1000*48/1000))
	binary.BigEndian.PutUint32(b[8:], c.ssrc)
	if !c.level {
		return 12
	}
	b[0] |= 0x10
	copy(b[12:], []byte{0xbe, 0xde, 0, 1, levelExt << 4, level, 0, 0})
	return 20
}

// flush sends the batch.
func (p *pacer) flush() {
	if p.out.used == 0 {
		return
	}
	p.out.flush(p.told)
}

func (p *pacer) told(voice, sent bool) {
	switch {
	case !sent:
		p.pace.Failed++
	case voice:
		p.pace.Voice++
		fallthrough
	default:
		p.pace.Sent++
	}
}
