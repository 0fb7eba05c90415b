package scenario

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

//go:embed library/*.yaml
var shipped embed.FS

const extension = ".yaml"

// Names lists the shipped scenarios in order.
func Names() []string {
	files, _ := fs.Glob(shipped, "library/*"+extension) // the pattern is good
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(f, "library/"), extension)
	}
	return names
}

// Source is the file of a shipped scenario, with its comments.
func Source(name string) ([]byte, bool) {
	b, err := shipped.ReadFile("library/" + name + extension)
	return b, err == nil
}

// Library is all shipped scenarios, for the caller to keep. A test holds that
// each can be read, so that one that cannot is left out nowhere.
func Library() []*Scenario {
	var all []*Scenario
	for _, name := range Names() {
		source, _ := Source(name)
		if s, err := Parse(name+extension, source); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// Load reads the shipped scenario of that name, or else the file. A file whose
// name is that of a shipped scenario is named by its path, as ./stage.
func Load(nameOrFile string) (*Scenario, error) {
	if source, ok := Source(nameOrFile); ok {
		return Parse(nameOrFile+extension, source)
	}
	f, err := os.Open(nameOrFile)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(nameOrFile, "/.") {
		return nil, fmt.Errorf("no scenario %q, %s; a file is named by its path", short(nameOrFile), meant(nameOrFile, Names()))
	}
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(nameOrFile, data)
}
