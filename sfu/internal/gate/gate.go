package gate

import (
	"time"

	"voicefleet/sfu"
	"voicefleet/sfu/internal/rtpwire"
)

const (
	// Quiet is the level beyond which a packet without the V bit is silent, in
	// -dBov.
	Quiet = 60
	// Hangover is how long such packets must follow one another.
	Hangover = 400 * time.Millisecond
	// Gone closes the gate of a speaker from whom nothing came for so long.
	Gone = 400 * time.Millisecond
)

// Verdict says what becomes of a packet.
type Verdict uint8

// The verdicts.
const (
	Hold    Verdict = iota // silence: not forwarded
	Keep                   // the same, but the packet may be the onset of speech: cache it
	Forward                // speech
	Fade                   // forward a frame of silence in its place
)

// Gate is the state of one speaker. The zero value is closed.
type Gate struct {
	open  bool
	fades uint8         // frames of silence still due
	heard time.Duration // when the last packet of any kind came
	loud  time.Duration // when the last packet that was not silent came
}

// Packet decides about a packet.
func (g *Gate) Packet(now time.Duration, payload []byte, level uint8) Verdict {
	g.heard = now
	dtx := rtpwire.DTX(payload)
	mute := dtx || level&^rtpwire.Voice == rtpwire.Digital && level != rtpwire.NoLevel
	quiet := level&rtpwire.Voice == 0 && level > Quiet
	switch {
	case mute && g.open:
		g.close()
	case !mute && !quiet:
		g.loud = now
		g.open, g.fades = true, 0
		return Forward
	case g.open && now-g.loud < Hangover:
		return Forward
	case g.open:
		g.close()
	}
	if g.fades > 0 {
		g.fades--
		return Fade
	}
	if dtx {
		return Hold
	}
	return Keep
}

// Close closes the gate from outside, as for a mute: the frames of silence
// follow as for any other end.
func (g *Gate) Close() {
	if g.open {
		g.close()
	}
}

func (g *Gate) close() { g.open, g.fades = false, sfu.SilenceFrames }

// Muted takes note of a packet that may not pass whatever it holds.
func (g *Gate) Muted(now time.Duration) Verdict {
	g.heard = now
	g.Close()
	if g.fades > 0 {
		g.fades--
		return Fade
	}
	return Hold
}

// Ungated lets a packet pass whatever it holds.
func (g *Gate) Ungated(now time.Duration) Verdict {
	g.heard, g.loud = now, now
	g.open, g.fades = true, 0
	return Forward
}

// Overdue says that a frame of silence is due though no packet came whose place
// it could take: a sender with discontinuous transmission has stopped. It is
// asked at least every 20 ms and takes the frame.
func (g *Gate) Overdue(now time.Duration) bool {
	if g.fades == 0 || now-g.heard < 30*time.Millisecond {
		return false
	}
	g.fades--
	g.heard += 20 * time.Millisecond
	return true
}

// Lapse closes the gate when nothing came for Gone. Whoever listens has
// concealed and faded by then: no frames of silence follow.
func (g *Gate) Lapse(now time.Duration) {
	if g.open && now-g.heard >= Gone {
		g.open, g.fades = false, 0
	}
}

// Open says whether the speaker is heard now.
func (g *Gate) Open() bool { return g.open }

// Fading says whether frames of silence are still due.
func (g *Gate) Fading() bool { return g.fades > 0 }
