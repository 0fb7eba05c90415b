package bus

import (
	"errors"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"v1.call.*.fra1", "v1.call.5.fra1", true},
		{"v1.call.*.fra1", "v1.call.5.fra2", false},
		{"v1.call.*.*", "v1.call.5", false},
		{"v1.call.*", "v1.call.5.fra1", false},
		{"v1.>", "v1.call.5", true},
		{"v1.>", "v1", false},
		{"v1.call", "v1.call", true},
		{"v1.call", "v1.call.", false},
		{"v1.*", "v1.", false},
		{"v1.presence.*.*", "$KV.nodes.fra1", false},
	} {
		if got := matches(c.pattern, c.subject); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.subject, got)
		}
	}
}

func TestReadEventRefuses(t *testing.T) {
	ok := func(string, question) error { return nil }
	no := func(string, question) error { return errors.New("not credible") }
	for name, c := range map[string]struct {
		subject, body string
		credible      func(string, question) error
		want          string
	}{
		"good":         {"v1.n.1", `{"n":1}`, ok, ""},
		"another's":    {"$KV.nodes.x", `{"n":1}`, ok, "belongs to"},
		"too long":     {"v1.n.1", `{"n":1}` + strings.Repeat(" ", MaxEvent), ok, "of at most"},
		"no JSON":      {"v1.n.1", `{`, ok, "JSON"},
		"of no type":   {"v1.n.1", `{"n":"x"}`, ok, "cannot unmarshal"},
		"not credible": {"v1.n.1", `{"n":1}`, no, "not credible"},
	} {
		_, err := readEvent("v1.n.*", c.subject, []byte(c.body), c.credible)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type keyed struct{ Key string }

func (k *keyed) Belongs(key string) bool { return k.Key == key }

func TestAValueOfAnotherKeyIsMalformed(t *testing.T) {
	var v keyed
	if err := readValue("a", []byte(`{"Key":"a"}`), &v); err != nil {
		t.Error(err)
	}
	if err := readValue("a", []byte(`{"Key":"b"}`), &v); err == nil {
		t.Error("read at the key of another")
	}
	if err := readValue("a", make([]byte, maxValue+1), &v); err == nil {
		t.Error("read a value without bounds")
	}
}

func FuzzMatches(f *testing.F) {
	f.Add("v1.*.>", "v1.a.b")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		if matches(pattern, subject) && !strings.ContainsAny(pattern, "*>") && pattern != subject {
			t.Errorf("%q matches %q", pattern, subject)
		}
	})
}
