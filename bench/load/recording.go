package load

import (
	"time"

	"voicefleet/bench/internal/fidelity"
	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/speech"
)

// recordFrames bounds a recording: 5 s, which take 480 kB.
const recordFrames = 250

// recording is what ears decoded of one talker, to be held against what it said.
// Within a spurt a frame that did not come is silence.
type recording struct {
	talker uint32
	frames []uint32 // Index of each
	onset  uint32   // of the spurt the last is in
	pcm    []int16
}

// take adds a frame of the talker that was heard first.
func (r *recording) take(m mark.Mark, pcm []int16) {
	if len(pcm) != speech.FrameSamples {
		return
	}
	if len(r.frames) == 0 {
		r.talker = m.Talker
	} else {
		last := r.frames[len(r.frames)-1]
		if m.Talker != r.talker || m.Index <= last {
			return
		}
		if m.Onset == r.onset {
			for missing := last + 1; missing < m.Index && len(r.frames) < recordFrames; missing++ {
				r.frames = append(r.frames, missing)
				r.pcm = append(r.pcm, make([]int16, speech.FrameSamples)...)
			}
		}
	}
	if len(r.frames) < recordFrames {
		r.frames, r.onset = append(r.frames, m.Index), m.Onset
		r.pcm = append(r.pcm, pcm...)
	}
}

// shortestRecording is what a comparison needs: 1 s.
const shortestRecording = 50

// score holds a recording against what the talker said, 0 to 1.
func (r *recording) score(said []speech.Frame) (score float64, ok bool) {
	if len(r.frames) < shortestRecording || len(said) == 0 {
		return 0, false
	}
	original := make([]int16, 0, len(r.pcm))
	for _, i := range r.frames {
		original = append(original, said[int(i)%len(said)].PCM...)
	}
	// A decoder is behind its encoder by the look-ahead of the codec, 6.5 ms.
	result, err := fidelity.Compare(original, r.pcm, fidelity.Config{Latest: 40 * time.Millisecond})
	if err != nil || result.Alike < stranger {
		return 0, err == nil
	}
	return result.Score, true
}

// stranger is the likeness of waveforms below which something else was heard.
const stranger = 0.3

// scores holds all recordings of faithful talkers against what they said.
func (r *run) scores(f figures) {
	said := make(map[int][]speech.Frame)
	sum, n := 0.0, 0
	for _, m := range r.members {
		if m.bot == nil {
			continue
		}
		m.bot.mu.Lock()
		one := m.bot.recorded
		m.bot.mu.Unlock()
		if one.talker == 0 || int(one.talker) > len(r.members) || !r.members[one.talker-1].Faithful {
			continue
		}
		voice := r.members[one.talker-1].voice
		if said[voice] == nil {
			said[voice] = speech.Generate(r.speech(voice))
		}
		if score, ok := one.score(said[voice]); ok {
			sum += score
			n++
		}
	}
	if n > 0 {
		f["voice_score"] = sum / float64(n)
		r.note("%d faithful bots held up to %v of what they decoded against what was said: %.3f on average (1 the same, Opus at 40 kbit/s 0.9 and more)", n, recordFrames*mark.Frame, f["voice_score"])
	}
}

// speech is what a faithful bot with that voice says over and over.
func (r *run) speech(voice int) speech.Config {
	return speech.Config{Seed: r.plan.Scenario.Seed, Voice: voice, Frames: trackFrames}
}
