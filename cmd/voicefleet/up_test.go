package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/textchat"
)

// guest is the answer of /auth/guest.
type guest struct {
	Token   string        `json:"token"`
	User    textchat.User `json:"user"`
	GuildID textchat.ID   `json:"guild_id"`
}

func (r *running) join(c *http.Client, base func(string) string, nickname string) guest {
	r.t.Helper()
	g := post[guest](r.t, c, base("/api/v10/auth/guest"), "", map[string]string{"invite": r.invite, "nickname": nickname})
	if g.Token == "" || g.GuildID == 0 {
		r.t.Fatalf("joined as %+v", g)
	}
	return g
}

func TestUp(t *testing.T) {
	r := launchUp(t)
	secure := r.trusting()

	t.Run("page", func(t *testing.T) {
		for _, page := range []string{get(t, http.DefaultClient, r.http("/")), get(t, secure, r.https("/")), get(t, secure, r.https("/invite/"+r.invite))} {
			if !strings.Contains(page, "<script") {
				t.Errorf("not the page: %.200s", page)
			}
		}
	})
	t.Run("guests", func(t *testing.T) {
		r.join(http.DefaultClient, r.http, "Ada")
		r.join(secure, r.https, "Bob")
	})
	t.Run("shown", func(t *testing.T) {
		if got := get(t, http.DefaultClient, r.http("/healthz")); got != "ok\n" {
			t.Errorf("healthz: %q", got)
		}
		get(t, http.DefaultClient, r.http("/readyz"))
		metrics := get(t, http.DefaultClient, r.http("/metrics"))
		guide, err := os.ReadFile("../../deploy/README.md")
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`(?m)^# TYPE (voicefleet_\w+)`).FindAllStringSubmatch(metrics, -1)
		if len(names) < 20 {
			t.Errorf("only %d metrics of our own", len(names))
		}
		for _, m := range names {
			if !bytes.Contains(guide, []byte("| `"+m[1]+"` |")) {
				t.Errorf("deploy/README.md does not list %s", m[1])
			}
		}
		resp, err := http.Get(r.http("/debug/pprof/"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("profiles without the token: %s", resp.Status)
		}
	})
	t.Run("ctl", func(t *testing.T) {
		var nodes []allocator.NodeView
		deadline := time.Now().Add(wait)
		for ready := false; !ready; {
			if err := json.Unmarshal([]byte(ctlSays(t, r.data, "nodes", "--json")), &nodes); err != nil {
				t.Fatal(err)
			}
			ready = len(nodes) == 1 && nodes[0].State == "ready"
			if time.Now().After(deadline) {
				t.Fatalf("nodes: %+v", nodes)
			}
		}
		if len(nodes[0].Ports) != 2 || int(nodes[0].Ports[0]) != r.media || len(nodes[0].Addrs) == 0 {
			t.Errorf("node shows ports %v, addresses %v", nodes[0].Ports, nodes[0].Addrs)
		}
		if out := ctlSays(t, r.data, "label", "7", "canary"); !strings.Contains(out, "try nodes of label canary") || !strings.Contains(out, "Until there is one") {
			t.Errorf("label says %s", out)
		}
		if out := ctlSays(t, r.data, "label"); !regexp.MustCompile(`(?m)^7 +canary +0 .*@.* from `).MatchString(out) {
			t.Errorf("label lists %s", out)
		}
		if out := ctlSays(t, r.data, "label", "7", "--clear"); !strings.Contains(out, "no label") || strings.Contains(ctlSays(t, r.data, "label"), "canary") {
			t.Errorf("label --clear says %s", out)
		}
		for _, args := range [][]string{{"nodes"}, {"status"}, {"calls"}, {"users"}, {"invite"}} {
			if out := ctlSays(t, r.data, args...); out == "" {
				t.Errorf("ctl %v says nothing", args)
			}
		}
		if out := ctlSays(t, r.data, "invite"); !strings.Contains(out, r.invite) {
			t.Errorf("invite says %s", out)
		}
		for _, args := range [][]string{{"reset-password", "nobody"}, {"label", "seven", "canary"}, {"label", "7"}, {"label", "7", "canary", "--clear"}, {"label", "7", strings.Repeat("x", 65)}} {
			out, err := exec.Command(binary(), append([]string{"ctl", "--data", r.data}, args...)...).CombinedOutput()
			if err == nil || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		}
	})
	t.Run("reset-password", func(t *testing.T) {
		creds := map[string]string{"username": "grace", "password": "correct horse"}
		post[guest](t, http.DefaultClient, r.http("/api/v10/auth/register"), "", map[string]string{"username": "grace", "password": "correct horse", "invite": r.invite})
		post[guest](t, http.DefaultClient, r.http("/api/v10/auth/login"), "", creds)
		var answer struct{ Password string }
		if err := json.Unmarshal([]byte(ctlSays(t, r.data, "reset-password", "grace", "--json")), &answer); err != nil || answer.Password == "" {
			t.Fatalf("reset-password: %v", err)
		}
		creds["password"] = answer.Password
		post[guest](t, http.DefaultClient, r.http("/api/v10/auth/login"), "", creds)
	})
	t.Run("taken", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "data")
		for name, c := range map[string]struct{ args, want []string }{
			"port":   {[]string{"up", "--port", fmt.Sprint(r.port), "--media-port", fmt.Sprint(r.media + 10), "--data", other}, []string{fmt.Sprint(r.port), "--port", fmt.Sprintf("process %d", r.cmd.Process.Pid)}},
			"media":  {[]string{"up", "--port", fmt.Sprint(freePorts(t, 1)[0]), "--media-port", fmt.Sprint(r.media), "--data", other}, []string{fmt.Sprint(r.media), "--media-port", fmt.Sprintf("process %d", r.cmd.Process.Pid)}},
			"folder": {[]string{"up", "--port", fmt.Sprint(freePorts(t, 1)[0]), "--media-port", fmt.Sprint(r.media + 10), "--data", r.data}, []string{r.data, "--data", fmt.Sprintf("process %d", r.cmd.Process.Pid)}},
		} {
			out, err := exec.Command(binary(), c.args...).CombinedOutput()
			if err == nil {
				t.Errorf("%s: a second one started", name)
			}
			for _, w := range c.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("%s: %q does not say %q", name, out, w)
				}
			}
		}
	})
}

func TestUpEndsAndComesBack(t *testing.T) {
	r := launchUp(t)
	g := r.join(http.DefaultClient, r.http, "Ada")
	owner := r.says(`/owner/([A-Za-z0-9_-]+)`)
	ca := get(t, http.DefaultClient, r.http("/ca.pem"))
	code, took := r.ends(syscall.SIGINT)
	if code != 0 || took > 5*time.Second {
		t.Errorf("Ctrl-C: exit code %d after %v", code, took)
	}
	if !strings.Contains(r.text(), wordsEnded) {
		t.Error("did not say that everything has ended")
	}
	if info, err := os.Stat(filepath.Join(r.data, fileToken)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin token: %v, %v", info, err)
	}

	again := &running{port: r.port, media: r.media, data: r.data}
	again.process = launch(t, r.args()...)
	if again.invite = again.says(`/invite/([A-Za-z0-9_-]+)`); again.invite != r.invite {
		t.Errorf("invite is %s, was %s", again.invite, r.invite)
	}
	// Nobody used the owner link: there is one again, and the old one is void.
	claim := map[string]string{"code": owner, "username": "ada", "password": "correct horse"}
	body, err := json.Marshal(claim)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Post(again.http("/api/v10/auth/owner"), "application/json", bytes.NewReader(body)); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("the owner link of the last start: %v, %v", resp.Status, err)
	} else {
		resp.Body.Close()
	}
	claim["code"] = again.says(`/owner/([A-Za-z0-9_-]+)`)
	post[guest](t, http.DefaultClient, again.http("/api/v10/auth/owner"), "", claim)
	if get(t, http.DefaultClient, again.http("/ca.pem")) != ca {
		t.Error("the authority is another one")
	}
	req, err := http.NewRequest("GET", again.http("/api/v10/users/@me"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", g.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var me textchat.User
	if err := json.NewDecoder(resp.Body).Decode(&me); err != nil || me.ID != g.User.ID {
		t.Errorf("after the second start I am %+v, %v", me, err)
	}
}

func TestBinaryIsStatic(t *testing.T) {
	f, err := elf.Open(binary())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a %v segment", p.Type)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range append(root().Commands(), ctlCommand().Commands()...) {
		if !c.Hidden && c.Name() != "help" && (c.Example == "" || c.Short == "") {
			t.Errorf("%s has no example or no description", c.CommandPath())
		}
		// What follows a backslash, a pipe or a comment's sign is the shell's.
		for line := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", "")) {
			line, _, _ = strings.Cut(line, "|")
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "voicefleet" {
				continue
			}
			of, rest, err := root().Find(words[1:])
			if err == nil {
				err = of.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", c.CommandPath(), line, err)
			}
		}
	}
}

func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"up --port 99999", "--port 99999"},
		{"up --media-port 65535 --workers 2", "--media-port 65535"},
		{"up --workers 0", "--workers 0"},
		{"up --node UPPER", "--node"},
		{"up --advertise example.org", "--advertise"},
		{"up --geoip nowhere.mmdb", "--geoip"},
		{"up --trusted-proxy somewhere", "--trusted-proxy"},
		{"up --location north", "--location"},
		{"up --weight 0.5", "--label"},
		{"up --label canary --weight 2", "--weight 2"},
		{"up --log-level loud", "loud"},
		{"edge", "--bus"},
		{"central --bus nats://127.0.0.1:1 --advertise-endpoint here", "--advertise-endpoint"},
		{"text --bus nats://127.0.0.1:1 --store cql://x", "--store"},
		{"sfu", "not by hand"},
		{"ctl nodes", "No voicefleet is running"},
		{"bus --listen nowhere", "--listen"},
		{"dance", "dance"},
	} {
		cmd := exec.Command(binary(), strings.Fields(c.args)...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) || strings.Count(string(out), "\n") > 3 {
			t.Errorf("%s: %v: %s", c.args, err, out)
		}
	}
}
