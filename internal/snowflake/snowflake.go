// Package snowflake mints and reads the 64-bit ids of guilds, channels, users,
// messages and roles: milliseconds since 2015-01-01 << 22 | worker (10 bits)
// << 12 | sequence (12 bits). In JSON an id is a decimal string; bot libraries
// also send numbers, so both are read, always from the raw text and never
// through a float64, which holds 53 bits only.
package snowflake

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Epoch is 2015-01-01T00:00:00Z in milliseconds since 1970.
const Epoch = 1420070400000

// ID is one snowflake. Zero is "none" and never minted.
type ID uint64

// Parse reads the decimal form.
func Parse(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("snowflake %.24q is not a 64-bit decimal number", s)
	}
	return ID(n), nil
}

// String is the decimal form.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// Time is the millisecond at which the id was minted.
func (id ID) Time() time.Time { return time.UnixMilli(int64(id>>22) + Epoch) }

// MarshalJSON writes a decimal string.
func (id ID) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 22)
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(id), 10)
	return append(b, '"'), nil
}

// UnmarshalJSON reads a decimal string, a decimal number, or null (zero).
func (id *ID) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*id = 0
		return nil
	}
	s := string(b)
	if len(b) > 1 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	return id.UnmarshalText([]byte(s))
}

// MarshalText writes the decimal form, so that an ID can be a JSON map key.
func (id ID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(id), 10), nil }

// UnmarshalText reads the decimal form.
func (id *ID) UnmarshalText(b []byte) error {
	n, err := Parse(string(b))
	*id = n
	return err
}

// Mint makes ids that only grow. Safe for concurrent use; the zero value mints
// for worker 0.
type Mint struct {
	// Immutable.
	Worker uint16 // 0..1023, one per process that mints

	mu sync.Mutex
	// Guarded by mu.
	last ID
}

// Next is a new id for the time now. When the clock steps back, or more than
// 4,096 ids are asked for in a millisecond, it borrows from the next one.
func (m *Mint) Next(now time.Time) ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	worker := ID(m.Worker&1023) << 12
	id := ID(now.UnixMilli()-Epoch)<<22 | worker
	if id <= m.last {
		id = m.last + 1
		if id&^4095 != m.last&^4095 { // the sequence ran over into the worker bits
			id = (m.last>>22+1)<<22 | worker
		}
	}
	m.last = id
	return id
}
