package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"voicefleet/textchat/textchattest"
)

// TestGuideTakesAlong: a house that ends goes on as a text service, in both ways of the
// guide: who was logged in is, and reads what was written.
func TestGuideTakesAlong(t *testing.T) {
	r := launchUp(t)
	w := r.writer()
	r.say(w, "before")
	all := steps(t, "../../deploy/fleet.md", "## 4. Taking along what the house has")
	if len(all) != 1 || all[0].args[0] != "copy" {
		t.Fatalf("the guide has %v", all)
	}
	args := append([]string{"copy", r.data}, all[0].args[2:]...)
	refused := func(says string) {
		t.Helper()
		if out, err := exec.Command(binary(), args...).CombinedOutput(); err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	refused("is using the data folder")
	r.ends(syscall.SIGTERM)
	bus := launch(t, "bus", "--listen", fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])).says(`bus is up: --bus (\S+)`)
	goesOn := func(t *testing.T, more ...string) {
		t.Helper()
		next := &running{port: freePorts(t, 1)[0], data: filepath.Join(t.TempDir(), "data")}
		if err := os.CopyFS(next.data, os.DirFS(r.data)); err != nil {
			t.Fatal(err)
		}
		if len(more) == 0 {
			more = []string{"--store", "sqlite:" + next.data}
		} else {
			more = append(more, "--data", next.data)
		}
		next.process = launch(t, append([]string{"text", "--bus", bus, "--port", fmt.Sprint(next.port)}, more...)...)
		if invite := next.says(`/invite/([A-Za-z0-9_-]+)`); invite != r.invite {
			t.Errorf("the invite is %s, it was %s", invite, r.invite)
		}
		next.says(`End +Ctrl-C`)
		if got := next.heard(w); got != "before" {
			t.Errorf("there is %q", got)
		}
		next.say(w, "later")
		if got := next.heard(w); got != "later|before" {
			t.Errorf("then there is %q", got)
		}
	}
	t.Run("Folder", func(t *testing.T) { goesOn(t) })
	t.Run("Cluster", func(t *testing.T) {
		var server textchattest.CQLServer
		address := server.Address(t)
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		store := fmt.Sprintf("cql://%s/along_%d?timeout=10s", strings.TrimPrefix(address, "cql://"), os.Getpid())
		args[len(args)-1] = store
		out, err := exec.Command(binary(), args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "The cluster has all of it") {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		refused("in use")
		goesOn(t, "--store", store)
	})
}
