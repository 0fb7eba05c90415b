package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// documents reads all YAML documents of a file.
func documents(t *testing.T, file string) []map[string]any {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []map[string]any
	for d := yaml.NewDecoder(f); ; {
		var doc map[string]any
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, doc)
	}
}

// at goes down a path of keys and list indexes.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// TestManifests holds the Kubernetes manifests to each other: what is expected is
// there, everything is in one namespace, and every selector, volume and probe names
// something.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../deploy/kubernetes/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("manifests %v, error %v", files, err)
	}
	found := map[string]map[string]any{}
	for _, file := range files {
		for _, doc := range documents(t, file) {
			kind, _ := doc["kind"].(string)
			name, _ := at(t, doc, "metadata", "name").(string)
			if doc["apiVersion"] == nil || kind == "" || name == "" || at(t, doc, "metadata", "namespace") != "voicefleet" {
				t.Errorf("%s: %s %s wants apiVersion, kind, name and the namespace", file, kind, name)
			}
			if found[kind+" "+name] != nil {
				t.Errorf("%s: a second %s %s", file, kind, name)
			}
			found[kind+" "+name] = doc
		}
	}
	for _, want := range []struct {
		what  string
		path  []any
		value any
	}{
		{"StatefulSet bus", []any{"spec", "replicas"}, uint64(3)},
		{"StatefulSet scylla", []any{"spec", "replicas"}, uint64(3)},
		{"Deployment central-0", []any{"spec", "replicas"}, uint64(1)},
		{"Deployment central-1", []any{"spec", "replicas"}, uint64(1)},
		{"StatefulSet text", []any{"spec", "replicas"}, uint64(2)},
		{"StatefulSet text", []any{"spec", "updateStrategy", "type"}, "RollingUpdate"},
		{"StatefulSet text", []any{"spec", "podManagementPolicy"}, "OrderedReady"},
		{"StatefulSet text", []any{"spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "path"}, "/readyz"},
		{"PersistentVolumeClaim files", []any{"spec", "accessModes", 0}, "ReadWriteMany"},
		{"PodDisruptionBudget text", []any{"spec", "minAvailable"}, uint64(1)},
		{"Service text", []any{"spec", "type"}, "LoadBalancer"},
		{"DaemonSet edge", []any{"spec", "template", "spec", "hostNetwork"}, true},
		{"DaemonSet edge", []any{"spec", "template", "spec", "terminationGracePeriodSeconds"}, uint64(660)},
		{"DaemonSet edge", []any{"spec", "updateStrategy", "rollingUpdate", "maxUnavailable"}, uint64(1)},
		{"PodDisruptionBudget bus", []any{"spec", "maxUnavailable"}, uint64(1)},
		{"PodDisruptionBudget central", []any{"spec", "minAvailable"}, uint64(1)},
		{"PodDisruptionBudget scylla", []any{"spec", "maxUnavailable"}, uint64(1)},
		{"Service bus", []any{"spec", "clusterIP"}, "None"},
	} {
		if got := at(t, found[want.what], want.path...); got != want.value {
			t.Errorf("%s: %v is %v (%T), want %v", want.what, want.path, got, got, want.value)
		}
	}
	// Each text has a number of its own, and all have their attachments in one place.
	text := at(t, found["StatefulSet text"], "spec", "template", "spec", "containers", 0)
	if env := at(t, text, "env", 0); at(t, env, "name") != "NUMBER" || at(t, env, "valueFrom", "fieldRef", "fieldPath") != "metadata.labels['apps.kubernetes.io/pod-index']" {
		t.Errorf("the number of a text is %v", env)
	}
	if args := fmt.Sprint(at(t, text, "args")); !strings.Contains(args, "--worker $(NUMBER) --identity /identity/$(NUMBER) ") {
		t.Errorf("text is run with %s", args)
	}
	shared := map[any]any{}
	mounts, _ := at(t, text, "volumeMounts").([]any)
	for _, m := range mounts {
		if at(t, m, "name") == "files" {
			shared[at(t, m, "mountPath")] = at(t, m, "subPath")
		}
	}
	if len(shared) != 2 || shared["/data/attachments"] != "attachments" || shared["/data/acme"] != "acme" {
		t.Errorf("both text have %v", shared)
	}
	labels := map[string]bool{} // app names that pods have
	for what, doc := range found {
		if app, ok := at(t, doc, "spec", "template", "metadata", "labels", "app").(string); ok {
			labels[app] = true
			if got := at(t, doc, "spec", "selector", "matchLabels", "app"); got != app {
				t.Errorf("%s selects %v, its pods are %s", what, got, app)
			}
			checkPod(t, what, doc)
		}
	}
	for what, doc := range found {
		selector := at(t, doc, "spec", "selector", "app")
		if strings.HasPrefix(what, "PodDisruptionBudget ") {
			selector = at(t, doc, "spec", "selector", "matchLabels", "app")
		} else if !strings.HasPrefix(what, "Service ") {
			continue
		}
		if app, _ := selector.(string); !labels[app] {
			t.Errorf("%s selects the pods of %v, and there are none", what, selector)
		}
	}
}

// checkPod holds the volumes of a pod against their mounts.
func checkPod(t *testing.T, what string, doc map[string]any) {
	t.Helper()
	volumes := map[string]bool{}
	note := func(list any) {
		l, _ := list.([]any)
		for _, v := range l {
			name, ok := at(t, v, "name").(string)
			if !ok {
				name, _ = at(t, v, "metadata", "name").(string)
			}
			volumes[name] = false
		}
	}
	note(at(t, doc, "spec", "template", "spec", "volumes"))
	note(at(t, doc, "spec", "volumeClaimTemplates"))
	for _, kind := range []string{"initContainers", "containers"} {
		l, _ := at(t, doc, "spec", "template", "spec", kind).([]any)
		if kind == "containers" && len(l) != 1 {
			t.Errorf("%s has %d containers", what, len(l))
		}
		for _, c := range l {
			if at(t, c, "image") == nil {
				t.Errorf("%s: a container without an image", what)
			}
			mounts, _ := at(t, c, "volumeMounts").([]any)
			for _, m := range mounts {
				name, _ := at(t, m, "name").(string)
				if _, ok := volumes[name]; !ok {
					t.Errorf("%s mounts %q, which is no volume", what, name)
				}
				volumes[name] = true
			}
		}
	}
	for name, used := range volumes {
		if !used {
			t.Errorf("%s: volume %q is not mounted", what, name)
		}
	}
}

// TestCompose holds the compose file to itself.
func TestCompose(t *testing.T) {
	docs := documents(t, "../deploy/compose.yml")
	if len(docs) != 1 {
		t.Fatalf("%d documents", len(docs))
	}
	services, _ := docs[0]["services"].(map[string]any)
	volumes, _ := docs[0]["volumes"].(map[string]any)
	all := []string{"bus1", "bus2", "bus3", "scylla", "central1", "central2", "text1", "text2", "edge1", "edge2"}
	if len(services) != len(all)+1 || at(t, services, "proxy", "image") == nil {
		t.Errorf("%d services, want %v and the proxy", len(services), all)
	}
	holders := map[string]int{} // of a volume, or of what no two may have
	for _, name := range all {
		s := services[name]
		command, _ := at(t, s, "command").(string)
		if at(t, s, "image") == nil || command == "" {
			t.Errorf("service %s is %v", name, s)
		}
		mounts, _ := at(t, s, "volumes").([]any)
		for _, m := range mounts {
			volume, to, _ := strings.Cut(m.(string), ":")
			if _, ok := volumes[volume]; !ok {
				t.Errorf("service %s mounts %s, which is no volume", name, volume)
			}
			holders[volume]++
			if (volume == "files") != (to == "/data/attachments") {
				t.Errorf("service %s has %s at %s", name, volume, to)
			}
		}
		flags := strings.Fields(command)
		for i, flag := range flags[:len(flags)-1] {
			switch flag {
			case "--worker", "--node", "--media-port", "--turn-port", "--http", "--advertise-endpoint":
				if own := flag + " " + flags[i+1]; holders[own] > 0 {
					t.Errorf("service %s has %s, as another has", name, own)
				} else {
					holders[own]++
				}
			}
		}
	}
	for volume := range volumes {
		if want := map[bool]int{true: 2, false: 1}[volume == "files"]; holders[volume] != want && volume != "caddy" {
			t.Errorf("volume %s is mounted %d times, want %d", volume, holders[volume], want)
		}
	}
	for _, edge := range []string{"edge1", "edge2"} {
		if at(t, services, edge, "network_mode") != "host" || at(t, services, edge, "stop_grace_period") != "50s" {
			t.Errorf("%s is not on the host's network, or has no time to drain", edge)
		}
	}
	proxied, err := os.ReadFile("../deploy/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"reverse_proxy text1:8443 text2:8443 {", "health_uri /readyz"} {
		if !strings.Contains(string(proxied), line) {
			t.Errorf("the proxy has no %q", line)
		}
	}
	subnet, _ := at(t, docs[0], "networks", "fleet", "ipam", "config", 0, "subnet").(string)
	for _, text := range []string{"text1", "text2"} {
		if command, _ := at(t, services, text, "command").(string); subnet == "" || !strings.HasSuffix(command, " --trusted-proxy "+subnet) {
			t.Errorf("%s does not believe what the proxy at %q says of clients", text, subnet)
		}
		if at(t, services, text, "ports") != nil {
			t.Errorf("%s is reached past the proxy", text)
		}
	}
}

// TestUnits: every role has one, an edge's engine outlives its agent and has the time
// to drain.
func TestUnits(t *testing.T) {
	for role, want := range map[string][]string{
		"up": nil, "bus": {"--config /etc/voicefleet/bus/nats-server.conf"}, "central": {"DynamicUser=yes"}, "text": {"DynamicUser=yes"},
		"edge": {"KillMode=process", "Restart=always", "TimeoutStopSec=50"},
	} {
		body, err := os.ReadFile("../deploy/voicefleet-" + role + ".service")
		if err != nil {
			t.Error(err)
			continue
		}
		for _, line := range append(want, "ExecStart=/usr/local/bin/voicefleet "+role, "[Install]", "ProtectSystem=strict") {
			if !strings.Contains(string(body), line) {
				t.Errorf("voicefleet-%s.service has no %s", role, line)
			}
		}
	}
}

// TestFailures: what a step of deploy/test.sh says of its failures is what the failed
// tests said, whatever others said meanwhile.
func TestFailures(t *testing.T) {
	var long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&long, "    l_test.go:%d: line\n", i)
	}
	log := `=== RUN   TestA
=== PAUSE TestA
=== RUN   TestB
=== PAUSE TestB
=== CONT  TestA
    a_test.go:10: the reason
        in two lines
=== RUN   TestA/sub
=== CONT  TestB
    b_test.go:5: of no interest
noise of a program
=== NAME  TestA
    helper.go:11: and a log
=== NAME  TestA/sub
    a_test.go:20: of the sub
--- PASS: TestB (0.10s)
--- FAIL: TestA (0.20s)
    --- FAIL: TestA/sub (0.10s)
    --- PASS: TestA/other (0.10s)
=== RUN   TestLong
` + long.String() + `--- FAIL: TestLong (0.00s)
FAIL
FAIL	voicefleet/a	1.234s
=== RUN   TestA
    a_test.go:10: another package's
--- PASS: TestA (0.00s)
ok  	voicefleet/b	0.100s
=== RUN   TestHangs
    c_test.go:1: the last it said
=== RUN   TestPanics
panic: boom

goroutine 7 [running]:
` + strings.Repeat("\t/x/c_test.go:3 +0x1d\n", 40) + `FAIL	voicefleet/c	0.100s
--- FAIL: TestTerse (0.00s)
    d_test.go:9: after its verdict
        and more
FAIL	voicefleet/d	0.100s
d.go:3:4: undefined: x
`
	awk := exec.Command("awk", "-f", "../deploy/failures.awk")
	awk.Stdin = strings.NewReader(log)
	got, err := awk.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	lines := strings.SplitAfter(long.String(), "\n")
	want := `    a_test.go:10: the reason
        in two lines
    helper.go:11: and a log
--- FAIL: TestA (0.20s)
    a_test.go:20: of the sub
    --- FAIL: TestA/sub (0.10s)
` + strings.Join(lines[:5], "") + "    ... 10 lines ...\n" + strings.Join(lines[15:], "") + `--- FAIL: TestLong (0.00s)
FAIL	voicefleet/a	1.234s
panic: boom

goroutine 7 [running]:
` + strings.Repeat("\t/x/c_test.go:3 +0x1d\n", 17) + `    c_test.go:1: the last it said
--- not ended: TestHangs
FAIL	voicefleet/c	0.100s
--- FAIL: TestTerse (0.00s)
    d_test.go:9: after its verdict
        and more
FAIL	voicefleet/d	0.100s
d.go:3:4: undefined: x
`
	if string(got) != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
}
