package sfu

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// relayed is a relay packet with every field set, and its bytes.
var relayed = RelayPacket{
	Call: CallID{ID: 0x0102030405060708}, Epoch: 0x1112131415161718, User: UserID{ID: 0x2122232425262728},
	SSRC: 0x31323334, Sequence: 0x41424344, Timestamp: 0x51525354, Level: 0x80 | 30, Priority: true, Payload: []byte{0x78, 1, 2},
}

const relayedBytes = "f1019e00" + "41424344" + "0102030405060708" + "1112131415161718" + "2122232425262728" + "31323334" + "51525354" + "780102"

func TestRelayPacket(t *testing.T) {
	if got := hex.EncodeToString(relayed.Append(nil)); got != relayedBytes {
		t.Errorf("%s, want %s", got, relayedBytes)
	}
	for half, flags := range map[RelayHalf]string{RelayWhole: "01", RelayFirst: "03", RelaySecond: "05"} {
		p := relayed
		p.Half = half
		d := p.Append(nil)
		if got := hex.EncodeToString(d[1:2]); got != flags {
			t.Errorf("half %d: flags %s, want %s", half, got, flags)
		}
		if back, err := ReadRelayPacket(d); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("half %d: %+v, %v", half, back, err)
		}
	}
}

// TestRelayKinds: the flags of each kind, beside those of the halves.
func TestRelayKinds(t *testing.T) {
	for _, c := range []struct {
		kind   RelayKind
		marker bool
		half   RelayHalf
		flags  string
	}{
		{RelayVideo, false, RelayWhole, "08"}, {RelayVideo, true, RelayFirst, "1a"}, {RelayVideo, true, RelaySecond, "1c"}, {RelayKeyFrame, false, RelayWhole, "20"},
	} {
		p := relayed
		p.Priority, p.Kind, p.Marker, p.Half = false, c.kind, c.marker, c.half
		d := p.Append(nil)
		if got := hex.EncodeToString(d[1:2]); got != c.flags {
			t.Errorf("%+v: flags %s", c, got)
		}
		if back, err := ReadRelayPacket(d); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%+v: %+v, %v", c, back, err)
		}
	}
}

func TestRelayPacketRefuses(t *testing.T) {
	good, _ := hex.DecodeString(relayedBytes)
	with := func(at int, b ...byte) []byte {
		d := bytes.Clone(good)
		copy(d[at:], b)
		return d
	}
	for name, d := range map[string][]byte{
		"empty":              nil,
		"cut in the header":  good[:RelayHeader-1],
		"no payload":         good[:RelayHeader],
		"too long":           append(bytes.Clone(good), make([]byte, MaxRelayPacket-len(good)+1)...),
		"another version":    with(0, 0xF2),
		"an unknown flag":    with(1, 0x40),
		"a marker of voice":  with(1, 0x10),
		"video and a wish":   with(1, 0x28),
		"both halves":        with(1, 0x06),
		"something reserved": with(3, 1),
		"no call":            with(8, make([]byte, 8)...),
		"no user":            with(24, make([]byte, 8)...),
		"no SSRC":            with(32, make([]byte, 4)...),
	} {
		if p, err := ReadRelayPacket(d); err != ErrRelayForm {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := ReadRelayPacket(append(bytes.Clone(good), make([]byte, MaxRelayPacket-len(good))...)); err != nil {
		t.Errorf("as long as may be: %v", err)
	}
}

func TestRelayLocal(t *testing.T) {
	secret := RelaySecret{1, 2, 3, 4, 5, 6, 7, 8}
	d := append(AppendRelayLocal(nil, 0x0a0b, &secret), "list"...)
	if got := hex.EncodeToString(d); got != "f2000a0b0102030405060708"+hex.EncodeToString([]byte("list")) {
		t.Errorf("on the wire: %s", got)
	}
	if peer, list, ok := ReadRelayLocal(d, &secret); !ok || peer != 0x0a0b || string(list) != "list" {
		t.Errorf("%d, %q, %v", peer, list, ok)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "no list": d[:RelayLocal], "another version": append([]byte{0xF1}, d[1:]...),
		"something reserved": append([]byte{0xF2, 1}, d[2:]...), "another secret": []byte(strings.Replace(string(d), "\x08", "\x09", 1)),
	} {
		if _, _, ok := ReadRelayLocal(bad, &secret); ok {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestRelayList(t *testing.T) {
	list := relayed.AppendTo(relayed.AppendTo(nil))
	one := "002b" + relayedBytes
	if got := hex.EncodeToString(list); got != one+one {
		t.Errorf("two packets: %s", got)
	}
	packet, rest, err := NextRelay(list)
	if hex.EncodeToString(packet) != relayedBytes || hex.EncodeToString(rest) != one || err != nil {
		t.Errorf("%x, %x, %v", packet, rest, err)
	}
	for name, bad := range map[string]string{"half a length": "00", "nothing": "0000", "longer than there is": "000261"} {
		raw, _ := hex.DecodeString(bad)
		if _, _, err := NextRelay(raw); err != ErrRelayForm {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

func TestRelayDoesNotAllocate(t *testing.T) {
	buf, secret := make([]byte, 0, MaxDatagram), RelaySecret{1}
	if n := testing.AllocsPerRun(100, func() {
		d := relayed.AppendTo(AppendRelayLocal(buf, 1, &secret))
		_, list, ok := ReadRelayLocal(d, &secret)
		packet, _, _ := NextRelay(list)
		if p, err := ReadRelayPacket(packet); !ok || err != nil || p.SSRC != relayed.SSRC {
			panic("lost")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRelayFrame: no panic, and what is read is written again byte for byte.
func FuzzRelayFrame(f *testing.F) {
	good, _ := hex.DecodeString(relayedBytes)
	f.Add(good)
	f.Add(good[:RelayHeader])
	f.Add(append([]byte{RelayVersion, 4}, good[2:]...))
	f.Add(AppendRelayLocal(nil, 3, &RelaySecret{1}))
	f.Fuzz(func(t *testing.T, d []byte) {
		if _, list, ok := ReadRelayLocal(d, &RelaySecret{1}); ok {
			for err := error(nil); err == nil && len(list) > 0; {
				_, list, err = NextRelay(list)
			}
		}
		p, err := ReadRelayPacket(d)
		if err != nil {
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, d) {
			t.Fatalf("%x came in, %x went out", d, again)
		}
	})
}
