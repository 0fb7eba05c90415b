package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Message is one message of either side, its payload still encoded.
type Message struct {
	Op   Op
	Seq  uint64 // zero: not numbered
	Data json.RawMessage
}

// Why a message is refused.
var (
	ErrTooBig  = errors.New("message is too big")
	ErrForm    = errors.New("message is not a JSON object with op and d")
	ErrPayload = errors.New("payload does not fit the op")
)

// ReadMessage splits a frame. The Data of the message is part of frame.
func ReadMessage(frame []byte) (Message, error) {
	if len(frame) > MaxMessage {
		return Message{}, ErrTooBig
	}
	var e struct {
		Op  *int            `json:"op"`
		D   json.RawMessage `json:"d"`
		Seq uint64          `json:"seq"`
	}
	if err := json.Unmarshal(frame, &e); err != nil {
		return Message{}, fmt.Errorf("%w: %v", ErrForm, err)
	}
	if e.Op == nil || e.D == nil || *e.Op < 0 {
		return Message{}, ErrForm
	}
	return Message{Op: Op(*e.Op), Seq: e.Seq, Data: e.D}, nil
}

// ReadFrame reads a frame of the server: as ReadMessage, but for a server that
// leaves an empty d out.
func ReadFrame(frame []byte) (Message, error) {
	m, err := ReadMessage(frame)
	if err == nil || errors.Is(err, ErrTooBig) {
		return m, err
	}
	var e struct {
		Op *int `json:"op"`
	}
	if json.Unmarshal(frame, &e) != nil || e.Op == nil || *e.Op < 0 {
		return Message{}, err
	}
	return Message{Op: Op(*e.Op), Data: json.RawMessage("null")}, nil
}

// Payload decodes the payload of m into v, which must be an object unless v
// decodes itself otherwise.
func (m Message) Payload(v any) error {
	if string(m.Data) == "null" {
		return fmt.Errorf("%w: op %d without payload", ErrPayload, m.Op)
	}
	if err := json.Unmarshal(m.Data, v); err != nil {
		return fmt.Errorf("%w: op %d: %v", ErrPayload, m.Op, err)
	}
	return nil
}

// AppendMessage appends the frame of a message with payload v to b. "d" is
// always present. seq is left out when zero.
func AppendMessage(b []byte, op Op, seq uint64, v any) ([]byte, error) {
	d, err := json.Marshal(v)
	if err != nil {
		return b, fmt.Errorf("encode op %d: %w", op, err)
	}
	b = fmt.Appendf(b, `{"op":%d`, int(op))
	if seq != 0 {
		b = fmt.Appendf(b, `,"seq":%d`, seq)
	}
	b = append(b, `,"d":`...)
	b = append(b, d...)
	return append(b, '}'), nil
}

// Integer is a JSON integer kept as it was written, because a heartbeat is
// echoed byte by byte and may exceed 64 bits.
type Integer string

// MarshalJSON writes the digits.
func (n Integer) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return []byte(n), nil
}

// UnmarshalJSON reads at most 32 digits with an optional minus.
func (n *Integer) UnmarshalJSON(b []byte) error {
	digits := bytes.TrimPrefix(b, []byte("-"))
	if len(digits) == 0 || len(digits) > 32 {
		return fmt.Errorf("%.40q is not an integer of at most 32 digits", b)
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return fmt.Errorf("%.40q is not an integer", b)
		}
	}
	*n = Integer(b)
	return nil
}
