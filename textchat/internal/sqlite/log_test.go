package sqlite

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"voicefleet/textchat"
)

// TestLogIsBrought: what is written comes into the file while the store goes on, long
// before SQLite would bring it by itself, and the log begins anew and does not grow.
func TestLogIsBrought(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		return info.Size()
	}
	next := textchat.ID(1)
	// write stores so many messages, bulkMost at a time.
	write := func(n int) {
		for range n / bulkMost {
			list := make([]textchat.Message, bulkMost)
			for i := range list {
				list[i] = textchat.Message{ID: next, Channel: 1, Content: "some words that are said"}
				next++
			}
			must(t, s.AddMessages(ctx, 1, list))
		}
	}
	// settled waits until all that was written is in the file and the log was begun anew,
	// which is at the next write.
	settled := func(least int64) {
		t.Helper()
		look := time.NewTicker(5 * time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(20 * time.Second); size(File) < least; <-look.C {
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes are in the file, want %d; the log has %d", size(File), least, size(File+"-wal"))
			}
			must(t, s.SetSetting(ctx, "a", "b"))
		}
	}
	write(bringRows + bulkMost)
	settled(bringRows * 50)
	log := size(File + "-wal")
	for range 5 {
		before := size(File)
		write(bringRows + bulkMost)
		settled(before + bringRows*50)
	}
	if now := size(File + "-wal"); now > 2*log {
		t.Errorf("the log has %d bytes, and had %d", now, log)
	}
	if m, err := s.Message(ctx, 1, next-1); err != nil || m.ID != next-1 {
		t.Errorf("the last message: %+v, %v", m, err)
	}
}
