package ledger

import (
	"testing"
	"unsafe"
)

// memory is aligned as mapped memory is.
func memory(records int) []byte {
	words := make([]uint64, Size(records)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), Size(records))
}

func open(t *testing.T, m []byte) *Ledger {
	t.Helper()
	l, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOutlives holds that the next ledger over the same memory finds everything
// as it was, without a word from the one before.
func TestOutlives(t *testing.T) {
	m := memory(4)
	first := open(t, m)
	number, tag, r, ok := first.Take()
	if !ok || number == 0 || tag == 0 {
		t.Fatalf("record %d, tag %d, %v", number, tag, ok)
	}
	if _, ok := r.Highest(); ok {
		t.Error("a new record has heard something")
	}
	r.Heard(0)
	r.SetMic(77)
	r.Reported(5)
	r.Indices(3)[2] = 1<<40 | 9
	r.Feedback(0, 0, 0)
	r.Feedback(Reporters-1, 1<<32-1, 1<<31-1)
	first.Busy(0, 1<<63)
	first.Busy(Workers-1, 1<<63)

	second := open(t, m)
	if got := second.Blamed(); len(got) != 1 || got[0] != 1<<63 {
		t.Errorf("blamed %v", got)
	}
	if got := second.Blamed(); got != nil {
		t.Errorf("blamed twice: %v", got)
	}
	again, ok := second.Claim(number, tag)
	if !ok {
		t.Fatal("its record is not found")
	}
	if index, ok := again.Highest(); !ok || index != 0 {
		t.Errorf("heard %d, %v", index, ok)
	}
	if again.Mic() != 77 || again.Reports() != 5 || again.Indices(3)[2] != 1<<40|9 {
		t.Errorf("record %+v", again)
	}
	if ssrc, index, ok := again.Reporter(0); !ok || ssrc != 0 || index != 0 {
		t.Errorf("first reporter %d %d %v", ssrc, index, ok)
	}
	if ssrc, index, ok := again.Reporter(Reporters - 1); !ok || ssrc != 1<<32-1 || index != 1<<31-1 {
		t.Errorf("last reporter %d %d %v", ssrc, index, ok)
	}
	if _, _, ok := again.Reporter(1); ok {
		t.Error("a reporter that never was")
	}
}

func TestOwners(t *testing.T) {
	m := memory(2)
	l := open(t, m)
	a, tagA, _, _ := l.Take()
	b, tagB, _, _ := l.Take()
	if _, _, _, ok := l.Take(); ok || a == b || tagA == tagB {
		t.Errorf("records %d and %d, and a third: %v", a, b, ok)
	}
	l = open(t, m)
	for _, c := range []struct {
		number uint32
		tag    uint64
	}{{0, tagA}, {3, tagA}, {1 << 31, tagA}, {a, tagB}, {a, 0}, {a, tagA + 2}} {
		if _, ok := l.Claim(c.number, c.tag); ok {
			t.Errorf("record %d claimed with %d", c.number, c.tag)
		}
	}
	if _, ok := l.Claim(a, tagA); !ok {
		t.Error("not claimed by its owner")
	}
	if _, ok := l.Claim(a, tagA); ok {
		t.Error("claimed twice")
	}
	// What nobody claimed is free; its old owner comes too late.
	if n, _, r, ok := l.Take(); !ok || n != b || r.Mic() != 0 {
		t.Errorf("took %d, %v", n, ok)
	}
	if _, ok := l.Claim(b, tagB); ok {
		t.Error("claimed by an owner of before")
	}
	l.Release(a)
	if _, ok := l.Claim(a, tagA); ok {
		t.Error("claimed after its end")
	}
	if n, _, _, ok := l.Take(); !ok || n != a {
		t.Errorf("took %d, %v", n, ok)
	}
}

func TestRefusesOtherMemory(t *testing.T) {
	other := func(change func(words []uint64)) []byte {
		m := memory(1)
		open(t, m)
		change(unsafe.Slice((*uint64)(unsafe.Pointer(&m[0])), 8))
		return m
	}
	for name, m := range map[string][]byte{
		"too short":      memory(1)[:headSize-1],
		"not aligned":    memory(1)[4:],
		"something else": other(func(w []uint64) { w[0]++ }),
		"later layout":   other(func(w []uint64) { w[1]++ }),
		"other records":  other(func(w []uint64) { w[2] += 64 }),
	} {
		if _, err := Open(m); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	l := New(1)
	n, _, r, _ := l.Take()
	if got := testing.AllocsPerRun(100, func() {
		l.Busy(0, uint64(n))
		r.Heard(1)
		r.Feedback(1, 2, 3)
		r.Reported(4)
		r.Indices(2)[1]++
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
