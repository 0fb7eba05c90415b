package crowd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat/textchattest"
)

// TestMain is also the harness's child processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && IsRole(os.Args[1]) {
		if err := RunRole(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestRun runs all parts, small, against the real server.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a program")
	}
	name := filepath.Join(t.TempDir(), "voicefleet")
	cmd := exec.Command("go", "build", "-o", name, "voicefleet/cmd/voicefleet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Config{Self: []string{self}, Program: name, Seed: 3, Guild: 30, Messages: 20, Window: time.Second, Rounds: 1,
		Sizes: []Size{{40, time.Minute}, {90, time.Minute}}, PerHall: 30, Profile: "quick", Rate: 500, FanOuts: 2, Settle: time.Millisecond, LookUps: 10, LookUpSlack: 1e4,
		MaxMemory: 1 << 20, MaxLast: time.Minute, MaxRatio: 1e6, MaxResumed: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.Partial, textchattest.ErrNoJava.Error()) {
		t.Skip(r.Partial)
	}
	for _, g := range r.Goals {
		// 600 writes are less than a tick of CPU time.
		if !g.Met() && !strings.Contains(g.Name, "raw write loop") {
			t.Errorf("%v", g)
		}
	}
	if r.Partial != "" || len(r.Goals) < 20 {
		t.Errorf("%q, %d goals", r.Partial, len(r.Goals))
	}
	for title, rows := range map[string]int{"The servers": 3, "Arrivals": 3, "A guild of 30": 3, "CPU": 3, "Memory": 1, "One message": 2, "Resume storm": 1, "Look-ups": 3} {
		found := 0
		for _, table := range r.Tables {
			if strings.HasPrefix(table.Title, title) {
				found = len(table.Rows)
			}
		}
		if found != rows {
			t.Errorf("table %q has %d rows", title, found)
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{PerHall: 1 << 30}, "limit of open files"},
		{Config{Scale: -1}, "scale"},
		{Config{Sizes: []Size{{20, 0}, {10, 0}}}, "rising"},
		{Config{Sizes: []Size{{MaxSessions, 0}}, Scale: 2}, "rising"},
		{Config{Guild: 1 << 30}, "yardstick"},
		{Config{Window: time.Millisecond}, "windows"},
		{Config{Profile: "slow"}, "profile"},
	} {
		if err := c.config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	c := Config{Scale: 0.01}
	if err := c.Validate(); err != nil || c.Sizes[1].Sessions != 1000 || c.Guild != 10 {
		t.Errorf("%v: %+v", err, c)
	}
	if s := SizesOf([]int{5, 20_001, 1 << 20}); s[0].Within != Sizes[0].Within || s[1].Within != Sizes[1].Within || s[2].Within != Sizes[2].Within {
		t.Errorf("%+v", s)
	}
}

// TestDeal: every hall gets its share, and the sessions of an account are not all at one.
func TestDeal(t *testing.T) {
	var tokens []string
	for i := range 60 {
		tokens = append(tokens, fmt.Sprint(i/perAccount))
	}
	dealt := deal([]int{20, 10, 0, 0}, tokens)
	for i, want := range []int{3, 13, 22, 22} {
		if got := len(dealt[i]); got != want && got != want-1 {
			t.Errorf("hall %d is dealt %d, want %d", i, got, want)
		}
	}
	halls := 0
	for _, d := range dealt {
		if slices.Contains(d, "3") {
			halls++
		}
	}
	if halls != len(dealt) {
		t.Errorf("the sessions of an account are spread over %d halls, want %d", halls, len(dealt))
	}
}

func TestKeyspaceAt(t *testing.T) {
	for at, want := range map[string]string{
		"127.0.0.1:19042":           "cql://127.0.0.1:19042/k",
		"cql://h1,h2":               "cql://h1,h2/k",
		"cql://u:p@h/any?tls=on":    "cql://u:p@h/k?tls=on",
		"cql://h?timeout=5s&tls=on": "cql://h/k?timeout=5s&tls=on",
	} {
		if got := keyspaceAt(at, "k"); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}
