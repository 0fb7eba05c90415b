package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"voicefleet/internal/bus"
)

const (
	// Keep is how long at least what was written is kept, unless there is too much of it.
	Keep = 4 * time.Minute
	// segmentAge and segmentBytes are when a file is full: at the rates of a small house
	// there are three of them.
	segmentAge   = Keep
	segmentBytes = 8 << 20
	// mostBytes bounds all files together: what is oldest goes first.
	mostBytes = 256 << 20
	// largest bounds what is written at once, largestKey a key, in bytes.
	largest    = 16 << 20
	largestKey = 255
	// ending is that of the files.
	ending = ".journal"
	// unready ends the name of a file that has not all yet that it must begin with.
	unready = ".new"
)

// Config says where a journal is and what it is told.
type Config struct {
	// Dir is the folder, which is made when missing. It is for this journal alone, and
	// for one process at a time.
	Dir string
	// Boot names the run of the machine: what another one wrote does not count. Empty:
	// the one of this machine; where that is not to be had nothing counts that was
	// written before.
	Boot string
	// Past is called with all that is there, in its order, before Open returns. Bodies
	// are lent.
	Past func(Record)
	// Head gives the notes with which each file begins, so that what they say is not lost
	// with those before it. It must not call the journal.
	Head func() [][]byte
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Record is an entry of a key, or a note, which has no key.
type Record struct {
	Seq  uint64
	Key  string
	Body []byte
}

// Journal is a journal that is open. Safe for concurrent use.
type Journal struct {
	// Immutable.
	cfg  Config
	boot string

	mu sync.Mutex
	// Guarded by mu.
	seq   uint64 // of the last record
	files []*file
	keys  map[string][]place // oldest first
	buf   []byte
}

// file is a file of the journal. Only the last one is written.
type file struct {
	*os.File
	name          string
	size          int64
	first         uint64 // number
	began, latest time.Time
}

// place is where the body of an entry lies.
type place struct {
	seq  uint64
	file *file
	at   int64
	size int
}

// Open opens the journal and begins a new file.
func Open(cfg Config) (*Journal, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Boot == "" {
		cfg.Boot = boot()
	}
	j := &Journal{cfg: cfg, boot: cfg.Boot, keys: make(map[string][]place)}
	if err := j.open(); err != nil {
		j.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func (j *Journal) open() error {
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		return err
	}
	names, err := j.names()
	if err != nil {
		return err
	}
	known := false
	if j.boot != "" {
		if known, err = j.readAll(names); err != nil {
			return err
		}
	}
	if !known {
		for _, name := range names {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		// No number of before is given again.
		j.seq = uint64(j.cfg.Now().UnixMilli()) << 10
	}
	if j.cfg.Past != nil {
		for _, f := range j.files {
			if err := f.each(j.cfg.Past); err != nil {
				return err
			}
		}
	}
	return j.rotate()
}

// names are those of the files, oldest first.
func (j *Journal) names() ([]string, error) {
	entries, err := os.ReadDir(j.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries { // sorted
		if strings.HasSuffix(e.Name(), ending+unready) { // who began it died on the way
			if err := os.Remove(filepath.Join(j.cfg.Dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		if strings.HasSuffix(e.Name(), ending) {
			names = append(names, filepath.Join(j.cfg.Dir, e.Name()))
		}
	}
	return names, nil
}

// errForeign says that what lies there is not to be believed as a whole.
var errForeign = errors.New("not a journal of this run of the machine, or not all of it")

// readAll finds what is there; false: it does not count.
func (j *Journal) readAll(names []string) (known bool, err error) {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		x := &file{File: f, name: name}
		j.files = append(j.files, x)
		if err = j.read(x); errors.Is(err, errForeign) {
			j.Close()
			j.files, j.keys, j.seq = nil, make(map[string][]place), 0
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if x.size == 0 { // who began it died on the way
			j.files = j.files[:len(j.files)-1]
			if err := errors.Join(x.Close(), os.Remove(name)); err != nil {
				return false, err
			}
		}
	}
	return len(j.files) > 0, nil
}

// read notes what is in a file, up to where who wrote it ended.
func (j *Journal) read(f *file) error {
	body, err := os.ReadFile(f.name)
	if err != nil {
		return err
	}
	for f.size < int64(len(body)) {
		r, key, text, whole := parse(body[f.size:])
		switch {
		case !whole:
			return nil // it died on the way, and told nobody
		case f.size == 0 && (r.kind != kindHead || string(text) != j.boot), j.seq != 0 && r.seq != j.seq+1:
			return errForeign
		case f.size == 0:
			f.began, f.first = r.at, r.seq
		case r.kind == kindEntry:
			j.keys[key] = append(j.keys[key], place{r.seq, f, f.size + int64(r.size-len(text)), len(text)})
		}
		j.seq, f.latest = r.seq, r.at
		f.size += int64(r.size)
	}
	return nil
}

// each calls fn with all records of a file.
func (f *file) each(fn func(Record)) error {
	body := make([]byte, f.size)
	if _, err := f.ReadAt(body, 0); err != nil {
		return err
	}
	for len(body) > 0 {
		r, key, text, _ := parse(body)
		if r.kind != kindHead {
			fn(Record{Seq: r.seq, Key: key, Body: text})
		}
		body = body[r.size:]
	}
	return nil
}

// Close closes the files. What was written lies there for the next.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var failed error
	for _, f := range j.files {
		failed = errors.Join(failed, f.Close())
	}
	return failed
}

// Append adds an entry to the list of a key, as [bus.Log.Append] does.
func (j *Journal) Append(_ context.Context, key string, last uint64, body []byte) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if last != bus.Any && last != j.lastLocked(key) {
		return 0, fmt.Errorf("append to journal: %w", bus.ErrConflict)
	}
	at, f, err := j.writeLocked(kindEntry, key, body)
	if err != nil {
		return 0, fmt.Errorf("append to journal: %w", err)
	}
	j.keys[key] = append(j.keys[key], place{j.seq, f, at, len(body)})
	return j.seq, nil
}

// Note writes a note.
func (j *Journal) Note(body []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, _, err := j.writeLocked(kindNote, "", body); err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	return nil
}

// Since lists the entries of a key after one, in order.
func (j *Journal) Since(_ context.Context, key string, after uint64) ([]bus.Record, error) {
	j.mu.Lock()
	places := j.keys[key]
	i := sort.Search(len(places), func(i int) bool { return places[i].seq > after })
	places = places[i:len(places):len(places)]
	j.mu.Unlock()
	list := make([]bus.Record, 0, len(places))
	for _, p := range places {
		body := make([]byte, p.size)
		if _, err := p.file.ReadAt(body, p.at); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		list = append(list, bus.Record{Seq: p.seq, Prev: after, Body: body})
		after = p.seq
	}
	return list, nil
}

// Last is the number of the last entry of a key, zero when none is kept.
func (j *Journal) Last(_ context.Context, key string) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lastLocked(key), nil
}

func (j *Journal) lastLocked(key string) uint64 {
	if places := j.keys[key]; len(places) > 0 {
		return places[len(places)-1].seq
	}
	return 0
}

// First is the number of the first record that is kept.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.files[0].first
}

// Position is the number of the last record.
func (j *Journal) Position(context.Context) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, nil
}

func (j *Journal) writeLocked(kind byte, key string, body []byte) (at int64, f *file, err error) {
	if len(body) > largest || len(key) > largestKey {
		return 0, nil, fmt.Errorf("%d bytes for a key of %d, at most %d and %d are taken", len(body), len(key), largest, largestKey)
	}
	now := j.cfg.Now()
	f = j.files[len(j.files)-1]
	if f.size >= segmentBytes || now.Sub(f.began) >= segmentAge {
		if err := j.rotate(); err != nil {
			return 0, nil, err
		}
		f = j.files[len(j.files)-1]
	}
	at, err = j.writeTo(f, now, kind, key, body)
	return at, f, err
}

// writeTo writes a record where the file ends. What a write leaves that failed is taken
// back, covered by the next one, or not whole.
func (j *Journal) writeTo(f *file, now time.Time, kind byte, key string, body []byte) (at int64, err error) {
	j.buf = appendRecord(j.buf[:0], record{kind: kind, seq: j.seq + 1, at: now}, key, body)
	if _, err := f.WriteAt(j.buf, f.size); err != nil {
		_ = f.Truncate(f.size)
		return 0, err
	}
	f.size += int64(len(j.buf))
	f.latest = now
	j.seq++
	return f.size - int64(len(body)), nil
}

// rotate begins a new file, and removes those that are over: before, too, as there may be
// no room but theirs. What they said of what must be known the last one says, which stays.
func (j *Journal) rotate() error {
	now := j.cfg.Now()
	j.dropLocked(now)
	before := j.seq
	x, err := j.begin(now)
	if err == nil {
		err = os.Rename(x.File.Name(), x.name)
	}
	if err != nil {
		j.seq = before
		if x != nil {
			err = errors.Join(err, os.Remove(x.File.Name()), x.Close())
		}
		return err
	}
	j.files = append(j.files, x)
	j.dropLocked(now)
	return nil
}

// begin writes a new file with what must be in it. It counts with its name: the notes of a
// head are right together only.
func (j *Journal) begin(now time.Time) (*file, error) {
	name := filepath.Join(j.cfg.Dir, fmt.Sprintf("%016x%s", j.seq+1, ending))
	f, err := os.OpenFile(name+unready, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	x := &file{File: f, name: name, began: now, first: j.seq + 1}
	_, err = j.writeTo(x, now, kindHead, "", []byte(j.boot))
	if j.cfg.Head != nil {
		for _, note := range j.cfg.Head() {
			if err == nil {
				_, err = j.writeTo(x, now, kindNote, "", note)
			}
		}
	}
	return x, err
}

// dropLocked removes the files that are over. Who reads one of them still can. One that
// cannot be removed is tried again with the next file, and what comes after it stays as
// long: with a hole in the middle nothing would count.
func (j *Journal) dropLocked(now time.Time) {
	sum := int64(0)
	for _, f := range j.files {
		sum += f.size
	}
	n := 0
	for n < len(j.files)-1 && (now.Sub(j.files[n].latest) > Keep || sum > mostBytes) {
		if err := os.Remove(j.files[n].name); err != nil && !errors.Is(err, os.ErrNotExist) {
			break
		}
		sum -= j.files[n].size
		n++
	}
	if n == 0 {
		return
	}
	gone := j.files[:n]
	for key, places := range j.keys {
		i := 0
		for i < len(places) && slices.Contains(gone, places[i].file) {
			i++
		}
		switch {
		case i == len(places):
			delete(j.keys, key)
		case i > 0:
			j.keys[key] = slices.Clone(places[i:])
		}
	}
	j.files = slices.Clone(j.files[n:]) // what nobody reads any more is closed with its last reader
}

// Forget begins a new file and removes all others, so that nothing can be read any more
// that was written before but what the notes of [Config.Head] say. Numbers go on.
func (j *Journal) Forget() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.rotate(); err != nil {
		return fmt.Errorf("forget journal: %w", err)
	}
	last := len(j.files) - 1
	for i, f := range j.files[:last] { // oldest first: what stays has no gap
		if err := os.Remove(f.name); err != nil && !errors.Is(err, os.ErrNotExist) {
			j.files = slices.Clone(j.files[i:])
			return fmt.Errorf("forget journal: %w", err)
		}
	}
	j.files = slices.Clone(j.files[last:])
	clear(j.keys)
	return nil
}

// Records are written as they are here: length of what follows (4), its checksum (4),
// kind (1), number (8), time in Unix milliseconds (8), length of the key (1), key, body.
// Numbers are little-endian.
const (
	recordHead = 8
	recordMeta = 18

	kindHead  = 'h' // the first of a file: the run of the machine
	kindEntry = 'e'
	kindNote  = 'n'
)

type record struct {
	kind byte
	seq  uint64
	at   time.Time
	size int // of all
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(b []byte, r record, key string, body []byte) []byte {
	b = append(b, make([]byte, recordHead)...)
	b = append(b, r.kind)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.at.UnixMilli()))
	b = append(b, byte(len(key)))
	b = append(b, key...)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-recordHead))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[recordHead:], castagnoli))
	return b
}

// parse reads a record; what it returns is lent.
func parse(b []byte) (r record, key string, body []byte, whole bool) {
	if len(b) < recordHead+recordMeta {
		return r, "", nil, false
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n < recordMeta || n > len(b)-recordHead || crc32.Checksum(b[recordHead:recordHead+n], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return r, "", nil, false
	}
	rest := b[recordHead : recordHead+n]
	r = record{kind: rest[0], seq: binary.LittleEndian.Uint64(rest[1:]), at: time.UnixMilli(int64(binary.LittleEndian.Uint64(rest[9:]))), size: recordHead + n}
	k := int(rest[17])
	if recordMeta+k > n {
		return r, "", nil, false
	}
	return r, string(rest[recordMeta : recordMeta+k]), rest[recordMeta+k:], true
}
