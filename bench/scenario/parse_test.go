package scenario

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// minimal is the least a scenario needs.
const minimal = "name: evening\nrooms:\n  - count: 10\n    members: 8\nduration: 30s\n"

func TestDefaults(t *testing.T) {
	got, err := Parse("evening.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{
		Name: "evening", Seed: 1,
		Server:      Server{Kind: KindNode, Workers: 1, Slots: 16, SilenceGate: true},
		Rooms:       []Rooms{{Count: 10, Members: 8, Talkers: 1, Bots: BotsLight, Talk: Talk{Pattern: TalkContinuous, Bytes: 100}}},
		Join:        Join{Arrival: ArrivalAtOnce, When: WhenBefore},
		Warmup:      2 * time.Second,
		Duration:    30 * time.Second,
		SampleEvery: 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	built := New("evening", Rooms{Count: 10, Members: 8})
	built.Duration = 30 * time.Second
	if err := built.Check(); err != nil || !reflect.DeepEqual(built, want) {
		t.Errorf("built %+v, %v", built, err)
	}
}

func TestDefaultsThatDepend(t *testing.T) {
	s, err := Parse("", []byte("name: x\nrooms: [{members: 102, faithful: 2, talk: {pattern: p59}}]\nduration: 10s\nchurn: {rate: 1}\n"+
		"faults: [{at: 1s, do: kill}, {at: 2s, do: drain}, {at: 3s, do: delay, delay: 5ms}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.SampleEvery != 16 || s.Rooms[0].Check != 1 || s.Churn.Who != WhoListeners {
		t.Errorf("%+v", s)
	}
	if f := s.Faults; f[0].On != OnEngine || f[1].On != OnNode || f[2].On != OnMedia || f[2].Direction != DirectionBoth || f[2].For != 7*time.Second || f[0].For != 0 {
		t.Errorf("%+v", f)
	}
	s, err = Parse("", []byte("name: x\nserver: {kind: up}\nrooms: [{members: 2}]\nfaults: [{at: 1s, do: kill}]\n"))
	if err != nil || s.Faults[0].On != OnNode {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestProblems is every message, with its place. Each case stands behind a name
// and a room, on line 3, unless it has its own.
func TestProblems(t *testing.T) {
	const head = "name: x\nrooms: [{members: 8}]\n"
	for _, c := range []struct{ yaml, want string }{
		{head + "durations: 3s", `3:1: durations: no such field, did you mean duration?`},
		{head + "colour: red", `3:1: colour: no such field, want name, about, seed, server, rooms, join, churn, warmup, duration, sample_every, faults or goals`},
		{head + "seed: 1\nseed: 2", `4:1: seed: written twice, first on line 3; remove one`},
		{head + "seed: 0", `3:1: seed: 0, want 1 to 18446744073709551615`},
		{head + "seed: 0x10", `3:7: seed: the number 0x10, want a whole number without a unit`},
		{head + "seed: 017", `3:7: seed: the number 017, want a whole number without a unit`},
		{head + "warmup: 3", `3:9: warmup: the number 3, want a duration with its unit, as 20s, 500ms or 1h30m`},
		{head + "warmup: 3 s", `3:9: warmup: the text "3 s", want a duration, as 20s, 500ms or 1h30m`},
		{head + "duration: 25h", `3:1: duration: 25h0m0s, want 1s to 24h`},
		{head + "duration:", `3:1: duration: nothing, want a duration with its unit, as 20s, 500ms or 1h30m`},
		{head + "server: node", `3:9: server: the text "node", want a group of fields, as kind: ...`},
		{head + "server:\n  kind: Node", `4:9: server.kind: "Node" is not known, did you mean node?`},
		{head + "server: {silence_gate: 1}", `3:24: server.silence_gate: the number 1, want true or false`},
		{head + "server: {workers: 1.5}", `3:19: server.workers: the number 1.5, want a whole number without a unit`},
		{head + "server: {slots: 33}", `3:10: server.slots: 33, want 1 to 32`},
		{head + "goals: {metric: mos}", `3:9: goals: a group of fields, want a list, each entry after a dash`},
		{head + "goals: [mos]", `3:9: goals[0]: the text "mos", want a group of fields, as metric: ...`},
		{head + "goals: [{metric: loss, at_most: 1}]", `3:10: goals[0].metric: no metric "loss"; known metrics: ` + strings.Join(metricNames(), ", ")},
		{head + "goals: [{metric: moss, at_most: 1}]", `3:10: goals[0].metric: no metric "moss", did you mean mos?; known metrics: ` + strings.Join(metricNames(), ", ")},
		{head + "goals: [{at_most: 1}]", `3:10: goals[0].metric: missing; known metrics: ` + strings.Join(metricNames(), ", ")},
		{head + "goals: [{metric: mos}]", `3:10: goals[0]: wants at_most or at_least, one of them`},
		{head + "goals: [{metric: mos, at_least: 4, at_most: 4}]", `3:10: goals[0]: wants at_most or at_least, one of them`},
		{head + "goals: [{metric: mos, at_least: .inf}]", `3:33: goals[0].at_least: the number .inf, want a number without a unit`},
		{head + "goals: [{metric: mos, at_least: 4}, {metric: mos, at_least: 3}]", `3:38: goals[1]: mos has this kind of bound in goals[0] already; remove one`},
		{head + "goals: [{metric: clipped_percent, at_most: 1}]", `3:10: goals[0].metric: clipped_percent is of spurts that begin in the window, and nobody pauses; take talk pattern p59 or remove the goal`},
		{head + "goals: [{metric: voice_score, at_least: 1}]", `3:10: goals[0].metric: voice_score is measured by faithful bots, and there are none; set faithful in a room or remove the goal`},
		{head + "faults: [{at: 1s, do: loss, loss_percent: 5 %}]", `3:43: faults[0].loss_percent: the text "5 %", want a number without a unit, in percent, as 0.1`},
		{head + "faults: [{at: 1s, do: loss, delay: 1s}]", `3:11: faults[0]: do: loss wants loss_percent`},
		{head + "faults: [{at: 1s}]", `3:11: faults[0].do: missing, want kill, freeze, drain, cut, loss, delay, jitter, duplicate, reorder or clip`},
		{head + "faults: [{at: 20s, do: kill}]", `3:11: faults[0].at: 20s is after the end: the window lasts 20s`},
		{head + "faults: [{at: 19s, for: 2s, do: cut}]", `3:20: faults[0].for: from 19s for 2s ends after the window of 20s`},
		{head + "faults: [{at: 1s, for: 0s, do: cut}]", `3:19: faults[0].for: 0s, want 1ms to 24h`},
		{head + "faults: [{at: 1s, do: freeze}]", `3:11: faults[0].for: missing; say for how long it is frozen, as 2s`},
		{head + "faults: [{at: 1s, for: 1s, do: kill}]", `3:19: faults[0].for: kill happens once; remove for`},
		{head + "faults: [{at: 1s, do: kill, on: media}]", `3:29: faults[0].on: kill cannot be done to "media", want engine, agent or node`},
		{head + "faults: [{at: 1s, do: cut, on: node}]", `3:28: faults[0].on: cut cannot be done to "node", want media`},
		{head + "faults: [{at: 1s, do: kill, direction: up}]", `3:29: faults[0].direction: is of faults of the network, not of kill; remove it`},
		{head + "faults: [{at: 1s, do: cut, delay: 1s}]", `3:28: faults[0].delay: a cut lets nothing through; remove it`},
		{head + "faults: [{at: 1s, do: delay, delay: 1s, exact: true}]", `3:11: faults[0]: exact and burst are of loss; give loss_percent too`},
		{head + "faults: [{at: 1s, do: loss, loss_percent: 1, burst: 3, exact: true}]", `3:46: faults[0].burst: every n-th packet comes in no bursts; remove exact or burst`},
		{head + "faults: [{at: 1s, do: cut}, {at: 2s, do: delay, delay: 1s}]", `3:30: faults[1]: at the same time as faults[0], and done to the same; make it one step, or one after the other`},
		{head + "faults: [{at: 5s, for: 3s, do: freeze}, {at: 2s, for: 4s, do: freeze, on: node}]", `3:42: faults[1]: at the same time as faults[0], and done to the same; make it one step, or one after the other`},
		{head + "server: {kind: up}\nfaults: [{at: 1s, do: kill, on: engine}]", `4:29: faults[0].on: a server of kind up has no engine of its own, all is one process; set on: node, or server.kind: node`},
		{head + "join: {rate: 3}", `3:8: join.rate: arrival at-once has no rate; take ramp or poisson`},
		{head + "join: {over: 3s}", `3:8: join.over: arrival at-once takes no time; take ramp`},
		{head + "join: {arrival: ramp}", `3:8: join.arrival: ramp wants rate or over, one of them`},
		{head + "join: {arrival: poisson}", `3:8: join.arrival: poisson wants a rate, in arrivals per second`},
		{head + "join: {arrival: poisson, rate: 1, over: 3s}", `3:35: join.over: poisson arrivals have a rate, not an end; remove it`},
		{head + "join: {arrival: ramp, rate: 0}", `3:23: join.rate: 0, want 0.01 to 5000`},
		{head + "join: {arrival: ramp, rate: 0.1, when: within}", `3:34: join.when: 7 listeners need 1m10s to come, longer than the duration of 20s; raise rate or duration`},
		{head + "churn: {}", `3:1: churn: wants rate or stay, one of them`},
		{head + "churn: {rate: 1, stay: 10s}", `3:1: churn: wants rate or stay, one of them`},
		{head + "churn: {rate: 1000}\nduration: 1m", `3:1: churn: 60008 members would come in all, want at most 20000; lower the rate, lengthen the stay or shorten the duration`},
		{head + "about: \"a\\tb\"", `3:1: about: holds characters that cannot be printed; remove them`},
		{head + "about: 7", `3:8: about: the number 7, want text; put it in quotes`},
		{"rooms: [{members: 8}]", `1:1: name: missing; give the scenario a name of a-z 0-9 -`},
		{"name: Ünder\nrooms: [{members: 8}]", `1:1: name: "Ünder", want 1 to 64 of a-z 0-9 -, no dash first`},
		{"name: x", `1:1: rooms: missing; want a list with the members of each room`},
		{"name: x\nrooms:\n  - count: 2", `3:5: rooms[0].members: missing, want 2 to 20000`},
		{"name: x\nrooms: [{members: eight, talkers: 9}]", `2:19: rooms[0].members: the text "eight", want a whole number without a unit`},
		{"name: x\nrooms: [{members: 8, talkers: 9}]", `2:22: rooms[0].talkers: 9 talkers among 8 members; want at most as many as members`},
		{"name: x\nrooms: [{members: 8, talkers: 0}]", `2:22: rooms[0].talkers: 0, want 1 to 20000`},
		{"name: x\nrooms: [{members: 8, faithful: 9}]", `2:22: rooms[0].faithful: 9 of 8 members; want at most as many as members`},
		{"name: x\nrooms: [{members: 8, faithful: 2, check: 0}]", `2:35: rooms[0].check: 0, want 1 to 10000`},
		{"name: x\nrooms: [{members: 8, check: 1}]", `2:22: rooms[0].check: without faithful; say how many members of these rooms are faithful bots`},
		{"name: x\nrooms: [{members: 8, faithful: 1, check: 2}]", `2:35: rooms[0].check: 2 of 1 rooms; want at most as many as rooms`},
		{"name: x\nrooms: [{members: 8, faithful: 1, bots: faithful}]", `2:22: rooms[0].faithful: all members are faithful bots already; remove faithful or bots`},
		{"name: x\nrooms: [{members: 501, bots: faithful}]", `2:1: rooms: 501 faithful bots, want at most 500; take light ones for load`},
		{"name: x\nrooms: [{members: 8, talk: {silence: true}}]", `2:29: rooms[0].talk.silence: a continuous talker has no pauses; remove it or take pattern p59`},
		{"name: x\nrooms: [{members: 8, talk: {pattern: p59-two-way}}]", `2:29: rooms[0].talk.pattern: p59-two-way is of 2 talkers, not 1; take p59`},
		{"name: x\nrooms: [{members: 8, talk: {bytes: 79}}]", `2:29: rooms[0].talk.bytes: 79, want 80 to 1200`},
		{"name: x\nrooms: [{members: 2, talkers: 2}]\njoin: {when: within}", `3:8: join.when: talkers are in before the window, and there is nobody else to come within it`},
		{"name: x\nrooms: [{members: 2, talkers: 2}]\nchurn: {rate: 1}", `3:1: churn: all members talk, and only listeners leave; set who: all`},
		{"name: x\nrooms: [{members: 2, talkers: 2, talk: {pattern: p59-two-way}}]\nchurn: {rate: 1, who: all}", `3:18: churn.who: a two-way conversation has no place for a third; take pattern p59 for rooms[0]`},
		{"name: x\nrooms: [{count: 10000, members: 20000}]", `2:1: rooms: more than 20000 members in all rooms; want at most that`},
		{"name: x\nrooms: [{count: 1000, members: 2, talkers: 2, talk: {pattern: p59}}]\nduration: 24h", `3:1: duration: 67 million spurts to plan, want at most 20 million; shorten it, or have fewer talkers or continuous ones`},
		{"name: x\nrooms: [{members: 20, talkers: 18}]\ngoals: [{metric: mos, at_least: 4}]", `3:10: goals[0].metric: mos cannot be judged: rooms[0] has 18 talkers and who talks hears at most 16 others, so who is heard depends on loudness; lower talkers, raise server.slots or remove the goal`},
		{"name: x\nrooms: [{members: 3, talk: {pattern: p59}}]\nfaults: [{at: 1s, for: 1s, do: cut}]\ngoals: [{metric: gap_worst_ms, at_most: 1}]", `4:10: goals[0].metric: a gap of a cut cannot be told from a pause; take talk pattern continuous or remove the goal`},
		{"", `1:1: empty; a scenario has at least a name and rooms`},
		{"# nothing\n", `1:1: empty; a scenario has at least a name and rooms`},
		{"just text", `1:1: want fields as name: value, not the text "just text"`},
		{head + "---\n" + head, `4:1: a second document; put each scenario in a file of its own`},
		{"name: &a x\nabout: *a\n", `1:7: anchors, aliases and merges are not read; write it out`},
		{"name: !!str x", `1:7: tags and directives are not read; remove it`},
		{"? name\n: x", `1:1: a key in the long form (?) is not read; write key: value`},
		{"name: [[[[[[[[[[", `1:15: nested deeper than 8`},
		{"name: x\n- - - - - - - - - - x", `2:17: nested deeper than 8`},
		{"name: x\xff", `1:1: not UTF-8; save it as UTF-8`},
		{"name: x\nabout: \x01", `2:8: control character '\x01'; remove it`},
	} {
		_, err := Parse("x.yaml", []byte(c.yaml))
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%q: %v", c.yaml, err)
			continue
		}
		if got := problems.Error(); got != "x.yaml:"+c.want {
			t.Errorf("%q\ngot  %s\nwant %s", c.yaml, got, "x.yaml:"+c.want)
		}
	}
}

// TestAllProblems holds that one file's problems are told together, in its order,
// and that one mistake is told once.
func TestAllProblems(t *testing.T) {
	_, err := Parse("x.yaml", []byte(`name: x
rooms:
  - membrs: 8
    members: 8
    bots: lite
  - 7
server:
  slots: 99
faults:
  - {at: 25s, do: kill, on: engin}
  - {at: 3s, do: los}
duration: 10s
`))
	want := strings.Join([]string{
		`x.yaml:3:5: rooms[0].membrs: no such field, did you mean members?`,
		`x.yaml:5:11: rooms[0].bots: "lite" is not known, want light or faithful`,
		`x.yaml:6:5: rooms[1]: the number 7, want a group of fields, as count: ...`,
		`x.yaml:8:3: server.slots: 99, want 1 to 32`,
		`x.yaml:10:6: faults[0].at: 25s is after the end: the window lasts 10s`,
		`x.yaml:10:29: faults[0].on: "engin" is not known, did you mean engine?`,
		`x.yaml:11:18: faults[1].do: "los" is not known, did you mean loss?`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = Parse("x.yaml", []byte(strings.Repeat("x: 1\n", 90)))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems+1 || !strings.Contains(problems[maxProblems].Text, "more") {
		t.Errorf("%d problems of 90 and what is missing", len(problems))
	}
}

// TestSyntax holds that what is no YAML has a place too.
func TestSyntax(t *testing.T) {
	for _, bad := range []string{"name: x\nrooms: [", "name: \"x", "name: x\n bad: y\n", "a: b: c", "name: x\n\trooms: 1"} {
		_, err := Parse("x.yaml", []byte(bad))
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Line < 1 || !strings.HasPrefix(problems[0].Text, "not YAML: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestCheckWithoutFile holds that what was built from flags is told by field.
func TestCheckWithoutFile(t *testing.T) {
	s := Call("call", 5, 9, BotsFaithful, Talk{Pattern: TalkP59, Silence: true})
	if s.Server.Kind != KindUp || !s.Server.SilenceGate {
		t.Errorf("%+v", s.Server)
	}
	s.Goals = []Goal{AtMost("loss_percent", 0.1), AtLeast("voices", 1), {}}
	s.Server.Slots = -1
	s.Join.Arrival = "soon"
	want := strings.Join([]string{
		`server.slots: -1, want 1 to 32`,
		`join.arrival: "soon" is not known, want at-once, ramp or poisson`,
		`rooms[0].talkers: 9 talkers among 5 members; want at most as many as members`,
		`goals[1].metric: no metric "voices"; known metrics: ` + strings.Join(metricNames(), ", "),
		`goals[2]: wants at_most or at_least, one of them`,
	}, "\n")
	if err := s.Check(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	s = Call("call", 5, 2, BotsFaithful, Talk{Pattern: TalkP59, Silence: true})
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// TestHostileInput holds that input made to be slow or deep is refused or read in
// little time and stack.
func TestHostileInput(t *testing.T) {
	const n = MaxBytes - 64
	for name, body := range map[string]string{
		"brackets":   strings.Repeat("[", n),
		"braces":     strings.Repeat("{", n),
		"dashes":     strings.Repeat("- ", n/2),
		"questions":  strings.Repeat("? ", n/2),
		"colons":     strings.Repeat("a:\n", n/3),
		"spaces":     strings.Repeat(" ", n),
		"entries":    "rooms:\n" + strings.Repeat(" - {}\n", n/6-2),
		"one string": "about: \"" + strings.Repeat("x", n) + "\"",
		"many lines": "about: |\n" + strings.Repeat("  x\n", n/4-4),
		"stairs":     stairs(n),
		"aliases":    "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
		"too long":   strings.Repeat("#", MaxBytes+1),
	} {
		begun := time.Now()
		if _, err := Parse("", []byte(body)); err == nil {
			t.Errorf("%s: taken", name)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// stairs is blocks within blocks.
func stairs(most int) string {
	b := &strings.Builder{}
	for i := 0; b.Len()+i < most; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestIdentity(t *testing.T) {
	for _, text := range []string{
		minimal,
		"name: x\nabout: |\n  He said \"no\" \\ twice:\n    # not a comment\n\n  Grüße, 日本 🎙\nseed: 18446744073709551615\nrooms: [{members: 3, talkers: 3, talk: {pattern: p59}}]\nchurn: {stay: 1h30m, who: all}\nwarmup: 1m0.5s\n",
		"name: \"123\"\nrooms: [{members: 2}]\njoin: {arrival: ramp, rate: 0.01}\ngoals: [{metric: mos, at_least: 0}, {metric: mos, at_most: -0.000001}]\n",
		"name: x\r\nrooms:\r\n  - members: 2\r\nfaults: [{at: 0s, do: clip, clip_onset: 100ms, loss_percent: 1, exact: true, direction: down, for: 1.0001ms}]\r\n",
	} {
		first, err := Parse("", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		again, err := Parse("", first.YAML())
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Errorf("%q: wrote\n%s\nread %+v, %v\nwant %+v", text, first.YAML(), again, err, first)
		}
		checked := *again
		if err := checked.Check(); err != nil || !reflect.DeepEqual(&checked, first) {
			t.Errorf("%q: checked again it is %+v, %v", text, checked, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		source, _ := Source(name)
		f.Add(source)
	}
	f.Add([]byte(minimal))
	f.Add([]byte("name: x\nrooms: [{members: 2}]\nfaults: [{at: 1s, do: cut}, {do: loss}]\ngoals: [{metric: mos}]\nabout: >-\n  a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f.yaml", data)
		var problems Problems
		if err != nil {
			if !errors.As(err, &problems) || problems[0].Line < 1 || problems[0].Column < 1 || problems[0].Text == "" {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		again, err := Parse("f.yaml", s.YAML())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v was written\n%s\nand read %+v, %v", s, s.YAML(), again, err)
		}
		// Long plans are TestPlan's; here each must only be possible.
		if s.Users() <= 100 && s.Duration <= time.Minute && s.leaves() <= 10 {
			if p := s.Plan(); p.Totals.Users != s.Users() || len(p.Members) < p.Totals.Users {
				t.Fatalf("%d users, planned %+v", s.Users(), p.Totals)
			}
		}
	})
}
