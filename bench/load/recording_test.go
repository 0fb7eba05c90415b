package load

import (
	"testing"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/speech"
)

// TestRecording holds what was heard against what was said, without a codec: all of
// it is the same, and what is missing is missing by its share.
func TestRecording(t *testing.T) {
	said := speech.Generate(speech.Config{Seed: 3, Voice: 1, Frames: 300})
	other := speech.Generate(speech.Config{Seed: 4, Voice: 9, Frames: 300})
	record := func(heard []speech.Frame, lost func(i int) bool) *recording {
		r := &recording{}
		for i := range 200 {
			if !lost(i) {
				r.take(mark.Mark{Talker: 7, Index: uint32(i)}, heard[i].PCM)
			}
			r.take(mark.Mark{Talker: 8, Index: uint32(i)}, other[i].PCM) // somebody else
			r.take(mark.Mark{Talker: 7, Index: 0}, heard[0].PCM)         // again
		}
		return r
	}
	all := record(said, func(int) bool { return false })
	if len(all.frames) != 200 || all.talker != 7 {
		t.Fatalf("recorded %d frames of %d", len(all.frames), all.talker)
	}
	if score, ok := all.score(said); !ok || score < 0.999 {
		t.Errorf("the same scores %.3f, %v", score, ok)
	}
	holes := record(said, func(i int) bool { return i%5 == 4 })
	if score, ok := holes.score(said); !ok || score < 0.6 || score > 0.9 {
		t.Errorf("with a fifth missing %.3f, %v", score, ok)
	}
	if score, ok := record(other, func(int) bool { return false }).score(said); !ok || score > 0.1 {
		t.Errorf("another voice scores %.3f, %v", score, ok)
	}
	if _, ok := record(said, func(i int) bool { return i >= 40 }).score(said); ok {
		t.Error("0.8 s were enough")
	}
	long := &recording{}
	for i := range 10 * recordFrames {
		long.take(mark.Mark{Talker: 7, Index: uint32(i)}, said[i%300].PCM)
	}
	if len(long.frames) != recordFrames {
		t.Errorf("%d frames kept", len(long.frames))
	}
}
