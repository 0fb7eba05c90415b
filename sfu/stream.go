package sfu

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// The command stream has the same form on a pipe inside one process and on the
// socket between an agent and its child: frames of a big-endian uint32 length
// (at most MaxFrame) and as many bytes of JSON. Unknown fields are ignored, so
// that neighbouring versions understand each other.

// Encoder writes values as frames. Not safe for concurrent use.
type Encoder struct {
	w   io.Writer
	buf []byte
}

// NewEncoder writes to w, one Write per frame.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes one Command or Event.
func (e *Encoder) Encode(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("encode %T: %d bytes, at most %d fit", v, len(body), MaxFrame)
	}
	e.buf = binary.BigEndian.AppendUint32(e.buf[:0], uint32(len(body)))
	e.buf = append(e.buf, body...)
	if _, err := e.w.Write(e.buf); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Decoder reads frames. Not safe for concurrent use.
type Decoder struct {
	r   *bufio.Reader
	buf []byte
}

// NewDecoder reads from r.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: bufio.NewReader(r)} }

// Decode reads one frame into v. It returns io.EOF, unwrapped, at a clean end.
func (d *Decoder) Decode(v any) error {
	var head [4]byte
	if _, err := io.ReadFull(d.r, head[:]); err != nil {
		if err == io.EOF {
			return err
		}
		return fmt.Errorf("read frame length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("frame of %d bytes, at most %d are read", n, MaxFrame)
	}
	if cap(d.buf) < int(n) {
		d.buf = make([]byte, n)
	}
	d.buf = d.buf[:n]
	if _, err := io.ReadFull(d.r, d.buf); err != nil {
		return fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	if err := json.Unmarshal(d.buf, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}
