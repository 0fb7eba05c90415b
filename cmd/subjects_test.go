package cmd

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fuzzed has for each subject, bucket and log of internal/bus the packages that take
// what comes there, whoever sent it: each of them has a fuzz test that sends anything.
var fuzzed = map[string][]string{
	"NodesBucket":       {"allocator/allocatorserver", "edgeagent/edgeagentserver"},
	"LabelsBucket":      {"allocator/allocatorserver"},
	"CallsBucket":       {"allocator/allocatorserver", "edgeagent/edgeagentserver"},
	"KeysBucket":        {"allocator/allocatorserver", "edgeagent/edgeagentserver"},
	"SignalingBucket":   {"allocator/allocatorserver"},
	"GeneratorsBucket":  {"bench/internal/remote"},
	"EnrolledBucket":    {"internal/enrol", "edgeagent/edgeagentserver"},
	"TextsBucket":       {"textchat/chatserver"},
	"LeadsBucket":       {"textchat/chatserver"},
	"GuildsLog":         {"textchat/chatserver"},
	"AllocatorSubject":  {"allocator/allocatorserver"},
	"SilenceSubject":    {"allocator/allocatorserver"},
	"JournalSubject":    {"allocator/allocatorserver"},
	"DisconnectSubject": {"allocator/allocatorserver", "textchat/chatserver"},
	"NodeSubject":       {"edgeagent/edgeagentserver"},
	"TextSubject":       {"textchat/chatserver"},
	"OnlineSubject":     {"textchat/chatserver"},
	"DeliveredSubject":  {"textchat/chatserver"},
	"GeneratorSubject":  {"bench/internal/remote"},
	"CallSubject":       {"edgeagent/edgeagentserver", "signaling/signalingserver"},
	"MovedSubject":      {"allocator/allocatorserver", "textchat/chatserver"},
	"PresenceSubject":   {"edgeagent/edgeagentserver", "textchat/chatserver"},
}

// logSubjects stand for a log in a fuzz test: its entries have subjects of their own.
var logSubjects = map[string]string{"GuildsLog": "v1.guild."}

// TestEverySubjectIsFuzzed: what is on the bus is listed in internal/bus, and whoever
// takes it is tested with what nobody would send.
func TestEverySubjectIsFuzzed(t *testing.T) {
	sent := map[[2]string]bool{} // by the fuzz tests of a package
	for _, f := range goFiles(t) {
		switch {
		case f.name == "internal/bus/subjects.go":
			for _, name := range exported(f.ast) {
				if fuzzed[name] == nil && slices.ContainsFunc([]string{"Subject", "Bucket", "Log"}, func(kind string) bool { return strings.HasSuffix(name, kind) }) {
					t.Errorf("bus.%s is in no list of what is fuzzed", name)
				}
			}
		case f.test():
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Fuzz") {
					for _, what := range spoken(fn) {
						sent[[2]string{f.dir(), what}] = true
					}
				}
			}
		case f.dir() != "internal/bus":
			for _, what := range spoken(f.ast) {
				if strings.HasPrefix(what, "v1.") {
					t.Errorf("%s has a subject of its own, %q: they are listed in internal/bus/subjects.go", f.name, what)
				}
			}
		}
	}
	for name, packages := range fuzzed {
		what := "bus." + name
		if logSubjects[name] != "" {
			what = logSubjects[name]
		}
		for _, dir := range packages {
			if !sent[[2]string{path.Clean(dir), what}] {
				t.Errorf("no fuzz test of %s sends to %s", dir, what)
			}
		}
	}
}

// exported are the names that a file declares for others, but for types and methods.
func exported(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.IsExported() {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.CONST {
					for _, n := range v.Names {
						if n.IsExported() {
							names = append(names, n.Name)
						}
					}
				}
			}
		}
	}
	return names
}

// spoken are the names of internal/bus that some code uses, as bus.NAME, and its
// strings.
func spoken(n ast.Node) (all []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "bus" {
				all = append(all, "bus."+n.Sel.Name)
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				all = append(all, text)
			}
		}
		return true
	})
	return all
}
