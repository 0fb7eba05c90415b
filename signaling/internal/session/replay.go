package session

import "voicefleet/signaling"

// replay keeps the newest numbered messages of a session, at most
// ReplayMessages and ReplayBytes.
type replay struct {
	last  uint64 // number of the newest message given out, kept or not
	kept  []kept // ascending and without gaps
	bytes int
}

type kept struct {
	seq   uint64
	frame []byte
}

func (r *replay) next() uint64 {
	r.last++
	return r.last
}

// keep stores the message with the number that next gave last.
func (r *replay) keep(frame []byte) {
	r.kept = append(r.kept, kept{r.last, frame})
	r.bytes += len(frame)
	for len(r.kept) > signaling.ReplayMessages || r.bytes > signaling.ReplayBytes {
		r.drop()
	}
}

func (r *replay) drop() {
	r.bytes -= len(r.kept[0].frame)
	r.kept[0].frame = nil
	r.kept = r.kept[1:]
}

// seen drops what the client acknowledged. Numbers never given out are ignored.
func (r *replay) seen(seq uint64) {
	if seq > r.last {
		return
	}
	for len(r.kept) > 0 && r.kept[0].seq <= seq {
		r.drop()
	}
}

// after lists the messages behind seq, and whether that is all of them.
func (r *replay) after(seq uint64) ([][]byte, bool) {
	if seq > r.last || r.last-seq > uint64(len(r.kept)) {
		return nil, false
	}
	var frames [][]byte
	for _, k := range r.kept {
		if k.seq > seq {
			frames = append(frames, k.frame)
		}
	}
	return frames, true
}
