package keeper

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"voicefleet/edgeagent"
)

// A transcript is a stretch of the life of a fleet, seen by one Watch that ticks
// every 50 ms. Lines at the margin are what happens, indented lines what Watch says
// about it, with the time since the last line at the margin:
//
//	nodes N            there are N nodes more, named by letters; each beats every
//	                   second at a time of its own, and answers after 10 ms
//	+DURATION          time passes
//	kill NODE...       it says and answers nothing more, and its connection closes
//	orphan NODE...     it says nothing more and its connection closes, it answers
//	leak NODE N        it answers the check after N that are lost
//	freeze NODE...     it says and answers nothing more
//	mute NODE...       its heartbeats do not come any more, it answers
//	deafen NODE...     it beats and does not answer
//	revive NODE...     it beats and answers again, at once
//	straggle NODE      a heartbeat comes that it wrote before its connection closed
//	silence NODE N/OF  clients report
//	doubt NODE N/OF    they report less of it
//	bus away|back
//	stall DURATION     the observer stands still; what came meanwhile comes at once
//
// With -update the indented lines are written anew.
var update = flag.Bool("update", false, "write the transcripts anew")

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				g, w := strings.Split(got, "\n"), strings.Split(string(text), "\n")
				for i := range g {
					if i >= len(w) || g[i] != w[i] {
						t.Fatalf("line %d:\n got %s\nwant %s", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
					}
				}
				t.Fatalf("the transcript goes on at line %d: %s", len(g), w[len(g)])
			}
		})
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// step is how often the players tick.
const step = 50 * time.Millisecond

type actor struct {
	id             edgeagent.NodeID
	next           time.Time // heartbeat
	beats, answers bool
	drops          int // checks before one that is answered
	told           edgeagent.Load
	closed         time.Time
}

type player struct {
	t      *testing.T
	w      Watch
	now    time.Time
	mark   time.Time // the last line at the margin
	actors []*actor
	due    []answer
	got    strings.Builder
	stalls bool
	away   bool
	leaky  edgeagent.NodeID
}

type answer struct {
	at   time.Time
	node edgeagent.NodeID
	Answer
}

func (p *player) actor(id string) *actor {
	for _, a := range p.actors {
		if string(a.id) == id {
			return a
		}
	}
	p.t.Fatalf("no node %q", id)
	return nil
}

func (p *player) say(vs []Verdict) {
	for _, v := range vs {
		if v.Ask {
			a := p.actor(string(v.Node))
			wait := 10 * time.Millisecond
			if !a.answers {
				wait = AskTime
			}
			p.due = append(p.due, answer{p.now.Add(wait), v.Node, Answer{Came: a.answers, Lost: a.drops}})
		}
		if v.Deed == "" {
			continue
		}
		serves := ""
		if v.Serves {
			serves = " (its media engine serves)"
		}
		fmt.Fprintf(&p.got, "\t%.2f %s %s: %s%s\n", p.now.Sub(p.mark).Seconds(), v.Deed, v.Node, v.Why, serves)
	}
}

func (p *player) beat(a *actor, written time.Time) []Verdict {
	return p.w.Beat(p.now, edgeagent.Heartbeat{Node: a.id, State: edgeagent.Ready, Load: a.told}, written, nil)
}

func (p *player) pass(d time.Duration) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(10 * time.Millisecond)
		due := p.due
		p.due = nil
		for _, x := range due {
			if x.at.After(p.now) {
				p.due = append(p.due, x)
			} else {
				p.say(p.w.Answered(p.now, x.node, x.Answer, nil))
			}
		}
		for _, a := range p.actors {
			if !p.now.Before(a.next) {
				a.next = a.next.Add(edgeagent.HeartbeatInterval)
				if a.beats && !p.stalls && !p.away {
					p.say(p.beat(a, p.now))
				}
			}
		}
		if !p.stalls && p.now.Sub(start)%step == 0 {
			p.say(p.w.Tick(p.now, nil))
			p.saw(p.w.Leaky(p.now))
		}
	}
}

// saw notes a node that begins to be leaky.
func (p *player) saw(id edgeagent.NodeID, share float64) {
	if share == 0 {
		id = ""
	}
	if id != p.leaky && id != "" {
		fmt.Fprintf(&p.got, "\t%.2f leaky %s: %.0f %%\n", p.now.Sub(p.mark).Seconds(), id, 100*share)
	}
	p.leaky = id
}

func play(t *testing.T, text string) string {
	p := &player{t: t, now: start, mark: start}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "\t") {
			continue
		}
		p.got.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		p.mark = p.now
		p.do(strings.Fields(line))
	}
	return p.got.String()
}

func (p *player) do(words []string) {
	verb, args := words[0], words[1:]
	switch {
	case verb[0] == '+':
		p.pass(p.duration(verb[1:]))
	case verb == "nodes":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			p.t.Fatal(err)
		}
		for i := range n {
			// 370 ms apart, so that no two beat together.
			phase := time.Duration(i*370%1000) * time.Millisecond
			p.actors = append(p.actors, &actor{id: edgeagent.NodeID('a' + rune(len(p.actors))), next: p.now.Add(phase), beats: true, answers: true})
		}
		p.pass(5 * time.Second)
	case verb == "silence", verb == "doubt":
		s := edgeagent.Silence{Node: edgeagent.NodeID(args[0])}
		count := &s.Silent
		if verb == "doubt" {
			count = &s.Doubt
		}
		if _, err := fmt.Sscanf(args[1], "%d/%d", count, &s.Of); err != nil {
			p.t.Fatal(err)
		}
		p.say(p.w.Silence(p.now, s, nil))
	case verb == "leak":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			p.t.Fatal(err)
		}
		p.actor(args[0]).drops = n
	case verb == "tell":
		loss, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			p.t.Fatal(err)
		}
		p.actor(args[0]).told = edgeagent.Load{Loss: loss, Sessions: 10}
	case verb == "bus":
		p.away = args[0] == "away"
		p.w.Bus(p.now, p.away)
	case verb == "stall":
		p.stalls = true
		p.pass(p.duration(args[0]))
		p.stalls = false
		p.say(p.w.Tick(p.now, nil))
	default:
		for _, id := range args {
			p.node(verb, p.actor(id))
		}
	}
}

func (p *player) node(verb string, a *actor) {
	switch verb {
	case "kill":
		a.beats, a.answers, a.closed = false, false, p.now
		p.say(p.w.Closed(p.now, a.id, p.now, nil))
	case "orphan":
		a.beats, a.closed = false, p.now
		p.say(p.w.Closed(p.now, a.id, p.now, nil))
	case "freeze":
		a.beats, a.answers = false, false
	case "mute":
		a.beats, a.answers = false, true
	case "deafen":
		a.beats, a.answers = true, false
	case "revive":
		a.beats, a.answers, a.next = true, true, p.now.Add(edgeagent.HeartbeatInterval)
		p.say(p.beat(a, p.now))
	case "straggle":
		p.say(p.beat(a, a.closed.Add(-time.Millisecond)))
	default:
		p.t.Fatalf("unknown verb %q", verb)
	}
}

func (p *player) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// FuzzWatch: whatever comes, a node is lost only while it does not answer, or was
// held for long, and nothing is said of nodes that are not there.
func FuzzWatch(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 40, 41, 42, 43, 60, 61})
	f.Fuzz(func(t *testing.T, deeds []byte) {
		var w Watch
		now := start
		known := map[edgeagent.NodeID]bool{}
		check := func(vs []Verdict) {
			for _, v := range vs {
				if !known[v.Node] {
					t.Fatalf("verdict on a node that is not there: %+v", v)
				}
				if v.Deed != "" && v.Why == "" {
					t.Fatalf("verdict without a reason: %+v", v)
				}
			}
		}
		for _, b := range deeds {
			id := edgeagent.NodeID('a' + rune(b&7))
			switch b >> 3 & 7 {
			case 0, 1:
				known[id] = true
				check(w.Beat(now, edgeagent.Heartbeat{Node: id, State: edgeagent.Ready}, now, nil))
			case 2:
				check(w.Closed(now, id, now, nil))
			case 3:
				check(w.Silence(now, edgeagent.Silence{Node: id, Silent: int(b>>6) - 1, Doubt: int(b>>7) - 1, Of: int(b >> 6)}, nil))
			case 4:
				check(w.Answered(now, id, Answer{Came: b>>6&1 == 0, Lost: int(b >> 7)}, nil))
			case 5:
				check(w.Expired(now, id, false, nil))
			case 6:
				w.Bus(now, b>>6&1 == 0)
			case 7:
				now = now.Add(time.Duration(b>>6) * 400 * time.Millisecond)
				check(w.Tick(now, nil))
				if id, share := w.Leaky(now); share > 0 && (!known[id] || share < leakShare || share > 1) {
					t.Fatalf("%q is leaky: %v", id, share)
				}
			}
		}
	})
}
