package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	// Its tests, and those of the packages that it is made of, are run by TestSuites.
	_ "github.com/diamondburned/arikawa/v3/session/shard"
)

// suite is what the authors of a stock library test it by, against the server that it
// is for: one package, unmodified.
type suite struct {
	pkg string
	// without are the tests that are left out, and why.
	without map[string]string
}

// suites are all of the two libraries that speak to a server, but arikawa's package voice:
// it knows only the protocol "udp" with xsalsa20_poly1305, which nodes do not speak
// (signaling/protocol.md).
var suites = []suite{
	{"github.com/bwmarrin/discordgo", map[string]string{
		"TestScheduledEvents":        "guilds have no scheduled events here",
		"TestComplexScheduledEvents": "guilds have no scheduled events here",
		"TestRatelimitReset":         "asks no server, and judges times that a busy machine does not keep",
		"TestRatelimitGlobal":        "asks no server, and judges times that a busy machine does not keep",
	}},
	{"github.com/diamondburned/arikawa/v3/api", nil},
	{"github.com/diamondburned/arikawa/v3/gateway", nil},
	{"github.com/diamondburned/arikawa/v3/session", map[string]string{
		"TestSessionConnect": "two of its goroutines hear of READY, one cancels what the other still opens: which is first is chance, with any server",
	}},
	{"github.com/diamondburned/arikawa/v3/session/shard", nil},
}

// TestSuites holds the server to the tests that stock libraries have of their own, over
// TLS: those of a bot, and with discordgo those of the person who owns the guild. They are
// compiled as they are, but for the address. They wait a lot (clients may begin a session
// every 5 s), so that they take as long as the longest, 21 s.
func TestSuites(t *testing.T) {
	t.Parallel()
	h := startUp(t, "")
	s := newScript(t, h, "Parrot")
	base, bin := fmt.Sprintf("https://localhost:%d", h.port), t.TempDir()
	build := []string{"test", "-c", "-vet=off", "-o", bin + "/", "-ldflags",
		"-s -X github.com/bwmarrin/discordgo.EndpointDiscord=" + base + "/ -X github.com/diamondburned/arikawa/v3/api.BaseEndpoint=" + base}
	for _, x := range suites {
		build = append(build, x.pkg)
	}
	if out, err := exec.CommandContext(t.Context(), "go", build...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", build, err, out)
	}
	env := append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(h.data, "ca.pem"),
		"BOT_TOKEN="+s.bot.Token, "CHANNEL_ID="+s.channel, "VOICE_ID="+s.voice, "SHARD_COUNT=2",
		"DGB_TOKEN=Bot "+s.bot.Token, "DGU_TOKEN="+s.owner, "DG_GUILD="+s.guild, "DG_CHANNEL="+s.channel, "DG_VOICE_CHANNEL="+s.voice, "DG_ADMIN="+s.adaID)

	var all sync.WaitGroup
	runs := make([]suiteRun, len(suites))
	for i, x := range suites {
		all.Go(func() { runs[i] = x.run(t, filepath.Join(bin, filepath.Base(x.pkg)+".test"), env) })
	}
	all.Wait()
	sum := 0
	for i, x := range suites {
		passed, problems := x.judge(runs[i])
		for _, p := range problems {
			t.Errorf("%s: %s", x.pkg, p)
		}
		if len(problems) > 0 {
			t.Logf("%s said:\n%s", x.pkg, regexp.MustCompile(`(?m)^`).ReplaceAllString(runs[i].said, "| "))
		}
		t.Logf("%s: %d tests passed, %d left out, %v", x.pkg, passed, len(x.without), runs[i].took.Round(time.Millisecond))
		sum += passed
	}
	t.Logf("%d tests of stock libraries passed", sum)
}

// suiteRun is what a suite listed and said, and how it ended.
type suiteRun struct {
	listed, said string
	err          error
	took         time.Duration
}

func (x suite) run(t *testing.T, bin string, env []string) (r suiteRun) {
	call := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir, cmd.Env = t.TempDir(), env
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil && r.err == nil {
			r.err = err
		}
		return said.String()
	}
	begun := time.Now()
	r.listed = call("-test.list", "^Test")
	skip := "^(" + strings.Join(slices.Sorted(maps.Keys(x.without)), "|") + ")$"
	r.said = call("-test.v", "-test.timeout", "3m", "-test.skip", skip)
	r.took = time.Since(begun)
	return r
}

var suiteVerdict = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+) \(`)

// judge counts the tests of a run that passed, those within others aside. A problem is
// each that did not, that was skipped or not begun, or that is left out and not there.
func (x suite) judge(r suiteRun) (passed int, problems []string) {
	verdicts := make(map[string]string)
	for _, m := range suiteVerdict.FindAllStringSubmatch(r.said, -1) {
		verdicts[m[2]] = m[1]
	}
	var listed []string
	for name := range strings.Lines(r.listed) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "Test") {
			listed = append(listed, name)
		}
	}
	for name := range x.without {
		if !slices.Contains(listed, name) {
			problems = append(problems, name+" is left out, and is no test")
		}
	}
	for _, name := range listed {
		switch _, out := x.without[name]; {
		case verdicts[name] == "" && !out:
			problems = append(problems, name+" came to no end")
		case verdicts[name] == "PASS":
			passed++
		}
	}
	for name, v := range verdicts {
		if v != "PASS" {
			problems = append(problems, name+": "+v)
		}
	}
	switch {
	case r.err != nil:
		problems = append(problems, "it ended with "+r.err.Error())
	case passed == 0:
		problems = append(problems, "no test passed")
	}
	slices.Sort(problems)
	return passed, problems
}

// TestSuiteIsJudged: whatever a suite says but that all passed is a problem.
func TestSuiteIsJudged(t *testing.T) {
	x := suite{without: map[string]string{"TestC": "it has its reason"}}
	const listed, passed = "Init.\nTestA\nTestB\nTestC\n", "--- PASS: TestA (0.00s)\n    --- PASS: TestA/one (0.00s)\n"
	for _, c := range []struct {
		listed, said string
		err          error
		passed       int
		problems     string
	}{
		{listed, passed + "--- PASS: TestB (0.00s)\nPASS\n", nil, 2, ""},
		{listed, passed + "--- FAIL: TestB (0.00s)\nFAIL\n", os.ErrInvalid, 1, "TestB: FAIL|it ended with invalid argument"},
		{listed, passed + "--- SKIP: TestB (0.00s)\nPASS\n", nil, 1, "TestB: SKIP"},
		{listed, passed + "    --- SKIP: TestA/two (0.00s)\n--- PASS: TestB (0.00s)\n", nil, 2, "TestA/two: SKIP"},
		{listed, passed + "=== RUN   TestB\npanic: oh\n", os.ErrInvalid, 1, "TestB came to no end|it ended with invalid argument"},
		{"TestA\n", passed, nil, 1, "TestC is left out, and is no test"},
		{"TestC\n", "PASS\n", nil, 0, "no test passed"},
	} {
		passed, problems := x.judge(suiteRun{listed: c.listed, said: c.said, err: c.err})
		if got := strings.Join(problems, "|"); passed != c.passed || got != c.problems {
			t.Errorf("%q: %d passed, problems %q, want %d, %q", c.said, passed, got, c.passed, c.problems)
		}
	}
}
