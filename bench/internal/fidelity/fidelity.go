// Package fidelity holds what a listener decoded against what the talker said.
//
// In come two pieces of mono audio at 48 kHz, the original and what was heard; out
// comes by how much the one is behind the other, and how alike they then sound. There
// is no clock and no I/O.
//
// A codec at 40 kbit/s keeps the spectrum of speech and not its waveform, so the score
// rests on the spectrum: of each 20 ms in which the original speaks, the energies in
// 21 bands of the ear (critical bands after Zwicker, to 7.7 kHz) are compared in dB.
// It is made to tell whether the right voice came through whole; it is not PESQ or
// POLQA, and no MOS can be read from it.
//
// The lag is one for the whole piece: audio that a jitter buffer stretched or
// squeezed is compared in pieces between.
package fidelity

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// The format.
const (
	rate    = 48000
	samples = rate / 50 // of a frame
	frame   = 20 * time.Millisecond
)

// Config of a comparison.
type Config struct {
	// The lag is looked for from Earliest, which may be negative, to Latest.
	// Both zero: from 0 to 500 ms.
	Earliest, Latest time.Duration
}

// Limits of a comparison. It takes about 15 ms and 75 kB for each second of audio.
const (
	longest = 5 * time.Minute
	lagMost = 5 * time.Second
)

// Result of a comparison. Frames are those of 20 ms in which the original speaks.
type Result struct {
	// Lag is by how much what was heard is behind the original. It is exact where the
	// waveform is kept; through a codec, and with loss, it may be off by a period of the
	// voice or two (10 ms), which takes some 0.03 from the score.
	Lag time.Duration `json:"lag_ns"`
	// Alike is the normalized cross-correlation of the waveforms at this lag, over
	// a second of the original, 0 to 1. Opus at 40 kbit/s keeps 0.9 of it, and half when
	// every tenth frame is lost; below 0.3 something else was heard, or it was stretched
	// there, and the lag says nothing.
	Alike float64 `json:"alike"`

	// Score is how much of the speech came through, 0 to 1: the mean over frames of
	// 1 - distance / 15 dB, where the distance is the root mean square of the audible
	// bands, and nothing counts below 0. The same gives 1, Opus at 40 kbit/s 0.9 and
	// more; silence for a share of the frames takes away about that share. Another voice
	// with other words gives 0.1 to 0.7, by chance and by how alike the voices are:
	// Alike tells it for certain.
	Score float64 `json:"score"`
	// SegmentalSNR is the mean over frames of the signal-to-noise ratio of the waveform,
	// each within -10 and 35 dB. Codecs do badly here without sounding so.
	SegmentalSNR float64 `json:"segmental_snr_db"`
	// SpectralDistance is the mean over frames of the log-spectral distance up to 8 kHz,
	// in dB; 0 is the same.
	SpectralDistance float64 `json:"spectral_distance_db"`

	Frames  int `json:"frames"`
	Silent  int `json:"silent"`  // heard 20 dB lower or not at all
	Damaged int `json:"damaged"` // heard, with a frame score below 0.4: concealed, or something else

	Pieces []Piece `json:"pieces,omitempty"`
}

// Kind says what is wrong with a piece.
type Kind string

// The kinds.
const (
	Silent  Kind = "silent"
	Damaged Kind = "damaged"
)

// Piece is a row of frames of the original that were heard badly.
type Piece struct {
	At   time.Duration `json:"at_ns"` // in the original
	For  time.Duration `json:"for_ns"`
	Kind Kind          `json:"kind"`
}

// Levels in dB of full scale and dB.
const (
	speaks     = -50 // a frame of the original with less is a pause
	quieter    = 20  // by which a silent frame is lower
	full       = 15  // distance at which nothing is left
	damaged    = 0.4 // score below which a frame is damaged
	snrLeast   = -10.0
	snrMost    = 35.0
	spectrumTo = 8000 // Hz

	square16   = math.MaxInt16 * math.MaxInt16 // full scale
	heardFloor = 3e-8 * square16               // -75 dB: below it nothing is heard in a band
	binFloor   = 1e-9 * square16               // -90 dB, the same for a bin
	masked     = 1e-3                          // a band 30 dB below the loudest of its frame is masked
)

// bands are the edges of the critical bands in Hz.
var bands = [...]float64{100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300, 6400, 7700, 9500}

// Compare holds heard against original, both 48 kHz mono.
func Compare(original, heard []int16, c Config) (Result, error) {
	if c.Earliest == 0 && c.Latest == 0 {
		c.Latest = 500 * time.Millisecond
	}
	if c.Latest < c.Earliest || c.Latest > lagMost || c.Earliest < -lagMost {
		return Result{}, fmt.Errorf("lag from %v to %v: give bounds in order, of %v at most", c.Earliest, c.Latest, lagMost)
	}
	if n := max(len(original), len(heard)); n > int(longest/frame)*samples {
		return Result{}, fmt.Errorf("%d s of audio: compare pieces of %v at most", n/rate, longest)
	}
	if len(original) < samples {
		return Result{}, errors.New("the original is shorter than a frame: give a longer piece")
	}
	if len(heard) < samples {
		return Result{}, errors.New("nothing was decoded: check that packets arrive and are Opus")
	}
	e := newEar()
	lag, alike := align(e, original, heard, inSamples(c.Earliest), inSamples(c.Latest))
	r := Result{Lag: time.Duration(lag) * time.Second / rate, Alike: alike}
	for i := range len(original) / samples {
		a := original[i*samples : (i+1)*samples]
		level := decibel(energy(a) / samples)
		from := i*samples + lag
		if level < speaks || from < len(heard) && from+samples > len(heard) {
			continue // a pause, or the frame that the end cut in two
		}
		b := cut(e.heard[:], heard, from)
		e.load(a, b)
		score := e.score()
		r.Frames++
		switch {
		case decibel(energy(b)/samples) < level-quieter:
			score = 0
			r.Silent++
			r.bad(i, Silent)
		case score < damaged:
			r.Damaged++
			r.bad(i, Damaged)
		}
		r.Score += score
		r.SpectralDistance += e.distance()
		r.SegmentalSNR += snr(a, b)
	}
	if r.Frames == 0 {
		return Result{}, errors.New("the original does not speak: give a longer piece")
	}
	n := float64(r.Frames)
	r.Score /= n
	r.SpectralDistance /= n
	r.SegmentalSNR /= n
	return r, nil
}

func inSamples(d time.Duration) int { return int(d * rate / time.Second) }

// bad adds frame i to the last piece or begins one.
func (r *Result) bad(i int, k Kind) {
	at := time.Duration(i) * frame
	if n := len(r.Pieces); n > 0 && r.Pieces[n-1].Kind == k && r.Pieces[n-1].At+r.Pieces[n-1].For == at {
		r.Pieces[n-1].For += frame
		return
	}
	r.Pieces = append(r.Pieces, Piece{At: at, For: frame, Kind: k})
}

// decibel is a mean square of samples in dB of full scale.
func decibel(meanSquare float64) float64 {
	return 10 * math.Log10(meanSquare/square16+1e-12)
}

// snr is that of one frame, in dB.
func snr(a, b []int16) float64 {
	noise := 0.0
	for i, v := range a {
		d := float64(v) - float64(b[i])
		noise += d * d
	}
	return min(max(10*math.Log10(energy(a)/(noise+1e-9)+1e-9), snrLeast), snrMost)
}

// ear makes spectra of two frames at a time. Its buffers are used again for the next.
type ear struct {
	plan   *plan
	window [samples]float64
	heard  [samples]int16
	x      [1024]complex128
	a, b   spectrum // of the original, of what was heard
}

// spectrum is the power of a frame, full scale being MaxInt16 squared: in bins of
// 46.9 Hz and in bands.
type spectrum struct {
	bins  [512]float64
	bands [len(bands) - 1]float64
}

// loudness is the level of each band in dB of full scale, above what can be heard.
type loudness [len(bands) - 1]float64

func newEar() *ear {
	e := &ear{}
	e.plan = newPlan(len(e.x))
	for i := range e.window {
		e.window[i] = 0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/samples)
	}
	return e
}

// load takes the spectra of two frames.
func (e *ear) load(a, b []int16) {
	clear(e.x[:])
	for i, w := range e.window {
		e.x[i] = complex(w*float64(a[i]), w*float64(b[i])) // both in one transform
	}
	e.plan.forward(e.x[:])
	// The mean square of the signal is the sum of its bins, those of both signs, over
	// length and samples and the mean square of the window, 3/8.
	const norm = 2 / (float64(1024) * samples * 0.375)
	for k := 1; k < len(e.x)/2; k++ {
		m := e.x[len(e.x)-k]
		m = complex(real(m), -imag(m))
		e.a.bins[k] = norm * square((e.x[k]+m)/2)
		e.b.bins[k] = norm * square((e.x[k]-m)/2)
	}
	e.a.sum()
	e.b.sum()
}

func square(c complex128) float64 { return real(c)*real(c) + imag(c)*imag(c) }

// binWidth is that of a bin in Hz.
const binWidth = rate / 1024.

// sum adds bins up to bands.
func (s *spectrum) sum() {
	clear(s.bands[:])
	band := 0
	for k := int(bands[0]/binWidth) + 1; k < len(s.bins); k++ {
		for float64(k)*binWidth >= bands[band+1] {
			if band++; band == len(s.bands) {
				return
			}
		}
		s.bands[band] += s.bins[k]
	}
}

func (s *spectrum) loud() loudness {
	var l loudness
	for k, p := range s.bands {
		l[k] = 10*math.Log10(p+heardFloor) - 10*math.Log10(heardFloor)
	}
	return l
}

// score is how much of a frame came through, 0 to 1.
func (e *ear) score() float64 {
	loudest := 0.0
	for _, p := range e.a.bands {
		loudest = max(loudest, p)
	}
	floor := max(loudest*masked, heardFloor)
	sum, audible := 0.0, 0.0
	for i, p := range e.a.bands {
		q := e.b.bands[i]
		if max(p, q) < floor {
			continue
		}
		d := 10 * math.Log10((p+floor)/(q+floor))
		sum += d * d
		audible++
	}
	return max(0, 1-math.Sqrt(sum/max(audible, 1))/full)
}

// distance is the log-spectral distance of a frame in dB.
func (e *ear) distance() float64 {
	sum, n := 0.0, 0
	for k := 1; float64(k)*binWidth < spectrumTo; k++ {
		d := 10 * math.Log10((e.a.bins[k]+binFloor)/(e.b.bins[k]+binFloor))
		sum += d * d
		n++
	}
	return math.Sqrt(sum / float64(n))
}
