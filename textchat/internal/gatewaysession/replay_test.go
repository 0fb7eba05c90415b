package gatewaysession

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
)

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
				if _, _, _, kept := r.Next(first); kept {
					break
				}
			}
			n, weight := 0, 0
			for seq := first; ; seq++ {
				e, _, more, kept := r.Next(seq)
				if !kept {
					t.Fatalf("gap at %d", seq)
				}
				if !more {
					break
				}
				if !bytes.Equal(e.Body, model[seq]) {
					t.Fatalf("event %d is another", seq+1)
				}
				n, weight = n+1, weight+len(e.Body)+overhead
			}
			if n < 1 || n > r.Count || n > 1 && weight > r.Bytes || weight != r.Weight() {
				t.Fatalf("%d events of %d bytes kept, bounds %d and %d", n, weight, r.Count, r.Bytes)
			}
			if _, _, _, kept := r.Next(r.Last() + 1); kept {
				t.Fatal("the future is kept")
			}
		}
	}
}

func TestReplayBeforeAnything(t *testing.T) {
	r := Replay{Count: 4, Bytes: 100}
	if _, _, more, kept := r.Next(0); more || !kept {
		t.Fatalf("more %v kept %v", more, kept)
	}
	if _, _, _, kept := r.Next(1); kept {
		t.Fatal("an event that never was is kept")
	}
}

// TestTrim: what the client has is forgotten, what it has not is kept.
func TestTrim(t *testing.T) {
	r := Replay{Count: 8, Bytes: 1 << 20}
	for i := range 20 {
		r.Push(uint64(i+1), &Event{Name: "E", Body: []byte{byte(i)}})
	}
	r.Trim(99) // from the future
	r.Trim(15)
	if _, _, _, kept := r.Next(14); kept {
		t.Error("an event that the client has is kept")
	}
	for seq := uint64(15); seq < 20; seq++ {
		if e, _, more, kept := r.Next(seq); !more || !kept || e.Body[0] != byte(seq) {
			t.Errorf("after %d: %v %v", seq, more, kept)
		}
	}
	r.Trim(20)
	if r.ring != nil || r.Weight() != 0 {
		t.Errorf("idle, and %d bytes in %d slots are kept", r.Weight(), len(r.ring))
	}
	if _, _, more, kept := r.Next(20); more || !kept {
		t.Error("cannot resume from the newest")
	}
	r.Push(r.Last()+1, &Event{Body: []byte("x")})
	if e, _, more, kept := r.Next(20); !more || !kept || string(e.Body) != "x" {
		t.Error("what came after the trim is missing")
	}
}

func TestAppend(t *testing.T) {
	b := Append(nil, 42, &Event{Name: "X", Body: []byte(`{"a":1}`)})
	if string(b) != `{"t":"X","s":42,"op":0,"d":{"a":1}}` || !json.Valid(b) {
		t.Fatalf("%s", b)
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
