package lightclient

import (
	"reflect"
	"testing"
	"time"

	"voicefleet/bench/internal/meter"
)

// TestSpans holds that what is said to be sent is what at decides, for talks with
// and without pauses and a window inside.
func TestSpans(t *testing.T) {
	start := time.Unix(1000, 300)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * FrameInterval) }
	for name, c := range map[string]struct {
		talk Talk
		want []meter.Span
	}{
		"continuous":   {Talk{Stop: at(100)}, []meter.Span{{First: 0, Count: 100, Voiced: true}}},
		"a window":     {Talk{Stop: at(100), From: at(10), To: at(30)}, []meter.Span{{First: 10, Count: 20, Voiced: true}}},
		"until":        {Talk{}, []meter.Span{{First: 0, Count: 50, Voiced: true}}},
		"ends before":  {Talk{Stop: at(10), From: at(20), To: at(30)}, nil},
		"starts later": {Talk{From: at(-50), To: at(2)}, []meter.Span{{First: 0, Count: 2, Voiced: true}}},
		"spurts": {Talk{Stop: at(30), From: at(5), Spurts: []Spurt{{2, 6}, {12, 4}, {40, 9}}},
			[]meter.Span{{First: 5, Count: 3, Onset: 2, Voiced: true}, {First: 12, Count: 4, Onset: 12, Voiced: true}}},
		"silence sent": {Talk{Stop: at(20), Spurts: []Spurt{{2, 6}, {12, 4}}, Silence: true},
			[]meter.Span{{First: 0, Count: 2}, {First: 2, Count: 6, Onset: 2, Voiced: true}, {First: 8, Count: 4, Onset: 8},
				{First: 12, Count: 4, Onset: 12, Voiced: true}, {First: 16, Count: 4, Onset: 16}}},
	} {
		c.talk.Start = start
		got := c.talk.Spans(0, at(50))
		s := newSpeech(&c.talk, defaultTick)
		var heard []meter.Span
		for i := uint32(0); s.due(i) < min(s.stop, s.first+100*s.perFrame) && (s.stop < never || i < 50); i++ {
			f := s.at(i)
			if due := s.due(i); !f.sent || due < s.from || due >= s.to {
				continue
			}
			if n := len(heard); n > 0 && heard[n-1].Onset == f.onset && heard[n-1].Voiced == f.voiced && heard[n-1].First+heard[n-1].Count == i {
				heard[n-1].Count++
				continue
			}
			heard = append(heard, meter.Span{First: i, Count: 1, Onset: f.onset, Voiced: f.voiced})
		}
		for i := range got {
			if want := time.Unix(1000, 0).Add(time.Millisecond + time.Duration(got[i].First)*FrameInterval); !got[i].Due.Equal(want) {
				t.Errorf("%s: span %d due %v, want %v", name, i, got[i].Due, want)
			}
			got[i].Due = time.Time{}
		}
		if !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(heard, c.want) {
			t.Errorf("%s: spans %+v, sent %+v, want %+v", name, got, heard, c.want)
		}
	}
	for _, bad := range []Talk{{}, {Start: start, Voice: Filler}, {Start: start, Size: minPayload - 1}, {Start: start, SmallSize: MaxPayload + 1},
		{Start: start, Spurts: []Spurt{{1, 0}}}, {Start: start, Spurts: []Spurt{{1, 5}, {5, 5}}}} {
		if bad.validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}
