package lightclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// FrameInterval is the length of a packet's speech.
const FrameInterval = 20 * time.Millisecond

// Talker is a client that talks, and as whom.
type Talker struct {
	Client *Client
	ID     uint16
	// Phase is when within each interval its packet is due.
	Phase time.Duration
}

// Speech is how long talkers talk without pause: Warm and Tail intervals with
// SmallSize bytes of payload around Window intervals with Size bytes.
type Speech struct {
	Start              time.Time // of the first interval
	Warm, Window, Tail int
	SmallSize, Size    int
}

// Interval is when interval i of the speech begins.
func (s Speech) Interval(i int) time.Time {
	return s.Start.Add(time.Duration(i) * FrameInterval)
}

func (s Speech) validate() error {
	if s.Warm < 0 || s.Window < 0 || s.Tail < 0 || s.SmallSize < MarkSize || s.Size < MarkSize || s.Size > 1200 || s.SmallSize > s.Size {
		return fmt.Errorf("speech of %d+%d+%d intervals, %d and %d bytes", s.Warm, s.Window, s.Tail, s.SmallSize, s.Size)
	}
	return nil
}

// Spoken is what Talk did. Late counts packets sent more than an interval behind
// schedule, Worst is the largest delay: with many late ones the generator is the
// bottleneck.
type Spoken struct {
	Small, Voice, Failed, Late uint64
	Worst                      time.Duration
}

// Talk lets the talkers talk, all paced by the calling goroutine, and returns
// when they are done. One Talk at a time per client.
func (e *Engine) Talk(ctx context.Context, talkers []Talker, s Speech) (Spoken, error) {
	var done Spoken
	if err := s.validate(); err != nil {
		return done, err
	}
	if len(talkers) == 0 {
		return done, errors.New("nobody to talk")
	}
	talkers = slices.Clone(talkers)
	slices.SortStableFunc(talkers, func(a, b Talker) int { return int(a.Phase - b.Phase) })
	timer := time.NewTimer(time.Until(s.Start))
	defer timer.Stop()
	for i := range s.Warm + s.Window + s.Tail {
		voice := i >= s.Warm && i < s.Warm+s.Window
		size := s.SmallSize
		if voice {
			size = s.Size
		}
		for _, t := range talkers {
			due := s.Interval(i).Add(t.Phase)
			if wait := time.Until(due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return done, ctx.Err()
				}
			}
			behind := time.Since(due)
			done.Worst = max(done.Worst, behind)
			if behind > FrameInterval {
				done.Late++
			}
			switch err := t.Client.speak(Mark{Talker: t.ID, Index: uint32(i), Due: due}, size); {
			case err != nil:
				done.Failed++
			case voice:
				done.Voice++
			default:
				done.Small++
			}
		}
	}
	return done, nil
}
