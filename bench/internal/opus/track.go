package opus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
)

// Frame is 20 ms of Opus.
type Frame struct {
	Data   []byte
	Level  uint8 // -dBov, 127 is silence
	Voiced bool  // speech: a server must forward it
}

// Track is what a talker says, over and over.
type Track struct {
	Voice  int // of package speech, to be heard by its tones
	Frames []Frame

	seed  maphash.Seed
	index map[uint64]int
	quiet map[uint64]bool // frames that Index does not know
}

// NewTrack makes a track whose voiced frames are all different: one that repeats
// another's bytes is still sent, but called unvoiced, so that nobody counts it.
func NewTrack(voice int, frames []Frame) (*Track, error) {
	t := &Track{Voice: voice, Frames: frames, seed: maphash.MakeSeed(), index: make(map[uint64]int, len(frames)), quiet: make(map[uint64]bool)}
	voiced := 0
	for i := range frames {
		f := &frames[i]
		if len(f.Data) == 0 || len(f.Data) > maxFrame {
			return nil, fmt.Errorf("frame %d has %d bytes", i, len(f.Data))
		}
		sum := maphash.Bytes(t.seed, f.Data)
		if !f.Voiced {
			t.quiet[sum] = true
			continue
		}
		if _, taken := t.index[sum]; taken {
			f.Voiced = false
			continue
		}
		t.index[sum] = i
		voiced++
	}
	if voiced == 0 {
		return nil, errors.New("track without speech")
	}
	return t, nil
}

// Index finds a voiced frame by its bytes.
func (t *Track) Index(data []byte) (int, bool) {
	i, ok := t.index[maphash.Bytes(t.seed, data)]
	return i, ok
}

// Quiet tells a frame of the track that is not voiced.
func (t *Track) Quiet(data []byte) bool { return t.quiet[maphash.Bytes(t.seed, data)] }

// The file form of a track: magic, count of frames, and for each frame its level
// with the voiced bit above it, its length and its bytes.
const (
	magic    = "VFO1"
	maxFrame = 1275 // RFC 6716 section 3.4, rule R2
	// maxFrames bounds a track: 10 minutes.
	maxFrames = 30_000
)

// MarshalFrames writes the file form.
func MarshalFrames(frames []Frame) []byte {
	b := append([]byte(magic), 0, 0)
	binary.BigEndian.PutUint16(b[4:], uint16(len(frames)))
	for _, f := range frames {
		level := f.Level & 127
		if f.Voiced {
			level |= 128
		}
		b = append(b, level)
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.Data)))
		b = append(b, f.Data...)
	}
	return b
}

// UnmarshalFrames reads it back.
func UnmarshalFrames(b []byte) ([]Frame, error) {
	if len(b) < 6 || string(b[:4]) != magic {
		return nil, errors.New("not a track")
	}
	count := int(binary.BigEndian.Uint16(b[4:]))
	if count > maxFrames {
		return nil, fmt.Errorf("track of %d frames, at most %d are read", count, maxFrames)
	}
	b = b[6:]
	frames := make([]Frame, 0, min(count, len(b)/3))
	for i := range count {
		if len(b) < 3 {
			return nil, fmt.Errorf("track ends in frame %d of %d", i, count)
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if n > maxFrame || len(b) < 3+n {
			return nil, fmt.Errorf("frame %d of %d bytes", i, n)
		}
		frames = append(frames, Frame{Data: b[3 : 3+n : 3+n], Level: b[0] & 127, Voiced: b[0]&128 != 0})
		b = b[3+n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes behind the last frame", len(b))
	}
	return frames, nil
}
