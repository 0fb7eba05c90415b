package opus_test

import (
	"bytes"
	"os"
	"testing"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
)

func TestFramesRoundTrip(t *testing.T) {
	in := []opus.Frame{{Data: []byte{1, 2}, Level: 20, Voiced: true}, {Data: []byte{0xf8, 0xff, 0xfe}, Level: 127}, {Data: bytes.Repeat([]byte{7}, 1275), Level: 0, Voiced: true}}
	b := opus.MarshalFrames(in)
	if want := "VFO1\x00\x03\x94\x00\x02\x01\x02\x7f\x00\x03\xf8\xff\xfe\x80\x04\xfb"; !bytes.HasPrefix(b, []byte(want)) {
		t.Errorf("wrote % x", b[:22])
	}
	out, err := opus.UnmarshalFrames(b)
	if err != nil || len(out) != len(in) {
		t.Fatalf("%d frames, %v", len(out), err)
	}
	for i := range in {
		if !bytes.Equal(in[i].Data, out[i].Data) || in[i].Level != out[i].Level || in[i].Voiced != out[i].Voiced {
			t.Errorf("frame %d: %+v", i, out[i])
		}
	}
}

func FuzzUnmarshalFrames(f *testing.F) {
	f.Add([]byte("VFO1\x00\x01\x94\x00\x02\x01\x02"))
	f.Add([]byte("VFO1\xff\xff"))
	f.Add([]byte("VFO1\x00\x01\x94\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := opus.UnmarshalFrames(b)
		if err == nil && !bytes.Equal(opus.MarshalFrames(frames), b) {
			t.Errorf("% x reads as %d frames that write otherwise", b, len(frames))
		}
	})
}

func TestTrackIndex(t *testing.T) {
	track, err := opus.NewTrack(3, []opus.Frame{
		{Data: []byte{1}, Voiced: true}, {Data: []byte{2}}, {Data: []byte{3}, Voiced: true}, {Data: []byte{1}, Voiced: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[byte]int{1: 0, 3: 2} {
		if got, ok := track.Index([]byte{data}); !ok || got != want {
			t.Errorf("frame %d: %d, %v", data, got, ok)
		}
	}
	if _, ok := track.Index([]byte{2}); ok {
		t.Error("silence was found")
	}
	if track.Frames[3].Voiced {
		t.Error("a repeated frame counts")
	}
	if _, err := opus.NewTrack(0, []opus.Frame{{Data: []byte{1}}}); err == nil {
		t.Error("a track of silence, no error")
	}
}

// TestTalk holds of every voice, encoded now or before: it is speech with pauses,
// each frame is known by its bytes, and voices share none.
func TestTalk(t *testing.T) {
	var tracks []*opus.Track
	for voice := range opus.Encoded {
		track, err := opus.Talk(opus.EncodedSpeech(voice))
		if err != nil {
			t.Fatal(err)
		}
		voiced := 0
		for i, f := range track.Frames {
			if !f.Voiced {
				continue
			}
			voiced++
			if got, ok := track.Index(f.Data); !ok || got != i {
				t.Fatalf("voice %d: frame %d is found as %d", voice, i, got)
			}
			for other, o := range tracks {
				if _, ok := o.Index(f.Data); ok {
					t.Fatalf("voices %d and %d share a frame", voice, other)
				}
			}
			if len(f.Data) < 20 || f.Level > 40 {
				t.Fatalf("voice %d: frame %d of %d bytes at level %d", voice, i, len(f.Data), f.Level)
			}
		}
		if len(track.Frames) != opus.EncodedFrames || voiced < opus.EncodedFrames/6 || voiced > opus.EncodedFrames*5/6 {
			t.Errorf("voice %d: %d of %d frames voiced", voice, voiced, len(track.Frames))
		}
		tracks = append(tracks, track)
	}
	loud, err := opus.Talk(speech.Config{Seed: 1, Voice: 1, Frames: 50})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range loud.Frames[2:] {
		if !f.Voiced {
			t.Errorf("without pauses, frame %d is silent", i)
		}
	}
}

// TestTestdata holds that what is embedded can be read with any build.
func TestTestdata(t *testing.T) {
	for voice := range opus.Encoded {
		b, err := os.ReadFile(opus.EncodedFile(voice))
		if err != nil {
			t.Fatal(err)
		}
		frames, err := opus.UnmarshalFrames(b)
		if err != nil || len(frames) != opus.EncodedFrames {
			t.Errorf("voice %d: %d frames, %v", voice, len(frames), err)
		}
	}
}
