package scenario

import (
	"slices"
	"strings"
)

// part is a field of a step that only some steps have.
type part struct {
	name string
	set  bool
}

// parts lists the fields of a step beside at, for, do and on.
func (f Step) parts() []part {
	return []part{
		{"direction", f.Direction != ""}, {"loss_percent", f.LossPercent != 0}, {"exact", f.Exact}, {"burst", f.Burst != 0},
		{"delay", f.Delay != 0}, {"jitter", f.Jitter != 0}, {"duplicate_percent", f.DuplicatePercent != 0},
		{"reorder_percent", f.ReorderPercent != 0}, {"clip_onset", f.ClipOnset != 0},
	}
}

// needs is the field that gives a verb of the network its measure.
var needs = map[Do]string{
	DoLoss: "loss_percent", DoDelay: "delay", DoJitter: "jitter",
	DoDuplicate: "duplicate_percent", DoReorder: "reorder_percent", DoClip: "clip_onset",
}

// targets are what a step may be done to.
func (d Do) targets() []string {
	switch {
	case d.Network():
		return words(OnMedia)
	case d == DoDrain:
		return words(OnNode)
	}
	return words(OnEngine, OnAgent, OnNode)
}

func (s *Scenario) checkFaults(p *problems) {
	for i, f := range s.Faults {
		path := element("faults", i)
		if !slices.Contains(f.Do.words(), string(f.Do)) {
			continue // told by its bounds
		}
		f.check(p, path)
		if s.Server.Kind == KindUp && (f.On == OnEngine || f.On == OnAgent) {
			p.add(path+".on", []string{"server.kind", path + ".do"}, "a server of kind up has no %s of its own, all is one process; set on: node, or server.kind: node", f.On)
		}
		from := []string{"duration", path + ".at"}
		switch {
		case f.At >= s.Duration:
			p.add(path+".at", from, "%v is after the end: the window lasts %v", f.At, s.Duration)
		case f.For > s.Duration-f.At:
			p.add(path+".for", from, "from %v for %v ends after the window of %v", f.At, f.For, s.Duration)
		}
		for k, e := range s.Faults[:i] {
			if f.meets(e) {
				p.add(path, []string{element("faults", k), "duration"}, "at the same time as %s, and done to the same; make it one step, or one after the other", element("faults", k))
			}
		}
	}
}

// check is what can be said of a step alone.
func (f Step) check(p *problems, path string) {
	from := []string{path + ".do"}
	if !slices.Contains(f.Do.targets(), string(f.On)) {
		p.add(path+".on", from, "%s cannot be done to %q, want %s", f.Do, f.On, list(f.Do.targets()))
	}
	switch {
	case f.Do == DoFreeze && f.For == 0:
		p.add(path+".for", from, "missing; say for how long it is frozen, as 2s")
	case (f.Do == DoKill || f.Do == DoDrain) && f.For != 0:
		p.add(path+".for", from, "%s happens once; remove for", f.Do)
	}
	need := needs[f.Do]
	for _, one := range f.parts() {
		at := path + "." + one.name
		switch {
		case one.name == need && !one.set:
			p.add(path, append(from, at), "do: %s wants %s", f.Do, need)
		case one.set && !f.Do.Network():
			p.add(at, from, "is of faults of the network, not of %s; remove it", f.Do)
		case one.set && f.Do == DoCut && one.name != "direction":
			p.add(at, from, "a cut lets nothing through; remove it")
		}
	}
	if !f.Do.Network() || f.Do == DoCut {
		return
	}
	if (f.Exact || f.Burst != 0) && f.LossPercent == 0 {
		p.add(path, append(from, path+".loss_percent", path+".burst"), "exact and burst are of loss; give loss_percent too")
	}
	if f.Exact && f.Burst != 0 {
		p.add(path+".burst", append(from, path+".exact"), "every n-th packet comes in no bursts; remove exact or burst")
	}
}

// meets says whether two steps are done to the same at the same time. A kill or
// drain is for good, but what is killed is started again.
func (f Step) meets(e Step) bool {
	if f.At > e.At {
		f, e = e, f // f begins first
	}
	switch {
	case f.Do == DoDrain && e.Do == DoDrain:
		return true
	case f.Do.Network() != e.Do.Network():
		return false
	case f.Do.Network() && f.Direction != DirectionBoth && e.Direction != DirectionBoth && f.Direction != e.Direction:
		return false
	case !f.Do.Network() && f.On != e.On && f.On != OnNode && e.On != OnNode:
		return false
	}
	return f.At == e.At || f.At+f.For > e.At
}

func (s *Scenario) checkGoals(p *problems) {
	type side struct {
		metric string
		least  bool
	}
	first := make(map[side]int)
	for i, g := range s.Goals {
		path := element("goals", i)
		metric := path + ".metric"
		if (g.AtMost == nil) == (g.AtLeast == nil) {
			p.add(path, []string{path + ".at_most", path + ".at_least"}, "wants at_most or at_least, one of them")
		}
		m, ok := MetricOf(g.Metric)
		if !ok {
			if g.Metric == "" {
				p.add(metric, nil, "missing; known metrics: %s", strings.Join(metricNames(), ", "))
				continue
			}
			hint := meant(g.Metric, metricNames())
			if strings.HasPrefix(hint, "want") {
				hint = "" // the list follows anyway
			}
			p.add(metric, nil, "no metric %q%s; known metrics: %s", short(g.Metric), strings.TrimRight(", "+hint, ", "), strings.Join(metricNames(), ", "))
			continue
		}
		key := side{g.Metric, g.AtLeast != nil}
		if k, twice := first[key]; twice {
			p.add(path, nil, "%s has this kind of bound in %s already; remove one", g.Metric, element("goals", k))
		}
		first[key] = i
		s.checkMetric(p, metric, m)
	}
}

// checkMetric refuses goals that nothing of this scenario can give a value.
func (s *Scenario) checkMetric(p *problems, path string, m Metric) {
	from := []string{"rooms", "server.slots"}
	if m.Judged {
		for i, r := range s.Rooms {
			if most := s.Server.Slots + 1; r.Talkers > most {
				p.add(path, append(from, element("rooms", i)+".talkers"), "%s cannot be judged: %s has %d talkers and who talks hears at most %d others, so who is heard depends on loudness; lower talkers, raise server.slots or remove the goal",
					m.Name, element("rooms", i), r.Talkers, s.Server.Slots)
			}
		}
	}
	pauses, faithful := false, 0
	for _, r := range s.Rooms {
		pauses = pauses || r.Talk.Pattern != TalkContinuous
		faithful += r.faithful()
	}
	if m.Pauses && !pauses {
		p.add(path, from, "%s is of spurts that begin in the window, and nobody pauses; take talk pattern p59 or remove the goal", m.Name)
	}
	if m.Faithful && faithful == 0 {
		p.add(path, from, "%s is measured by faithful bots, and there are none; set faithful in a room or remove the goal", m.Name)
	}
	if m.Gap && pauses {
		for _, f := range s.Faults {
			if f.Do == DoKill || f.Do == DoFreeze || f.Do == DoCut {
				p.add(path, append(from, "faults"), "a gap of a %s cannot be told from a pause; take talk pattern continuous or remove the goal", f.Do)
				return
			}
		}
	}
}
