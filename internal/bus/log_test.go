package bus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestLogSince holds that what is read of a log is whole and in order: over several
// pages, and where the log gives none.
func TestLogSince(t *testing.T) {
	for _, pages := range []bool{true, false} {
		t.Run(fmt.Sprint("pages ", pages), func(t *testing.T) {
			t.Parallel()
			_, conns := start(t, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // without pages it asks 2,000 times
			defer cancel()
			l, err := OpenLog(ctx, conns[0], GuildsLog)
			if err != nil {
				t.Fatal(err)
			}
			if !pages {
				s, err := l.c.js.Stream(t.Context(), l.name)
				if err != nil {
					t.Fatal(err)
				}
				cfg := s.CachedInfo().Config
				cfg.AllowDirect = false
				if _, err := l.c.js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			if list, err := l.Since(ctx, "one", 0); err != nil || len(list) != 0 {
				t.Fatalf("of nothing there is %v: %v", list, err)
			}
			const n = 2*logPage + 10
			var last, middle uint64
			waiting := make([]jetstream.PubAckFuture, 0, 2*n)
			for i := range n {
				for _, key := range []string{"one", "two"} {
					f, err := l.c.js.PublishAsync(l.spec.subject+key, fmt.Append(nil, key, i), jetstream.WithStallWait(20*time.Second))
					if err != nil {
						t.Fatal(err)
					}
					waiting = append(waiting, f)
				}
			}
			for i, f := range waiting {
				select {
				case ack := <-f.Ok():
					if i%2 == 0 {
						last = ack.Sequence
					}
					if i == 2*logPage {
						middle = ack.Sequence
					}
				case err := <-f.Err():
					t.Fatal(err)
				}
			}
			for from, begin := range map[uint64]int{0: 0, middle: logPage + 1, last: n} {
				list, err := l.Since(ctx, "one", from)
				if err != nil || len(list) != n-begin {
					t.Fatalf("after %d there are %d, want %d: %v", from, len(list), n-begin, err)
				}
				before := from
				for i, r := range list {
					if string(r.Body) != fmt.Sprint("one", begin+i) || r.Prev != before {
						t.Fatalf("%d is %q after %d, want it after %d", begin+i, r.Body, r.Prev, before)
					}
					before = r.Seq
				}
			}
			if got, err := l.Last(ctx, "one"); err != nil || got != last {
				t.Errorf("the last is %d, want %d: %v", got, last, err)
			}
			if got, err := l.Last(ctx, "three"); err != nil || got != 0 {
				t.Errorf("the last of nothing is %d: %v", got, err)
			}
		})
	}
}

// BenchmarkLogSince reads 1,000 entries, with and without pages.
func BenchmarkLogSince(b *testing.B) {
	for _, pages := range []bool{true, false} {
		b.Run(fmt.Sprint("pages=", pages), func(b *testing.B) {
			e, err := StartEmbedded(EmbeddedConfig{StoreDir: b.TempDir(), Token: "only in process"})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Shutdown()
			c, err := Connect(b.Context(), Config{Embedded: e, Name: b.Name()})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			l, err := OpenLog(b.Context(), c, GuildsLog)
			if err != nil {
				b.Fatal(err)
			}
			if !pages {
				s, err := l.c.js.Stream(b.Context(), l.name)
				if err != nil {
					b.Fatal(err)
				}
				cfg := s.CachedInfo().Config
				cfg.AllowDirect = false
				if _, err := l.c.js.UpdateStream(b.Context(), cfg); err != nil {
					b.Fatal(err)
				}
			}
			body := make([]byte, 400)
			for range 1000 {
				if _, err := l.Append(b.Context(), "one", Any, body); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if list, err := l.Since(b.Context(), "one", 0); err != nil || len(list) != 1000 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
