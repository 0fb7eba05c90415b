package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLibrary(t *testing.T) {
	want := []string{"500x8", "all-talk", "churn", "ci-smoke", "defaults", "discord-2018", "engine-killed", "join-storm", "loss-5",
		"night", "node-frozen", "one-way-cut", "parity", "small-rooms", "stage", "two-of-you"}
	if !slices.Equal(Names(), want) {
		t.Errorf("shipped are %q, want %q", Names(), want)
	}
	for _, name := range Names() {
		source, _ := Source(name)
		s, err := Parse(name+extension, source)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if s.Name != name || s.About == "" || len(s.Goals) == 0 || source[0] != '#' {
			t.Errorf("%s: name %q, about %q, %d goals, begins %q", name, s.Name, s.About, len(s.Goals), source[:1])
		}
		again, err := Parse(name, s.YAML())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%s is written\n%s\nand read %+v, %v", name, s.YAML(), again, err)
		}
		if loaded, err := Load(name); err != nil || !reflect.DeepEqual(loaded, s) {
			t.Errorf("load %s: %+v, %v", name, loaded, err)
		}
	}
	if got := len(Library()); got != len(want) {
		t.Errorf("%d of %d can be read", got, len(want))
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.yaml")
	big := filepath.Join(dir, "big.yaml")
	for name, body := range map[string]string{file: minimal, big: strings.Repeat("#", MaxBytes+1)} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Load(file); err != nil || s.Name != "evening" {
		t.Errorf("%+v, %v", s, err)
	}
	for name, want := range map[string]string{
		"stagee":                      `no scenario "stagee", did you mean stage?; a file is named by its path`,
		filepath.Join(dir, "no.yaml"): "read scenario: open ",
		dir:                           "read scenario: read ",
		big:                           big + ":1:1: 1048577 bytes, at most 1048576 are read",
	} {
		if _, err := Load(name); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reference is the doc comment of the package.
func reference(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "//\t", "\t")
}

// TestFieldsAreDocumented holds that the reference has a line for each field, with
// its bounds and its words, and none for a field that is not.
func TestFieldsAreDocumented(t *testing.T) {
	text := reference(t)
	_, text, _ = strings.Cut(text, "# Fields")
	seen := make(map[string]bool)
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for _, f := range fieldsOf(typ) {
			inner := f.name
			if path != "" {
				inner = path + "." + f.name
			}
			kind := typ.Field(f.index).Type
			if kind.Kind() == reflect.Slice || kind.Kind() == reflect.Pointer {
				kind = kind.Elem()
			}
			if kind.Kind() == reflect.Struct {
				walk(inner, kind)
				continue
			}
			seen[inner] = true
			// A line of a field goes on until the next one or the end of the table.
			entry := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(inner) + ` .*(\n\t .*)*`).FindString(text)
			if entry == "" {
				t.Errorf("doc.go has no line for %s", inner)
			}
			if !strings.Contains(entry, f.bounds) {
				t.Errorf("doc.go does not give the bounds %s of %s:\n%s", f.bounds, inner, entry)
			}
			if w, ok := reflect.Zero(kind).Interface().(word); ok {
				for _, one := range w.words() {
					if !regexp.MustCompile(`\b` + one + `\b`).MatchString(entry) {
						t.Errorf("doc.go does not tell %s of %s:\n%s", one, inner, entry)
					}
				}
			}
		}
	}
	walk("", reflect.TypeFor[Scenario]())
	for _, m := range regexp.MustCompile(`(?m)^\t([a-z][a-z_0-9.]*) `).FindAllStringSubmatch(text, -1) {
		if !seen[m[1]] {
			t.Errorf("doc.go tells of %s, which is no field", m[1])
		}
	}
}

// TestDefaultsAreDocumented holds the table's defaults against what Parse fills in.
func TestDefaultsAreDocumented(t *testing.T) {
	text := reference(t)
	s := New("x", Rooms{Members: 8, Faithful: 1})
	r := s.Rooms[0]
	for field, want := range map[string]any{
		"seed": s.Seed, "warmup": writeDuration(s.Warmup), "duration": writeDuration(s.Duration),
		"server.kind": s.Server.Kind, "server.workers": s.Server.Workers, "server.slots": s.Server.Slots, "server.silence_gate": s.Server.SilenceGate,
		"rooms.count": r.Count, "rooms.talkers": r.Talkers, "rooms.bots": r.Bots, "rooms.check": r.Check,
		"rooms.talk.pattern": r.Talk.Pattern, "rooms.talk.silence": r.Talk.Silence, "rooms.talk.bytes": r.Talk.Bytes,
		"join.arrival": s.Join.Arrival, "join.when": s.Join.When, "churn.who": WhoListeners, "faults.direction": DirectionBoth,
		"faults.exact": false, "faults.at": writeDuration(0),
	} {
		line := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(field) + ` +(\S+)`).FindStringSubmatch(text)
		if line == nil || line[1] != fmt.Sprint(want) {
			t.Errorf("doc.go gives %s as default of %s, it is %v", line, field, want)
		}
	}
}

// TestExamplesOfTheReference holds that what the reference shows can be run.
func TestExamplesOfTheReference(t *testing.T) {
	blocks := regexp.MustCompile(`(?m)^\tname: .*(\n\t.*)*`).FindAllString(reference(t), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want 2", len(blocks))
	}
	for _, b := range blocks {
		if s, err := Parse("example", []byte(strings.ReplaceAll("\n"+b, "\n\t", "\n"))); err != nil || s.Duration != 30*time.Second {
			t.Errorf("%s\n%v", b, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := make(map[string]bool)
	for _, m := range Metrics {
		if !form.MatchString(m.Name) || seen[m.Name] || m.Doc == "" || m.Better == "" {
			t.Errorf("%+v", m)
		}
		seen[m.Name] = true
		if found, ok := MetricOf(m.Name); !ok || found != m {
			t.Errorf("%s is not found", m.Name)
		}
	}
	if _, ok := MetricOf("noise"); ok {
		t.Error("noise is a metric")
	}
}
