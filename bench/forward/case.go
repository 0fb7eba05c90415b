package forward

import (
	"fmt"
	"strconv"
	"strings"

	"voicefleet/sfu"
)

// Case is a room: Talkers of its members talk, all others listen.
type Case struct {
	Talkers   int `json:"talkers"`
	Listeners int `json:"listeners"` // who do not talk
}

// DefaultCases are those of the project's goals.
func DefaultCases() []Case {
	return []Case{{Talkers: 10}, {Talkers: 25}, {Talkers: 3, Listeners: 300}}
}

// maxTalkers is what a stage holds (sfu.MaxSlots and one): with more, who is
// heard depends on loudness.
const maxTalkers = sfu.MaxSlots + 1

// ParseCase reads "10x10" (ten who all talk and hear one another) or "3x300"
// (three who talk, 300 others who listen): equal numbers mean a room of talkers
// only.
func ParseCase(s string) (Case, error) {
	left, right, ok := strings.Cut(s, "x")
	t, err1 := strconv.Atoi(left)
	l, err2 := strconv.Atoi(right)
	if !ok || err1 != nil || err2 != nil || t < 1 || l < 1 {
		return Case{}, fmt.Errorf("case %q: want TALKERSxLISTENERS, as 3x300", s)
	}
	c := Case{Talkers: t, Listeners: l}
	if t == l {
		c.Listeners = 0
	}
	if t > maxTalkers {
		return Case{}, fmt.Errorf("case %q: more than %d talkers, so who is heard depends on loudness", s, maxTalkers)
	}
	if c.Members() < 2 || c.Members() > 4000 {
		return Case{}, fmt.Errorf("case %q: %d members, want 2 to 4,000", s, c.Members())
	}
	return c, nil
}

// String is the form ParseCase reads.
func (c Case) String() string {
	if c.Listeners == 0 {
		return fmt.Sprintf("%dx%d", c.Talkers, c.Talkers)
	}
	return fmt.Sprintf("%dx%d", c.Talkers, c.Listeners)
}

// Members is how many are in the room.
func (c Case) Members() int { return c.Talkers + c.Listeners }

// Pairs counts who hears whom: each member every talker but itself.
func (c Case) Pairs() int { return c.Talkers * (c.Members() - 1) }
