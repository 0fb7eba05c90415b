package video

import (
	"slices"
	"time"

	"voicefleet/sfu/internal/rtcpwire"
)

const (
	// keyEvery is how often a camera is asked for a key frame at most. One takes some
	// ten times the bytes of another picture.
	keyEvery = 500 * time.Millisecond
	// maxMissing bounds the packets of a camera that are waited for; when more are
	// missing, only a key frame helps.
	maxMissing = 64
	// reorder is how long a missing packet may be under way before it is asked for, and
	// askEvery how often it is, at most askTimes: behind that it would come too late.
	reorder  = 10 * time.Millisecond
	askEvery = 60 * time.Millisecond
	askTimes = 5

	// keptPackets are kept of a camera, to be sent again: 1 s of 1 Mbit/s, in 150 KiB.
	keptPackets = 128
	keptBytes   = 1200
)

// camera is the video a member sends.
type camera struct {
	came      time.Duration // its last packet
	key       bool          // somebody waits for a key frame
	asked     time.Duration // when for one last; 0: never
	started   bool
	highest   uint64 // index
	missing   []gap  // in rising order
	reception rtcpwire.Reception
	kept      *kept // nil until someone may ask for packets again
}

// gap is a packet that did not come.
type gap struct {
	index uint64
	next  time.Duration // when to ask
	times int           // asked
}

// kept are the last packets of a camera.
type kept [keptPackets]struct {
	index  uint64 // and one; 0: nothing
	ts     uint32
	length int
	marker bool
	bytes  [keptBytes]byte
}

// put keeps a copy of a packet that is not longer than video packets are.
func (k *kept) put(index uint64, ts uint32, marker bool, payload []byte) {
	p := &k[index%keptPackets]
	p.index = 0
	if len(payload) <= keptBytes {
		p.index, p.ts, p.marker = index+1, ts, marker
		p.length = copy(p.bytes[:], payload)
	}
}

// off forgets what only counts while the camera is on.
func (cam *camera) off() {
	cam.key, cam.started, cam.missing, cam.kept = false, false, cam.missing[:0], nil
}

// arrived notes a packet, and those before it that did not come. What is lost on the way
// between nodes is not asked for: viewers ask for a key frame.
func (cam *camera) arrived(now time.Duration, index uint64, away bool) {
	cam.came = now
	switch {
	case away:
	case !cam.started:
		cam.started, cam.highest = true, index
		if cam.missing == nil {
			cam.missing = make([]gap, 0, maxMissing)
		}
	case index < cam.highest:
		if i := slices.IndexFunc(cam.missing, func(g gap) bool { return g.index == index }); i >= 0 {
			cam.missing = slices.Delete(cam.missing, i, i+1)
		}
	case index-cam.highest-1 > uint64(maxMissing-len(cam.missing)):
		cam.missing, cam.key, cam.highest = cam.missing[:0], true, index
	default:
		for i := cam.highest + 1; i < index; i++ {
			cam.missing = append(cam.missing, gap{index: i, next: now + reorder})
		}
		cam.highest = index
	}
}

// asks says whether there is something to ask for.
func (cam *camera) asks(now time.Duration) bool {
	return cam.keyDue(now) || slices.ContainsFunc(cam.missing, func(g gap) bool { return now >= g.next })
}

// ask appends the sequence numbers that are due. Who was asked for too often is given
// up: then it takes a key frame.
func (cam *camera) ask(now time.Duration, dst []uint16) []uint16 {
	still := cam.missing[:0]
	for _, g := range cam.missing {
		if now >= g.next {
			if g.times == askTimes {
				cam.key = true
				continue
			}
			g.times++
			g.next = now + askEvery
			dst = append(dst, uint16(g.index))
		}
		still = append(still, g)
	}
	cam.missing = still
	return dst
}

func (cam *camera) keyDue(now time.Duration) bool {
	return cam.key && (cam.asked == 0 || now-cam.asked >= keyEvery)
}

// askKey says whether to ask for a key frame now, and takes it for asked.
func (cam *camera) askKey(now time.Duration) bool {
	if !cam.keyDue(now) {
		return false
	}
	cam.asked = max(now, 1)
	return true
}
