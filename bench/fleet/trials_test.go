package fleet

import (
	"testing"
	"time"
)

func TestLostSince(t *testing.T) {
	const journal = `2026-11-29 23:00:33  lost edge1: no answer on its media port (allocator)
2026-11-29 23:00:34  move edge1 call 1 to edge2: node_lost (allocator)
2026-11-29 23:00:45  suspect edge2: no heartbeat for 1.5 s (allocator)
2026-11-29 23:00:46  lost edge2: no answer on its media port (allocator)
something else
`
	at := time.Date(2026, 11, 29, 23, 0, 33, 5e8, time.Local)
	if n := lostSince(journal, at); n != 2 {
		t.Errorf("%d, want 2", n)
	}
	if n := lostSince(journal, at.Add(time.Second)); n != 1 {
		t.Errorf("%d after the first, want 1", n)
	}
}
