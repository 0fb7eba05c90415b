package bustest

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Refusal is what a service says in the place of an answer.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Ask sends a request as it stands, which no client of ours would, and returns the
// answer or the refusal. The test fails where neither comes.
func Ask(t testing.TB, nc *nats.Conn, subject string, body []byte) (answer json.RawMessage, refused *Refusal) {
	t.Helper()
	m, err := nc.Request(subject, body, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var reply struct {
		OK    json.RawMessage `json:"ok"`
		Error *Refusal        `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil || (reply.OK == nil) == (reply.Error == nil) {
		t.Fatalf("%s: answered with %.200q, %v", subject, m.Data, err)
	}
	return reply.OK, reply.Error
}

// Allocated is how many bytes of memory the process took while fn ran.
func Allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
