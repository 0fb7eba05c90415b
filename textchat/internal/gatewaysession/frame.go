package gatewaysession

import (
	"bytes"
	"compress/zlib"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// Compression of what we send; what a client sends is never inflated.
type Compression uint8

// The ways to compress.
const (
	Plain       Compression = iota
	PayloadZlib             // large frames are complete zlib streams (Identify asked for it)
	ZlibStream              // one zlib stream per connection (the URL asked for it)
	ZstdStream              // one zstd stream per connection (the URL asked for it)
)

const (
	// payloadThreshold is from what size on a frame is worth compressing by itself,
	// sharedThreshold from what size on an event is worth compressing for all.
	payloadThreshold = 1 << 10
	sharedThreshold  = 128
	// zstdWindow is what we declare to readers, and the largest block (RFC 8878
	// section 3.1.1.2.4).
	zstdWindow = 128 << 10
)

// Streams bounds the compressors that live as long as their connection. Zero
// lets none live.
type Streams struct{ free atomic.Int64 }

// Allow sets how many there may be.
func (p *Streams) Allow(n int) { p.free.Store(int64(n)) }

func (p *Streams) take() bool {
	if p.free.Add(-1) < 0 {
		p.free.Add(1)
		return false
	}
	return true
}

// Framer makes the wire form of frames for one connection.
//
// Without a compressor of its own a stream keeps no state but whether its header
// was sent: what is the connection's own goes in stored blocks, and the rest of
// an event in blocks that were compressed once for all sessions and refer to
// nothing before them. Such zstd blocks have Huffman-coded literals and no
// sequences, as those would go by the offsets of earlier ones. This makes
// a message 1.8 times smaller by zlib and 1.4 times by zstd; a compressor of its
// own, that has seen the earlier events, makes it some 6 times smaller and costs
// some 650 KiB.
type Framer struct {
	Mode Compression

	begun bool
	own   *stream
}

// stream is a compressor of one connection.
type stream struct {
	from  *Streams
	out   []byte
	flate *flate.Writer
	zstd  *zstd.Encoder
	skip  int // bytes of the encoder's own header still to drop
}

func (s *stream) Write(p []byte) (int, error) {
	n := min(s.skip, len(p))
	s.skip -= n
	s.out = append(s.out, p[n:]...)
	return len(p), nil
}

// zstdHeader is what begins a stream: magic, a descriptor without flags, and the
// window 2^(10+7) (RFC 8878 section 3.1.1.1).
var zstdHeader = []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}

var (
	zlibWriters  = sync.Pool{New: func() any { w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed); return w }}
	flateWriters = sync.Pool{New: func() any { w, _ := flate.NewWriter(nil, 5); return w }}
	scratches    = sync.Pool{New: func() any { return new(huff0.Scratch) }}
)

// Own gives the connection a compressor of its own, if there is one left. The
// client should be known by now: a stranger must not use them up.
func (f *Framer) Own(from *Streams) bool {
	if f.own != nil || f.Mode != ZlibStream && f.Mode != ZstdStream || !from.take() {
		return false
	}
	s := &stream{from: from}
	if f.Mode == ZlibStream {
		s.flate, _ = flate.NewWriter(s, 1) // the level is a valid one
	} else {
		// Its blocks go on after ours: it begins with the same repeat offsets as the
		// frame, which blocks without sequences do not change, so only its header has
		// to go.
		s.skip = len(zstdHeader)
		s.zstd, _ = zstd.NewWriter(s, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(false))
	}
	f.own = s
	return true
}

// Close gives the compressor back, and says whether there was one.
func (f *Framer) Close() bool {
	if f.own == nil {
		return false
	}
	f.own.from.free.Add(1)
	f.own = nil
	return true
}

// Control appends the wire form of a frame that is no event, and says whether it
// goes as a binary frame.
func (f *Framer) Control(b, text []byte) ([]byte, bool) {
	switch f.Mode {
	case ZlibStream, ZstdStream:
		b = f.begin(b)
		if f.own != nil {
			return f.own.append(b, text), true
		}
		return f.flush(f.store(b, text)), true
	case PayloadZlib:
		if len(text) >= payloadThreshold {
			return appendZlib(b, text), true
		}
	}
	return append(b, text...), false
}

// Event appends the wire form of an event.
func (f *Framer) Event(b []byte, seq uint64, e *Event) ([]byte, bool) {
	if f.own != nil || f.Mode == Plain || f.Mode == PayloadZlib || len(e.Body) < sharedThreshold {
		scratch := plainFrames.Get().(*[]byte)
		*scratch = Append((*scratch)[:0], seq, e)
		b, binary := f.Control(b, *scratch)
		if cap(*scratch) <= maxScratch {
			plainFrames.Put(scratch)
		}
		return b, binary
	}
	var room [32]byte
	b = f.store(f.begin(b), appendHead(room[:0], seq))
	if f.Mode == ZlibStream {
		return append(b, e.deflated()...), true
	}
	return append(b, e.huffman()...), true
}

// Bare says whether an event goes as Append writes it.
func (f *Framer) Bare() bool { return f.Mode == Plain }

// maxScratch is up to what size buffers are kept for the next frame.
const maxScratch = 64 << 10

var plainFrames = sync.Pool{New: func() any { return new([]byte) }}

// begin writes the header of the stream, once.
func (f *Framer) begin(b []byte) []byte {
	if f.begun {
		return b
	}
	f.begun = true
	if f.Mode == ZlibStream {
		return append(b, 0x78, 0x01) // RFC 1950: deflate, 32 KiB window, fastest
	}
	return append(b, zstdHeader...)
}

// store writes text in blocks that are stored.
func (f *Framer) store(b, text []byte) []byte {
	if f.Mode == ZlibStream {
		return storeDeflate(b, text)
	}
	return storeZstd(b, text)
}

// flush ends a message: zlib readers look for the four bytes 00 00 FF FF, which
// are an empty stored block.
func (f *Framer) flush(b []byte) []byte {
	if f.Mode == ZlibStream {
		b = append(b, 0, 0, 0, 0xff, 0xff)
	}
	return b
}

// append compresses text and flushes.
func (s *stream) append(b, text []byte) []byte {
	s.out = b
	// The writer is ours and does not fail.
	if s.flate != nil {
		_, _ = s.flate.Write(text)
		_ = s.flate.Flush()
	} else {
		_, _ = s.zstd.Write(text)
		_ = s.zstd.Flush()
	}
	b, s.out = s.out, nil
	return b
}

// storeDeflate writes stored blocks (RFC 1951 section 3.2.4).
func storeDeflate(b, text []byte) []byte {
	for len(text) > 0 {
		n := min(len(text), 0xffff)
		b = append(b, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, text[:n]...)
		text = text[n:]
	}
	return b
}

// storeZstd writes raw blocks (RFC 8878 section 3.1.1.2).
func storeZstd(b, text []byte) []byte {
	for len(text) > 0 {
		n := min(len(text), zstdWindow)
		b = append(zstdBlock(b, rawBlock, n), text[:n]...)
		text = text[n:]
	}
	return b
}

const (
	rawBlock        = 0
	compressedBlock = 2
)

// zstdBlock writes the header of a block that is not the last.
func zstdBlock(b []byte, kind, size int) []byte {
	h := size<<3 | kind<<1
	return append(b, byte(h), byte(h>>8), byte(h>>16))
}

func appendZlib(b, text []byte) []byte {
	buf := bytes.NewBuffer(b)
	w := zlibWriters.Get().(*zlib.Writer)
	w.Reset(buf)
	_, _ = w.Write(text) // a bytes.Buffer does not fail
	_ = w.Close()
	zlibWriters.Put(w)
	return buf.Bytes()
}

// deflated is the part of the frame that is the same for all sessions, as
// deflate blocks that begin and end at a byte and refer to nothing before them.
func (e *Event) deflated() []byte {
	e.deflate.once.Do(func() {
		text := appendTail(make([]byte, 0, len(e.Body)+64), e)
		buf := bytes.NewBuffer(make([]byte, 0, len(text)/2))
		w := flateWriters.Get().(*flate.Writer)
		w.Reset(buf)
		_, _ = w.Write(text)
		_ = w.Flush()
		flateWriters.Put(w)
		e.deflate.bytes = buf.Bytes()
	})
	return e.deflate.bytes
}

// huffman is the same part as zstd blocks whose literals are Huffman-coded and
// that have no sequences.
func (e *Event) huffman() []byte {
	e.zstd.once.Do(func() {
		text := appendTail(make([]byte, 0, len(e.Body)+64), e)
		s := scratches.Get().(*huff0.Scratch)
		defer scratches.Put(s)
		b := make([]byte, 0, len(text)*3/4)
		for len(text) > 0 {
			n := min(len(text), zstdWindow/2)
			b = appendHuffman(b, text[:n], s)
			text = text[n:]
		}
		e.zstd.bytes = b
	})
	return e.zstd.bytes
}

// appendHuffman writes one block (RFC 8878 section 3.1.1.3): a header of the
// literals with both sizes, of 10 bits for one stream, else of 14 or 18 for four
// streams; table and streams; and a zero for the number of sequences.
func appendHuffman(b, text []byte, s *huff0.Scratch) []byte {
	s.Reuse = huff0.ReusePolicyNone // the table of another event is unknown to the reader
	one := len(text) < 1<<10
	compress := huff0.Compress4X
	if one {
		compress = huff0.Compress1X
	}
	out, _, err := compress(text, s)
	if err != nil || len(out) >= len(text) {
		return storeZstd(b, text) // not compressible
	}
	const huffmanLiterals = 2
	format, bits := 0, 10
	switch {
	case one:
	case len(text) < 1<<14:
		format, bits = 2, 14
	default:
		format, bits = 3, 18
	}
	h := uint64(huffmanLiterals) | uint64(format)<<2 | uint64(len(text))<<4 | uint64(len(out))<<(4+bits)
	size := (4 + 2*bits + 7) / 8
	b = zstdBlock(b, compressedBlock, size+len(out)+1)
	for range size {
		b = append(b, byte(h))
		h >>= 8
	}
	return append(append(b, out...), 0)
}
