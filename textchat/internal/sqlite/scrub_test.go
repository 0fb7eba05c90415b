package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"voicefleet/textchat"
)

// remains counts a text in all files of a folder.
func remains(t *testing.T, dir, text string) (n int) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(b, []byte(text))
	}
	return n
}

// TestScrub: after it no byte of what was deleted or replaced is left in the files, what
// is there stays, and the file is whole. Deleted is with and without secure_delete.
func TestScrub(t *testing.T) {
	for secure := range 2 {
		t.Run(fmt.Sprint(secure), func(t *testing.T) {
			ctx, dir := context.Background(), t.TempDir()
			s, err := Open(dir, Config{Patience: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(s.change(ctx, "set", func(tx *txn) error { _, err := exec(tx, fmt.Sprintf("PRAGMA secure_delete = %d", secure)); return err }))
			const mine, theirs = "HEREIAM-", "somebody-else-"
			const many, channels = 2000, 7
			// Not in order: pages are split. Some messages have more than a page of their own.
			put := func() {
				lists := make([][]textchat.Message, channels)
				for i := range many {
					n, text := i*7919%many, theirs
					if n%3 == 0 {
						text = mine
					}
					m := textchat.Message{ID: textchat.ID(n + 1), Channel: textchat.ID(1 + n%channels), Content: strings.Repeat(text, 1+n%13+n%50/49*700)}
					lists[n%channels] = append(lists[n%channels], m)
				}
				for i, list := range lists {
					must(s.AddMessages(ctx, textchat.ID(i+1), list))
				}
			}
			put()
			for n := range many {
				if n%3 != 0 {
					continue
				}
				m := textchat.Message{ID: textchat.ID(n + 1), Channel: textchat.ID(1 + n%channels), Content: "edited"}
				if n%2 == 0 {
					must(s.EditMessage(ctx, m))
				} else {
					must(s.DeleteMessage(ctx, m.Channel, m.ID))
				}
			}
			must(s.emptyLog(ctx))
			before := remains(t, dir, mine)
			if before == 0 {
				t.Error("nothing is left over: there is nothing to scrub")
			}
			steps := 0
			must(s.Scrub(ctx, func(done, of int) error {
				if steps++; done > of {
					t.Errorf("%d of %d pages", done, of)
				}
				return nil
			}))
			if n := remains(t, dir, mine); n > 0 || steps < 2 {
				t.Errorf("%d of %d are left after %d steps", n, before, steps)
			}
			for channel := range textchat.ID(channels) {
				list, err := s.Page(ctx, channel+1, textchat.PageQuery{Limit: many})
				must(err)
				for _, m := range list {
					if n := int(m.ID - 1); n%3 == 0 && m.Content != "edited" || n%3 != 0 && m.Content != strings.Repeat(theirs, 1+n%13+n%50/49*700) {
						t.Fatalf("message %d is %.40q", n, m.Content)
					}
				}
			}
			put() // what was free is used again
			must(s.Close())
			must(Check(ctx, dir))
		})
	}
}

// TestWipe: the gap and the blocks between cells become zeros, cells stay, and what is no
// page of a tree is left alone.
func TestWipe(t *testing.T) {
	page := func(change func([]byte)) []byte {
		b := bytes.Repeat([]byte{0xee}, 64)
		b[0] = 13
		binary.BigEndian.PutUint16(b[1:], 40)  // a free block
		binary.BigEndian.PutUint16(b[3:], 1)   // one cell
		binary.BigEndian.PutUint16(b[5:], 32)  // cells begin here
		binary.BigEndian.PutUint16(b[40:], 0)  // no block after it
		binary.BigEndian.PutUint16(b[42:], 10) // its size
		if change != nil {
			change(b)
		}
		return b
	}
	b := page(nil)
	want := page(nil)
	clear(want[10:32])
	clear(want[44:50])
	if !wipe(b) || !bytes.Equal(b, want) {
		t.Errorf("wiped to %x", b)
	}
	if wipe(b) {
		t.Error("changed again")
	}
	for name, change := range map[string]func([]byte){
		"kind":        func(b []byte) { b[0] = 0 },
		"cells":       func(b []byte) { b[3] = 9 },
		"place":       func(b []byte) { b[5] = 9 },
		"block":       func(b []byte) { b[2] = 63 },
		"before":      func(b []byte) { b[2] = 20 },
		"size":        func(b []byte) { b[43] = 60 },
		"small":       func(b []byte) { b[43] = 3 },
		"not in turn": func(b []byte) { b[41] = 40 },
	} {
		b := page(change)
		if wipe(b) || !bytes.Equal(b, page(change)) {
			t.Errorf("%s: wiped to %x", name, b)
		}
	}
}
