package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is a command of a guide: where it runs, and what.
type step struct {
	machine string
	args    []string
}

// steps reads the commands of a section of a guide: lines of code with a prompt.
func steps(t *testing.T, file, from string) []step {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(body), "\n"+from+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", file, from)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	section = regexp.MustCompile(`\\\n\s+`).ReplaceAllString(section, "")
	var all []step
	for _, m := range regexp.MustCompile(`(?m)^    (op|m\d)[$#] voicefleet (.*)$`).FindAllStringSubmatch(section, -1) {
		var args []string
		for _, a := range strings.Fields(m[2]) {
			args = append(args, strings.Trim(a, "'"))
		}
		all = append(all, step{m[1], args})
	}
	return all
}

// guided runs the commands of a guide with machines that are folders and loopback
// addresses.
type guided struct {
	t    *testing.T
	dir  string
	net  string // 127.x.y, in the place of 10.0.0
	join string // what node add showed last
	// ports are those that stand for the guide's.
	ports map[string]string
}

// here is a path of a machine, as a folder of the test's.
func (g *guided) here(machine, path string) string { return filepath.Join(g.dir, machine, path) }

func (g *guided) run(s step) {
	g.t.Helper()
	machine := s.machine
	if s.args[0] == "ctl" {
		machine = "m1" // where the data folder is that it reads
	}
	var args []string
	for i, a := range s.args {
		a = strings.ReplaceAll(a, "10.0.0.", g.net+".")
		switch {
		case a == "JOIN":
			a = g.join
		case strings.HasPrefix(a, "/"), strings.HasPrefix(a, "./"):
			a = g.here(machine, a)
		case strings.HasPrefix(a, "sqlite:"):
			a = "sqlite:" + g.here(machine, strings.TrimPrefix(a, "sqlite:"))
		case i > 0 && s.args[i-1] == "--port":
			port := fmt.Sprint(freePorts(g.t, 1)[0])
			g.ports[a], a = port, port
		case i > 0 && s.args[i-1] == "--advertise-endpoint":
			host, port, _ := strings.Cut(a, ":")
			a = host + ":" + g.ports[port]
		}
		args = append(args, a)
	}
	switch s.args[0] {
	case "fleet":
		if s.args[1] == "bus" { // what it lies on its own machine
			args = append(args, "--at", g.here("m"+strings.TrimPrefix(s.args[3], "bus"), "/etc/voicefleet/bus"), "--store", g.here("m"+strings.TrimPrefix(s.args[3], "bus"), "/var/lib/voicefleet-bus"))
		}
		if out, err := exec.Command(binary(), args...).CombinedOutput(); err != nil {
			g.t.Fatalf("%v: %v: %s", args, err, out)
		}
		switch s.args[1] {
		case "init":
			g.carry(g.here("op", "./fleet"), g.here("m1", "/var/lib/voicefleet-central/fleet"))
		case "bus":
			machine := "m" + strings.TrimPrefix(s.args[3], "bus")
			g.carry(g.here("op", s.args[len(s.args)-1]), g.here(machine, "/etc/voicefleet/bus"))
		}
	case "ctl":
		out, err := exec.Command(binary(), args...).CombinedOutput()
		if err != nil {
			g.t.Fatalf("%v: %v: %s", args, err, out)
		}
		if m := regexp.MustCompile(`--join '([^']+)'`).FindSubmatch(out); m != nil {
			g.join = string(m[1])
		}
	case "bus":
		launch(g.t, args...).says(`bus is up for enrolled members: tls://` + regexp.QuoteMeta(g.net))
	case "central":
		launch(g.t, append(args, "--advertise", g.net+"."+s.machine[1:])...).says(`central is up`)
	case "text":
		launch(g.t, append(args, "--advertise", g.net+"."+s.machine[1:])...).says(`End +Ctrl-C`)
	case "edge":
		launch(g.t, append(args, "--workers", "1", "--media-port", fmt.Sprint(freeMedia(g.t, 1)), "--http", "", "--turn-port", "0", "--capacity-pps", "100000", "--advertise", "127.0.0.1", "--drain-time", "0")...).says(`edge \S+ is up`)
	default:
		g.t.Fatalf("the guide runs %v", s.args)
	}
}

// carry copies a folder, as the operator does.
func (g *guided) carry(from, to string) {
	g.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		g.t.Fatal(err)
	}
	files, err := os.ReadDir(to)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Chmod(filepath.Join(to, f.Name()), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestGuideToAFleet runs the page that takes an operator to a fleet of five.
func TestGuideToAFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers choose their leaders for seconds")
	}
	all := steps(t, "../../deploy/fleet.md", "## 3. The roles apart")
	if len(all) != 18 {
		t.Fatalf("the guide has %d commands", len(all))
	}
	pid := os.Getpid()
	g := &guided{t: t, dir: t.TempDir(), net: fmt.Sprintf("127.%d.%d", 1+pid>>8%200, pid%250), ports: map[string]string{}}
	for _, machine := range []string{"op", "m1", "m2", "m3", "m4", "m5"} {
		if err := os.MkdirAll(g.here(machine, "/var/lib"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := &running{process: &process{t: t}, data: g.here("m1", "/var/lib/voicefleet-central/data")}
	for _, s := range all {
		if strings.Join(s.args[max(0, len(s.args)-3):], " ") == "node revoke fra2" {
			r.nodeIs("fra1", "ready")
			r.nodeIs("fra2", "ready")
		}
		g.run(s)
	}
	r.nodeGone("fra2", 5*time.Second)
	r.nodeIs("fra1", "ready")
	var members []struct{ Role, Name, State string }
	if err := json.Unmarshal([]byte(ctlSays(t, r.data, "node", "list", "--json")), &members); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range members {
		list = append(list, m.Role+" "+m.Name+" "+m.State)
	}
	if got := strings.Join(list, ", "); got != "central central2 enrolled, edge fra1 enrolled, edge fra2 revoked, text text1 enrolled" {
		t.Errorf("members: %s", got)
	}
}
