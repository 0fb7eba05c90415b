package live

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"voicefleet/bench/internal/opus"
	"voicefleet/bench/internal/speech"
	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func user(n uint64) sfu.UserID { return sfu.UserID{ID: snowflake.ID(n)} }

func newTalkers(t *testing.T, count int) []*talker {
	t.Helper()
	var all []*talker
	for i := range count {
		track, err := opus.Talk(speech.Config{Seed: 25, Voice: i, Pauses: true, Frames: opus.EncodedFrames})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, newTalker(user(uint64(i+1)), track))
	}
	return all
}

// TestLedger plays two talkers to a listener over a path with known faults: of
// talker 1 every 10th voiced frame of the window is lost, of talker 2 every 7th
// comes twice; everything takes 30 ms.
func TestLedger(t *testing.T) {
	talkers := newTalkers(t, 2)
	l := newListener(talkers, 2, true)
	start := time.Unix(1_000_000, 0)
	at := func(n int) time.Time { return start.Add(time.Duration(n) * speech.FrameLength) }
	const frames, first, last = 700, 100, 600 // longer than a track: frames come again
	l.open(at(first), at(last))
	var expected, lost, twice uint64
	voiced := [2]int{}
	for n := range frames {
		for i, tk := range talkers {
			f := tk.say(at(n))
			deliver := 1
			if f.Voiced && n >= first && n < last {
				voiced[i]++
				expected++
				switch {
				case i == 0 && voiced[i]%10 == 0:
					deliver = 0
					lost++
				case i == 1 && voiced[i]%7 == 0:
					deliver = 2
					twice++
				}
			}
			for range deliver {
				l.hear(tk.user, f.Data, at(n).Add(30*time.Millisecond))
			}
		}
	}
	got, latency := l.result()
	if got.Expected != expected || got.Received != expected-lost || got.Twice != twice || got.Misattributed != 0 || got.Foreign != 0 {
		t.Errorf("%+v, want %d expected, %d lost, %d twice", got, expected, lost, twice)
	}
	if lost == 0 || twice == 0 {
		t.Fatal("the path had no faults")
	}
	if p := time.Duration(latency.ValueAtPercentile(50)); p < 29900*time.Microsecond || p > 30100*time.Microsecond {
		t.Errorf("median latency %v", p)
	}
	if opus.CanDecode && (got.Right < 10 || got.Wrong > 0) {
		t.Errorf("%d pieces right, %d wrong", got.Right, got.Wrong)
	}
}

// TestWrongVoice holds that a stranger's speech and a false name are noticed.
func TestWrongVoice(t *testing.T) {
	talkers := newTalkers(t, 3)
	l := newListener(talkers[:2], 3, true) // the third is not in the call
	now := time.Unix(1_000_000, 0)
	l.open(now, now.Add(time.Hour))
	var named, foreign uint64
	for n := range 200 {
		due := now.Add(time.Duration(n) * speech.FrameLength)
		if f := talkers[0].say(due); f.Voiced {
			l.hear(talkers[1].user, f.Data, due)
			named++
		}
		if f := talkers[2].say(due); f.Voiced {
			l.hear(talkers[0].user, f.Data, due)
			foreign++
		}
		l.hear(talkers[0].user, []byte{0xf8, 0xff, 0xfe}, due)
	}
	if got, _ := l.result(); got.Misattributed != named || got.Foreign != foreign || named == 0 || foreign == 0 {
		t.Errorf("%+v, want %d misattributed and %d foreign", got, named, foreign)
	}
}

// TestEars holds that tones are judged by sound, whatever the bytes say: a talker
// whose track is called another voice's is wrong in every piece.
func TestEars(t *testing.T) {
	if !opus.CanDecode {
		t.Skip("built without libopus")
	}
	talkers := newTalkers(t, 2)
	talkers[0].track.Voice = 1
	l := newListener(talkers, 2, true)
	now := time.Unix(1_000_000, 0)
	for n := range 250 {
		due := now.Add(time.Duration(n) * speech.FrameLength)
		if f := talkers[0].say(due); f.Voiced {
			l.hear(talkers[0].user, f.Data, due)
		}
	}
	if got, _ := l.result(); got.Right != 0 || got.Wrong < 5 {
		t.Errorf("%+v", got)
	}
}
