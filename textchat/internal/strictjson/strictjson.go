// Package strictjson checks JSON from strangers before anything is built of it:
// it must be one object, valid, not too deep, and no key may come twice (two
// readers of the same text must not see two things).
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// What is wrong with a text.
var (
	ErrInvalid   = errors.New("not a valid JSON object in UTF-8")
	ErrDepth     = errors.New("JSON nests too deep")
	ErrDuplicate = errors.New("JSON object has a key twice")
)

// Check says whether data is one JSON object that nests at most depth deep.
func Check(data []byte, depth int) error {
	// The depth comes first: it costs one pass and no memory.
	if err := checkDepth(data, depth); err != nil {
		return err
	}
	if !utf8.Valid(data) || !json.Valid(data) || len(bytes.TrimLeft(data, " \t\r\n")) == 0 || bytes.TrimLeft(data, " \t\r\n")[0] != '{' {
		return ErrInvalid
	}
	return checkKeys(data, depth)
}

func checkDepth(data []byte, depth int) error {
	level, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if level++; level > depth {
				return ErrDepth
			}
		case c == '}' || c == ']':
			level--
		}
	}
	return nil
}

// checkKeys walks valid JSON. A string is a key when an object expects one.
func checkKeys(data []byte, depth int) error {
	type frame struct {
		keys map[string]bool // nil: an array
		key  bool            // a key comes next
	}
	stack := make([]frame, 0, depth)
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{':
			stack = append(stack, frame{keys: make(map[string]bool), key: true})
		case '[':
			stack = append(stack, frame{})
		case '}', ']':
			stack = stack[:len(stack)-1]
		case ',':
			top := &stack[len(stack)-1]
			top.key = top.keys != nil
		case '"':
			start := i
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			top := &stack[len(stack)-1]
			if !top.key {
				continue
			}
			top.key = false
			key := string(data[start+1 : i])
			if bytes.IndexByte(data[start:i], '\\') >= 0 {
				if json.Unmarshal(data[start:i+1], &key) != nil {
					return ErrInvalid
				}
			}
			if top.keys[key] {
				return ErrDuplicate
			}
			top.keys[key] = true
		}
	}
	return nil
}
