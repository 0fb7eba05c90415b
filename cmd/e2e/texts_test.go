package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"voicefleet/textchat/textchattest"
)

// cqlServer is one for all tests of this package; TestMain ends it. It may be killed.
var cqlServer = textchattest.CQLServer{Profile: "safe"}

// texts are three text instances on a NATS cluster of three and a CQL server, all
// processes of their own.
type texts struct {
	t      *testing.T
	bus    string
	store  string
	dir    string
	ports  [3]int
	houses [3]*house
	names  [3]string // of the instances
	begun  int       // instances, those that ended included

	servers [3]*program // of the bus
	clients []string    // their addresses
	routes  []string
}

// startTexts starts them; options are those of the store's address.
func startTexts(t *testing.T, options string) *texts {
	t.Helper()
	address := cqlServer.Address(t)
	x := &texts{t: t, dir: t.TempDir(),
		store: fmt.Sprintf("cql://%s/%s_%d%s", strings.TrimPrefix(address, "cql://"), strings.ToLower(t.Name()), os.Getpid(), options)}
	for range 3 {
		x.clients = append(x.clients, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		x.routes = append(x.routes, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	for i := range 3 {
		x.startServer(i)
	}
	x.bus = "nats://secret@" + strings.Join(x.clients, ",nats://secret@")
	files := filepath.Join(x.dir, "files")
	must(t, os.Mkdir(files, 0o700))
	for i := range 3 {
		x.ports[i] = freePort(t)
		data := x.data(i)
		must(t, os.MkdirAll(data, 0o700))
		must(t, os.Symlink(files, filepath.Join(data, "attachments")))
		x.start(i)
	}
	return x
}

// startServer runs a server of the bus, anew when it ran before.
func (x *texts) startServer(i int) {
	name := fmt.Sprint("bus", i)
	x.servers[i] = start(x.t, "", "bus", "--name", name, "--listen", x.clients[i], "--token", "secret", "--store", filepath.Join(x.dir, name),
		"--cluster-listen", x.routes[i], "--routes", strings.Join(x.routes, ","))
}

func (x *texts) data(i int) string { return filepath.Join(x.dir, fmt.Sprint("text", i)) }

func (x *texts) at(i int) string { return fmt.Sprintf("127.0.0.1:%d", x.ports[i]) }

// start runs an instance, anew when it ran before: then it has another number, as that
// of one that was killed is free only when its lease ends.
func (x *texts) start(i int) {
	x.t.Helper()
	h := &house{port: x.ports[i], data: x.data(i)}
	for try := 0; ; try++ {
		x.names[i] = fmt.Sprint(x.begun)
		x.begun++
		h.program = start(x.t, "", "text", "--bus", x.bus, "--store", x.store, "--data", h.data, "--port", fmt.Sprint(h.port), "--worker", x.names[i])
		// The first one makes the tables, each of which the server writes to the disk; one
		// that has just begun may take longer to answer than an instance waits.
		if try == 3 || h.find(`/invite/([A-Za-z0-9_-]+)|open store`, 3*time.Minute) != "open store" {
			break
		}
		<-h.done
	}
	h.invite = h.await(`/invite/([A-Za-z0-9_-]+)`)
	x.houses[i] = h
}

// leader is the instance that leads a guild, as the operator is told.
func (x *texts) leader(guild string) int {
	x.t.Helper()
	h := x.houses[0]
	_, token, _ := strings.Cut(strings.TrimSpace(h.ctl("console")), "#token=")
	for deadline := time.Now().Add(60 * time.Second); ; {
		said, status, err := tryRequest("GET", h.page("/api/admin/guilds"), "Bearer "+token, "")
		var guilds []struct{ ID, Leader string }
		if err == nil && status == http.StatusOK {
			must(x.t, json.Unmarshal(said, &guilds))
		}
		for _, g := range guilds {
			if i := slices.Index(x.names[:], g.Leader); g.ID == guild && i >= 0 {
				return i
			}
		}
		if time.Now().After(deadline) { // one that is not here any more, or no answer, for so long
			x.t.Fatalf("who of %q leads %s? %d %s %v", x.names, guild, status, said, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestSeveralTexts holds the unmodified libraries to the common script, by way of a
// balancer, while the instance that they are connected to is cut off, killed, or
// ended: each resumes at another one by itself, and hears every message once.
func TestSeveralTexts(t *testing.T) {
	needDiscordJS(t)
	x := startTexts(t, "?timeout=5s") // libraries do not send again what a busy store refuses
	owner := x.houses[0]
	s := newScript(t, owner, "Parrot")
	for name, start := range map[string]startLibrary{"discordgo": startDiscordGo, "disgo": startDisgo, "discord.js": startDiscordJS} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			via := newRelay(t, x.at(0))
			s.run(start, via, func() { x.loses(&s, via) })
		})
	}
}

// loses takes the instance at which the library is connected away in all ways.
func (x *texts) loses(s *script, via *relay) {
	s.t.Helper()
	for here, how := range []struct {
		name   string
		signal syscall.Signal
		away   bool // the library's connection is cut first
	}{{"killed unseen", syscall.SIGKILL, true}, {"killed", syscall.SIGKILL, false}, {"ended", syscall.SIGTERM, false}} {
		next, other := (here+1)%3, (here+2)%3
		s.api = x.houses[other].page("/api/v10")
		s.quiet()
		began := time.Now()
		const n = 5 // few enough for no limit to hold Ada up
		if how.away {
			via.cut()
		}
		for i := range n {
			if i == n/2 {
				via.lead(x.at(next))
				x.houses[here].signal(how.signal)
			}
			s.says(fmt.Sprintf("%s %d", how.name, i))
		}
		if how.away {
			via.open()
		}
		for i := range n {
			s.hears(fmt.Sprintf("message %s %d", how.name, i))
		}
		s.quiet()
		s.t.Logf("%s: all %d heard %v after", how.name, n, time.Since(began).Round(time.Millisecond))
		<-x.houses[here].done
		x.start(here)
	}
	via.lead(x.at(0))
	s.api = x.houses[0].page("/api/v10")
}
