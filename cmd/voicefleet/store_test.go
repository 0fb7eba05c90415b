package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"voicefleet/textchat"
	"voicefleet/textchat/textchattest"
)

// TestStoreElsewhere keeps everything in a CQL cluster: with a new data folder the
// same guild, invite and messages are there.
func TestStoreElsewhere(t *testing.T) {
	var server textchattest.CQLServer
	address := server.Address(t)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	store := fmt.Sprintf("cql://%s/program_%d", strings.TrimPrefix(address, "cql://"), os.Getpid())
	var first string
	var g guest
	bus := launch(t, "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])).says(`bus is up: --bus (\S+)`)
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			ports := freePorts(t, 1)
			data := filepath.Join(t.TempDir(), "data")
			p := launch(t, "text", "--bus", bus, "--store", store, "--data", data, "--port", fmt.Sprint(ports[0]))
			invite := p.says(`/invite/([A-Za-z0-9_-]+)`)
			base := fmt.Sprintf("http://127.0.0.1:%d/api/v10", ports[0])
			if i == 0 {
				first = invite
				g = post[guest](t, http.DefaultClient, base+"/auth/guest", "", map[string]string{"invite": invite, "nickname": "Ada"})
			}
			if invite != first {
				t.Errorf("the invite is %s, before it was %s", invite, first)
			}
			channels := fetch[[]textchat.Channel](t, base+fmt.Sprintf("/guilds/%d/channels", g.GuildID), g.Token)
			channel := channels[0].ID
			post[textchat.Message](t, http.DefaultClient, base+fmt.Sprintf("/channels/%d/messages", channel), g.Token, map[string]string{"content": fmt.Sprint("run ", i)})
			list := fetch[[]textchat.Message](t, base+fmt.Sprintf("/channels/%d/messages", channel), g.Token)
			if len(list) != i+1 || list[0].Content != fmt.Sprint("run ", i) {
				t.Errorf("messages: %+v", list)
			}
		})
	}
}

func fetch[T any](t *testing.T, url, token string) T {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v T
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return v
}

// TestStoreFlag: what cannot be a store is refused with the way out, and no password
// is repeated.
func TestStoreFlag(t *testing.T) {
	bus := []string{"--bus", "nats://127.0.0.1:1"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{append([]string{"text", "--store", "postgres://x"}, bus...), "want sqlite:FOLDER or cql://HOST,HOST/KEYSPACE"},
		{append([]string{"text", "--store", "cql://u:secret@a:x/k"}, bus...), "port"},
		{append([]string{"text", "--store", "cql://u:secret@a/"}, bus...), "keyspace"},
		{append([]string{"text", "--store", "sqlite:x", "--data", "y"}, bus...), "--data goes with a cql:// store"},
		{[]string{"up", "--store", "sqlite:x"}, "--data"},
	} {
		cmd := exec.Command(binary(), c.args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), "secret") {
			t.Errorf("%v: %v: %s", c.args, err, out)
		}
	}
}
