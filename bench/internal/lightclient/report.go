package lightclient

import (
	"encoding/binary"
	"time"
)

const (
	// reportEvery is the pause between receiver reports; a browser's is 2.5 to 7.5 s.
	reportEvery = 4 * time.Second
	// reportedSlots bounds the blocks of a report (RFC 3550 section 6.4.2): 31 fit.
	reportedSlots = 24
	// reportRoom is what a report takes, sealed: header and SSRC, blocks, tag, index.
	reportRoom = 8 + 24*reportedSlots + tagSize + 4
)

// reception is what a client says of a slot in its reports.
type reception struct {
	base, highest  uint32 // extended sequence numbers
	received       uint32
	before, gotten uint32 // highest and received at the last report
}

// appendBlock appends the report about one source (RFC 3550 section 6.4.1),
// without jitter and times: nobody asks for them.
func (r *reception) appendBlock(b []byte, ssrc uint32) []byte {
	if r.before == 0 {
		r.before = r.base - 1
	}
	expected, got := r.highest-r.before, r.received-r.gotten
	r.before, r.gotten = r.highest, r.received
	fraction := uint32(0)
	if expected > got {
		fraction = min(255, (expected-got)<<8/expected)
	}
	lost := r.highest - r.base + 1 - r.received
	b = binary.BigEndian.AppendUint32(b, ssrc)
	b = binary.BigEndian.AppendUint32(b, fraction<<24|lost&0xffffff)
	b = binary.BigEndian.AppendUint32(b, r.highest)
	return append(b, make([]byte, 12)...)
}

// appendReport appends a receiver report about all slots that got something. It
// is empty when none did. Engine.mu is held.
func (c *Client) appendReportLocked(b []byte) []byte {
	blocks := 0
	b = append(b, 2<<6, 201, 0, 0)
	b = binary.BigEndian.AppendUint32(b, c.ssrc)
	for i := range c.slots {
		if s := &c.slots[i]; s.span > 0 && blocks < reportedSlots {
			b = s.said.appendBlock(b, c.ssrcs[i])
			blocks++
		}
	}
	if blocks == 0 {
		return b[:0]
	}
	b[0] |= byte(blocks)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	return b
}
