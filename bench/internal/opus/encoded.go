package opus

import (
	"embed"
	"fmt"

	"voicefleet/bench/internal/speech"
)

// Encoded is how many voices lie in testdata, of EncodedFrames each.
const (
	Encoded       = 6
	EncodedFrames = 250
	encodedSeed   = 25 // talks in 43 to 71 % of 5 s in each voice
)

// file is the name of a voice's track.
func file(voice int) string { return fmt.Sprintf("testdata/voice%02d.track", voice) }

// EncodedSpeech is what testdata was made of.
func EncodedSpeech(voice int) speech.Config {
	return speech.Config{Seed: encodedSeed, Voice: voice, Pauses: true, Frames: EncodedFrames}
}

// EncodedFile is where it lies, below this package.
func EncodedFile(voice int) string { return file(voice) }

//go:embed testdata/*.track
var encoded embed.FS

// Prepared are the frames of one of the [Encoded] voices, counted round. They are
// there at once, with libopus and without.
func Prepared(voice int) ([]Frame, error) {
	b, err := encoded.ReadFile(file(voice % Encoded))
	if err != nil {
		return nil, fmt.Errorf("read track: %w", err)
	}
	frames, err := UnmarshalFrames(b)
	if err != nil {
		return nil, fmt.Errorf("read track of voice %d: %w", voice, err)
	}
	return frames, nil
}
