//go:build opus

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
)

func main() {
	if err := run("bench/internal/opus"); err != nil {
		fmt.Fprintln(os.Stderr, "encode:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "testdata")); err != nil {
		dir = "." // called by go generate
	}
	for voice := range opus.Encoded {
		frames, err := opus.Encode(speech.Generate(opus.EncodedSpeech(voice)))
		if err != nil {
			return err
		}
		name := filepath.Join(dir, opus.EncodedFile(voice))
		if err := os.WriteFile(name, opus.MarshalFrames(frames), 0o644); err != nil {
			return fmt.Errorf("write track: %w", err)
		}
	}
	return nil
}
