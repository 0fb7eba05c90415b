//go:build !opus

package opus

import (
	"errors"

	"voicefleet/bench/internal/speech"
)

// CanDecode tells whether listeners have ears.
const CanDecode = false

// Talk gives the pre-encoded track of a voice, its seed and length as they are.
// There are [Encoded] of them; further voices say the same again. Without pauses,
// the unvoiced frames are left out.
func Talk(c speech.Config) (*Track, error) {
	frames, err := Prepared(c.Voice)
	if err != nil {
		return nil, err
	}
	if !c.Pauses {
		voiced := frames[:0]
		for _, f := range frames {
			if f.Voiced {
				voiced = append(voiced, f)
			}
		}
		frames = voiced
	}
	return NewTrack(c.Voice%Encoded, frames)
}

// Decoder cannot be had without libopus.
type Decoder struct{}

// NewDecoder says so.
func NewDecoder() (*Decoder, error) {
	return nil, errors.New("built without libopus (tags opus,nolibopusfile)")
}

// Decode is never reached.
func (*Decoder) Decode(pcm []int16, _ []byte) ([]int16, error) {
	return pcm, errors.New("built without libopus")
}
