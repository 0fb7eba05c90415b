package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	// scrubPages are looked at in one write: a few milliseconds of the writer's time.
	scrubPages = 128
	// scrubMost is the largest file, in pages, in which the first byte of a page says
	// that it is one of a tree: no page number begins so. With pages of 4 KiB it is 128 GiB.
	scrubMost = 0x02 << 24
	// checkpointTry is how long readers of what was before are waited for at a time, while
	// writers wait too; checkpointTries how often.
	checkpointTry   = 100 * time.Millisecond
	checkpointTries = 50
)

// Scrub overwrites what was deleted or replaced and can still be read in the file: in the
// unused parts of its pages, in those that are free, and in the log. Writers go on between
// its steps. progress is told of each and ends Scrub by an error.
//
// What is deleted leaves zeros by itself (secure_delete); but where a page was split the
// copies stay that were moved, and so does what an older version of this program deleted.
func (s *Store) Scrub(ctx context.Context, progress func(done, of int) error) error {
	const verb = "scrub store"
	of := 0
	if err := s.read.QueryRowContext(ctx, "PRAGMA page_count").Scan(&of); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if of >= scrubMost {
		return fmt.Errorf("%s: the file has %d pages, too many; VACUUM it with the program stopped", verb, of)
	}
	// The first page has the schema. Pages that come meanwhile have nothing old in them.
	for from := 2; from <= of; from += scrubPages {
		err := s.change(ctx, verb, func(tx *txn) error { return wipePages(tx, from, min(from+scrubPages-1, of)) })
		if err == nil {
			err = progress(min(from+scrubPages-1, of), of)
		}
		if err != nil {
			return err
		}
	}
	for more := true; more; {
		err := s.change(ctx, verb, func(tx *txn) (err error) {
			more, err = wipeFree(tx)
			return err
		})
		if err == nil {
			err = progress(of, of)
		}
		if err != nil {
			return err
		}
	}
	return s.emptyLog(ctx)
}

func pageOf(tx *txn, n int) ([]byte, error) {
	var b []byte
	err := tx.row("SELECT data FROM sqlite_dbpage WHERE pgno = ?", n).Scan(&b)
	return b, err
}

func putPage(tx *txn, n int, b []byte) error {
	_, err := exec(tx, "UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?", b, n)
	return err
}

// wipePages wipes the unused parts of pages.
func wipePages(tx *txn, from, to int) error {
	for n := from; n <= to; n++ {
		b, err := pageOf(tx, n)
		if err != nil {
			return err
		}
		if wipe(b) {
			if err := putPage(tx, n, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// wipe zeroes what is unused of a page of a tree, and says whether that changed it. A page
// of another kind stays; so does one that only looks like it. (See the file format of
// SQLite, 1.6: a header, the places of the cells, a gap, cells and free blocks between
// them, each of which begins with the place of the next one and its size.)
func wipe(b []byte) (changed bool) {
	header := 0
	switch b[0] {
	case 2, 5:
		header = 12
	case 10, 13:
		header = 8
	default:
		return false
	}
	at := func(i int) int { return int(binary.BigEndian.Uint16(b[i:])) }
	from, to := header+2*at(3), at(5)
	if to == 0 {
		to = 1 << 16
	}
	if from > to || to > len(b) {
		return false
	}
	spans := [][2]int{{from, to}}
	for block, before := at(1), to-1; block != 0; block = at(block) {
		if block <= before || block+4 > len(b) || at(block+2) < 4 || block+at(block+2) > len(b) {
			return false
		}
		before = block + at(block+2) - 1
		spans = append(spans, [2]int{block + 4, before + 1})
	}
	for _, s := range spans {
		for i := s[0]; i < s[1]; i++ {
			changed = changed || b[i] != 0
			b[i] = 0
		}
	}
	return changed
}

// wipeFree zeroes up to scrubPages of the pages that are free, and says whether there are
// more. The list of them is a chain of pages: the next one, how many it names, and those.
func wipeFree(tx *txn) (more bool, err error) {
	first, err := pageOf(tx, 1)
	if err != nil {
		return false, err
	}
	wiped := 0
	for trunk := binary.BigEndian.Uint32(first[32:]); trunk != 0; {
		list, err := pageOf(tx, int(trunk))
		if err != nil {
			return false, err
		}
		n := int(binary.BigEndian.Uint32(list[4:]))
		if n > len(list)/4-2 {
			return false, errors.New("the list of free pages is damaged")
		}
		if zero(list[8+4*n:]) {
			if err := putPage(tx, int(trunk), list); err != nil {
				return false, err
			}
		}
		for i := range n {
			leaf := int(binary.BigEndian.Uint32(list[8+4*i:]))
			b, err := pageOf(tx, leaf)
			if err != nil {
				return false, err
			}
			if !zero(b) {
				continue
			}
			if wiped++; wiped > scrubPages {
				return true, nil
			}
			if err := putPage(tx, leaf, b); err != nil {
				return false, err
			}
		}
		trunk = binary.BigEndian.Uint32(list)
	}
	return false, nil
}

// zero makes b zeros, and says whether it was anything else.
func zero(b []byte) (changed bool) {
	for i := range b {
		changed = changed || b[i] != 0
		b[i] = 0
	}
	return changed
}

// emptyLog brings the log into the file and makes it empty. It must wait for readers of
// what was before, and writers wait for it: so it gives up soon, and tries again.
func (s *Store) emptyLog(ctx context.Context) (err error) {
	const verb = "empty the log of the store"
	var file string
	if err := s.read.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	db, err := openFile(file, fmt.Sprintf("&_pragma=busy_timeout(%d)", checkpointTry.Milliseconds()))
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	again := time.NewTicker(checkpointTry)
	defer again.Stop()
	for range checkpointTries {
		var busy, frames, brought int
		if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &brought); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", verb, ctx.Err())
		}
	}
	return fmt.Errorf("%s: somebody reads for too long; try again", verb)
}
