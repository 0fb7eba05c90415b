package e2e

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// voice is what a test person sounds like: two tones at once, 300 ms on and
// 200 ms off unless it hums without a pause. The pairs share no harmonics.
type voice struct {
	name  string
	tones [2]float64
	hums  bool
	red   bool // is what its camera shows; else blue
}

var (
	ada   = voice{name: "Ada", tones: [2]float64{440, 620}, red: true}
	brian = voice{name: "Brian", tones: [2]float64{1010, 1430}}
)

// sampleRate of all test audio.
const sampleRate = 48000

// sample is the voice at sample i, -1..1.
func (v voice) sample(i int) float64 {
	ms := i * 1000 / sampleRate % 500
	if ms >= 300 && !v.hums {
		return 0
	}
	ramp := math.Min(1, math.Min(float64(ms), float64(300-ms))/10) // no clicks
	if v.hums {
		ramp = 1
	}
	at := 2 * math.Pi * float64(i) / sampleRate
	return ramp * 0.25 * (math.Sin(v.tones[0]*at) + math.Sin(v.tones[1]*at))
}

// wav writes ten seconds of the voice as a WAV file, which loops without a seam.
func (v voice) wav(t *testing.T) string {
	t.Helper()
	const n = 10 * sampleRate
	b := append([]byte("RIFF"), make([]byte, 40)...)
	binary.LittleEndian.PutUint32(b[4:], 36+2*n)
	copy(b[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(b[16:], 16)
	binary.LittleEndian.PutUint16(b[20:], 1) // PCM
	binary.LittleEndian.PutUint16(b[22:], 1) // mono
	binary.LittleEndian.PutUint32(b[24:], sampleRate)
	binary.LittleEndian.PutUint32(b[28:], 2*sampleRate)
	binary.LittleEndian.PutUint16(b[32:], 2)
	binary.LittleEndian.PutUint16(b[34:], 16)
	copy(b[36:], "data")
	binary.LittleEndian.PutUint32(b[40:], 2*n)
	for i := range n {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(v.sample(i)*32000)))
	}
	path := filepath.Join(t.TempDir(), v.name+".wav")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
