//go:build opus

package opus

import (
	"fmt"

	"github.com/hraban/opus"

	"voicefleet/bench/internal/speech"
)

// CanDecode tells whether listeners have ears.
const CanDecode = true

// bitrate is that of a voice channel with headroom for the tones, in bit/s.
const bitrate = 40_000

// Talk makes the track of a voice.
func Talk(c speech.Config) (*Track, error) {
	frames, err := Encode(speech.Generate(c))
	if err != nil {
		return nil, err
	}
	return NewTrack(c.Voice, frames)
}

// Encode makes Opus of speech, as a voice application does.
func Encode(audio []speech.Frame) ([]Frame, error) {
	enc, err := opus.NewEncoder(speech.Rate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("open encoder: %w", err)
	}
	if err := enc.SetBitrate(bitrate); err != nil {
		return nil, fmt.Errorf("set bitrate: %w", err)
	}
	if err := enc.SetComplexity(5); err != nil {
		return nil, fmt.Errorf("set complexity: %w", err)
	}
	frames := make([]Frame, len(audio))
	for i, f := range audio {
		var b [maxFrame]byte
		n, err := enc.Encode(f.PCM, b[:])
		if err != nil {
			return nil, fmt.Errorf("encode frame %d: %w", i, err)
		}
		frames[i] = Frame{Data: append([]byte(nil), b[:n]...), Level: f.Level, Voiced: f.Voiced}
	}
	return frames, nil
}

// Decoder is a listener's ear for one talker. Not safe for concurrent use.
type Decoder struct{ d *opus.Decoder }

// NewDecoder opens an ear.
func NewDecoder() (*Decoder, error) {
	d, err := opus.NewDecoder(speech.Rate, 1)
	if err != nil {
		return nil, fmt.Errorf("open decoder: %w", err)
	}
	return &Decoder{d: d}, nil
}

// Decode appends the samples of a frame to pcm.
func (d *Decoder) Decode(pcm []int16, frame []byte) ([]int16, error) {
	var out [6 * speech.FrameSamples]int16 // a packet holds at most 120 ms
	n, err := d.d.Decode(frame, out[:])
	if err != nil {
		return pcm, fmt.Errorf("decode: %w", err)
	}
	return append(pcm, out[:n]...), nil
}
