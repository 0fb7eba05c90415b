package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// MaxBytes bounds a scenario file.
	MaxBytes = 1 << 20
	// maxDepth bounds brackets within brackets, and dashes on one line; the
	// language needs three.
	maxDepth = 8
	// maxTokens bounds what is not a comment; the parser's time grows with its
	// square, to about a second here. All lists full to the brim are 11,000.
	maxTokens = 15000
	// maxIndent bounds the column a block may begin in, and so its depth.
	maxIndent = 200
)

// Parse reads a scenario and checks it; name stands before each problem, as that
// of a file. The error is of type Problems and tells all that is wrong.
func Parse(name string, data []byte) (*Scenario, error) {
	r := &reader{problems: newProblems(name)}
	s := &Scenario{}
	if body := r.tree(data); body != nil {
		s.Server.SilenceGate = true
		r.value("", body, reflect.ValueOf(s).Elem())
	}
	if r.problems.broken("") { // no tree: nothing more to be told
		return nil, r.problems.err()
	}
	s.About = strings.TrimSpace(s.About)
	s.fill(r.problems.written)
	s.check(r.problems)
	if err := r.problems.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// reader makes a Scenario of a tree of YAML.
type reader struct{ problems *problems }

// tree parses what was bounded first: the parser itself goes as deep as its
// input does.
func (r *reader) tree(data []byte) ast.Node {
	at := place{1, 1}
	refuse := func(format string, args ...any) ast.Node {
		r.problems.addAt(at, "", format, args...)
		return nil
	}
	if len(data) > MaxBytes {
		return refuse("%d bytes, at most %d are read", len(data), MaxBytes)
	}
	if !utf8.Valid(data) {
		return refuse("not UTF-8; save it as UTF-8")
	}
	for i, line := range strings.Split(string(data), "\n") {
		if j := strings.IndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' && c != '\r' || c == 0x7f }); j >= 0 {
			at = place{i + 1, 1 + utf8.RuneCountInString(line[:j])}
			return refuse("control character %q; remove it", line[j])
		}
	}
	tokens := lexer.Tokenize(string(data))
	if t, why := unwanted(tokens); t != nil {
		at = placeOf(t)
		return refuse("%s", why)
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		why := err.Error()
		var syntax interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &syntax) {
			why = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil {
				at = placeOf(t)
			}
		}
		return refuse("not YAML: %s", why)
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil {
			bodies = append(bodies, d.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return refuse("empty; a scenario has at least a name and rooms")
	case len(bodies) > 1:
		at = placeOf(firstToken(bodies[1]))
		return refuse("a second document; put each scenario in a file of its own")
	}
	if _, ok := bodies[0].(ast.MapNode); !ok {
		at = placeOf(bodies[0].GetToken())
		return refuse("want fields as name: value, not %s", kindOf(bodies[0]))
	}
	return bodies[0]
}

// unwanted finds the first token that the language has no use for: what makes
// files big in memory (aliases), what names types, and what nests too deep.
func unwanted(tokens token.Tokens) (*token.Token, string) {
	depth, dashes, line, count := 0, 0, 0, 0
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if count++; count > maxTokens {
			return t, fmt.Sprintf("more than %d words and signs; no scenario needs as many", maxTokens)
		}
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return t, "anchors, aliases and merges are not read; write it out"
		case token.TagType, token.DirectiveType:
			return t, "tags and directives are not read; remove it"
		case token.MappingKeyType:
			return t, "a key in the long form (?) is not read; write key: value"
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth = max(0, depth-1)
		case token.SequenceEntryType:
			dashes++
		}
		if depth > maxDepth || dashes > maxDepth {
			return t, fmt.Sprintf("nested deeper than %d", maxDepth)
		}
		if (t.Type == token.SequenceEntryType || t.Type == token.MappingValueType) && depth == 0 && indentOf(t) > maxIndent {
			return t, fmt.Sprintf("indented by more than %d", maxIndent)
		}
	}
	return nil, ""
}

// indentOf is the column of what a dash or colon belongs to.
func indentOf(t *token.Token) int {
	if t.Type == token.MappingValueType && t.Prev != nil {
		t = t.Prev
	}
	return t.Position.Column - 1
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// kindOf says in words what a node is.
func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case ast.MapNode:
		return "a group of fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "the text " + strconv.Quote(short(textOf(n)))
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + short(n.GetToken().Value)
	}
	return "this"
}

// short keeps a value from filling the screen.
func short(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}

// textOf is the text of a string node.
func textOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return ""
}

var durationType = reflect.TypeFor[time.Duration]()

// place is where a value stands, or its field if there is nothing.
func (r *reader) place(path string, n ast.Node) place {
	if _, nothing := n.(*ast.NullNode); nothing {
		if at, ok := r.problems.places[path]; ok {
			return at
		}
	}
	return placeOf(firstToken(n))
}

// value puts a node into v, the field at path.
func (r *reader) value(path string, n ast.Node, v reflect.Value) {
	wrong := func(want string) { r.problems.addAt(r.place(path, n), path, "%s, want %s", kindOf(n), want) }
	switch {
	case v.Type() == durationType:
		text, ok := n.(*ast.StringNode)
		if !ok {
			wrong("a duration with its unit, as 20s, 500ms or 1h30m")
			return
		}
		d, err := time.ParseDuration(text.Value)
		if err != nil {
			wrong("a duration, as 20s, 500ms or 1h30m")
			return
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		before := len(r.problems.list)
		r.value(path, n, p.Elem())
		if len(r.problems.list) == before {
			v.Set(p)
		}
	case v.Kind() == reflect.Struct:
		m, ok := n.(ast.MapNode)
		if !ok {
			wrong("a group of fields, as " + fieldsOf(v.Type())[0].name + ": ...")
			return
		}
		r.fields(path, m, v)
	case v.Kind() == reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			wrong("a list, each entry after a dash")
			return
		}
		if len(list.Values) > maxEntries {
			r.problems.addAt(r.place(path, n), path, "%d entries, want at most %d", len(list.Values), maxEntries)
			return
		}
		if len(list.Values) == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
		for i, one := range list.Values {
			at := element(path, i)
			r.problems.places[at] = placeOf(firstToken(one))
			r.value(at, one, v.Index(i))
		}
	case v.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			wrong("true or false")
			return
		}
		v.SetBool(b.Value)
	case v.Kind() == reflect.String:
		r.text(path, n, v)
	case v.Kind() == reflect.Float64:
		f, ok := number(n)
		if !ok {
			wrong("a number without a unit" + percentHint(path))
			return
		}
		v.SetFloat(f)
	case v.CanUint():
		u, err := strconv.ParseUint(whole(n), 10, 64)
		if err != nil {
			wrong("a whole number without a unit")
			return
		}
		v.SetUint(u)
	default:
		i, err := strconv.ParseInt(whole(n), 10, 32)
		if err != nil {
			wrong("a whole number without a unit")
			return
		}
		v.SetInt(i)
	}
}

func percentHint(path string) string {
	if strings.HasSuffix(path, "_percent") {
		return ", in percent, as 0.1"
	}
	return ""
}

// text puts a string or one of the words of a type into v.
func (r *reader) text(path string, n ast.Node, v reflect.Value) {
	closed, isWord := v.Interface().(word)
	s := textOf(n)
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
	default:
		if isWord {
			r.problems.addAt(r.place(path, n), path, "%s, want %s", kindOf(n), list(closed.words()))
		} else {
			r.problems.addAt(r.place(path, n), path, "%s, want text; put it in quotes", kindOf(n))
		}
		return
	}
	if isWord {
		if slices.Contains(closed.words(), s) {
			v.SetString(s)
			return
		}
		r.problems.addAt(r.place(path, n), path, "%q is not known, %s", short(s), meant(s, closed.words()))
		return
	}
	v.SetString(s)
}

// fields puts the entries of a mapping into the fields of a struct.
func (r *reader) fields(path string, m ast.MapNode, v reflect.Value) {
	fields := fieldsOf(v.Type())
	for entries := m.MapRange(); entries.Next(); {
		key := entries.Key().GetToken()
		name, at := key.Value, placeOf(key)
		inner := name
		if path != "" {
			inner = path + "." + name
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			names := make([]string, len(fields))
			for k, f := range fields {
				names[k] = f.name
			}
			r.problems.addAt(at, short(inner), "no such field, %s", meant(name, names))
			continue
		}
		if first, twice := r.problems.places[inner]; twice {
			r.problems.addAt(at, inner, "written twice, first on line %d; remove one", first.line)
			continue
		}
		r.problems.places[inner] = at
		r.value(inner, entries.Value(), v.Field(fields[i].index))
	}
}

// firstToken is where a node begins: for fields, their first name.
func firstToken(n ast.Node) *token.Token {
	if m, ok := n.(ast.MapNode); ok {
		if entries := m.MapRange(); entries.Next() {
			return entries.Key().GetToken()
		}
	}
	return n.GetToken()
}

var (
	wholeForm  = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	numberForm = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// whole is the text of a plain decimal number, or "". Octal 0100 and hex are no
// way to write a count.
func whole(n ast.Node) string {
	if _, ok := n.(*ast.IntegerNode); !ok || !wholeForm.MatchString(n.GetToken().Value) {
		return ""
	}
	return n.GetToken().Value
}

// number reads a plain decimal number.
func number(n ast.Node) (float64, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
	default:
		return 0, false
	}
	text := n.GetToken().Value
	if !numberForm.MatchString(text) {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// field is a field of the language.
type field struct {
	index    int
	name     string
	bounds   string // "least..most", or empty
	optional bool
}

// fieldsOf reads the tags of a struct.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		list = append(list, field{index: i, name: tag.Get("yaml"), bounds: tag.Get("bounds"), optional: tag.Get("optional") == "true"})
	}
	return list
}
