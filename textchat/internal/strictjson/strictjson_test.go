package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for in, want := range map[string]error{
		`{}`:                             nil,
		` {"a":[1,{"a":2}],"b":{"a":3}}`: nil,
		`{"a":"{[\"","b":"a"}`:           nil,
		`{"a":1,"a":2}`:                  ErrDuplicate,
		`{"a":1,"\u0061":2}`:             ErrDuplicate,
		`{"x":{"k":1,"k":1}}`:            ErrDuplicate,
		`{"x":["k","k"]}`:                nil,
		``:                               ErrInvalid,
		`[]`:                             ErrInvalid,
		`null`:                           ErrInvalid,
		`{"a":1}{}`:                      ErrInvalid,
		`{"a":}`:                         ErrInvalid,
		"{\"a\":\"\xff\"}":               ErrInvalid,
		`{"a":[[[1]]]}`:                  nil,
		`{"a":[[[[1]]]]}`:                ErrDepth,
		strings.Repeat("[", 1<<20):       ErrDepth,
		strings.Repeat("]", 100):         ErrInvalid,
	} {
		if err := Check([]byte(in), 4); !errors.Is(err, want) {
			t.Errorf("%.40s: %v, want %v", in, err, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":[{"b":"\""}]}`, `{"a":1,"a":1}`, `[`, `{"a":"\\"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b, 8)
		if err == nil && json.Unmarshal(b, new(map[string]any)) != nil {
			t.Fatalf("%q was let through", b)
		}
	})
}
