package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// MaxJSON bounds a report that is read.
const MaxJSON = 64 << 20

// Read reads what WriteJSON wrote. Fields it does not know are left out, so that
// a newer report can be read; what it knows must be as WriteJSON makes it.
func Read(r io.Reader) (*Report, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxJSON+1))
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	if len(data) > MaxJSON {
		return nil, fmt.Errorf("read report: more than %d MiB; is this a file that --json wrote?", MaxJSON>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("read report: the file is empty; was the run ended before it wrote one?")
	}
	var report Report
	if err := json.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("read report: %w; want a file that --json wrote", place(data, err))
	}
	if err := report.check(); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return &report, nil
}

// ReadFile is Read of a file.
func ReadFile(name string) (*Report, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// place tells line and column of what is wrong with JSON.
func place(data []byte, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
		err = fmt.Errorf("field %s is a %s, want %s", kind.Field, kind.Value, kind.Type)
		if kind.Field == "" {
			err = fmt.Errorf("this is a %s, want an object", kind.Value)
		}
	default:
		return err
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("line %d, column %d: %w", line, max(column, 1), err)
}

// check holds a report that was read against what WriteJSON writes.
func (r *Report) check() error {
	if r.Kind == "" {
		return errors.New("it has no kind, so it is no report; want a file that --json wrote")
	}
	seen := make(map[string]bool)
	for i, m := range r.Metrics {
		switch {
		case m.Name == "":
			return fmt.Errorf("metrics[%d] has no name", i)
		case seen[m.Name]:
			return fmt.Errorf("two metrics are named %q", m.Name)
		case m.Better != "" && m.Better != Less && m.Better != More:
			return fmt.Errorf("metric %q: better is %q, want %q, %q or nothing", m.Name, m.Better, Less, More)
		}
		seen[m.Name] = true
	}
	for _, d := range r.Distributions {
		last := Quantile{Q: 0, V: math.Inf(-1)}
		for _, q := range d.Points {
			if q.Q < last.Q || q.Q > 1 || q.V < last.V {
				return fmt.Errorf("distribution %q: quantile %v of %v after %v of %v; want both rising, and quantiles from 0 to 1", d.Name, q.Q, q.V, last.Q, last.V)
			}
			last = q
		}
	}
	for _, t := range r.Tables {
		for i, row := range t.Rows {
			if len(row) > len(t.Head) {
				return fmt.Errorf("table %q: row %d has %d cells under %d heads", t.Title, i+1, len(row), len(t.Head))
			}
		}
	}
	return nil
}

// UnmarshalJSON keeps the values as they were written: a json.RawMessage.
func (t *Table) UnmarshalJSON(b []byte) error {
	type bare Table
	var raw struct {
		*bare
		Values json.RawMessage `json:"values"`
	}
	raw.bare = (*bare)(t)
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	t.Values = nil
	if len(raw.Values) > 0 {
		t.Values = raw.Values
	}
	return nil
}
