package load

import (
	"testing"
	"time"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/meter"
	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/signaling/voiceclient"
)

func user(n uint32) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

// listening is a bot that knows talkers 1 to count by their voices.
func listening(count int) *bot {
	return &bot{ears: true, count: count, streams: make(map[uint32]*stream), voice: func(talker uint32) (int, sfu.UserID, bool) {
		return int(talker-1) % speech.Voices, user(talker), talker >= 1 && int(talker) <= count
	}}
}

func track(t *testing.T, voice int) *opus.Track {
	t.Helper()
	one, err := opus.Talk(speech.Config{Seed: 25, Voice: voice, Frames: opus.EncodedFrames})
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// packet is frame i of a talker as it comes under a user's name.
func packet(t *testing.T, talker uint32, i int, under sfu.UserID, tr *opus.Track, due time.Time) voiceclient.Packet {
	t.Helper()
	b, err := mark.Append(nil, tr.Frames[i%len(tr.Frames)].Data, mark.Mark{Talker: talker, Index: uint32(i), Voiced: true, Due: due}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return voiceclient.Packet{User: under, Opus: b, Arrived: due.Add(30 * time.Millisecond)}
}

// TestBotJudges plays two talkers to a bot over a path with known faults: of talker
// 1 every 10th packet of the window is lost, of talker 2 every 7th comes twice;
// everything takes 30 ms.
func TestBotJudges(t *testing.T) {
	b := listening(2)
	tracks := []*opus.Track{track(t, 0), track(t, 1)}
	start := time.Unix(1_000_000, 0)
	at := func(n int) time.Time { return start.Add(time.Duration(n) * mark.Frame) }
	const frames, first, last = 700, 100, 600 // longer than a track: frames come again
	b.judge(meter.Config{From: at(first), To: at(last)})
	var lost, twice uint64
	for n := range frames {
		for i, tr := range tracks {
			deliver := 1
			if n >= first && n < last {
				switch {
				case i == 0 && n%10 == 0:
					deliver, lost = 0, lost+1
				case i == 1 && n%7 == 0:
					deliver, twice = 2, twice+1
				}
			}
			for range deliver {
				b.hear(packet(t, uint32(i+1), n, user(uint32(i+1)), tr, at(n)))
			}
		}
	}
	for talker := range uint32(2) {
		b.heard.Expect(talker+1, []meter.Span{{First: first, Count: last - first, Voiced: true}})
	}
	got := b.heard.Result()
	if got.Expected != 2*(last-first) || got.Lost != lost || got.Duplicates != twice || got.Stray != 0 || b.verdict.Misattributed+b.verdict.Unmarked != 0 {
		t.Errorf("%d expected, %d lost, %d twice, %d stray, %+v; want %d lost, %d twice", got.Expected, got.Lost, got.Duplicates, got.Stray, b.verdict, lost, twice)
	}
	if lost == 0 || twice == 0 {
		t.Fatal("the path had no faults")
	}
	if p := got.Latency.Quantile(.5); p < 29_700*time.Microsecond || p > 30_300*time.Microsecond {
		t.Errorf("median latency %v", p)
	}
	if opus.CanDecode && (b.verdict.Right < 100 || b.verdict.Wrong > 0) {
		t.Errorf("%+v", b.verdict)
	}
}

// TestBotNoticesWrongNames holds that a packet under another's name, and speech of
// nobody, are counted, and silence is not.
func TestBotNoticesWrongNames(t *testing.T) {
	b := listening(2)
	tr := track(t, 0)
	start := time.Unix(1_000_000, 0)
	const frames = 50
	for n := range frames {
		due := start.Add(time.Duration(n) * mark.Frame)
		b.hear(packet(t, 1, n, user(2), tr, due))
		b.hear(voiceclient.Packet{User: user(1), Opus: tr.Frames[n].Data, Arrived: due})
		b.hear(voiceclient.Packet{User: user(1), Opus: silentFrame, Arrived: due})
	}
	if b.verdict.Misattributed != frames || b.verdict.Unmarked != frames {
		t.Errorf("%+v, want %d each", b.verdict, frames)
	}
}

// TestBotHears holds that tones are judged by sound, whatever the marks say: a
// talker who speaks with another's voice is wrong in every piece.
func TestBotHears(t *testing.T) {
	if !opus.CanDecode {
		t.Skip("built without libopus")
	}
	b := listening(2)
	tr := track(t, 1)
	start := time.Unix(1_000_000, 0)
	for n := range len(tr.Frames) {
		b.hear(packet(t, 1, n, user(1), tr, start.Add(time.Duration(n)*mark.Frame)))
	}
	if b.verdict.Right != 0 || b.verdict.Wrong < 20 {
		t.Errorf("%+v", b.verdict)
	}
}
