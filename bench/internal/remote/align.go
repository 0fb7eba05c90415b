package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"voicefleet/bench/internal/child"
)

// ClockVerb is the verb that every generator on the bus answers with its time.
const ClockVerb = "clock"

// told is the answer of ClockVerb, in nanoseconds since 1970.
type told struct{ Received, Replied int64 }

// TellTime is the verb that Align asks, for roles behind another transport.
func TellTime(now func() time.Time) child.Verb {
	return func(context.Context, json.RawMessage) (any, error) {
		received := now().UnixNano()
		return told{Received: received, Replied: now().UnixNano()}, nil
	}
}

// alignTime bounds an alignment.
const alignTime = 10 * time.Second

// Align asks for the generator's time n times, one after the other, and tells how
// its clock stands to ours (wall clocks both). 200 exchanges take some 50 ms on one
// machine; at the start and at the end of a run they give the drift (Over).
func Align(ctx context.Context, c Caller, n int) (Clock, error) {
	ctx, cancel := context.WithTimeout(ctx, alignTime)
	defer cancel()
	list := make([]Exchange, 0, n)
	for range n {
		var t told
		sent := time.Now().UnixNano()
		if err := c.Call(ctx, ClockVerb, nil, &t); err != nil {
			return Clock{}, fmt.Errorf("align clocks: %w", err)
		}
		list = append(list, Exchange{Sent: sent, Received: t.Received, Replied: t.Replied, Returned: time.Now().UnixNano()})
	}
	clock, err := Estimate(list)
	if err != nil {
		return Clock{}, fmt.Errorf("align clocks: %w", err)
	}
	return clock, nil
}
