package crypt

// WindowSize is how far behind the newest packet one may still arrive: 256
// packets are 5 s of voice. RFC 3711 section 3.3.2 asks for at least 64.
const WindowSize = 256

// Window estimates the 48-bit index of incoming packets from their 16-bit
// sequence numbers (RFC 3711 section 3.3.1) and refuses replays (section 3.3.2).
// One per source. Asking changes nothing; only Accept, called for packets that
// proved authentic, moves it. The zero value expects rollover counter zero.
type Window struct {
	highest uint64
	seen    [WindowSize / 64]uint64 // bit index%WindowSize, for the last WindowSize indices
	started bool
}

// Estimate is the most likely index of a packet with this sequence number: the
// one nearest to the highest accepted. It is false when that would lie before
// the first packet of all.
func (w *Window) Estimate(seq uint16) (index uint64, ok bool) {
	if !w.started {
		return uint64(seq), true
	}
	roc := w.highest >> 16
	switch d := int32(seq) - int32(uint16(w.highest)); {
	case d > 1<<15:
		if roc == 0 {
			return 0, false
		}
		roc--
	case d < -(1 << 15):
		roc++
	}
	index = roc<<16 | uint64(seq)
	return index, index <= MaxIndex
}

// Fresh says that an index was not accepted yet and is not too old to tell.
func (w *Window) Fresh(index uint64) bool {
	switch {
	case !w.started || index > w.highest:
		return true
	case w.highest-index >= WindowSize:
		return false
	}
	return w.seen[index%WindowSize/64]&(1<<(index%64)) == 0
}

// Accept records an authentic packet.
func (w *Window) Accept(index uint64) {
	switch {
	case !w.started:
		w.started, w.highest = true, index
	case index > w.highest:
		if index-w.highest >= WindowSize {
			w.seen = [WindowSize / 64]uint64{}
		} else {
			for i := w.highest + 1; i < index; i++ {
				w.seen[i%WindowSize/64] &^= 1 << (i % 64)
			}
		}
		w.highest = index
	case w.highest-index >= WindowSize:
		return
	}
	w.seen[index%WindowSize/64] |= 1 << (index % 64)
}

// Highest is the highest index accepted; false when there is none yet.
func (w *Window) Highest() (uint64, bool) { return w.highest, w.started }

// Resume makes a window that refuses everything up to and including index: what
// is known of a source after a restart.
func Resume(index uint64) Window {
	w := Window{highest: index, started: true}
	for i := range w.seen {
		w.seen[i] = ^uint64(0)
	}
	return w
}
