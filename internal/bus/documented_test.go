package bus

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/bus/bustest"
)

// TestDocumentedConfiguration runs a server as the operator's guide configures one of
// one's own: it tells of closed connections.
func TestDocumentedConfiguration(t *testing.T) {
	guide, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, conf, ok := strings.Cut(string(guide), "\n    accounts {\n")
	conf, _, ok2 := strings.Cut(conf, "\n\n")
	if !ok || !ok2 {
		t.Fatal("the guide has no configuration")
	}
	port := bustest.FreePort(t)
	conf = fmt.Sprintf("accounts {\n%s\nlisten: \"127.0.0.1:%d\"\n", strings.ReplaceAll(conf, "/var/lib/nats", t.TempDir()), port)
	e, err := StartEmbedded(EmbeddedConfig{ServerConfig: conf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	url := fmt.Sprintf("nats://fleet:SECRET@127.0.0.1:%d", port)
	observer, err := Connect(t.Context(), Config{URL: url, Name: ClientName(RoleCentral, "1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(observer.Close)
	if _, err := OpenBucket[question](t.Context(), observer, NodesBucket); err != nil {
		t.Fatal(err)
	}
	told := hear(t, observer)
	edge, err := Connect(t.Context(), Config{URL: url, Name: ClientName(RoleEdge, "fra1")})
	if err != nil {
		t.Fatal(err)
	}
	edge.Close()
	select {
	case got := <-told:
		if got.name != "edge fra1" {
			t.Errorf("told of %q", got.name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told")
	}
}
