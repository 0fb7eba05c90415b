package allocator

import (
	"encoding/json"
	"os"
	"testing"
)

// TestStandings: ctl and console have one word for how a node stands. The page's tests
// read the same file.
func TestStandings(t *testing.T) {
	body, err := os.ReadFile("testdata/standings.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Word string
		Node NodeView
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) < 10 {
		t.Fatalf("%d standings", len(list))
	}
	for _, one := range list {
		if got := one.Node.Standing(); got != one.Word {
			t.Errorf("%+v stands as %q, want %q", one.Node, got, one.Word)
		}
	}
}
