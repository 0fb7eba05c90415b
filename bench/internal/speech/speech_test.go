package speech_test

import (
	"math"
	"slices"
	"testing"

	"voicefleet/bench/internal/speech"
)

// sine makes n samples of a tone at an amplitude of full scale.
func sine(n int, hz, amplitude float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(amplitude * math.MaxInt16 * math.Sin(2*math.Pi*hz*float64(i)/speech.Rate))
	}
	return pcm
}

func TestPower(t *testing.T) {
	const n = speech.Rate / 10
	for _, c := range []struct{ hz, amplitude, ask, want, within float64 }{
		{1000, 1, 1000, -3.01, 0.1},
		{1000, 0.1, 1000, -23.01, 0.1},
		{3333, 0.5, 3333, -9.03, 0.1},
		{1000, 1, 1110, -90, 45}, // a neighbour's tone: at least 42 dB down
		{1000, 0, 1000, -180, 10},
	} {
		if got := speech.Power(sine(n, c.hz, c.amplitude), c.ask); math.Abs(got-c.want) > c.within {
			t.Errorf("%v Hz of %v asked for %v: %.2f dB, want %.2f", c.hz, c.amplitude, c.ask, got, c.want)
		}
	}
	if got := speech.Power(nil, 1000); !math.IsInf(got, -1) {
		t.Errorf("no samples: %v dB", got)
	}
}

func TestPairsAreApart(t *testing.T) {
	var all []float64
	for v := range speech.Voices {
		p := speech.Pair(v)
		all = append(all, p[0], p[1])
	}
	slices.Sort(all)
	for i := range all[1:] {
		if all[i+1]-all[i] < 100 {
			t.Errorf("tones %v and %v Hz", all[i], all[i+1])
		}
	}
}

// TestRecognize finds every voice in its own speech, 20 dB above all others, and
// nobody in silence or in noise.
func TestRecognize(t *testing.T) {
	for v := range speech.Voices {
		frames := speech.Generate(speech.Config{Seed: 1, Voice: v, Frames: 20})
		var pcm []int16
		for _, f := range frames[10:15] {
			pcm = append(pcm, f.PCM...)
		}
		if got := speech.Recognize(pcm, speech.Voices); got.Voice != v || got.Above < 20 {
			t.Errorf("voice %d: %+v", v, got)
		}
	}
	if got := speech.Recognize(make([]int16, 4800), speech.Voices); got.Voice != -1 {
		t.Errorf("silence: %+v", got)
	}
	if got := speech.Recognize(sine(4800, 440, 0.9), speech.Voices); got.Voice != -1 {
		t.Errorf("a plain tone: %+v", got)
	}
}

// TestLevels holds that speech neither clips nor lies about its loudness: a
// voiced frame is loud, and silence is -127 dBov.
func TestLevels(t *testing.T) {
	frames := speech.Generate(speech.Config{Seed: 7, Pauses: true, Frames: 50 * 15})
	voiced, silent := 0, 0
	for i, f := range frames {
		switch {
		case f.Voiced && (f.Level > 50 || f.Level < 6):
			t.Fatalf("frame %d is voiced at level %d", i, f.Level)
		case f.Voiced:
			voiced++
		case f.Level == 127:
			silent++
		}
	}
	if voiced < 100 || silent < 100 {
		t.Errorf("%d frames voiced, %d silent", voiced, silent)
	}
}

func TestSeeded(t *testing.T) {
	c := speech.Config{Seed: 3, Voice: 2, Pauses: true, Frames: 200}
	a, b := speech.Generate(c), speech.Generate(c)
	c.Seed++
	other := speech.Generate(c)
	differs := false
	for i := range a {
		if !slices.Equal(a[i].PCM, b[i].PCM) {
			t.Fatalf("frame %d differs with the same seed", i)
		}
		differs = differs || !slices.Equal(a[i].PCM, other[i].PCM)
	}
	if !differs {
		t.Error("another seed makes the same speech")
	}
}
