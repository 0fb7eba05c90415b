//go:build opus

package opus_test

import (
	"testing"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
)

// TestRecognizeThroughCodec encodes and decodes every voice and finds it again, 20
// dB above all others, in every 100 ms of speech.
func TestRecognizeThroughCodec(t *testing.T) {
	for voice := range speech.Voices {
		track, err := opus.Talk(speech.Config{Seed: 5, Voice: voice, Pauses: true, Frames: 500})
		if err != nil {
			t.Fatal(err)
		}
		ear, err := opus.NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		var heard []int16
		row, windows := 0, 0
		for i, f := range track.Frames {
			pcm, err := ear.Decode(nil, f.Data)
			if err != nil {
				t.Fatal(err)
			}
			if row++; !f.Voiced {
				row, heard = 0, nil
				continue
			}
			// The codec's own delay is 6.5 ms: the first frame of a burst is left out.
			if row > 1 {
				heard = append(heard, pcm...)
			}
			if len(heard) == 5*speech.FrameSamples {
				windows++
				if got := speech.Recognize(heard, speech.Voices); got.Voice != voice || got.Above < 15 {
					t.Errorf("voice %d, frame %d: %+v", voice, i, got)
				}
				heard = nil
			}
		}
		if windows < 3 {
			t.Errorf("voice %d: %d windows", voice, windows)
		}
	}
}
