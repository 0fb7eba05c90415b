package chatserver

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"voicefleet/textchat/internal/balance"
)

// TestHotGuildIsLedElsewhere holds that a guild whose leader has too much to do is
// given to the other instance while people write, and comes back when that one ends:
// everybody reads each message once, those of a writer in order.
func TestHotGuildIsLedElsewhere(t *testing.T) {
	t.Parallel()
	began := time.Now()
	var busy atomic.Value // the name of the instance that has too much to do
	busy.Store("")
	all := newTweaked(t, 2, func(s *Server) {
		l := &s.ensemble.leads
		l.balancer.Rules = balance.Rules{High: 0.05, Gain: 0.0001, Cold: 0.1, Hold: time.Second}
		l.cpu.used = func() time.Duration {
			if busy.Load() != s.cfg.Instance {
				return 0
			}
			return 100 * time.Since(began)
		}
	})
	from := all.leader()
	to := 1 - from
	w := []*world{all.worlds[from], all.worlds[to]}
	guild := w[0].first.Guild
	people := []person{w[0].guest("ann"), w[1].guest("bob")}
	sockets := []*socket{w[0].enter(people[0]), w[1].enter(people[1])}
	general := w[0].channelID(people[0], "general")
	var wrote [2]int
	write := func(i, n int) {
		for range n {
			wrote[i]++
			w[i].do("POST", "/channels/"+general+"/messages", people[i].token, map[string]any{"content": fmt.Sprint(i, " ", wrote[i])})
		}
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					write(i, 1)
				}
			}
		})
	}
	busy.Store(w[0].srv.cfg.Instance)
	eventually(t, "the guild is led by the other one", func() bool {
		for _, x := range w {
			if x.srv.ensemble.leader(guild) != w[1].srv.cfg.Instance {
				return false
			}
		}
		o, err := w[1].srv.owner(guild)
		return err == nil && o.leads.Load()
	})
	close(stop)
	writers.Wait()
	write(0, 3)
	write(1, 3)
	read := [2][2]int{}
	check := func(i int) {
		t.Helper()
		for read[i] != wrote {
			var by, n int
			text := sockets[i].until("MESSAGE_CREATE")["content"].(string)
			if _, err := fmt.Sscan(text, &by, &n); err != nil {
				t.Fatal(err)
			}
			if read[i][by]++; n != read[i][by] {
				t.Fatalf("at instance %d message %d of %d comes where %d should", i, n, by, read[i][by])
			}
		}
	}
	check(0)
	check(1)
	if a := w[0].do("GET", "/api/admin/guilds", "Bearer let-me-in", nil); !strings.Contains(string(a.raw), `"given":true`) {
		t.Errorf("the operator sees %s", a.raw)
	}

	w[1].end()
	eventually(t, "the entry is taken back", func() bool {
		name, given := w[0].srv.ensemble.ledBy(guild)
		w[0].srv.ensemble.mu.Lock()
		defer w[0].srv.ensemble.mu.Unlock()
		return name == w[0].srv.cfg.Instance && !given && len(w[0].srv.ensemble.given) == 0
	})
	write(0, 3)
	check(0)
}
