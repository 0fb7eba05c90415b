package fleet

import (
	"time"

	"voicefleet/bench/internal/lightclient"
	"voicefleet/bench/internal/mark"
)

// slotTime is the length of a slot, turnSlots how long somebody talks at a time: 1 s.
const (
	slotTime  = mark.Frame
	turnSlots = 50
	halfTurn  = turnSlots / 2
)

// leastMembers of a call, so that its two talkers are always different people.
const leastMembers = 4

// turns is who of a call talks in which slot. Slots count from an epoch that all calls
// share. Two voices go round, half a turn and two or three seats apart.
type turns struct{ members int }

// first and second are who talks in a slot.
func (t turns) first(slot uint32) int { return int(slot/turnSlots) % t.members }
func (t turns) second(slot uint32) int {
	return (int((slot+halfTurn)/turnSlots) + 2) % t.members
}

// source is whom a member listens to in a slot: the first voice, or the second while
// it is the first itself.
func (t turns) source(slot uint32, member int) int {
	if one := t.first(slot); one != member {
		return one
	}
	return t.second(slot)
}

// talks says whether a member talks in a slot.
func (t turns) talks(slot uint32, member int) bool {
	return t.first(slot) == member || t.second(slot) == member
}

// spurts is what a member says in n slots from one on, in intervals since then.
func (t turns) spurts(member int, from, n uint32) []lightclient.Spurt {
	var list []lightclient.Spurt
	open := false
	for at := uint32(0); at < n; {
		// All is the same up to the next border of half turns.
		run := min(halfTurn-(from+at)%halfTurn, n-at)
		switch talks := t.talks(from+at, member); {
		case talks && open:
			list[len(list)-1].Count += run
		case talks:
			list = append(list, lightclient.Spurt{First: at, Count: run})
		}
		open = t.talks(from+at, member)
		at += run
	}
	return list
}

// clock tells slots and times apart.
type clock struct{ epoch time.Time }

func (c clock) due(slot uint32) time.Time { return c.epoch.Add(time.Duration(slot) * slotTime) }

// slot is the one under way at a time.
func (c clock) slot(at time.Time) uint32 { return uint32(max(at.Sub(c.epoch), 0) / slotTime) }
