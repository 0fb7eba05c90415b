package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQRShowsTheCode reads the drawing back, module by module.
func TestQRShowsTheCode(t *testing.T) {
	const text = "https://192.168.178.123:8443/invite/AbCdEfGh"
	want, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, colour := range []bool{true, false} {
		drawn, err := drawQR(text, colour)
		if err != nil {
			t.Fatal(err)
		}
		drawn = strings.NewReplacer("\x1b[30;107m", "", "\x1b[0m", "").Replace(drawn)
		lines := strings.Split(strings.TrimSuffix(drawn, "\n"), "\n")
		for y := range want.Size {
			line := []rune(lines[(y+quiet)/2])
			for x := range want.Size {
				c := line[x+quiet]
				ink := c == '█' || (y+quiet)%2 == 0 && c == '▀' || (y+quiet)%2 == 1 && c == '▄'
				if (ink == colour) != want.Black(x, y) {
					t.Fatalf("colour %v: module %d,%d is wrong", colour, x, y)
				}
			}
		}
		if width := len([]rune(lines[0])); width > 60 {
			t.Errorf("%d columns wide", width)
		}
	}
}
