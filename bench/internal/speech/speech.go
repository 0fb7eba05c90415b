// Package speech makes audio that a codec and a silence gate take for speech, and
// that tells by its sound whose it is: voiced bursts with formants and pauses as
// in ITU-T P.59, and in each talker's bursts a pair of tones of its own. A
// detector (Goertzel) finds the pair in what a listener decodes.
//
// All of it is made from a seed: the same talker says the same again.
package speech

import (
	"math"
	"math/rand/v2"
	"time"
)

// The format: 48 kHz mono in frames of 20 ms.
const (
	Rate         = 48000
	FrameSamples = Rate / 50
	FrameLength  = 20 * time.Millisecond
)

// Voices is how many talkers can be told apart by sound.
const Voices = 16

// The tones lie above the strong formants of the speech and below 5.6 kHz, which
// Opus keeps in all its modes from wideband on. Neighbours are 110 Hz apart: a
// window of 100 ms tells 10 Hz apart.
const (
	toneFirst = 2050.0
	toneStep  = 110.0
)

// Pair is the two tones of a voice, in Hz. The two are half the range apart, so
// that no voice is mistaken for another by one band that was lost.
func Pair(voice int) [2]float64 {
	v := float64(voice % Voices)
	return [2]float64{toneFirst + toneStep*v, toneFirst + toneStep*(v+Voices)}
}

// Levels in dB of full scale. Together they stay below full scale.
const (
	speechLevel = -24.0 // of a voiced burst
	toneLevel   = -20.0 // of each tone
)

// Frame is 20 ms.
type Frame struct {
	PCM []int16
	// Level is the loudness in -dBov as RFC 6464 has it: 0 loudest, 127 silence.
	Level uint8
	// Voiced frames lie wholly within a burst.
	Voiced bool
}

// Config of Generate.
type Config struct {
	Seed  uint64
	Voice int // whose tones are mixed in
	// Pauses: talk spurts and pauses after ITU-T P.59 (mean 1.004 s and 1.587 s,
	// single talker without double talk); without them one spurt for ever.
	Pauses bool
	Frames int
}

// P.59 table 1, both distributed exponentially.
const (
	meanSpurt = 1004 * time.Millisecond
	meanPause = 1587 * time.Millisecond
	// shortest keeps a spurt or pause from vanishing.
	shortest = 4 * FrameLength
)

// Generate makes frames.
func Generate(c Config) []Frame {
	random := rand.New(rand.NewPCG(c.Seed, uint64(c.Voice)))
	spurts := activity(random, c)
	s := newSynth(random, c.Voice)
	frames := make([]Frame, c.Frames)
	for i := range frames {
		pcm := make([]int16, FrameSamples)
		sum := 0.0
		for k := range pcm {
			v := s.next(spurts[i])
			pcm[k] = int16(math.Round(v * math.MaxInt16))
			sum += v * v
		}
		frames[i] = Frame{PCM: pcm, Level: level(sum / FrameSamples)}
		frames[i].Voiced = spurts[i] && (i == 0 || spurts[i-1]) && frames[i].Level < 50
	}
	return frames
}

// activity says of each frame whether it is talked in.
func activity(random *rand.Rand, c Config) []bool {
	on := make([]bool, c.Frames)
	talking := true
	for i := 0; i < len(on); {
		mean := meanSpurt
		if !talking {
			mean = meanPause
		}
		length := max(time.Duration(random.ExpFloat64()*float64(mean)), shortest)
		frames := int(length / FrameLength)
		if !c.Pauses {
			frames = len(on)
		}
		for range frames {
			if i == len(on) {
				break
			}
			on[i] = talking
			i++
		}
		talking = !talking
	}
	return on
}

// level is the loudness of a mean square in -dBov.
func level(meanSquare float64) uint8 {
	if meanSquare < 1e-12 {
		return 127
	}
	return uint8(min(127, max(0, math.Round(-10*math.Log10(meanSquare)))))
}

// synth is a source-filter model of a voice: a glottal pulse train through three
// resonators that glide from vowel to vowel, and tones.
type synth struct {
	random *rand.Rand
	pitch  float64 // Hz
	phase  float64
	gain   float64 // follows the activity within 5 ms, so that nothing clicks
	left   int     // samples until the next vowel
	now    [3]float64
	goal   [3]float64
	filter [3]resonator
	tones  [2]tone
}

// vowels are formant frequencies in Hz.
var vowels = [][3]float64{{730, 1090, 1700}, {270, 1700, 1850}, {300, 870, 1650}, {530, 1500, 1800}, {570, 840, 1700}}

func newSynth(random *rand.Rand, voice int) *synth {
	s := &synth{random: random, pitch: 90 + 10*float64(voice%Voices), now: vowels[0], goal: vowels[0]}
	for i, hz := range Pair(voice) {
		s.tones[i] = newTone(hz)
	}
	return s
}

// next is one sample.
func (s *synth) next(talking bool) float64 {
	target := 0.0
	if talking {
		target = 1
	}
	s.gain += (target - s.gain) / (Rate / 200)
	if s.left--; s.left < 0 {
		s.goal = vowels[s.random.IntN(len(vowels))]
		s.left = Rate/10 + s.random.IntN(Rate/8)
	}
	s.phase += s.pitch / Rate
	excitation := 0.0
	if s.phase >= 1 {
		s.phase--
		excitation = 1
	}
	excitation += 0.01 * (s.random.Float64() - 0.5) // breath
	sum := 0.0
	for i := range s.filter {
		s.now[i] += (s.goal[i] - s.now[i]) / (Rate / 50)
		sum += s.filter[i].next(excitation, s.now[i], 60+40*float64(i)) / float64(i+1)
	}
	out := sum * math.Pow(10, speechLevel/20)
	for i := range s.tones {
		out += s.tones[i].next() * math.Pow(10, toneLevel/20) * math.Sqrt2
	}
	return max(-1, min(1, out)) * s.gain
}

// resonator is a two-pole filter with unit gain for a pulse.
type resonator struct{ y1, y2 float64 }

func (r *resonator) next(x, hz, width float64) float64 {
	radius := math.Exp(-math.Pi * width / Rate)
	y := x + 2*radius*math.Cos(2*math.Pi*hz/Rate)*r.y1 - radius*radius*r.y2
	r.y1, r.y2 = y, r.y1
	return y * math.Sin(2*math.Pi*hz/Rate)
}

// tone is a sine as a rotating vector.
type tone struct{ re, im, cos, sin float64 }

func newTone(hz float64) tone {
	sin, cos := math.Sincos(2 * math.Pi * hz / Rate)
	return tone{re: 1, cos: cos, sin: sin}
}

func (t *tone) next() float64 {
	t.re, t.im = t.re*t.cos-t.im*t.sin, t.re*t.sin+t.im*t.cos
	return t.im
}
