package gate

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/sfu/internal/rtpwire"
)

// TestTranscript plays testdata/gate.txt: lines of "ms  event → verdict", where
// an event is "dtx", "mute" (a packet of a muted speaker), "tick", or a level
// with a V in front if that bit is set ("-" for none).
func TestTranscript(t *testing.T) {
	f, err := os.Open("testdata/gate.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var g Gate
	voice := make([]byte, 80)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		w := strings.Fields(text)
		if len(w) == 0 {
			continue
		}
		if w[0] == "new" {
			g = Gate{}
			continue
		}
		ms, err := strconv.Atoi(w[0])
		if err != nil || len(w) != 4 {
			t.Fatalf("line %d: %q", n, text)
		}
		now := time.Duration(ms) * time.Millisecond
		got := ""
		switch w[1] {
		case "tick":
			g.Lapse(now)
			got = "nothing"
			if g.Overdue(now) {
				got = "fade"
			}
		case "mute":
			got = name(g.Muted(now))
		case "dtx":
			got = name(g.Packet(now, voice[:3], rtpwire.NoLevel))
		case "-":
			got = name(g.Packet(now, voice, rtpwire.NoLevel))
		default:
			level, err := strconv.Atoi(strings.TrimPrefix(w[1], "V"))
			if err != nil {
				t.Fatalf("line %d: %q", n, text)
			}
			if w[1][0] == 'V' {
				level |= rtpwire.Voice
			}
			got = name(g.Packet(now, voice, uint8(level)))
		}
		if g.Open() {
			got += "/open"
		}
		if got != w[3] {
			t.Errorf("line %d: %s: got %s", n, text, got)
		}
	}
}

func name(v Verdict) string { return [...]string{"hold", "keep", "forward", "fade"}[v] }
