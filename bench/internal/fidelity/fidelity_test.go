package fidelity

import (
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"voicefleet/bench/internal/speech"
)

// say is speech of a voice without pauses.
func say(seed uint64, voice, frames int) []int16 {
	var pcm []int16
	for _, f := range speech.Generate(speech.Config{Seed: seed, Voice: voice, Frames: frames}) {
		pcm = append(pcm, f.PCM...)
	}
	return pcm
}

func TestTheSame(t *testing.T) {
	original := say(1, 3, 80)
	for _, c := range []struct {
		lag    int // samples
		config Config
	}{
		{0, Config{}},
		{4801, Config{}},
		{23_900, Config{}},
		{-4801, Config{Earliest: -200 * time.Millisecond, Latest: 200 * time.Millisecond}},
		{60_000, Config{Latest: 2 * time.Second}},
	} {
		heard := slices.Clone(original[max(-c.lag, 0):])
		heard = append(make([]int16, max(c.lag, 0)), heard...)
		r, err := Compare(original, heard, c.config)
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Duration(c.lag) * time.Second / rate; r.Lag != want {
			t.Errorf("lag %v, want %v", r.Lag, want)
			continue
		}
		// What was said before it was heard is silent.
		early := max(-c.lag, 0) / samples
		if r.Alike < 0.999 || r.Score < float64(r.Frames-early-1)/float64(r.Frames)-1e-9 || r.Frames < 78 || r.Silent < early || r.Silent > early+1 {
			t.Errorf("behind by %d: %+v", c.lag, r)
		}
		if c.lag >= 0 && (r.Score < 0.9999 || r.SegmentalSNR != snrMost || r.SpectralDistance > 1e-6 || len(r.Pieces) > 0) {
			t.Errorf("behind by %d: %+v", c.lag, r)
		}
	}
}

func TestPieces(t *testing.T) {
	original := say(1, 3, 150)
	heard := slices.Clone(original)
	clear(heard[50*samples : 60*samples])
	random := rand.New(rand.NewPCG(1, 1))
	for i := 80 * samples; i < 90*samples; i++ {
		heard[i] = int16(random.IntN(8000) - 4000)
	}
	r, err := Compare(original, heard, Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Piece{{time.Second, 200 * time.Millisecond, Silent}, {1600 * time.Millisecond, 200 * time.Millisecond, Damaged}}
	if !slices.Equal(r.Pieces, want) || r.Silent != 10 || r.Damaged != 10 {
		t.Errorf("%+v", r)
	}
	if share := 1 - 10/float64(r.Frames); r.Score > share || r.Score < share-10*(1-damaged/2)/float64(r.Frames)-0.05 {
		t.Errorf("score %.3f", r.Score)
	}
	// An end that is cut off is silent too.
	r, err = Compare(original, original[:100*samples], Config{})
	if err != nil || r.Silent != 50 || len(r.Pieces) != 1 || r.Pieces[0].At != 2*time.Second || math.Abs(r.Score-100./float64(r.Frames)) > 0.01 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongVoice(t *testing.T) {
	original := say(1, 3, 100)
	for voice := range 4 {
		r, err := Compare(original, say(7, 4+2*voice, 100), Config{})
		if err != nil || r.Score > 0.75 || r.Alike > 0.1 {
			t.Errorf("voice %d: %+v, %v", 4+2*voice, r, err)
		}
	}
}

// TestPauses: only what the original speaks counts.
func TestPauses(t *testing.T) {
	original := slices.Concat(say(1, 3, 50), make([]int16, 50*samples), say(2, 3, 50))
	heard := slices.Clone(original)
	for i := 55 * samples; i < 95*samples; i++ {
		heard[i] = int16(i%7) - 3 // comfort noise
	}
	r, err := Compare(original, heard, Config{})
	if err != nil || r.Frames < 98 || r.Frames > 101 || r.Score < 0.9999 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRefusals(t *testing.T) {
	speech := say(1, 1, 20)
	for name, call := range map[string]func() (Result, error){
		"silence":       func() (Result, error) { return Compare(make([]int16, 10*samples), speech, Config{}) },
		"nothing said":  func() (Result, error) { return Compare(nil, speech, Config{}) },
		"nothing heard": func() (Result, error) { return Compare(speech, nil, Config{}) },
		"bounds":        func() (Result, error) { return Compare(speech, speech, Config{Earliest: time.Second}) },
		"a long lag":    func() (Result, error) { return Compare(speech, speech, Config{Latest: time.Minute}) },
		"an hour":       func() (Result, error) { return Compare(make([]int16, 3600*rate), speech, Config{}) },
	} {
		if r, err := call(); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestTransform holds the fast transform against its definition.
func TestTransform(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	const n = 64
	x := make([]complex128, n)
	for i := range x {
		x[i] = complex(random.Float64(), random.Float64())
	}
	got := slices.Clone(x)
	newPlan(n).forward(got)
	for k := range x {
		want := complex128(0)
		for i, v := range x {
			want += v * cmplx.Rect(1, -2*math.Pi*float64(i*k)/n)
		}
		if cmplx.Abs(got[k]-want) > 1e-9 {
			t.Errorf("bin %d: %v, want %v", k, got[k], want)
		}
	}
}

// TestLevel: a full-scale sine is -3 dB, in its band and in the waveform.
func TestLevel(t *testing.T) {
	pcm := make([]int16, samples)
	for i := range pcm {
		pcm[i] = int16(math.MaxInt16 * math.Sin(2*math.Pi*1600*float64(i)/rate))
	}
	e := newEar()
	e.load(pcm, pcm)
	if got := decibel(e.a.bands[10]); math.Abs(got+3) > 0.3 { // 1480 to 1720 Hz
		t.Errorf("in its band %.2f dB", got)
	}
	if got := decibel(energy(pcm) / samples); math.Abs(got+3) > 0.1 {
		t.Errorf("waveform %.2f dB", got)
	}
}

func BenchmarkCompare(b *testing.B) {
	original := say(1, 1, 500) // 10 s
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compare(original, original, Config{}); err != nil {
			b.Fatal(err)
		}
	}
}
