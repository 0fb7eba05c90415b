package fleet

import (
	"testing"
	"time"

	"voicefleet/bench/internal/mark"
)

// TestEar judges one listener of a call of five in a window of 10 s.
func TestEar(t *testing.T) {
	const from, to, delay = 1000, 1500, 5 * time.Millisecond
	frames := func(n int) time.Duration { return time.Duration(n) * slotTime }
	for name, c := range map[string]struct {
		lose func(slot uint32) bool
		want Heard
	}{
		"all":                {func(uint32) bool { return false }, Heard{Recovered: true}},
		"one packet":         {func(s uint32) bool { return s == 1100 }, Heard{Gap: frames(2), Recovered: true, Lost: 1}},
		"a second":           {func(s uint32) bool { return s >= 1100 && s < 1150 }, Heard{Gap: frames(51), Recovered: true, Lost: 50}},
		"a spark within":     {func(s uint32) bool { return s >= 1100 && s < 1150 && s != 1120 }, Heard{Gap: frames(51), Recovered: true, Lost: 49}},
		"over several turns": {func(s uint32) bool { return s >= 1120 && s < 1320 }, Heard{Gap: frames(201), Recovered: true, Lost: 200}},
		"until the end":      {func(s uint32) bool { return s >= 1400 }, Heard{Gap: frames(101), Lost: 100}},
		"everything":         {func(uint32) bool { return true }, Heard{Gap: frames(500), Lost: 500}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &ear{clock: clock{time.Unix(5000, 0)}, turns: turns{5}, seat: 2, first: 11, member: 12}
			e.judge(from)
			e.until(to)
			for slot := uint32(from - 50); slot < to+50; slot++ {
				if c.lose(slot) {
					continue
				}
				// Both voices come, twice: over an old and a new path.
				for _, seat := range []int{e.turns.first(slot), e.turns.second(slot)} {
					m := mark.Mark{Talker: 11 + uint32(seat), Index: 7, Due: e.clock.due(slot), Voiced: true}
					e.hear(m, m.Due.Add(delay))
					e.hear(m, m.Due.Add(delay+time.Millisecond))
				}
			}
			c.want.Member, c.want.Expected = 12, to-from
			if got := e.heard(); got != c.want {
				t.Errorf("heard %+v, want %+v", got, c.want)
			}
		})
	}
}
