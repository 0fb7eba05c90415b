package sqlite

import (
	"fmt"
	"testing"

	"voicefleet/textchat/textchattest"
)

// TestConform runs seeded histories against the model and this store.
func TestConform(t *testing.T) {
	s := open(t, t.TempDir())
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) { textchattest.Differential(t, s, seed+1, 400) })
	}
	textchattest.Rivals(t, 1000, s)
}

// TestLinearizable holds what racing clients are told against all orders of it; some
// of them give up waiting.
func TestLinearizable(t *testing.T) {
	s := open(t, t.TempDir())
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) { textchattest.Linearizable(t, 2000+seed, func() {}, s) })
	}
}
