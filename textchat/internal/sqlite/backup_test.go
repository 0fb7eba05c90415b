package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"voicefleet/textchat"
)

// TestBackupUnderWrites: a copy made while all write has every message that was
// acknowledged before it began, and is whole.
func TestBackupUnderWrites(t *testing.T) {
	ctx := t.Context()
	s, err := Open(t.TempDir(), Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	writing, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	var mu sync.Mutex
	acknowledged := 0
	enough := make(chan struct{})
	for w := range 4 {
		all.Go(func() {
			for n := 1; writing.Err() == nil; n++ {
				m := textchat.Message{ID: textchat.ID(w*1_000_000 + n), Channel: 7, Content: fmt.Sprint(n)}
				if _, _, err := s.AddMessage(ctx, m, ""); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if acknowledged++; acknowledged == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	mu.Lock()
	least := acknowledged
	mu.Unlock()
	dir := t.TempDir()
	if err := s.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	stop()
	all.Wait()
	if err := s.Backup(ctx, dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one to the same place: %v", err)
	}
	if err := Check(ctx, dir); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir, Config{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got := 0
	for q := (textchat.PageQuery{Limit: 100}); ; {
		page, err := b.Page(ctx, 7, q)
		if err != nil {
			t.Fatal(err)
		}
		if got += len(page); len(page) < q.Limit {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	if got < least {
		t.Errorf("%d messages in the copy, %d were acknowledged before", got, least)
	}
}

func TestCheckRefusesWhatIsNoStore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, File)
	if err := Check(t.Context(), dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	for _, body := range []string{"", "no database at all", "SQLite format 3\x00 and no more"} {
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := Check(ctx, dir); err == nil {
			t.Errorf("%.20q passes for a store", body)
		}
		cancel()
	}
}
