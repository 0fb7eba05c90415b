package keeper

import (
	"math/rand/v2"
	"testing"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
)

// TestLossIsNoDeath: at 30 % loss each way between three nodes and everybody else no
// node is taken for lost, though the one client of each has nobody to hear but the
// answers to its checks, and heartbeats wait for TCP to send them again. Hours in
// virtual time.
func TestLossIsNoDeath(t *testing.T) {
	const (
		loss   = 0.3
		beat   = 100 * time.Millisecond // of a client's watch
		checks = 12                     // of a question
	)
	hours := 5
	if raceDetector {
		hours = 1
	}
	draw := rand.New(rand.NewPCG(1, 3))
	dropped := func() bool { return draw.Float64() < loss }
	var (
		w       Watch
		now     = start
		queue   = map[time.Time][]func() []Verdict{}
		asked   int
		suspect int
		say     func(vs []Verdict)
	)
	after := func(d time.Duration, do func() []Verdict) { queue[now.Add(d)] = append(queue[now.Add(d)], do) }
	say = func(vs []Verdict) {
		for _, v := range vs {
			switch v.Deed {
			case allocator.DeedSuspect:
				suspect++
			case allocator.DeedLost:
				t.Errorf("after %v: lost %s: %s", now.Sub(start), v.Node, v.Why)
			}
			if !v.Ask {
				continue
			}
			asked++
			a, wait := Answer{}, AskTime
			for lost := range checks {
				if there, back := !dropped(), !dropped(); there && back && !a.Came {
					a, wait = Answer{Came: true, Lost: lost}, 10*time.Millisecond
				}
			}
			after(wait, func() []Verdict { return w.Answered(now, v.Node, a, nil) })
		}
	}
	type node struct {
		id          edgeagent.NodeID
		beats       time.Time // when the last heartbeat comes
		heard, told time.Time // by its client
	}
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, &node{id: edgeagent.NodeID('a' + rune(i)), beats: now, heard: now, told: now})
	}
	for end := now.Add(time.Duration(hours) * time.Hour); now.Before(end) && !t.Failed(); now = now.Add(step / 5) {
		for _, do := range queue[now] {
			say(do())
		}
		delete(queue, now)
		for i, n := range nodes {
			at := now.Sub(start) + time.Duration(i)*370*time.Millisecond
			if at%edgeagent.HeartbeatInterval == 0 {
				wait := 10 * time.Millisecond
				for again := 200 * time.Millisecond; dropped(); again *= 2 { // RFC 6298
					wait += again
				}
				if n.beats = now.Add(wait).Truncate(step / 5); !n.beats.After(now) {
					n.beats = now.Add(step / 5)
				}
				after(n.beats.Sub(now), func() []Verdict {
					return w.Beat(now, edgeagent.Heartbeat{Node: n.id, State: edgeagent.Ready}, now, nil)
				})
			}
			if at%beat != 0 {
				continue
			}
			quiet := now.Sub(n.heard)
			if quiet >= 300*time.Millisecond && !dropped() && !dropped() {
				n.heard, quiet = now, 0
			}
			if quiet < 600*time.Millisecond || quiet%(400*time.Millisecond) > beat {
				continue
			}
			s := edgeagent.Silence{Node: n.id, Of: 1}
			if quiet >= time.Second {
				s.Silent = 1
			} else {
				s.Doubt = 1
			}
			say(w.Silence(now, s, nil))
		}
		if now.Sub(start)%step == 0 {
			say(w.Tick(now, nil))
		}
	}
	t.Logf("in %d h %d questions and %d suspicions", hours, asked, suspect)
	if suspect < 10*hours {
		t.Errorf("%d suspicions: too little happened", suspect)
	}
}
