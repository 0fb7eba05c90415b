// Package cmd holds what is believed about the whole tree, as tests. They parse
// the files themselves: a test that asks the go command for the list is cached
// while the list changes.
package cmd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "voicefleet"

// rooms in the order in which they may know of each other: a later one may
// import an earlier one.
var rooms = []string{"sfu", "edgeagent", "signaling", "allocator", "textchat", "bench", "cmd"}

// moreDoors are packages of a room that others may import beside its front door.
var moreDoors = []string{module + "/signaling/voiceclient"}

// file is one Go file of the tree; name is relative to its root.
type file struct {
	name string
	body []byte
	ast  *ast.File
	fset *token.FileSet
}

func (f file) dir() string { return path.Dir(f.name) }
func (f file) test() bool  { return strings.HasSuffix(f.name, "_test.go") }

// walk visits every file of the tree that is ours: not what builds, tests and
// package managers leave behind.
func walk(t *testing.T, visit func(name string, body []byte)) {
	t.Helper()
	root := os.DirFS("..")
	skip := []string{".git", "bin", "data", "out", "build", "node_modules"}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skip, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		body, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		visit(name, body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	fset := token.NewFileSet()
	walk(t, func(name string, body []byte) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		tree, err := parser.ParseFile(fset, name, body, parser.ParseComments)
		if err != nil {
			t.Errorf("parse: %v", err)
			return
		}
		files = append(files, file{name, body, tree, fset})
	})
	if len(files) < 20 {
		t.Fatalf("only %d Go files found", len(files))
	}
	return files
}

// forbidden says why a file may not import a package of this module, or "".
func forbidden(from, imported string) string {
	room := strings.SplitN(from, "/", 2)[0]
	rest, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		return ""
	}
	to := strings.SplitN(rest, "/", 2)[0]
	switch {
	case to == "internal":
		return "" // plumbing, open to all
	case room == "internal":
		return "plumbing knows no room"
	}
	mine, its := slices.Index(rooms, room), slices.Index(rooms, to)
	switch {
	case mine < 0:
		return "no such room: " + room
	case its < 0:
		return "no such room: " + to
	case room == to:
		// Nothing runs in a front door, so that to import it costs nothing.
		if path.Dir(from) == room && !strings.HasSuffix(from, "_test.go") && room != "bench" && room != "cmd" {
			return "a front door imports nothing of its room"
		}
		return ""
	case its > mine:
		return fmt.Sprintf("%s comes after %s", to, room)
	case rest == to, slices.Contains(moreDoors, imported):
		return ""
	case room == "bench" || room == "cmd":
		return ""
	case rest == to+"/"+to+"test" && strings.HasSuffix(from, "_test.go"):
		return "" // the doubles of a room exist for its neighbours' tests
	}
	return "another room is entered by its front door"
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, i := range f.ast.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why := forbidden(f.name, imported); why != "" {
				t.Errorf("%s imports %s: %s", f.fset.Position(i.Pos()), imported, why)
			}
		}
	}
}

// TestImportRule is the rule itself, by example.
func TestImportRule(t *testing.T) {
	for _, c := range []struct {
		from, imported string
		ok             bool
	}{
		{"edgeagent/edgeagentserver/server.go", "voicefleet/sfu", true},
		{"edgeagent/edgeagentserver/server.go", "voicefleet/sfu/sfuserver", false},
		{"edgeagent/edgeagentserver/server_test.go", "voicefleet/sfu/sfuserver", false},
		{"edgeagent/edgeagentserver/server_test.go", "voicefleet/sfu/sfutest", true},
		{"edgeagent/edgeagentserver/server.go", "voicefleet/sfu/sfutest", false},
		{"sfu/sfuserver/server.go", "voicefleet/edgeagent", false},
		{"sfu/sfuserver/server.go", "voicefleet/sfu/internal/srtp", true},
		{"sfu/stream.go", "voicefleet/sfu/internal/srtp", false},
		{"allocator/allocatorserver/x.go", "voicefleet/signaling/voiceclient", true},
		{"textchat/chatserver/x.go", "voicefleet/allocator/allocatorserver", false},
		{"textchat/chatserver/x.go", "voicefleet/allocator", true},
		{"textchat/chatserver/x.go", "voicefleet/internal/bus", true},
		{"internal/bus/x.go", "voicefleet/sfu", false},
		{"internal/bus/x.go", "voicefleet/internal/snowflake", true},
		{"bench/x/x.go", "voicefleet/sfu/sfuserver", true},
		{"bench/x/x.go", "voicefleet/cmd/voicefleet", false},
		{"cmd/voicefleet/up.go", "voicefleet/bench/forward", true},
		{"common/x.go", "voicefleet/sfu", false},
		{"sfu/x.go", "github.com/pion/rtp", true},
	} {
		if why := forbidden(c.from, c.imported); (why == "") != c.ok {
			t.Errorf("%s importing %s: %q", c.from, c.imported, why)
		}
	}
}

func TestOneDocPerPackage(t *testing.T) {
	type key struct{ dir, name string }
	docs := make(map[key][]string)
	code := make(map[key]bool) // packages that are more than tests
	for _, f := range goFiles(t) {
		k := key{f.dir(), f.ast.Name.Name}
		if strings.HasSuffix(k.name, "_test") {
			continue
		}
		docs[k] = append(docs[k], nil...)
		code[k] = code[k] || !f.test()
		if f.ast.Doc != nil {
			docs[k] = append(docs[k], f.name)
		}
	}
	for k, in := range docs {
		if len(in) != 1 {
			t.Errorf("package %s has %d package docs %v, want one", k.dir, len(in), in)
		}
		if len(in) == 1 && code[k] && strings.HasSuffix(in[0], "_test.go") {
			t.Errorf("package %s has its doc in a test file", k.dir)
		}
	}
}

func TestFormatted(t *testing.T) {
	for _, f := range goFiles(t) {
		want, err := format.Source(f.body)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		} else if !bytes.Equal(want, f.body) {
			t.Errorf("%s is not as gofmt writes it", f.name)
		}
	}
}

// unfinished is what a reader of finished code does not meet; machinePath is a
// place on somebody's disk. The patterns are put together here so that this
// file does not match itself.
var (
	unfinished  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|(?i:not ` + `implemented)`)
	machinePath = regexp.MustCompile(`(^|[^\w./-])/(work|home/\w+|root|tmp/vf)` + `/`)
)

func TestNothingUnfinishedOrLocal(t *testing.T) {
	text := []string{".go", ".md", ".ts", ".tsx", ".css", ".html", ".sh", ".txt", ".json", ".service", ".mod", ".yml", ".js", ".mjs"}
	walk(t, func(name string, body []byte) {
		if !slices.Contains(text, path.Ext(name)) && path.Base(name) != "Makefile" && name != ".ci/run" {
			return
		}
		if strings.Contains(name, "/dist/") || path.Base(name) == "package-lock.json" {
			return // made by tools from files that are checked themselves
		}
		if !utf8.Valid(body) {
			t.Errorf("%s is not UTF-8", name)
		}
		for n, line := range strings.Split(string(body), "\n") {
			if m := unfinished.FindString(line); m != "" {
				t.Errorf("%s:%d: %q", name, n+1, m)
			}
			if m := machinePath.FindString(line); m != "" {
				t.Errorf("%s:%d: a path of one machine: %q", name, n+1, m)
			}
		}
	})
}

// maxFile bounds a file of the tree: what is larger was built, not written.
const maxFile = 1 << 20

func TestNoLargeFiles(t *testing.T) {
	walk(t, func(name string, body []byte) {
		if len(body) > maxFile {
			t.Errorf("%s has %d bytes, more than %d: was it built?", name, len(body), maxFile)
		}
	})
}

// modules reads the module paths that go.mod requires.
func modules(t *testing.T) []string {
	t.Helper()
	body, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	inside := false
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		col := strings.Fields(lines.Text())
		switch {
		case len(col) == 2 && col[0] == "require" && col[1] == "(":
			inside = true
		case len(col) > 0 && col[0] == ")":
			inside = false
		case inside && len(col) >= 2:
			list = append(list, col[0])
		case len(col) >= 3 && col[0] == "require":
			list = append(list, col[1])
		}
	}
	return list
}

// TestReadmeNamesDependencies holds the table of the README against the imports
// of the tree.
func TestReadmeNamesDependencies(t *testing.T) {
	required := modules(t)
	direct := make(map[string]string) // module → a file that imports it
	for _, f := range goFiles(t) {
		for _, i := range f.ast.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			best := ""
			for _, m := range required {
				if (imported == m || strings.HasPrefix(imported, m+"/")) && len(m) > len(best) {
					best = m
				}
			}
			if best != "" {
				direct[best] = f.name
			} else if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s, which go.mod does not require", f.name, imported)
			}
		}
	}
	for _, name := range []string{"textchat/web/package.json", "cmd/e2e/testdata/discordjs/package.json"} {
		body, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		var wants struct{ Dependencies, DevDependencies map[string]string }
		if err := json.Unmarshal(body, &wants); err != nil || len(wants.Dependencies) == 0 {
			t.Fatalf("%s: %v, %v", name, wants, err)
		}
		for _, list := range []map[string]string{wants.Dependencies, wants.DevDependencies} {
			for m := range list {
				direct[m] = name
			}
		}
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| *(.*?) *\\|$")
	listed := make(map[string]bool)
	for _, m := range row.FindAllStringSubmatch(string(readme), -1) {
		if m[2] == "" {
			t.Errorf("README.md gives no reason for %s", m[1])
		}
		for _, name := range strings.Split(m[1], ", ") {
			listed[strings.Trim(name, "`")] = true
		}
	}
	for m, where := range direct {
		if !listed[m] {
			t.Errorf("README.md does not list %s, which %s needs", m, where)
		}
	}
}

// TestTopLevel keeps the house from growing annexes.
func TestTopLevel(t *testing.T) {
	known := append(slices.Clone(rooms), "internal", "deploy", ".ci", ".git", "bin", "data", "out")
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(known, e.Name()) {
			t.Errorf("unknown top-level folder %s", e.Name())
		}
	}
	for _, r := range rooms {
		if _, err := os.Stat(filepath.Join("..", r)); err != nil {
			t.Errorf("room %s is missing", r)
		}
	}
}
