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
			if seq := r.Push(Event{Name: "E", Body: body}); seq != uint64(i+1) {
				t.Fatalf("seq %d of event %d", seq, i)
			}
			model = append(model, body)
			// Walk from the oldest that is kept: all that follows is there, in order,
			// and within the bounds.
			first := uint64(0)
			for ; ; first++ {
				if _, _, kept := r.Next(first); kept {
					break
				}
			}
			n, weight := 0, 0
			for seq := first; ; seq++ {
				e, more, kept := r.Next(seq)
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
			if _, _, kept := r.Next(r.Last() + 1); kept {
				t.Fatal("the future is kept")
			}
		}
	}
}

func TestReplayBeforeAnything(t *testing.T) {
	r := Replay{Count: 4, Bytes: 100}
	if _, more, kept := r.Next(0); more || !kept {
		t.Fatalf("more %v kept %v", more, kept)
	}
	if _, _, kept := r.Next(1); kept {
		t.Fatal("an event that never was is kept")
	}
}

func TestAppend(t *testing.T) {
	b := Append(nil, 42, Event{Name: "X", Body: []byte(`{"a":1}`)})
	if string(b) != `{"t":"X","s":42,"op":0,"d":{"a":1}}` || !json.Valid(b) {
		t.Fatalf("%s", b)
	}
}

func BenchmarkPush(b *testing.B) {
	r := Replay{Count: 2048, Bytes: 8 << 20}
	body := []byte(fmt.Sprintf("%0500d", 1))
	b.ReportAllocs()
	for b.Loop() {
		r.Push(Event{Name: "MESSAGE_CREATE", Body: body})
	}
}
