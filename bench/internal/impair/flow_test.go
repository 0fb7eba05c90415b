package impair

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// fates lets n packets of 20 ms through one flow and tells which were lost.
func fates(r Rule, seed uint64, n int) (lostAt []int) {
	f, l := newFlow(seed, 1, 7), newLaw(r)
	for i := range n {
		timestamp := uint32(i) * 960
		f.hear(timestamp)
		if f.judge(l, timestamp).fate == lost {
			lostAt = append(lostAt, i)
		}
	}
	return lostAt
}

func TestExactLoss(t *testing.T) {
	for _, c := range []struct {
		loss float64
		n    int
		want int
	}{
		{0.01, 100, 1}, {0.01, 10000, 100}, {0.05, 2000, 100}, {1, 50, 50}, {0, 50, 0}, {0.3, 1000, 300}, {0.001, 5000, 5},
	} {
		for seed := range uint64(20) {
			if got := len(fates(Rule{Loss: c.loss, Exact: true}, seed, c.n)); got != c.want {
				t.Errorf("exact loss of %v, seed %d: lost %d of %d, want %d", c.loss, seed, got, c.n, c.want)
			}
		}
	}
	// A share that is no n-th comes out right too.
	if got := len(fates(Rule{Loss: 1.0 / 3, Exact: true}, 1, 3000)); got != 1000 {
		t.Errorf("a third of 3000: %d", got)
	}
}

func TestExactBursts(t *testing.T) {
	at := fates(Rule{Loss: 0.1, Exact: true, Burst: 5}, 3, 5000)
	if len(at) < 495 || len(at) > 500 { // the last burst may not have ended
		t.Fatalf("lost %d of 5000, want 500", len(at))
	}
	for i := 0; i+5 <= len(at); i += 5 {
		if at[i+4]-at[i] != 4 {
			t.Fatalf("burst %d is %v, want five in a row", i/5, at[i:i+5])
		}
	}
	if at[5]-at[0] != 50 {
		t.Errorf("bursts begin %d packets apart, want 50", at[5]-at[0])
	}
}

// bursts are the lengths of what was lost in a row.
func bursts(at []int) (lengths []int) {
	for i, n := range at {
		if i > 0 && n == at[i-1]+1 {
			lengths[len(lengths)-1]++
		} else {
			lengths = append(lengths, 1)
		}
	}
	return lengths
}

func TestRandomLoss(t *testing.T) {
	const n = 400_000
	for _, c := range []struct {
		rule Rule
		mean float64 // of the packets lost in a row
	}{
		{Rule{Loss: 0.1}, 1 / 0.9},
		{Rule{Loss: 0.1, Burst: 3}, 3},
		{Rule{Loss: 0.05, Burst: 8}, 8},
		{Rule{Loss: 0.3, Burst: 1}, 1},
	} {
		at := fates(c.rule, 42, n)
		lengths := bursts(at)
		share, mean := float64(len(at))/n, float64(len(at))/float64(len(lengths))
		if math.Abs(share-c.rule.Loss) > 0.05*c.rule.Loss || math.Abs(mean-c.mean) > 0.05*c.mean {
			t.Errorf("%+v: lost %.4f in bursts of %.2f, want %v of %.2f", c.rule, share, mean, c.rule.Loss, c.mean)
		}
	}
	if got := len(fates(Rule{Loss: 1, Burst: 4}, 1, 1000)); got != 1000 {
		t.Errorf("all lost in bursts: %d of 1000", got)
	}
}

func TestSeedRepeats(t *testing.T) {
	for _, r := range []Rule{{Loss: 0.1}, {Loss: 0.1, Burst: 3}, {Loss: 0.1, Exact: true}} {
		first, again, other := fates(r, 1, 5000), fates(r, 1, 5000), fates(r, 2, 5000)
		if !slices.Equal(first, again) {
			t.Errorf("%+v: the same seed gave another run", r)
		}
		if slices.Equal(first, other) {
			t.Errorf("%+v: another seed gave the same run", r)
		}
	}
}

func TestJitterIsEven(t *testing.T) {
	f, l := newFlow(1, 1, 7), newLaw(Rule{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond})
	var sum, least, most time.Duration
	least = time.Hour
	const n = 20000
	for i := range uint32(n) {
		f.hear(i * 960)
		d := f.judge(l, i*960).delay
		sum, least, most = sum+d, min(least, d), max(most, d)
	}
	if mean := sum / n; mean < 19800*time.Microsecond || mean > 20200*time.Microsecond ||
		least < 10*time.Millisecond || least > 10100*time.Microsecond || most > 30*time.Millisecond || most < 29900*time.Microsecond {
		t.Errorf("delays from %v to %v, mean %v; want 10ms to 30ms, mean 20ms", least, most, mean)
	}
}

func TestClipOnset(t *testing.T) {
	for _, c := range []struct {
		name string
		// timestamps in packets of 20 ms
		at      []int
		begin   uint32
		clipped []int
	}{
		{"start", []int{0, 1, 2, 3, 4, 5, 6}, 0, []int{0, 1, 2, 3, 4}},
		{"wraps", []int{0, 1, 2, 3, 4, 5, 6}, math.MaxUint32 - 2000, []int{0, 1, 2, 3, 4}},
		{"pause of 200 ms is none", []int{0, 1, 2, 3, 4, 5, 15, 16}, 0, []int{0, 1, 2, 3, 4}},
		{"pause", []int{0, 1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21, 22}, 0, []int{0, 1, 2, 3, 4, 6, 7, 8, 9, 10}},
		{"reordered in onset", []int{0, 2, 1, 3, 4, 5}, 0, []int{0, 1, 2, 3, 4}},
		{"late one of before", []int{0, 1, 2, 3, 4, 5, 20, 12, 21, 25}, 0, []int{0, 1, 2, 3, 4, 6, 8}},
		{"jump back", []int{100, 101, 102, 103, 104, 105, 50, 51, 55}, 0, []int{0, 1, 2, 3, 4, 6, 7}},
	} {
		f, l := newFlow(1, 1, 7), newLaw(Rule{ClipOnset: 100 * time.Millisecond})
		var got []int
		for i, at := range c.at {
			timestamp := c.begin + uint32(at)*960
			f.hear(timestamp)
			if f.judge(l, timestamp).fate == clipped {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.clipped) {
			t.Errorf("%s: clipped %v, want %v", c.name, got, c.clipped)
		}
	}
}

// A rule that comes into force within a spurt does not clip it.
func TestClipWaitsForAnOnset(t *testing.T) {
	f := newFlow(1, 1, 7)
	for i := range uint32(10) {
		f.hear(i * 960)
		f.judge(newLaw(Rule{}), i*960)
	}
	l := newLaw(Rule{ClipOnset: 100 * time.Millisecond})
	for i := uint32(10); i < 20; i++ {
		f.hear(i * 960)
		if f.judge(l, i*960).fate != pass {
			t.Fatalf("packet %d of a running spurt was clipped", i)
		}
	}
}

func TestIsRTP(t *testing.T) {
	packet := func(first, second byte, n int) []byte {
		b := make([]byte, n)
		b[0], b[1] = first, second
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"RTP", packet(0x80, 111, 60), true},
		{"RTP with marker", packet(0x80, 111|0x80, 60), true},
		{"RTP with extension", packet(0x90, 111, 12), true},
		{"sender report", packet(0x80, 200, 60), false},
		{"transport feedback", packet(0x8f, 205, 60), false},
		{"payload type 63 with marker", packet(0x80, 191, 60), true},
		{"STUN", packet(0, 1, 60), false},
		{"DTLS", packet(22, 254, 60), false},
		{"TURN channel", packet(0x40, 0, 60), false},
		{"short", packet(0x80, 111, 11), false},
		{"empty", nil, false},
	} {
		if got := isRTP(c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{}, ""},
		{Rule{Loss: 1, Burst: 2, Delay: 10 * time.Second, Jitter: time.Second, Duplicate: 1, Reorder: 0.5, ClipOnset: time.Second, Cut: true}, ""},
		{Rule{Direction: 9}, "want up, down or both"},
		{Rule{Loss: 1.1}, "loss 1.1"},
		{Rule{Loss: math.NaN()}, "loss NaN"},
		{Rule{Duplicate: -1}, "duplicate -1"},
		{Rule{Reorder: 2}, "reorder 2"},
		{Rule{Reorder: 0.6}, "at most 0.5"},
		{Rule{Reorder: 0.3, Behind: 3}, "at most 0.25"},
		{Rule{Behind: -1}, "behind -1"},
		{Rule{Burst: 0.5}, "burst 0.5"},
		{Rule{Loss: 0.1, Burst: 2.5, Exact: true}, "whole number"},
		{Rule{Loss: 0.8, Burst: 2}, "longer bursts"},
		{Rule{Delay: -1}, "delay -1ns"},
		{Rule{Jitter: time.Minute}, "jitter 1m0s"},
		{Rule{ClipOnset: -time.Second}, "clip of onsets"},
	} {
		err := c.rule.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rule, err, c.want)
		}
	}
}

func TestDirectionText(t *testing.T) {
	for _, d := range []Direction{Both, Up, Down} {
		text, err := d.MarshalText()
		var back Direction
		if err != nil || back.UnmarshalText(text) != nil || back != d {
			t.Errorf("%v became %q, %v", d, text, back)
		}
	}
	var d Direction
	if err := d.UnmarshalText([]byte("sideways")); err == nil || !strings.Contains(err.Error(), "up, down or both") {
		t.Errorf("sideways: %v", err)
	}
}
