package scenario

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxMembers bounds who comes in a run, and so what a plan may cost.
	maxMembers = 20000
	// maxFaithful bounds faithful bots: each costs some 2 MiB and 1 % of a core.
	maxFaithful = 500
	// maxEntries bounds each list.
	maxEntries = 100
	// maxAbout bounds what a scenario says of itself, in bytes.
	maxAbout = 2000
	// maxSpurts bounds the spurts of a plan, 8 bytes each.
	maxSpurts = 20e6
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// place is a line and a column, from 1.
type place struct{ line, column int }

// problems collects what is wrong, each at the place its field was read from.
type problems struct {
	file   string
	places map[string]place // of what was written, by path
	bad    map[string]bool  // paths that have a problem
	list   Problems
	more   int
}

func newProblems(file string) *problems {
	return &problems{file: file, places: make(map[string]place), bad: make(map[string]bool)}
}

// written says whether a field was in the file.
func (p *problems) written(path string) bool {
	_, ok := p.places[path]
	return ok
}

// addAt adds a problem at a place.
func (p *problems) addAt(at place, path, format string, args ...any) {
	p.bad[path] = true
	p.put(at, path, format, args...)
}

func (p *problems) put(at place, path, format string, args ...any) {
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, Problem{File: p.file, Line: at.line, Column: at.column, Field: path, Text: fmt.Sprintf(format, args...)})
}

// broken says whether a path, or what it is in, has a problem already.
func (p *problems) broken(path string) bool {
	for {
		if p.bad[path] {
			return true
		}
		if path == "" {
			return false
		}
		path = parent(path)
	}
}

// add adds a problem of a field that also follows from others, unless one of them
// has a problem already: one mistake is told once.
func (p *problems) add(path string, from []string, format string, args ...any) {
	for _, f := range append(from, path) {
		if p.broken(f) {
			return
		}
	}
	at, near := place{}, path
	for {
		if found, ok := p.places[near]; ok {
			at = found
			break
		}
		if near == "" {
			if p.file != "" {
				at = place{1, 1}
			}
			break
		}
		near = parent(near)
	}
	p.addAt(at, path, format, args...)
}

// err is what was found, in the order of the file.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	sorted := append(Problems(nil), p.list...)
	sortProblems(sorted)
	if p.more > 0 {
		sorted = append(sorted, Problem{File: p.file, Text: fmt.Sprintf("and %d more", p.more)})
	}
	return sorted
}

// Check fills the zero fields with their defaults and says what is wrong, as
// Problems without lines.
func (s *Scenario) Check() error {
	s.fill(func(string) bool { return false })
	p := newProblems("")
	s.check(p)
	return p.err()
}

// check finds what is wrong with a scenario whose defaults are filled.
func (s *Scenario) check(p *problems) {
	boundsOf(p, "", reflect.ValueOf(s).Elem())
	s.checkText(p)
	s.checkRooms(p)
	s.checkJoin(p)
	s.checkChurn(p)
	s.checkFaults(p)
	s.checkGoals(p)
	s.checkSize(p)
}

// boundsOf checks the bounds tags of all fields, and that words are known.
func boundsOf(p *problems, path string, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		inner := f.name
		if path != "" {
			inner = path + "." + f.name
		}
		v := v.Field(f.index)
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				continue
			}
			v = v.Elem()
		} else if f.optional && v.IsZero() && !p.written(inner) {
			continue
		}
		switch v.Kind() {
		case reflect.Struct:
			boundsOf(p, inner, v)
		case reflect.Slice:
			if v.Len() > maxEntries {
				p.add(inner, nil, "%d entries, want at most %d", v.Len(), maxEntries)
				continue
			}
			for i := range v.Len() {
				boundsOf(p, element(inner, i), v.Index(i))
			}
		case reflect.String:
			if w, ok := v.Interface().(word); ok && !slices.Contains(w.words(), v.String()) {
				if v.String() == "" {
					p.add(inner, nil, "missing, want %s", list(w.words()))
				} else {
					p.add(inner, nil, "%q is not known, %s", short(v.String()), meant(v.String(), w.words()))
				}
			}
		default:
			boundOf(p, inner, v, f.bounds, p.written(inner))
		}
	}
}

// boundOf checks one number or duration.
func boundOf(p *problems, path string, v reflect.Value, bounds string, written bool) {
	least, most, ok := strings.Cut(bounds, "..")
	if !ok {
		return
	}
	outside := false
	switch {
	case v.Type() == durationType:
		low, _ := time.ParseDuration(least)
		high, _ := time.ParseDuration(most)
		d := time.Duration(v.Int())
		outside = d < low || d > high
	case v.CanInt():
		low, _ := strconv.ParseInt(least, 10, 64)
		high, _ := strconv.ParseInt(most, 10, 64)
		outside = v.Int() < low || v.Int() > high
	case v.CanUint():
		low, _ := strconv.ParseUint(least, 10, 64)
		high, _ := strconv.ParseUint(most, 10, 64)
		outside = v.Uint() < low || v.Uint() > high
	default:
		low, _ := strconv.ParseFloat(least, 64)
		high, _ := strconv.ParseFloat(most, 64)
		outside = !(v.Float() >= low && v.Float() <= high) // so that NaN is outside
	}
	switch {
	case outside && v.IsZero() && !written:
		p.add(path, nil, "missing, want %s to %s", least, most)
	case outside:
		p.add(path, nil, "%v, want %s to %s", v.Interface(), least, most)
	}
}

func (s *Scenario) checkText(p *problems) {
	switch {
	case s.Name == "":
		p.add("name", nil, "missing; give the scenario a name of a-z 0-9 -")
	case !nameForm.MatchString(s.Name):
		p.add("name", nil, "%q, want 1 to 64 of a-z 0-9 -, no dash first", short(s.Name))
	}
	if len(s.About) > maxAbout {
		p.add("about", nil, "%d bytes, want at most %d", len(s.About), maxAbout)
	}
	if !utf8.ValidString(s.About) || strings.ContainsFunc(s.About, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }) {
		p.add("about", nil, "holds characters that cannot be printed; remove them")
	}
	if strings.TrimSpace(s.About) != s.About {
		p.add("about", nil, "has spaces around it; remove them")
	}
}

func (s *Scenario) checkRooms(p *problems) {
	if len(s.Rooms) == 0 {
		p.add("rooms", nil, "missing; want a list with the members of each room")
	}
	faithful := 0
	for i, r := range s.Rooms {
		path := element("rooms", i)
		members := []string{path + ".members"}
		if r.Talkers > r.Members {
			p.add(path+".talkers", members, "%d talkers among %d members; want at most as many as members", r.Talkers, r.Members)
		}
		if r.Faithful > r.Members {
			p.add(path+".faithful", members, "%d of %d members; want at most as many as members", r.Faithful, r.Members)
		}
		if r.Check > r.Count {
			p.add(path+".check", []string{path + ".count"}, "%d of %d rooms; want at most as many as rooms", r.Check, r.Count)
		}
		if r.Check > 0 && r.Faithful == 0 {
			p.add(path+".check", []string{path + ".faithful"}, "without faithful; say how many members of these rooms are faithful bots")
		}
		if r.Bots == BotsFaithful && r.Faithful > 0 {
			p.add(path+".faithful", []string{path + ".bots"}, "all members are faithful bots already; remove faithful or bots")
		}
		switch r.Talk.Pattern {
		case TalkContinuous:
			if r.Talk.Silence {
				p.add(path+".talk.silence", []string{path + ".talk.pattern"}, "a continuous talker has no pauses; remove it or take pattern p59")
			}
		case TalkTwoWay:
			if r.Talkers != 2 {
				p.add(path+".talk.pattern", []string{path + ".talkers"}, "p59-two-way is of 2 talkers, not %d; take p59", r.Talkers)
			}
		}
		faithful += min(max(r.faithful(), 0), maxMembers)
	}
	if faithful > maxFaithful {
		p.add("rooms", nil, "%d faithful bots, want at most %d; take light ones for load", faithful, maxFaithful)
	}
}

// faithful is how many faithful bots the rooms have.
func (r Rooms) faithful() int {
	if r.Bots == BotsFaithful {
		return min(max(r.Count, 0), maxMembers) * min(max(r.Members, 0), maxMembers)
	}
	return min(max(r.Check, 0), maxMembers) * min(max(r.Faithful, 0), maxMembers)
}

// silent is how many members of all rooms only listen.
func (s *Scenario) silent() int {
	n := 0
	for _, r := range s.Rooms {
		n += min(max(r.Count, 0), maxMembers) * min(max(r.Members-r.Talkers, 0), maxMembers)
	}
	return min(n, maxMembers)
}

func (s *Scenario) checkJoin(p *problems) {
	j := s.Join
	from := []string{"join.arrival", "join.rate", "join.over"}
	switch j.Arrival {
	case ArrivalAtOnce:
		if j.Rate != 0 {
			p.add("join.rate", from, "arrival at-once has no rate; take ramp or poisson")
		}
		if j.Over != 0 {
			p.add("join.over", from, "arrival at-once takes no time; take ramp")
		}
	case ArrivalRamp:
		if (j.Rate == 0) == (j.Over == 0) {
			p.add("join.arrival", from, "ramp wants rate or over, one of them")
		}
	case ArrivalPoisson:
		if j.Rate == 0 {
			p.add("join.arrival", from, "poisson wants a rate, in arrivals per second")
		}
		if j.Over != 0 {
			p.add("join.over", from, "poisson arrivals have a rate, not an end; remove it")
		}
	}
	from = append(from, "rooms", "duration", "join.when")
	if j.When == WhenWithin && s.silent() == 0 {
		p.add("join.when", from, "talkers are in before the window, and there is nobody else to come within it")
		return
	}
	if took := s.arrivals(); j.When == WhenWithin && took > s.Duration {
		p.add("join.when", from, "%d listeners need %v to come, longer than the duration of %v; raise rate or duration", s.silent(), took.Round(100*time.Millisecond), s.Duration)
	}
	if took := s.arrivals(); took > 24*time.Hour {
		p.add("join.rate", from, "the last would come after %v, want at most 24h; raise it", took.Round(time.Minute))
	}
}

// arrivals is how long the arrivals take; of a Poisson process the time that 30
// of 31,000 exceed four standard deviations of.
func (s *Scenario) arrivals() time.Duration {
	n := float64(s.Users())
	if s.Join.When == WhenWithin {
		n = float64(s.silent())
	}
	switch {
	case s.Join.Over > 0:
		return s.Join.Over
	case s.Join.Rate <= 0 || s.Join.Arrival == ArrivalAtOnce:
		return 0
	case s.Join.Arrival == ArrivalPoisson:
		n += 4 * math.Sqrt(n)
	}
	return seconds(n / s.Join.Rate)
}

// seconds is a duration; what is longer than a year is a year.
func seconds(s float64) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(max(0, s*float64(time.Second)), float64(year)))
}

func (s *Scenario) checkChurn(p *problems) {
	c := s.Churn
	if c == (Churn{}) {
		if p.written("churn") {
			p.add("churn", nil, "wants rate or stay, one of them")
		}
		return
	}
	if (c.Rate == 0) == (c.Stay == 0) {
		p.add("churn", []string{"churn.rate", "churn.stay"}, "wants rate or stay, one of them")
	}
	if c.Who == WhoListeners && s.silent() == 0 {
		p.add("churn", []string{"rooms", "churn.who"}, "all members talk, and only listeners leave; set who: all")
	}
	for i, r := range s.Rooms {
		if c.Who == WhoAll && r.Talk.Pattern == TalkTwoWay {
			p.add("churn.who", []string{element("rooms", i)}, "a two-way conversation has no place for a third; take pattern p59 for %s", element("rooms", i))
		}
	}
}

// leaves is how many members leave per second.
func (s *Scenario) leaves() float64 {
	switch {
	case s.Churn.Rate > 0:
		return s.Churn.Rate
	case s.Churn.Stay > 0 && s.Churn.Who == WhoAll:
		return float64(s.Users()) / s.Churn.Stay.Seconds()
	case s.Churn.Stay > 0:
		return float64(s.silent()) / s.Churn.Stay.Seconds()
	}
	return 0
}

func (s *Scenario) checkSize(p *problems) {
	users := s.Users()
	if users > maxMembers {
		p.add("rooms", nil, "more than %d members in all rooms; want at most that", maxMembers)
		return
	}
	if all := float64(users) + s.leaves()*s.Duration.Seconds(); all > maxMembers {
		p.add("churn", []string{"rooms", "duration"}, "%.0f members would come in all, want at most %d; lower the rate, lengthen the stay or shorten the duration", all, maxMembers)
	}
	spurts := 0.0
	for _, r := range s.Rooms {
		if r.Talk.Pattern != TalkContinuous {
			spurts += float64(r.Count*r.Talkers) * (s.Warmup + s.Duration).Seconds() / (meanSpurt + meanPause).Seconds()
		}
	}
	if spurts > maxSpurts {
		p.add("duration", []string{"rooms"}, "%.0f million spurts to plan, want at most %.0f million; shorten it, or have fewer talkers or continuous ones", spurts/1e6, maxSpurts/1e6)
	}
}
