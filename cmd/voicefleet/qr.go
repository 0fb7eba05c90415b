package main

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the light border a reader needs, in modules; the standard wants 4,
// phones are content with 2.
const quiet = 2

// drawQR draws text as a QR code of half blocks, two modules to a character. In
// colour it sets black on white itself; without, it counts on the light letters
// on dark ground that most terminals have.
func drawQR(text string, colour bool) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("draw QR code: %w", err)
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		if colour {
			b.WriteString("\x1b[30;107m")
		}
		for x := -quiet; x < code.Size+quiet; x++ {
			upper, lower := code.Black(x, y), code.Black(x, y+1)
			if !colour { // ink is light there
				upper, lower = !upper, !lower
			}
			// Below the last row of modules is paper, or nothing at all.
			if y+1 >= code.Size+quiet {
				lower = false
			}
			switch {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		if colour {
			b.WriteString("\x1b[0m")
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}
