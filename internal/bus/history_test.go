package bus

import (
	"context"
	"strings"
	"testing"
	"time"
)

// followed reads a history into a channel until the test ends.
func followed(t *testing.T, c *Conn) (*History[question], <-chan Past[question]) {
	t.Helper()
	h, err := OpenHistory[question](t.Context(), c, JournalHistory)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	seen, ended := make(chan Past[question], 64), make(chan struct{})
	go func() {
		defer close(ended)
		h.Follow(ctx, func(p Past[question]) { seen <- p })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h, seen
}

func await(t *testing.T, seen <-chan Past[question], n int) Past[question] {
	t.Helper()
	select {
	case p := <-seen:
		if p.Value.N != n || p.Synced {
			t.Fatalf("saw %+v, want %d", p, n)
		}
		return p
	case <-time.After(10 * time.Second):
		t.Fatalf("%d was not seen", n)
	}
	return Past[question]{}
}

// awaitTold waits for the word that all there was has been told.
func awaitTold(t *testing.T, seen <-chan Past[question]) {
	t.Helper()
	select {
	case p := <-seen:
		if !p.Synced {
			t.Fatalf("saw %+v, want Synced", p)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Synced was not seen")
	}
}

func TestHistoryTellsPastAndPresentOnce(t *testing.T) {
	_, conns := start(t, 3)
	h, first := followed(t, conns[0])
	awaitTold(t, first)
	for n, id := range []string{"a", "b", "b", "", ""} {
		if err := h.Append(t.Context(), id, question{n}); err != nil {
			t.Fatal(err)
		}
	}
	last := uint64(0)
	for _, n := range []int{0, 1, 3, 4} { // 2 had the id of 1
		p := await(t, first, n)
		if p.Seq <= last {
			t.Fatalf("sequence %d after %d", p.Seq, last)
		}
		last = p.Seq
	}
	other, late := followed(t, conns[1])
	for _, n := range []int{0, 1, 3, 4} {
		await(t, late, n)
	}
	awaitTold(t, late)
	if err := other.Append(t.Context(), "c", question{5}); err != nil {
		t.Fatal(err)
	}
	await(t, first, 5)
	await(t, late, 5)
}

func TestHistoryRefusesLongEntriesAndLeavesOutStrangers(t *testing.T) {
	_, conns := start(t, 1)
	h, seen := followed(t, conns[0])
	awaitTold(t, seen)
	long, err := OpenHistory[string](t.Context(), conns[0], JournalHistory)
	if err != nil {
		t.Fatal(err)
	}
	if err := long.Append(t.Context(), "", strings.Repeat("x", maxEntry)); err == nil || !strings.Contains(err.Error(), "at most 16384") {
		t.Fatalf("a long entry: %v", err)
	}
	if err := long.Append(t.Context(), "", "no question"); err != nil {
		t.Fatal(err)
	}
	if err := h.Append(t.Context(), "", question{1}); err != nil {
		t.Fatal(err)
	}
	await(t, seen, 1)
	if err := long.Append(t.Context(), "", "no question"); err != nil {
		t.Fatal(err)
	}
	_, late := followed(t, conns[0])
	await(t, late, 1)
	awaitTold(t, late) // after one that cannot be read
}

func TestHistoryGoesOnWhereItsStreamWasLost(t *testing.T) {
	_, conns := start(t, 1)
	h, seen := followed(t, conns[0])
	awaitTold(t, seen)
	for n := range 3 {
		if err := h.Append(t.Context(), "", question{n}); err != nil {
			t.Fatal(err)
		}
		await(t, seen, n)
	}
	if err := conns[0].js.DeleteStream(t.Context(), JournalHistory); err != nil {
		t.Fatal(err)
	}
	if err := h.Append(t.Context(), "", question{7}); err != nil {
		t.Fatal(err)
	}
	if p := await(t, seen, 7); p.Seq != 1 {
		t.Errorf("sequence %d in the new stream", p.Seq)
	}
}
