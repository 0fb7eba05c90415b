package stage

import (
	"testing"
	"time"

	"voicefleet/sfu/internal/rtpwire"
)

func TestChoose(t *testing.T) {
	const ms = time.Millisecond
	silent := func(at time.Duration) Seat { return Seat{Taken: true, Silent: at} }
	loud := func(db Loudness, since time.Duration) Seat {
		return Seat{Taken: true, Audible: true, Loud: db << 8, Since: since}
	}
	for _, c := range []struct {
		name  string
		seats []Seat
		want  int
	}{
		{"no seats", nil, -1},
		{"the first empty one", []Seat{loud(10, 0), {}, {}}, 1},
		{"an empty one before a silent one", []Seat{silent(0), {}}, 1},
		{"the longest silent", []Seat{silent(500 * ms), silent(300 * ms), loud(1, 0)}, 1},
		{"of equally silent the lower", []Seat{silent(300 * ms), silent(300 * ms)}, 0},
		{"the quietest by 6 dB", []Seat{loud(60, 0), loud(54, 0), loud(55, 0)}, 1},
		{"not by less", []Seat{loud(60, 0), loud(55, 0)}, -1},
		{"not before its tenure is over", []Seat{loud(60, 0), loud(10, 601*ms)}, -1},
		{"but then", []Seat{loud(60, 0), loud(10, 600*ms)}, 1},
		{"of equals the lower", []Seat{loud(20, 0), loud(20, 0)}, 0},
	} {
		if got := Choose(1000*ms, 60<<8, c.seats); got != c.want {
			t.Errorf("%s: seat %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLoudness(t *testing.T) {
	if a, b := Strength(rtpwire.NoLevel, false), Strength(50, false); a != b {
		t.Errorf("without level %d, at -50 dBov %d", a, b)
	}
	if a, b := Strength(126, true), Strength(63, false); a != b+256 {
		t.Errorf("a priority speaker at -126 dBov has %d, another at -63 dBov %d", a, b)
	}
	s := Strength(100, false)
	if s = s.Smooth(Strength(20, false)); s != 27<<8+80<<8/8 {
		t.Errorf("one packet of 80 dB more moved 27 dB to %d/256", s)
	}
	for range 100 {
		s = s.Smooth(Strength(20, false))
	}
	if d := Strength(20, false) - s; d < 0 || d > 7 {
		t.Errorf("%d/256 dB away after 100 packets", d)
	}
}
