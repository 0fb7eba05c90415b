package fidelity

import "math"

const (
	// hop is the step of the coarse search: 5 ms.
	hop = rate / 200
	// close is how far around it the waveform is looked at, over an excerpt of 1 s:
	// 7.5 ms, a step and a half.
	close   = hop * 3 / 2
	excerpt = rate
)

// align finds by how many samples heard is behind original, from least to most, and
// how alike the waveforms are there. Speech is periodic, and its waveform much like
// itself some periods later; therefore first the loudness of the bands over time is
// correlated, and the waveform is looked at only near there.
func align(e *ear, original, heard []int16, least, most int) (lag int, alike float64) {
	lag = e.coarse(original, heard, least, most)
	at := speaking(original)
	if len(at) == 0 {
		return lag, 0
	}
	// The excerpt begins a quarter of a second before the middle of what is spoken.
	from := max(at[len(at)/2]-excerpt/4, 0)
	part := original[from:min(from+excerpt, len(original))]

	near := lag
	alike = -1
	for l := max(least, near-close); l <= min(most, near+close); l++ {
		if c := correlate(part, heard, from+l); c > alike {
			alike, lag = c, l
		}
	}
	return lag, max(alike, 0)
}

// speaking lists where frames begin that speak.
func speaking(pcm []int16) []int {
	var at []int
	for i := range len(pcm) / samples {
		if decibel(energy(pcm[i*samples:(i+1)*samples])/samples) >= speaks {
			at = append(at, i*samples)
		}
	}
	return at
}

// coarse correlates how loud each band is over time.
func (e *ear) coarse(original, heard []int16, least, most int) int {
	n, m := len(original)/hop, len(heard)/hop
	a, b := make([]loudness, n), make([]loudness, m)
	var first [samples]int16
	for i := range max(n, m) {
		e.load(cut(first[:], original, i*hop), cut(e.heard[:], heard, i*hop))
		if i < n {
			a[i] = e.a.loud()
		}
		if i < m {
			b[i] = e.b.loud()
		}
	}
	center(a)
	center(b)
	best, lag := math.Inf(-1), least
	for l := int(math.Floor(float64(least) / hop)); l <= (most+hop-1)/hop; l++ {
		from, to := max(0, -l), min(n, m-l)
		if to-from < min(n, m)/2 {
			continue // what overlaps is too short to tell
		}
		cross, aa, bb := 0.0, 1e-9, 1e-9
		for i := from; i < to; i++ {
			for k, v := range a[i] {
				w := b[i+l][k]
				cross += v * w
				aa += v * v
				bb += w * w
			}
		}
		if c := cross / math.Sqrt(aa*bb); c > best {
			best, lag = c, min(max(l*hop, least), most)
		}
	}
	return lag
}

// center takes the mean of each band away.
func center(x []loudness) {
	for k := range loudness(x[0]) {
		sum := 0.0
		for i := range x {
			sum += x[i][k]
		}
		for i := range x {
			x[i][k] -= sum / float64(len(x))
		}
	}
}

// cut fills dst with what lies at an offset of pcm; silence is around it.
func cut(dst, pcm []int16, at int) []int16 {
	clear(dst)
	if at < len(pcm) && at+len(dst) > 0 {
		copy(dst[max(-at, 0):], pcm[max(at, 0):])
	}
	return dst
}

// correlate is the normalized correlation of part with what lies at an offset, where
// silence is around heard.
func correlate(part, heard []int16, at int) float64 {
	cross, a, b := 0.0, 0.0, 0.0
	for i, v := range part {
		x, y := float64(v), 0.0
		if k := at + i; k >= 0 && k < len(heard) {
			y = float64(heard[k])
		}
		cross += x * y
		a += x * x
		b += y * y
	}
	if a == 0 || b == 0 {
		return 0
	}
	return cross / math.Sqrt(a*b)
}

func energy(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum
}
