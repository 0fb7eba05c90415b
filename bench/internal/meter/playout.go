package meter

import "time"

// frame is the length of speech in a packet.
const frame = int64(20 * time.Millisecond)

// The jitter buffer; see the package comment.
const (
	leastDelay = frame
	mostDelay  = int64(200 * time.Millisecond)
	startDelay = int64(80 * time.Millisecond)
	// pace is how far the delay moves in a frame: NetEq stretches or squeezes by up to
	// 15 ms in about every 100 ms.
	pace = int64(2 * time.Millisecond)
	// interval is how many packets give one maximum to the histogram, and half of how
	// many the least delay is taken from: 0.5 s and, twice over, 1 to 2 s.
	interval  = 25
	baseSpan  = 50
	forget    = 0.983
	tailShare = 0.05 // of relative delays may exceed the target
	steps     = int(mostDelay/frame) + 1
)

// playout is the jitter buffer of one talker. All is in ns.
type playout struct {
	fixed  int64 // target; 0: adaptive
	target int64 // above base
	delay  int64 // from Due to the playout moment, as it is now

	base, baseNext int64 // least delay of this span and the one before; of this span
	spanCount      int

	hold int // packets for which the delay does not fall

	worst     int64 // relative delay of this interval
	inCount   int
	intervals int
	share     [steps]float32 // of relative delays by steps of a frame; the last holds all above
}

// began tells whether a packet was seen.
func (p *playout) began() bool { return p.spanCount != 0 }

// observe takes the delay of a new packet, before it is judged.
func (p *playout) observe(d int64) {
	if !p.began() {
		p.base, p.baseNext = d, d
		p.target = p.fixed
		if p.fixed == 0 {
			p.target = startDelay
		}
		p.delay = d + p.target
	}
	p.base, p.baseNext = min(p.base, d), min(p.baseNext, d)
	if p.spanCount++; p.spanCount == baseSpan {
		// From here the span that ended and the new one count.
		p.spanCount = 1
		p.base, p.baseNext = p.baseNext, d
	}
	if p.fixed > 0 {
		p.delay = p.base + p.fixed
		return
	}
	p.worst = max(p.worst, d-p.base)
	if p.inCount++; p.inCount == interval {
		p.retarget(p.worst)
		p.inCount, p.worst = 0, 0
	}
	down := -pace
	if p.hold > 0 {
		p.hold--
		down = 0
	}
	p.delay += min(max(p.base+p.target-p.delay, down), pace)
}

// retarget puts the worst of an interval into the histogram and takes the quantile.
func (p *playout) retarget(worst int64) {
	// The first values weigh more, as there are no others: 0, 1/3, 1/2, 3/5 ...
	p.intervals++
	keep := float32(min(forget, 1-2/float64(p.intervals+1)))
	for i := range p.share {
		p.share[i] *= keep
	}
	p.share[min(int(worst/frame), steps-1)] += 1 - keep
	step, above := steps-1, p.share[steps-1]
	for step > 0 && above <= tailShare {
		step--
		above += p.share[step]
	}
	p.target = min(max(int64(step+1)*frame, leastDelay), mostDelay)
}

// rest moves the delay to its target at once, between spurts.
func (p *playout) rest() {
	if p.began() {
		p.delay = p.base + p.target
	}
}

// admit says whether a packet of delay d is played, and for how long the listener waited
// for it. newest says that no later packet of the talker came before.
func (p *playout) admit(d int64, newest bool) (played bool, waited int64) {
	switch {
	case d <= p.delay:
		return true, 0
	case p.fixed > 0 || !newest || d-p.base > mostDelay:
		return false, 0
	}
	waited = d - p.delay
	p.delay = d
	// Until the least delay knows of a way that has become longer.
	p.hold = 2 * baseSpan
	return true, waited
}
