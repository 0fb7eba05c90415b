package token

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
)

func TestToken(t *testing.T) {
	const user = snowflake.ID(41771983423143937)
	a, b := New(user, time.Unix(1_800_000_000, 0)), New(user, time.Unix(1_800_000_000, 0))
	if a == b || len(a) > MaxLen {
		t.Fatalf("tokens %q and %q", a, b)
	}
	// What libraries do to learn their own id.
	first, _, _ := strings.Cut(a, ".")
	if id, err := base64.RawStdEncoding.DecodeString(first); err != nil || string(id) != "41771983423143937" {
		t.Fatalf("first part is %q", id)
	}
	got, hash, ok := Read(a)
	if !ok || got != user || hash != Hash(a) || hash == Hash(b) {
		t.Fatalf("read %v %v", got, ok)
	}
	for _, bad := range []string{"", "..", "a.b.c", first + "..", first + ".AAAA.AAAA", a + "A", "Bot " + a, strings.Repeat("A", 1000), a + "." + a} {
		if _, _, ok := Read(bad); ok {
			t.Errorf("%.40q was read", bad)
		}
	}
}
