package fidelity

import (
	"math"
	"math/bits"
	"math/cmplx"
)

// plan is a discrete Fourier transform of one length, a power of two.
type plan struct {
	turn []complex128 // exp(-2πi k/n), k up to n/2
}

func newPlan(n int) *plan {
	p := &plan{turn: make([]complex128, n/2)}
	for k := range p.turn {
		p.turn[k] = cmplx.Rect(1, -2*math.Pi*float64(k)/float64(n))
	}
	return p
}

// forward transforms x in place; it has twice as many elements as turn.
func (p *plan) forward(x []complex128) {
	n := len(x)
	shift := 64 - bits.Len(uint(n-1))
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	for half := 1; half < n; half *= 2 {
		step := n / (2 * half)
		for at := 0; at < n; at += 2 * half {
			for k := range half {
				a, b := x[at+k], x[at+k+half]*p.turn[k*step]
				x[at+k], x[at+k+half] = a+b, a-b
			}
		}
	}
}
