package allocatorserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"voicefleet/internal/bus"
	"voicefleet/internal/bus/bustest"
)

// servers are those of a bus.
type servers interface {
	URL() string
	// restart ends all of them with what they had in memory, and in files too unless
	// they are kept, and starts them again.
	restart(keep bool)
}

// onBoth runs a test with one server in this process, as `voicefleet up` has it, and
// with three in processes of their own, as a fleet has them.
func onBoth(t *testing.T, test func(t *testing.T, s servers)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel() // both mostly wait
		test(t, startOne(t))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("starts three servers")
		}
		test(t, three{bustest.Start(t)})
	})
}

// one is a server in this process.
type one struct {
	t      testing.TB
	config bus.EmbeddedConfig
	server *bus.Embedded
}

func startOne(t testing.TB) *one {
	t.Helper()
	o := &one{t: t, config: bus.EmbeddedConfig{StoreDir: t.TempDir(), Port: bustest.FreePort(t)}}
	o.start()
	t.Cleanup(func() { o.server.Shutdown() })
	return o
}

func (o *one) start() {
	o.t.Helper()
	var err error
	if o.server, err = bus.StartEmbedded(o.config); err != nil {
		o.t.Fatal(err)
	}
}

func (o *one) URL() string { return o.server.URL() }

func (o *one) restart(keep bool) {
	o.t.Helper()
	o.server.Shutdown()
	if !keep {
		o.config.StoreDir = o.t.TempDir()
	}
	o.start()
}

// three are a cluster.
type three struct{ *bustest.Cluster }

func (c three) URL() string { return strings.Join(c.URLs[:], ",") }

func (c three) restart(keep bool) {
	c.Kill()
	if !keep {
		c.Forget()
	}
	c.Start()
}

// leader is the server that takes the writes of a bucket.
func (c three) leader(t *testing.T, bucket string) (server int) {
	t.Helper()
	nc, err := nats.Connect(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for {
		stream, err := js.Stream(t.Context(), "KV_"+bucket)
		if err != nil {
			t.Fatal(err)
		}
		if info := stream.CachedInfo().Cluster; info != nil {
			if _, err := fmt.Sscanf(info.Leader, "bus%d", &server); err == nil {
				return server
			}
		}
	}
}

// serve is one of the three.
func serve(config []byte) error {
	var cfg bus.EmbeddedConfig
	err := json.Unmarshal(config, &cfg)
	if err == nil {
		_, err = bus.StartEmbedded(cfg)
	}
	return err
}
