package vp8wire

import (
	"bytes"
	"testing"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		payload []byte
		want    Descriptor
		ok      bool
	}{
		{"nothing", nil, Descriptor{}, false},
		{"a descriptor and no more", []byte{0x10}, Descriptor{}, false},
		{"a key frame without extension", []byte{0x10, 0x00}, Descriptor{Key: true}, true},
		{"no key frame", []byte{0x10, 0x01}, Descriptor{}, true},
		{"the middle of a key frame", []byte{0x00, 0x00}, Descriptor{}, true},
		{"its second partition", []byte{0x11, 0x00}, Descriptor{}, true},
		{"a number of 7 bits", []byte{0x90, 0x80, 0x05, 0x00}, Descriptor{Key: true, Picture: 5, PictureBits: 7, picture: 2}, true},
		{"a number of 15 bits", []byte{0x90, 0x80, 0x81, 0x02, 0x00}, Descriptor{Key: true, Picture: 258, PictureBits: 15, picture: 2}, true},
		{"all there is", []byte{0x90, 0xf0, 0x81, 0x02, 0x07, 0x20, 0x01}, Descriptor{Picture: 258, PictureBits: 15, picture: 2, Base: 7, HasBase: true, base: 4}, true},
		{"an extension cut off", []byte{0x90, 0x80}, Descriptor{}, false},
		{"a long number cut off", []byte{0x90, 0x80, 0x81}, Descriptor{}, false},
		{"a base cut off", []byte{0x90, 0x40}, Descriptor{}, false},
		{"a layer and no more", []byte{0x90, 0x20, 0x00}, Descriptor{}, false},
	} {
		got, ok := Read(c.payload)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// FuzzPut: what is written is read again, and nothing else of a payload changes.
func FuzzPut(f *testing.F) {
	f.Add([]byte{0x90, 0xf0, 0x81, 0x02, 0x07, 0x20, 0x01}, uint16(0x7fff), uint8(255))
	f.Add([]byte{0x90, 0x80, 0x05, 0x00}, uint16(128), uint8(1))
	f.Add([]byte{0x10, 0x00}, uint16(1), uint8(1))
	f.Fuzz(func(t *testing.T, payload []byte, picture uint16, base uint8) {
		d, ok := Read(payload)
		if !ok {
			return
		}
		was := bytes.Clone(payload)
		d.Put(payload, picture, base)
		e, ok := Read(payload)
		if !ok || e.Key != d.Key || e.PictureBits != d.PictureBits || e.HasBase != d.HasBase {
			t.Fatalf("%x became %x", was, payload)
		}
		if e.PictureBits > 0 && e.Picture != picture&(1<<e.PictureBits-1) || e.HasBase && e.Base != base {
			t.Fatalf("wrote %d and %d, read %+v", picture, base, e)
		}
		e.Put(payload, d.Picture, d.Base)
		if !bytes.Equal(payload, was) {
			t.Fatalf("%x came back as %x", was, payload)
		}
	})
}
