package speech

import "math"

// Power is the mean square of the sine of frequency hz in the samples, in dB of
// full scale, by Goertzel's algorithm under a Hann window: a full-scale sine is
// -3 dB.
func Power(pcm []int16, hz float64) float64 {
	n := len(pcm)
	if n < 2 {
		return math.Inf(-1)
	}
	sin, cos := math.Sincos(2 * math.Pi * hz / Rate)
	var s1, s2, weight float64
	for i, v := range pcm {
		w := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(n-1))
		weight += w
		s1, s2 = float64(v)/math.MaxInt16*w+2*cos*s1-s2, s1
	}
	re, im := s1-s2*cos, s2*sin
	amplitude := 2 * math.Hypot(re, im) / weight
	return 20*math.Log10(amplitude+1e-9) - 10*math.Log10(2)
}

// PairPower is the weaker of a voice's two tones: a voice is there when both are.
func PairPower(pcm []int16, voice int) float64 {
	p := Pair(voice)
	return min(Power(pcm, p[0]), Power(pcm, p[1]))
}

// Verdict is what a listener's ear says of a piece of audio.
type Verdict struct {
	// Voice is the strongest of those listened for, -1 when none is above Floor.
	Voice int
	// Above is by how many dB it is stronger than the next of them.
	Above float64
}

// Floor is the power in dB of full scale below which there is no voice.
const Floor = -45

// Recognize finds which of count voices (numbered from 0) speaks in the samples;
// 100 ms of them are enough.
func Recognize(pcm []int16, count int) Verdict {
	count = min(count, Voices)
	best, next, voice := math.Inf(-1), math.Inf(-1), -1
	for v := range count {
		switch p := PairPower(pcm, v); {
		case p > best:
			best, next, voice = p, best, v
		case p > next:
			next = p
		}
	}
	if best < Floor {
		return Verdict{Voice: -1}
	}
	return Verdict{Voice: voice, Above: best - max(next, -120)}
}
