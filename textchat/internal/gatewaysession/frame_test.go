package gatewaysession

import (
	"bytes"
	stdzlib "compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// decoder reads what a client of one stream would: everything so far.
type decoder struct {
	in  bytes.Buffer
	out func() (io.Reader, error)
	got io.Reader
}

func newDecoder(t testing.TB, mode Compression) *decoder {
	d := &decoder{}
	if mode == ZlibStream {
		d.out = func() (io.Reader, error) { return stdzlib.NewReader(&d.in) }
	} else {
		// A decoder with the window that a client may insist on, and no more.
		d.out = func() (io.Reader, error) {
			z, err := zstd.NewReader(stutter{&d.in}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
			if err == nil {
				t.Cleanup(z.Close)
			}
			return z, err
		}
	}
	return d
}

// stutter gives what there is, and fails where a socket would wait.
type stutter struct{ from *bytes.Buffer }

func (s stutter) Read(p []byte) (int, error) {
	if s.from.Len() == 0 {
		return 0, fmt.Errorf("the message ends before the text does")
	}
	return s.from.Read(p)
}

// read gives one message to the reader and takes n bytes of text from it.
func (d *decoder) read(message []byte, n int) ([]byte, error) {
	d.in.Write(message)
	if d.got == nil {
		r, err := d.out()
		if err != nil {
			return nil, err
		}
		d.got = r
	}
	text := make([]byte, n)
	_, err := io.ReadFull(d.got, text)
	return text, err
}

// sample are events as they are: some tiny, some large, some that cannot be
// compressed.
func sample(random *rand.Rand) []*Event {
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(' ' + random.IntN(90))
	}
	list := []*Event{
		{Name: "TINY", Body: []byte(`{}`)},
		{Name: "NOISE", Body: fmt.Appendf(nil, "%q", noise)},
		{Name: "SAME", Body: []byte(`"` + strings.Repeat("a", 5000) + `"`)},
		{Name: "LARGE", Body: []byte(`[` + strings.Repeat(`{"id":"41771983423143937","name":"general"},`, 8000) + `0]`)},
	}
	for _, n := range []int{sharedThreshold, 900, 1023, 1024, 1100, 16383, 16384, zstdWindow / 2, zstdWindow, 200_000} {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, `{"id":"%d","content":"message %d of many","author":{"id":"%d"}},`, random.Uint64(), i, random.Uint64())
		}
		list = append(list, &Event{Name: "SIZED", Body: []byte(`["` + strings.ReplaceAll(b.String(), `"`, "'")[:n] + `"]`)})
	}
	return list
}

// TestStreams: every message of a stream can be read to its last byte when it has
// come, by stock readers, with and without a compressor of its own.
func TestStreams(t *testing.T) {
	for _, mode := range []Compression{ZlibStream, ZstdStream} {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("mode %d own %v", mode, own), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, uint64(mode)))
				var pool Streams
				pool.Allow(1)
				events := sample(random)
				f := Framer{Mode: mode}
				d := newDecoder(t, mode)
				seq := uint64(0)
				hello := []byte(`{"op":10,"d":{"heartbeat_interval":41250}}`)
				check := func(message, want []byte) {
					t.Helper()
					if mode == ZlibStream && !bytes.HasSuffix(message, []byte{0, 0, 0xff, 0xff}) {
						t.Fatal("a message does not end with 00 00 FF FF")
					}
					got, err := d.read(message, len(want))
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("read %d bytes %.80q, want %.80q: %v", len(got), got, want, err)
					}
				}
				b, binary := f.Control(nil, hello)
				if !binary {
					t.Fatal("not binary")
				}
				check(b, hello)
				if own && !f.Own(&pool) {
					t.Fatal("no compressor")
				}
				for range 60 {
					e := events[random.IntN(len(events))]
					seq++
					b, _ = f.Event(b[:0], seq, e)
					want := Append(nil, seq, e)
					if !own && len(e.Body) >= sharedThreshold {
						want = appendTail(appendHead(nil, seq), e)
					}
					if !json.Valid(want) {
						t.Fatalf("not JSON: %.80q", want)
					}
					check(b, want)
					if random.IntN(4) == 0 {
						b, _ = f.Control(b[:0], []byte(`{"op":11}`))
						check(b, []byte(`{"op":11}`))
					}
				}
				f.Close()
				if pool.free.Load() != 1 {
					t.Error("the compressor was not given back")
				}
			})
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	var pool Streams
	pool.Allow(2)
	var framers [4]Framer
	n := 0
	for i := range framers {
		framers[i].Mode = ZlibStream
		if framers[i].Own(&pool) {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d compressors, want 2", n)
	}
	framers[0].Close()
	framers[0].Close() // twice counts once
	if !framers[3].Own(&pool) || framers[2].Own(&pool) {
		t.Error("one was given back, one may be taken")
	}
	if (&Framer{Mode: PayloadZlib}).Own(&pool) || (&Framer{}).Own(&pool) {
		t.Error("a mode without a stream took one")
	}
}

func TestPayloadZlib(t *testing.T) {
	f := Framer{Mode: PayloadZlib}
	if b, binary := f.Control(nil, []byte(`{"op":11}`)); binary || string(b) != `{"op":11}` {
		t.Errorf("a small frame: %q", b)
	}
	e := &Event{Name: "X", Body: []byte(`"` + strings.Repeat("abc ", 1000) + `"`)}
	for seq := uint64(1); seq < 3; seq++ { // each frame by itself
		b, binary := f.Event(nil, seq, e)
		r, err := stdzlib.NewReader(bytes.NewReader(b))
		if err != nil || !binary {
			t.Fatal(err, binary)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, Append(nil, seq, e)) {
			t.Fatalf("%.80q: %v", got, err)
		}
	}
}

// TestSharedIsSmaller holds the sizes that the documentation promises.
func TestSharedIsSmaller(t *testing.T) {
	e := &Event{Name: "MESSAGE_CREATE", Body: []byte(`{"id":"1299087343211532288","channel_id":"1299087343211532289","author":{"id":"1299087343211532290","username":"someone","discriminator":"0","global_name":"Some One","avatar":null,"bot":false,"public_flags":0},"content":"Did anybody see where the meeting notes of last week are?","timestamp":"2026-01-02T03:04:05.678000+00:00","edited_timestamp":null,"tts":false,"mention_everyone":false,"mentions":[],"mention_roles":[],"attachments":[],"embeds":[],"components":[],"pinned":false,"type":0,"flags":0,"guild_id":"1299087343211532291","member":{"nick":null,"avatar":null,"roles":[],"joined_at":"2026-01-02T03:04:05.678000+00:00","deaf":false,"mute":false,"flags":0,"pending":false}}`)}
	plain := len(Append(nil, 1, e))
	for mode, least := range map[Compression]float64{ZlibStream: 1.6, ZstdStream: 1.35} {
		f := Framer{Mode: mode, begun: true}
		b, _ := f.Event(nil, 1, e)
		if ratio := float64(plain) / float64(len(b)); ratio < least {
			t.Errorf("mode %d: %d of %d bytes, ratio %.2f, want %.2f", mode, len(b), plain, ratio, least)
		} else {
			t.Logf("mode %d, shared: %d of %d bytes, ratio %.2f", mode, len(b), plain, ratio)
		}
		var pool Streams
		pool.Allow(1)
		f.Own(&pool)
		b, _ = f.Event(b[:0], 2, e)
		b, _ = f.Event(b[:0], 3, e)
		t.Logf("mode %d, own, the same again: %d bytes", mode, len(b))
	}
}

// TestStreamMemory tells what a compressor costs, and holds it to what the doc says.
func TestStreamMemory(t *testing.T) {
	e := &Event{Name: "X", Body: []byte(`"` + strings.Repeat("some text of some length ", 40) + `"`)}
	for mode, most := range map[Compression]uint64{ZlibStream: 900 << 10, ZstdStream: 900 << 10} {
		const n = 8
		var pool Streams
		pool.Allow(n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		framers := make([]Framer, n)
		for i := range framers {
			framers[i].Mode = mode
			framers[i].Own(&pool)
			for seq := range uint64(300) {
				framers[i].Event(nil, seq+1, e)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (after.HeapAlloc - before.HeapAlloc) / n
		t.Logf("mode %d: %d KiB each", mode, each>>10)
		if each > most {
			t.Errorf("mode %d: %d KiB each, want at most %d", mode, each>>10, most>>10)
		}
		runtime.KeepAlive(framers)
	}
}

// FuzzStreams: whatever the events, stock readers get them back.
func FuzzStreams(f *testing.F) {
	f.Add([]byte("some text"), 3, false)
	f.Add(bytes.Repeat([]byte("abcdefgh"), 300), 1000, true)
	f.Add(bytes.Repeat([]byte{0}, 2000), 1, true)
	f.Fuzz(func(t *testing.T, body []byte, cut int, own bool) {
		cut = min(max(cut, 0), len(body))
		for _, mode := range []Compression{ZlibStream, ZstdStream} {
			var pool Streams
			pool.Allow(1)
			fr := Framer{Mode: mode}
			d := newDecoder(t, mode)
			for seq, part := range [][]byte{body[:cut], body[cut:], body} {
				if seq == 1 && own {
					fr.Own(&pool)
				}
				e := &Event{Name: "E", Body: part}
				want := Append(nil, uint64(seq), e)
				if fr.own == nil && len(part) >= sharedThreshold {
					want = appendTail(appendHead(nil, uint64(seq)), e)
				}
				b, _ := fr.Event(nil, uint64(seq), e)
				if got, err := d.read(b, len(want)); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("mode %d: %q, want %q: %v", mode, got, want, err)
				}
			}
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	e := &Event{Name: "MESSAGE_CREATE", Body: []byte(`"` + strings.Repeat("some text of some length ", 30) + `"`)}
	for mode, name := range []string{"plain", "payload", "zlib", "zstd"} {
		b.Run(name, func(b *testing.B) {
			f := Framer{Mode: Compression(mode)}
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = f.Event(buf[:0], 7, e)
			}
		})
	}
}
