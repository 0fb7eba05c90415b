package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

// bot is a faithful member: pion/webrtc, real Opus, and, with libopus, ears that
// know a voice by its sound.
type bot struct {
	// Immutable.
	ears  bool
	voice func(talker uint32) (voice int, user sfu.UserID, ok bool)
	count int // voices there are to be told apart

	mu sync.Mutex
	// Guarded by mu.
	call     *voiceclient.Call
	heard    *meter.Listener // nil until it is judged
	streams  map[uint32]*stream
	verdict  verdict
	recorded recording
	first    time.Time // arrival of the first marked packet
	hush     context.CancelFunc
	spoken   spoken
	talking  sync.WaitGroup
}

// verdict is what ears say, and whose names packets came under.
type verdict struct {
	Misattributed uint64 `json:"under_another_name,omitempty"`
	Unmarked      uint64 `json:"of_nobody,omitempty"`
	Right         uint64 `json:"voices_right,omitempty"` // pieces of 100 ms
	Wrong         uint64 `json:"voices_wrong,omitempty"`
}

func (v *verdict) add(o verdict) {
	v.Misattributed += o.Misattributed
	v.Unmarked += o.Unmarked
	v.Right += o.Right
	v.Wrong += o.Wrong
}

// spoken is how a talker kept its schedule.
type spoken struct {
	Sent, Failed, Late uint64
	Worst              time.Duration
}

func (s *spoken) add(o spoken) {
	s.Sent += o.Sent
	s.Failed += o.Failed
	s.Late += o.Late
	s.Worst = max(s.Worst, o.Worst)
}

// stream is one talker in a bot's ears.
type stream struct {
	ear  *opus.Decoder
	last uint32 // Index decoded last
	row  int    // frames decoded in a row
	pcm  []int16
}

// pieceFrames are decoded in a row before the tones are looked for: 100 ms. The
// first frame of a row is left out, because the decoder is still in another state.
const pieceFrames = 5

// hear takes a packet; the transport's goroutines call it.
func (b *bot) hear(p voiceclient.Packet) {
	m, ok := mark.Read(p.Opus)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ok {
		if len(p.Opus) > silenceFrame {
			b.verdict.Unmarked++
		}
		return
	}
	if b.first.IsZero() {
		b.first = p.Arrived
	}
	voice, user, known := b.voice(m.Talker)
	if known && p.User.ID != 0 && p.User != user {
		b.verdict.Misattributed++
	}
	if b.heard != nil {
		b.heard.Hear(m, p.Arrived)
	}
	if b.ears && known && m.Voiced {
		b.listenLocked(m, voice, p.Opus)
	}
}

// silenceFrame is the longest payload that carries no speech: TOC and at most two
// bytes (DTX, and the frames a server ends a talk spurt with).
const silenceFrame = 3

// listenLocked decodes a frame and judges whole pieces.
func (b *bot) listenLocked(m mark.Mark, voice int, payload []byte) {
	s := b.streams[m.Talker]
	if s == nil {
		s = &stream{}
		b.streams[m.Talker] = s
	}
	if s.ear == nil || m.Index != s.last+1 {
		ear, err := opus.NewDecoder()
		if err != nil {
			return
		}
		s.ear, s.row, s.pcm = ear, 0, s.pcm[:0]
	}
	s.last = m.Index
	before := len(s.pcm)
	pcm, err := s.ear.Decode(s.pcm, payload)
	if err != nil {
		b.verdict.Wrong++
		s.ear = nil
		return
	}
	if b.heard != nil && m.Talker != 0 {
		b.recorded.take(m, pcm[before:])
	}
	if s.pcm = pcm; s.row == 0 {
		s.pcm = s.pcm[:before]
	}
	if s.row++; len(s.pcm) >= pieceFrames*speech.FrameSamples {
		if speech.Recognize(s.pcm, b.count).Voice == voice {
			b.verdict.Right++
		} else {
			b.verdict.Wrong++
		}
		s.pcm = s.pcm[:0]
	}
}

// judge begins to measure what is heard.
func (b *bot) judge(c meter.Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = meter.NewListener(c)
}

// reset forgets how the schedule was kept before the window.
func (b *bot) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spoken = spoken{}
}

// script is what a talker says when.
type script struct {
	talker      uint32 // in marks
	start, stop time.Time
	track       *opus.Track
	speaks      func(index uint32) (onset uint32, ok bool)
	silence     bool // frames of silence in pauses
}

// silentFrame is what a talker sends in a pause: a CELT frame of silence.
var silentFrame = []byte{0xf8, 0xff, 0xfe}

// talk says a script in the background until it ends or ctx does.
func (b *bot) talk(ctx context.Context, s script) {
	ctx, stop := context.WithCancel(ctx)
	b.mu.Lock()
	before := b.hush
	b.hush = stop
	b.mu.Unlock()
	if before != nil {
		before()
	}
	b.talking.Go(func() {
		defer stop()
		b.say(ctx, s)
	})
}

func (b *bot) say(ctx context.Context, s script) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var packet []byte
	for i := uint32(0); ; i++ {
		due := s.start.Add(time.Duration(i) * mark.Frame)
		if !due.Before(s.stop) {
			return
		}
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		m := mark.Mark{Talker: s.talker, Index: i, Due: due}
		frame, level := silentFrame, uint8(127)
		if onset, ok := s.speaks(i); ok {
			f := s.track.Frames[int(i)%len(s.track.Frames)]
			frame, level = f.Data, f.Level
			m.Onset, m.Voiced = onset, true
		} else if !s.silence {
			continue
		}
		var one spoken
		one.Worst = time.Since(due)
		if one.Worst > mark.Frame {
			one.Late++
		}
		var err error
		if packet, err = mark.Append(packet[:0], frame, m, 0); err == nil {
			err = b.call.WriteOpus(packet, mark.Frame, level)
		}
		if err != nil {
			one.Failed++
		} else {
			one.Sent++
		}
		b.mu.Lock()
		b.spoken.add(one)
		b.mu.Unlock()
	}
}

// leave ends the call.
func (b *bot) leave() error {
	b.mu.Lock()
	hush, call := b.hush, b.call
	b.mu.Unlock()
	if hush != nil {
		hush()
	}
	b.talking.Wait()
	if call == nil {
		return nil
	}
	if err := call.Close(); err != nil {
		return fmt.Errorf("leave call: %w", err)
	}
	return nil
}
