package lightclient

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"voicefleet/bench/internal/mark"
	"voicefleet/bench/internal/opus"
)

// frameOf is a packet of Opus to be marked, and its level as RFC 6464 has it: V in
// the highest bit, -dBov below.
type frameOf struct {
	data  []byte
	level byte
}

// silent is what is sent in pauses: a browser's frame of digital silence (TOC of
// CELT, 20 ms, mono), level 127.
var silent = frameOf{data: []byte{0xf8, 0xff, 0xfe}, level: 127}

// fillerLevel is -20 dBov with V set: speech well above the silence gate.
const fillerLevel = 0x80 | 20

// voices are the frames of all talkers of an engine.
type voices struct {
	mu sync.Mutex
	// Guarded by mu.
	filler map[int][]frameOf // by packet size
	spoken map[[2]int][]frameOf
}

// fillers is how many different frames a size has.
const fillers = 16

// of gives the frames of a voice that fit into packets of size bytes with their
// mark; 0 means as they are. Speech that is too long gives way to filler.
func (v *voices) of(voice, size int) ([]frameOf, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if voice < 0 {
		return v.fillerLocked(size), nil
	}
	key := [2]int{voice % opus.Encoded, size}
	if have := v.spoken[key]; have != nil {
		return have, nil
	}
	frames, err := opus.Prepared(key[0])
	if err != nil {
		return nil, fmt.Errorf("voice %d: %w", voice, err)
	}
	var list []frameOf
	for _, f := range frames {
		if !f.Voiced {
			continue
		}
		one := frameOf{data: f.Data, level: 0x80 | f.Level&127}
		if size > 0 && len(f.Data)+mark.Overhead > size {
			one.data = v.fillerLocked(size)[len(list)%fillers].data
		}
		list = append(list, one)
	}
	if v.spoken == nil {
		v.spoken = make(map[[2]int][]frameOf)
	}
	v.spoken[key] = list
	return list, nil
}

func (v *voices) fillerLocked(size int) []frameOf {
	if have := v.filler[size]; have != nil {
		return have
	}
	random := rand.New(rand.NewPCG(uint64(size), 1))
	list := make([]frameOf, fillers)
	for i := range list {
		data := make([]byte, size-mark.Overhead)
		// RFC 6716 section 3.1: configuration 15 (20 ms), mono, one frame.
		data[0] = 0x78
		for k := range data[1:] {
			data[1+k] = byte(random.Uint32())
		}
		list[i] = frameOf{data: data, level: fillerLevel}
	}
	if v.filler == nil {
		v.filler = make(map[int][]frameOf)
	}
	v.filler[size] = list
	return list
}
