package chatserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/textchat"
	"voicefleet/textchat/internal/cql"
	"voicefleet/textchat/internal/filestore"
	"voicefleet/textchat/internal/guild"
	"voicefleet/textchat/internal/sqlite"
	"voicefleet/textchat/textchattest"
)

// nowhere is an answer that nobody reads.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

// BenchmarkPages reads the newest 50 messages of a channel, from the permission to the
// bytes of the answer: remembered, and from the store each time. CPU time is that of
// this process, in which also the bus is, and that of the CQL server. It needs Java for
// the latter.
func BenchmarkPages(b *testing.B) {
	var server textchattest.CQLServer
	defer func() { _ = server.Stop() }()
	for _, at := range []string{"sqlite", "cql"} {
		b.Run(at, func(b *testing.B) {
			for _, with := range []string{"alone", "instances"} {
				b.Run(with, func(b *testing.B) {
					s, user, channel := hotChannel(b, &server, at == "cql", with == "instances")
					for _, readers := range []int{1, 16} {
						for _, how := range []string{"remembered", "read"} {
							b.Run(fmt.Sprintf("readers=%d/%s", readers, how), func(b *testing.B) {
								if s.pages.life = time.Hour; how == "read" {
									s.pages.life = 0
								}
								benchmarkPages(b, s, user, channel, readers, server.Pid())
							})
						}
					}
				})
			}
		})
	}
}

func benchmarkPages(b *testing.B, s *Server, user textchat.User, channel textchat.ID, readers, other int) {
	one := func() {
		r := httptest.NewRequest("GET", "/channels/x/messages", nil)
		r.SetPathValue("channel", channel.String())
		c := &call{srv: s, w: nowhere{make(http.Header)}, r: r, ctx: r.Context(), now: time.Now(), user: user}
		_, body, err := c.messageList()
		if err != nil {
			b.Error(err)
			return
		}
		body.(raw).send(c.w, http.StatusOK)
	}
	one()
	runtime.GC()
	used, theirs := processTime(), timeOf(other)
	b.ResetTimer()
	if readers == 1 {
		for range b.N {
			one()
		}
	} else {
		b.SetParallelism((readers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one()
			}
		})
	}
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64((processTime()-used).Microseconds())/n, "cpu-µs/op")
	b.ReportMetric(float64((timeOf(other)-theirs).Microseconds())/n, "store-cpu-µs/op")
	b.ReportMetric(n/b.Elapsed().Seconds(), "reads/s")
}

// hotChannel is a server with a channel of 60 messages of 80 characters.
func hotChannel(b *testing.B, server *textchattest.CQLServer, byCQL, instances bool) (*Server, textchat.User, textchat.ID) {
	ctx := context.Background()
	var store textchat.Store
	var err error
	if dir := b.TempDir(); byCQL {
		var c cql.Config
		if c, err = cql.ParseAddress(cql.Scheme + server.Address(b) + fmt.Sprintf("/pages_%d", time.Now().UnixNano())); err == nil {
			store, err = cql.Open(ctx, c)
		}
	} else {
		store, err = sqlite.Open(dir, sqlite.Config{})
	}
	if err != nil {
		b.Fatal(err)
	}
	files, err := filestore.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	cfg := Config{Store: store, Files: files}
	if instances {
		embedded, err := bus.StartEmbedded(bus.EmbeddedConfig{StoreDir: b.TempDir(), Token: "only in process"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(embedded.Shutdown)
		conn, err := bus.Connect(ctx, bus.Config{Embedded: embedded, Name: bus.ClientName(bus.RoleText, "0")})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(conn.Close)
		cfg.Bus, cfg.Instance = conn, "0"
	}
	s, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	first, err := s.Bootstrap(ctx, "G")
	if err != nil {
		b.Fatal(err)
	}
	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(running) }()
	b.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			b.Error(err)
		}
		_ = store.Close()
	})
	o, err := s.owner(first.Guild)
	if err != nil {
		b.Fatal(err)
	}
	user := textchat.User{ID: s.newID(), Username: "ann"}
	if err := store.CreateUser(ctx, textchat.Credential{User: user}, nil, time.Now()); err != nil {
		b.Fatal(err)
	}
	if _, err := o.do(ctx, guild.Join{User: user}); err != nil {
		b.Fatal(err)
	}
	r, err := store.Guild(ctx, first.Guild)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range r.Channels {
		if c.Type != textchat.ChannelText {
			continue
		}
		for range 60 {
			m := textchat.Message{ID: s.newID(), Channel: c.ID, Author: user, Content: strings.Repeat("word ", 16)}
			m.Timestamp.Time = m.ID.Time()
			if _, _, err := store.AddMessage(ctx, m, ""); err != nil {
				b.Fatal(err)
			}
		}
		return s, user, c.ID
	}
	b.Fatal("there is no channel")
	return nil, user, 0
}

// timeOf is the processor time of another process.
func timeOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if pid == 0 || err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // a hundred ticks a second
}

// BenchmarkPagesCollected is what a collection costs while as many pages are remembered
// as may be: of 50 messages, and the smallest; and none.
func BenchmarkPagesCollected(b *testing.B) {
	for _, size := range []int{0, 20 << 10, 200} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			s, err := New(Config{DataDir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			o := &owner{srv: s}
			o.pagesVersion.Store(7)
			for n := 0; size > 0 && n < pagesMost/(size+pageCost); n++ {
				_, _ = s.pages.fill(o, textchat.ID(n)<<22, 5, func() (page, error) { return page{body: make([]byte, size), limit: 50}, nil })
			}
			runtime.GC()
			used := processTime()
			b.ResetTimer()
			for range b.N {
				runtime.GC()
			}
			b.ReportMetric(float64((processTime()-used).Microseconds())/float64(b.N), "cpu-µs/op")
			kept := 0
			for i := range s.pages.shards {
				kept += len(s.pages.shards[i].known)
			}
			b.ReportMetric(float64(kept), "pages")
		})
	}
}
