package snowflake

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMintGrows(t *testing.T) {
	m := Mint{Worker: 5}
	now := time.UnixMilli(Epoch + 1000)
	last := ID(0)
	for i := range 10_000 {
		if i == 5000 {
			now = now.Add(-time.Second) // the clock steps back
		}
		id := m.Next(now)
		if id <= last {
			t.Fatalf("id %d after %d", id, last)
		}
		if id>>12&1023 != 5 {
			t.Fatalf("id %d lost its worker", id)
		}
		last = id
	}
}

func TestJSON(t *testing.T) {
	for in, want := range map[string]ID{`"41771983423143937"`: 41771983423143937, `41771983423143937`: 41771983423143937, `null`: 0} {
		var id ID
		if err := json.Unmarshal([]byte(in), &id); err != nil || id != want {
			t.Errorf("%s: %d, %v", in, id, err)
		}
	}
	for _, bad := range []string{`"x"`, `1.5`, `-1`, `"99999999999999999999"`, `{}`, `true`} {
		var id ID
		if json.Unmarshal([]byte(bad), &id) == nil {
			t.Errorf("%s was read as %d", bad, id)
		}
	}
	b, _ := json.Marshal(map[ID]ID{7: 9})
	if string(b) != `{"7":"9"}` {
		t.Errorf("got %s", b)
	}
}
