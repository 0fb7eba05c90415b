package gatewaysession

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
)

// after is the event after a number.
func after(r *Replay, seq uint64) (e *Event, more, kept bool) {
	if !r.Seek(seq) {
		return nil, false, false
	}
	e, _, more = r.Next()
	return e, more, true
}

func TestReplayAgainstList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		r := Replay{Count: 1 + rnd.IntN(20), Bytes: 64 + rnd.IntN(5000)}
		var model [][]byte
		for i := range 200 {
			body := bytes.Repeat([]byte{byte('a' + i%26)}, rnd.IntN(400))
			r.Push(uint64(i+1), &Event{Name: "E", Body: body})
			model = append(model, body)
			// Walk from the oldest that is kept: all that follows is there, in order,
			// and within the bounds.
			first := uint64(0)
			for ; ; first++ {
				if r.Kept(first) {
					break
				}
			}
			n, weight := 0, 0
			if !r.Seek(first) {
				t.Fatalf("gap at %d", first)
			}
			for seq := first; ; seq++ {
				if lag, missed := r.Lag(); lag != len(model)-int(seq) || missed {
					t.Fatalf("lag %d, missed %v after %d of %d", lag, missed, seq, len(model))
				}
				e, number, more := r.Next()
				if !more {
					break
				}
				if number != seq+1 || !bytes.Equal(e.Body, model[seq]) {
					t.Fatalf("event %d is another", seq+1)
				}
				n, weight = n+1, weight+len(e.Body)+overhead
			}
			if n < 1 || n > r.Count || n > 1 && weight > r.Bytes || weight != r.Weight() {
				t.Fatalf("%d events of %d bytes kept, bounds %d and %d", n, weight, r.Count, r.Bytes)
			}
			if r.Seek(r.Last() + 1) {
				t.Fatal("the future is kept")
			}
		}
	}
}

func TestReplayBeforeAnything(t *testing.T) {
	r := Replay{Count: 4, Bytes: 100}
	if _, more, kept := after(&r, 0); more || !kept {
		t.Fatalf("more %v kept %v", more, kept)
	}
	if r.Kept(1) {
		t.Fatal("an event that never was is kept")
	}
}

// TestTrim: what the client has is forgotten, what it has not is kept.
func TestTrim(t *testing.T) {
	r := Replay{Count: 8, Bytes: 1 << 20}
	for i := range 20 {
		r.Push(uint64(i+1), &Event{Name: "E", Body: []byte{byte(i)}})
	}
	r.Seek(17)
	r.Trim(18) // it was not sent that
	r.Trim(99) // from the future
	r.Trim(15)
	if lag, missed := r.Lag(); lag != 3 || missed {
		t.Errorf("lag %d, missed %v", lag, missed)
	}
	if r.Kept(14) {
		t.Error("an event that the client has is kept")
	}
	for seq := uint64(15); seq < 20; seq++ {
		if e, more, kept := after(&r, seq); !more || !kept || e.Body[0] != byte(seq) {
			t.Errorf("after %d: %v %v", seq, more, kept)
		}
	}
	r.Trim(20)
	if r.ring != nil || r.Weight() != 0 {
		t.Errorf("idle, and %d bytes in %d slots are kept", r.Weight(), len(r.ring))
	}
	if _, more, kept := after(&r, 20); more || !kept {
		t.Error("cannot resume from the newest")
	}
	r.Push(r.Last()+1, &Event{Body: []byte("x")})
	if e, more, kept := after(&r, 20); !more || !kept || string(e.Body) != "x" {
		t.Error("what came after the trim is missing")
	}
}

// TestMissed: what was lost before it was taken is told, until somebody goes on from
// what is kept.
func TestMissed(t *testing.T) {
	r := Replay{Count: 2, Bytes: 1 << 20}
	for seq := range uint64(3) {
		if _, missed := r.Lag(); missed {
			t.Fatalf("missed before %d", seq+1)
		}
		r.Push(seq+1, &Event{Body: []byte("x")})
	}
	if lag, missed := r.Lag(); lag != 2 || !missed {
		t.Errorf("lag %d, missed %v", lag, missed)
	}
	if r.Seek(0) || !r.Seek(1) {
		t.Error("only what follows 1 is kept")
	}
	if _, missed := r.Lag(); missed {
		t.Error("missed, from what is kept on")
	}
}

func TestAppend(t *testing.T) {
	b := Append(nil, 42, &Event{Name: "X", Body: []byte(`{"a":1}`)})
	if string(b) != `{"t":"X","s":42,"op":0,"d":{"a":1}}` || !json.Valid(b) {
		t.Fatalf("%s", b)
	}
	for _, seq := range []uint64{0, 9, 10, 99, 100, 1<<64 - 1} {
		e := &Event{Name: "NAME", Body: []byte("{}")}
		if b := Append(nil, seq, e); len(b) != Size(seq, e) {
			t.Errorf("%s is %d bytes, not %d", b, len(b), Size(seq, e))
		}
	}
}

func BenchmarkPush(b *testing.B) {
	r := Replay{Count: 2048, Bytes: 8 << 20}
	body := []byte(fmt.Sprintf("%0500d", 1))
	b.ReportAllocs()
	for b.Loop() {
		r.Push(r.Last()+1, &Event{Name: "MESSAGE_CREATE", Body: body})
	}
}
