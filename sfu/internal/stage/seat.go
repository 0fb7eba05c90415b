package stage

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/rtpwire"
)

const (
	// Positions is how many speakers of a call are on stage at most.
	Positions = sfu.MaxSlots + 1
	// Margin is by how much a newcomer must be louder.
	Margin = 6 << 8
	// Tenure is how long nobody can take a seat from an audible speaker.
	Tenure = 400 * time.Millisecond
	// AskStage and AskSlot are how long who got no seat waits before it asks
	// again.
	AskStage = 100 * time.Millisecond
	AskSlot  = 500 * time.Millisecond

	unknown  = 77 // strength of a packet without level: that of speech at -50 dBov
	priority = 64
	smooth   = 8
)

// Loudness is a smoothed strength in 256ths of a decibel.
type Loudness int32

// Strength is the loudness of one packet; a priority speaker is ahead of others.
func Strength(level uint8, ahead bool) Loudness {
	x := unknown
	if level != rtpwire.NoLevel {
		x = rtpwire.Digital - int(level&^rtpwire.Voice)
	}
	if ahead {
		x += priority
	}
	return Loudness(x << 8)
}

// Smooth moves a loudness by the strength of a packet.
func (s Loudness) Smooth(x Loudness) Loudness { return s + (x-s)/smooth }

// Seat is what the rule needs to know of one.
type Seat struct {
	Taken   bool
	Audible bool
	Silent  time.Duration // since when, if not audible
	Since   time.Duration // when its speaker took it
	Loud    Loudness
}

// Choose finds the seat for a speaker that has none, by rules 2 to 4. It is -1
// when there is none for it.
func Choose(now time.Duration, newcomer Loudness, seats []Seat) int {
	silent, quietest := -1, -1
	for i := range seats {
		s := &seats[i]
		switch {
		case !s.Taken:
			return i
		case !s.Audible:
			if silent < 0 || s.Silent < seats[silent].Silent {
				silent = i
			}
		case quietest < 0 || s.Loud < seats[quietest].Loud:
			quietest = i
		}
	}
	if silent >= 0 {
		return silent
	}
	if quietest >= 0 && now-seats[quietest].Since >= Tenure && newcomer >= seats[quietest].Loud+Margin {
		return quietest
	}
	return -1
}
