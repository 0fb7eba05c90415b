package sfu

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestStream(t *testing.T) {
	var b bytes.Buffer
	enc, dec := NewEncoder(&b), NewDecoder(&b)
	muted := []UserID{{ID: 7}}
	want := []Command{
		{Seq: 1, Open: &Open{Session: "s", Call: CallID{ID: 1 << 60}, User: UserID{ID: 2}, Rights: Rights{Speak: true}}},
		{Seq: 2, Update: &Update{Session: "s", Muted: &muted}},
	}
	for _, c := range want {
		if err := enc.Encode(&c); err != nil {
			t.Fatal(err)
		}
	}
	first := `{"seq":1,"open":{"session":"s","call":"1152921504606846976","user":"2","rights":{"speak":true}}}`
	if got := b.String(); !strings.HasPrefix(got, "\x00\x00\x00"+string(rune(len(first)))+first) {
		t.Errorf("on the wire: %q", got)
	}
	for i := range want {
		var got Command
		if err := dec.Decode(&got); err != nil || !reflect.DeepEqual(got, want[i]) {
			t.Errorf("command %d: %+v, %v", i, got, err)
		}
	}
	if err := dec.Decode(new(Command)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestStreamRefuses(t *testing.T) {
	frame := func(n uint32, body string) io.Reader {
		return bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, n), body...))
	}
	for name, r := range map[string]io.Reader{
		"too long":      frame(MaxFrame+1, ""),
		"cut short":     frame(10, "{}"),
		"cut in length": strings.NewReader("\x00\x00"),
		"no JSON":       frame(2, "{]"),
		"wrong type":    frame(11, `{"seq":"a"}`),
	} {
		if err := NewDecoder(r).Decode(new(Command)); err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := Command{Negotiate: &Negotiate{Offer: strings.Repeat("x", MaxFrame)}}
	if err := NewEncoder(io.Discard).Encode(&big); err == nil {
		t.Error("a frame over the limit was written")
	}
	// Of a neighbouring version: unknown fields are ignored.
	var c Command
	if err := NewDecoder(frame(23, `{"seq":3,"new":{"a":1}}`)).Decode(&c); err != nil || c.Seq != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range DropReasons {
		name := r.String()
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d is named %q", r, name)
		}
		seen[name] = true
	}
	for id, want := range map[SessionID]bool{"": false, "a": true, "A-z_9": true, "a b": false, "ä": false,
		SessionID(strings.Repeat("x", 64)): true, SessionID(strings.Repeat("x", 65)): false} {
		if id.Valid() != want {
			t.Errorf("%q", id)
		}
	}
	if l := (Limits{HalfOpen: 7}).WithDefaults(); l != (Limits{Sessions: 4000, HalfOpen: 7, ChecksPerPrefix: 2000, ShedVideo: 0.85}) {
		t.Errorf("%+v", l)
	}
}

// FuzzDecode reads any bytes as a stream of commands, and what is read survives
// a round trip.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x09{\"seq\":1}"))
	f.Add([]byte("\x00\x00\x00\x25{\"open\":{\"session\":\"a\",\"call\":\"1\"}}  "))
	f.Fuzz(func(t *testing.T, b []byte) {
		dec := NewDecoder(bytes.NewReader(b))
		for {
			var c, again Command
			if dec.Decode(&c) != nil {
				return
			}
			var w bytes.Buffer
			if err := NewEncoder(&w).Encode(&c); err != nil {
				return
			}
			if err := NewDecoder(&w).Decode(&again); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
		}
	})
}
