//go:build opus

package fidelity

import (
	"testing"
	"time"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
)

// through sends speech through the codec; of a frame that lost names silence is heard.
func through(t *testing.T, audio []speech.Frame, lost func(i int) bool) (original, heard []int16) {
	t.Helper()
	frames, err := opus.Encode(audio)
	if err != nil {
		t.Fatal(err)
	}
	ear, err := opus.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		original = append(original, audio[i].PCM...)
		if lost(i) {
			heard = append(heard, make([]int16, samples)...)
			continue
		}
		if heard, err = ear.Decode(heard, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	return original, heard
}

// TestThroughCodec: a voice as it is, with every tenth frame lost, and as another one:
// the neighbour, whose tones lie in the same bands, without pauses to tell them apart.
func TestThroughCodec(t *testing.T) {
	wrongs, voices := 0.0, 0.0
	for voice := 0; voice < speech.Voices; voice += 6 {
		config := speech.Config{Seed: 4, Voice: voice, Frames: 100}
		audio := speech.Generate(config)
		original, heard := through(t, audio, func(int) bool { return false })
		clean, err := Compare(original, heard, Config{})
		// The look-ahead of the codec is 6.5 ms; a period of a voice is 4 to 11 ms.
		if err != nil || clean.Score < 0.9 || clean.Alike < 0.9 || clean.Silent+clean.Damaged > 0 || (clean.Lag-6500*time.Microsecond).Abs() > 5*time.Millisecond {
			t.Errorf("voice %d: %+v, %v", voice, clean, err)
		}
		_, broken := through(t, audio, func(i int) bool { return i%10 == 5 })
		lossy, err := Compare(original, broken, Config{})
		if err != nil || lossy.Score > clean.Score-0.05 || lossy.Score < 0.7 || lossy.Alike < 0.4 || (lossy.Lag-clean.Lag).Abs() > 12*time.Millisecond {
			t.Errorf("voice %d with 10 %% lost, %.3f without: %+v, %v", voice, clean.Score, lossy, err)
		}
		config.Seed, config.Voice = 9, (voice+1)%speech.Voices
		_, other := through(t, speech.Generate(config), func(int) bool { return false })
		wrong, err := Compare(original, other, Config{})
		if err != nil || wrong.Score > clean.Score-0.2 || wrong.Alike > 0.1 {
			t.Errorf("voice %d heard as another, %.3f as itself: %+v, %v", voice, clean.Score, wrong, err)
		}
		wrongs += wrong.Score
		voices++
	}
	if mean := wrongs / voices; mean > 0.65 {
		t.Errorf("other voices score %.3f in the mean", mean)
	}
}
