package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"voicefleet/bench/fleet"
)

// TestDemo drives a demo by its input, as where there is no terminal: its links answer,
// each of its keys does what it says to a node, after which all its bots hear again, and
// it ends when told to.
func TestDemo(t *testing.T) {
	t.Parallel() // it mostly waits
	voicebench, voicefleet := build(t)
	cmd := exec.CommandContext(t.Context(), voicebench, "fleet", "demo", "--program", voicefleet, "--calls", "3", "--members", "4")
	keys, err1 := cmd.StdinPipe()
	said, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() { // ends with the program
		defer close(lines)
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
	}()
	deadline := time.After(4 * time.Minute)
	var heard []string
	says := func(pattern string) []string {
		t.Helper()
		for {
			select {
			case line, more := <-lines:
				heard = append(heard, line)
				if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
					return m
				}
				if !more {
					t.Fatalf("it ended without %q:\n%s", pattern, strings.Join(heard, "\n"))
				}
			case <-deadline:
				t.Fatalf("it does not say %q:\n%s", pattern, strings.Join(heard, "\n"))
			}
		}
	}
	page := says(`Talk +(http://localhost:\S+/invite/\S+)`)[1]
	console := says(`Console +(http://localhost:\S+/fleet#token=\S+)`)[1]
	for _, link := range []string{page, console} {
		r, err := http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("<html")) {
			t.Errorf("%s: status %s, %v", link, r.Status, err)
		}
	}
	says(`^12 listeners, 0 of them hear nothing`)
	for _, key := range []string{"xk", "f", "d", "u"} { // x does nothing
		deed := deeds[key[len(key)-1]]
		if _, err := io.WriteString(keys, key); err != nil {
			t.Fatal(err)
		}
		node := says(`^` + string(deed) + ` (edge\d) \.\.\.$`)[1]
		// Gaps are for the fleet's own test, on a machine that does nothing else.
		if m := says(`  ` + string(deed) + ` ` + node + `: audible gap median \S+ s, worst \S+ s \(listener \d+\), (\d+) of (\d+) hear again$`); m[1] != m[2] {
			t.Errorf("after %q: %s", key, m[0])
		}
	}
	if _, err := io.WriteString(keys, "q"); err != nil {
		t.Fatal(err)
	}
	for range lines { // until it has ended
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestDisplay paints a picture over the one before.
func TestDisplay(t *testing.T) {
	var out bytes.Buffer
	d := &display{out: &out, terminal: true}
	p := fleet.Picture{Nodes: []fleet.NodeState{{Node: "edge1", State: "ready", Calls: 2, Listeners: 10}}, Listeners: 30, Quiet: 3, Busy: "kill edge2"}
	d.show(p)
	first := out.String()
	for _, want := range []string{"edge1   ready   2       10\r\n", "30 listeners, 3 of them hear nothing right now; kill edge2 ...\r\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q lacks %q", first, want)
		}
	}
	out.Reset()
	p.Busy = ""
	p.Done = []fleet.Done{{Number: 1, Deed: fleet.Kill, Node: "edge2", Listeners: 10, Recovered: 9, Median: 600 * time.Millisecond, Worst: 800 * time.Millisecond, Listener: 7},
		{Number: 2, Deed: fleet.Upgrade, Node: "edge1", Err: errors.New("no such\nthing\x1b[2J")}}
	d.show(p)
	second := out.String()
	for _, want := range []string{"\r\x1b[4A\x1b[J", "kill edge2: audible gap median 0.600 s, worst 0.800 s (listener 7), 9 of 10 hear again\r\n", "upgrade edge1: no such thing[2J\r\n"} {
		if !strings.Contains(second, want) {
			t.Errorf("%q lacks %q", second, want)
		}
	}

	// As lines each deed is told once, also when the list has moved on.
	out.Reset()
	d = &display{out: &out}
	d.show(p)
	d.show(p)
	p.Done = p.Done[1:]
	p.Done = append(p.Done, fleet.Done{Number: 3, Deed: fleet.Drain, Node: "edge3"})
	d.show(p)
	text := out.String()
	for _, want := range []string{"kill edge2", "upgrade edge1", "drain edge3"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is told %d times in\n%s", want, strings.Count(text, want), text)
		}
	}
}
