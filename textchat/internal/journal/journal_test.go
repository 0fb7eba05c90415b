package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"voicefleet/internal/bus"
)

// writerEnv has the test binary write into a journal, to be killed.
const writerEnv = "JOURNAL_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		write(dir)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// write appends for ever, and says what was taken.
func write(dir string) {
	j, err := Open(Config{Dir: dir, Boot: "b"})
	for err == nil {
		var seq uint64
		if seq, err = j.Append(context.Background(), "k", bus.Any, make([]byte, 300)); err == nil {
			_, err = fmt.Println(seq)
		}
	}
}

// kept is what a journal is, as one reads it who opens it.
type kept struct {
	*Journal
	notes   []string
	entries []string // KEY NUMBER-BODY
}

// reopen opens a journal, with notes that each file begins with.
func reopen(t *testing.T, cfg Config) *kept {
	t.Helper()
	k := &kept{}
	cfg.Past = func(r Record) {
		if r.Key == "" {
			k.notes = append(k.notes, string(r.Body))
		} else {
			k.entries = append(k.entries, r.Key+" "+string(r.Body))
		}
	}
	var err error
	if k.Journal, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func (k *kept) append(t *testing.T, key, body string) uint64 {
	t.Helper()
	last, _ := k.Last(t.Context(), key)
	seq, err := k.Append(t.Context(), key, last, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// TestForget: of what was written nothing is in any file but what each begins with; what
// comes after is kept, under numbers that go on.
func TestForget(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Boot: "b", Head: func() [][]byte { return [][]byte{[]byte("head")} }}
	k := reopen(t, cfg)
	k.append(t, "a", "secret-1")
	last := k.append(t, "b", "secret-2")
	if err := k.Note([]byte("secret-3")); err != nil {
		t.Fatal(err)
	}
	k.Close()
	k = reopen(t, cfg) // a file of before is there, too
	k.append(t, "a", "secret-4")
	if err := k.Forget(); err != nil {
		t.Fatal(err)
	}
	read := func() (all []byte) {
		names, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			body, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, body...)
		}
		return all
	}
	if all := read(); bytes.Contains(all, []byte("secret")) || !bytes.Contains(all, []byte("head")) {
		t.Errorf("kept: %q", all)
	}
	if first := k.First(); first <= last {
		t.Errorf("begins at %d, %d was given out", first, last)
	}
	for _, key := range []string{"a", "b"} {
		if at, _ := k.Last(t.Context(), key); at != 0 || len(k.since(t, key, 0)) > 0 {
			t.Errorf("%s ends at %d", key, at)
		}
	}
	if seq := k.append(t, "a", "new"); seq <= last {
		t.Errorf("number %d after %d", seq, last)
	}
	k.Close()
	if k = reopen(t, cfg); !slices.Equal(k.entries, []string{"a new"}) || !slices.Equal(k.notes, []string{"head"}) {
		t.Errorf("the next one reads %q, %q", k.notes, k.entries)
	}
}

// since lists the bodies of a key.
func (k *kept) since(t *testing.T, key string, after uint64) (list []string) {
	t.Helper()
	records, err := k.Since(t.Context(), key, after)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Prev != after || r.Seq <= after {
			t.Errorf("%d comes after %d, and says after %d", r.Seq, after, r.Prev)
		}
		after = r.Seq
		list = append(list, string(r.Body))
	}
	return list
}

func TestJournal(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Boot: "b"}
	j := reopen(t, cfg)
	one := j.append(t, "x", "one")
	j.append(t, "y", "other")
	if err := j.Note([]byte("note")); err != nil {
		t.Fatal(err)
	}
	two := j.append(t, "x", "two")
	if _, err := j.Append(t.Context(), "x", one, nil); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("after one that is not the last: %v", err)
	}
	if _, err := j.Append(t.Context(), "z", one, nil); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("after one of another key: %v", err)
	}
	for range 2 { // as it is, and as the next life has it
		if got := j.since(t, "x", 0); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("x has %q", got)
		}
		if got := j.since(t, "x", one); !slices.Equal(got, []string{"two"}) {
			t.Errorf("since the first x has %q", got)
		}
		if last, _ := j.Last(t.Context(), "x"); last != two {
			t.Errorf("the last one of x is %d, want %d", last, two)
		}
		if last, _ := j.Last(t.Context(), "z"); last != 0 {
			t.Errorf("the last one of z is %d", last)
		}
		j.Close()
		j = reopen(t, cfg)
	}
	if !slices.Equal(j.entries, []string{"x one", "y other", "x two"}) || !slices.Equal(j.notes, []string{"note"}) {
		t.Errorf("there are %q and the notes %q", j.entries, j.notes)
	}
	if three := j.append(t, "x", "three"); three <= two {
		t.Errorf("%d after %d", three, two)
	}
}

// TestJournalTorn: where a process dies in the middle of a record that one is not there,
// and all before is; what comes then is.
func TestJournalTorn(t *testing.T) {
	whole := t.TempDir()
	j := reopen(t, Config{Dir: whole, Boot: "b"})
	j.append(t, "x", "one")
	j.append(t, "x", "two")
	name := filepath.Base(j.files[0].name)
	j.Close()
	body, err := os.ReadFile(filepath.Join(whole, name))
	if err != nil {
		t.Fatal(err)
	}
	last := len(appendRecord(nil, record{}, "x", []byte("two")))
	for lost := 1; lost <= len(body); lost++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), body[:len(body)-lost], 0o600); err != nil {
			t.Fatal(err)
		}
		var want []string
		if lost <= last {
			want = []string{"one"}
		}
		torn := reopen(t, Config{Dir: dir, Boot: "b"})
		if got := torn.since(t, "x", 0); !slices.Equal(got, want) {
			t.Fatalf("less %d bytes x has %q, want %q", lost, got, want)
		}
		torn.append(t, "x", "new")
		torn.Close()
		if got := reopen(t, Config{Dir: dir, Boot: "b"}).since(t, "x", 0); !slices.Equal(got, append(want, "new")) {
			t.Fatalf("less %d bytes, in the life after the next, x has %q", lost, got)
		}
	}
}

// TestJournalForeign: nothing counts of another run of the machine, of one that is not
// known, or where something in the middle is lost.
func TestJournalForeign(t *testing.T) {
	for name, spoil := range map[string]func(dir string) Config{
		"booted":  func(dir string) Config { return Config{Dir: dir, Boot: "c"} },
		"changed": func(dir string) Config { flip(t, dir, 0, 60); return Config{Dir: dir, Boot: "b"} },
		"missing": func(dir string) Config {
			if err := os.Remove(files(t, dir)[1]); err != nil {
				t.Fatal(err)
			}
			return Config{Dir: dir, Boot: "b"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var last uint64
			for range 3 {
				j := reopen(t, Config{Dir: dir, Boot: "b"})
				last = j.append(t, "x", "something")
				j.Close()
			}
			cfg := spoil(dir)
			cfg.Now = func() time.Time { return time.Now().Add(time.Second) }
			j := reopen(t, cfg)
			if got := j.since(t, "x", 0); len(got)+len(j.entries) != 0 {
				t.Errorf("x has %q", got)
			}
			if next := j.append(t, "x", "new"); next <= last {
				t.Errorf("%d after %d", next, last)
			}
			if got := files(t, dir); len(got) != 1 {
				t.Errorf("there are %q", got)
			}
		})
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// flip changes a byte of a file.
func flip(t *testing.T, dir string, n int, at int) {
	t.Helper()
	name := files(t, dir)[n]
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	body[at] ^= 1
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestJournalKeep: entries are kept for Keep, each file begins with what must be known, and
// what is over takes no room.
func TestJournalKeep(t *testing.T) {
	now := time.Now()
	state := "a"
	cfg := Config{Dir: t.TempDir(), Boot: "b", Now: func() time.Time { return now }, Head: func() [][]byte { return [][]byte{[]byte("head " + state)} }}
	j := reopen(t, cfg)
	var wrote []time.Time
	for i := range 40 {
		j.append(t, "x", fmt.Sprint(i))
		wrote = append(wrote, now)
		now = now.Add(30 * time.Second)
	}
	now = now.Add(-30 * time.Second)
	got := j.since(t, "x", 0)
	must, may := 0, 0
	for _, at := range wrote {
		if now.Sub(at) <= Keep {
			must++
		}
		if now.Sub(at) <= 2*(Keep+segmentAge) {
			may++
		}
	}
	if n := len(got); n < must || n > may || got[n-1] != "39" {
		t.Errorf("%d are kept, up to %s: want the last %d at least, %d at most", n, got[n-1], must, may)
	}
	if first := j.First(); first <= 1 || len(j.since(t, "x", first-1)) != len(got) {
		t.Errorf("the first record is %d", first)
	}
	if n := len(files(t, cfg.Dir)); n > 4 {
		t.Errorf("there are %d files", n)
	}
	state = "b"
	j.Close()
	j = reopen(t, cfg)
	if len(j.notes) == 0 || j.notes[0] != "head a" {
		t.Errorf("it begins with %q", j.notes)
	}
	j.Close()
	if j = reopen(t, cfg); j.notes[len(j.notes)-1] != "head b" {
		t.Errorf("the last file begins with %q", j.notes[len(j.notes)-1])
	}
}

// TestJournalFull: where no new file can be begun those that are over are removed, though
// one of them is gone already, and it goes on when there is room.
func TestJournalFull(t *testing.T) {
	now := time.Now()
	cfg := Config{Dir: t.TempDir(), Boot: "b", Now: func() time.Time { return now }}
	for range 3 {
		reopen(t, cfg).Close()
	}
	j := reopen(t, cfg)
	j.append(t, "x", "old")
	before := files(t, cfg.Dir)
	if len(before) != 4 {
		t.Fatalf("there are %q", before)
	}
	if err := os.Remove(before[1]); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * Keep)
	full := filepath.Join(cfg.Dir, fmt.Sprintf("%016x%s", j.seq+1, ending+unready))
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	seq := j.seq
	if err := j.Note(nil); err == nil {
		t.Fatal("a note was taken, and there was no room")
	}
	if got := files(t, cfg.Dir); !slices.Equal(got, before[3:]) {
		t.Errorf("there are %q, want %q", got, before[3:])
	}
	if at, _ := j.Position(t.Context()); at != seq || j.First() > seq {
		t.Errorf("it is at %d from %d on, and was at %d", at, j.First(), seq)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	j.append(t, "x", "new")
	j.Close()
	if got := reopen(t, cfg).since(t, "x", 0); !slices.Equal(got, []string{"new"}) {
		t.Errorf("x has %q", got)
	}
}

// TestJournalHead: where a process dies before all is written that a file begins with, what
// the one before began with counts, and nothing of the new one.
func TestJournalHead(t *testing.T) {
	state := "a"
	cfg := Config{Dir: t.TempDir(), Boot: "b", Head: func() [][]byte { return [][]byte{[]byte("anew"), []byte(state + "1"), []byte(state + "2")} }}
	j := reopen(t, cfg)
	j.append(t, "x", "one")
	state = "b"
	x, err := j.begin(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	began := x.File.Name()
	x.Close()
	j.Close()
	for size := x.size; size >= 0; size -= 7 {
		if err := os.Truncate(began, size); err != nil {
			t.Fatal(err)
		}
		died := cfg
		died.Dir = t.TempDir()
		if err := os.CopyFS(died.Dir, os.DirFS(cfg.Dir)); err != nil {
			t.Fatal(err)
		}
		next := reopen(t, died)
		if want := []string{"anew", "a1", "a2"}; !slices.Equal(next.notes, want) {
			t.Fatalf("of %d bytes it has the notes %q, want %q", size, next.notes, want)
		}
		if got := next.since(t, "x", 0); !slices.Equal(got, []string{"one"}) {
			t.Fatalf("of %d bytes x has %q", size, got)
		}
		next.Close()
		if all, err := os.ReadDir(died.Dir); err != nil || len(all) != 2 {
			t.Fatalf("there are %v: %v", all, err)
		}
	}
}

// TestJournalKilled: what Append returned from is there after the process was killed at
// once, life after life.
func TestJournalKilled(t *testing.T) {
	dir := t.TempDir()
	var all []uint64
	for round := range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var seq uint64
			if _, err := fmt.Sscan(lines.Text(), &seq); err != nil {
				t.Fatal(err)
			}
			all = append(all, seq)
			if n == 200*(round+1) {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Wait(); err == nil {
			t.Fatal("it ended by itself")
		}
	}
	list, err := reopen(t, Config{Dir: dir, Boot: "b"}).Since(t.Context(), "k", 0)
	if err != nil {
		t.Fatal(err)
	}
	is := make(map[uint64]bool)
	for _, r := range list {
		is[r.Seq] = true
	}
	for _, seq := range all {
		if !is[seq] {
			t.Errorf("%d was taken, and is not there", seq)
		}
	}
	// Of each life one may have been taken and not been said.
	if len(all) < 1000 || len(list) > len(all)+5 {
		t.Errorf("there are %d, and %d were said", len(list), len(all))
	}
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(Config{Dir: b.TempDir(), Boot: "b"})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	body := make([]byte, 800)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Append(b.Context(), "k", bus.Any, body); err != nil {
			b.Fatal(err)
		}
	}
}
