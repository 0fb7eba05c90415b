package sqlite

import (
	"context"
	"time"
)

// The log is brought into the file beside the writer, by a connection of its own, and the
// writer itself brings only what was written meanwhile, so that the log is empty for a
// moment and begins anew. Brought by the writer alone, as SQLite does it by itself, 16 MiB
// of it hold up everybody for 20 ms.
const (
	// bringRows is after how many rows that is done, some 16 MiB of log: a page that is
	// written again and again, as the newest of a channel, is then brought once for many
	// times.
	bringRows = 4000
	// logPages is how long the log may be until SQLite does it by itself: 64 MiB.
	logPages = 16_000
)

// bringPages brings what no reader needs any more and waits for nobody.
const bringPages = "PRAGMA wal_checkpoint(PASSIVE)"

// tend has the log brought, now and then; called by the writer, between groups.
func (s *Store) tend() {
	if s.rest.CompareAndSwap(true, false) {
		s.begun.Store(int64(time.Since(s.epoch))) // a disk may stand still here, too
		_ = s.tx.order(bringPages)                // what it cannot bring stays where it is
		s.begun.Store(0)
	}
	if s.tx.made < bringRows {
		return
	}
	select {
	case s.bring <- struct{}{}:
		s.tx.made = 0
	default: // it is on its way
	}
}

// bringer brings the log until bring is closed.
func (s *Store) bringer() {
	defer close(s.brought)
	for range s.bring {
		if _, err := s.log.ExecContext(context.Background(), bringPages); err == nil {
			s.rest.Store(true)
		}
	}
}
