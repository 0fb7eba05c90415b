package sfuserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"voicefleet/internal/snowflake"
	"voicefleet/sfu"
	"voicefleet/sfu/internal/crypt"
)

// freeze lets the loop of a bench stand still for so long and turn again.
func (b *bench) freeze(d time.Duration) {
	b.now += d
	b.w.looped(b.now)
}

// TestFence: a worker that stood still forwards nothing until its agent has
// confirmed that, and no older, fence; it answers checks all the while.
func TestFence(t *testing.T) {
	b := newBench(t)
	p, q := b.connect("p", 1, nil), b.connect("q", 2, nil)
	b.w.turned = b.now
	forwards := func() bool {
		t.Helper()
		b.now += 20 * time.Millisecond
		b.w.looped(b.now)
		sent, drops := b.receive(p.voice(), p.at)
		if (drops == "fenced") == (len(sent) == 1) {
			t.Fatalf("%d sent, dropped %q", len(sent), drops)
		}
		return len(sent) == 1
	}
	if b.freeze(frozenAfter); !forwards() {
		t.Fatal("fenced after a pause that may be")
	}
	b.facts()
	if b.freeze(frozenAfter + 1); forwards() {
		t.Fatal("forwards after a pause of more than a second")
	}
	var fenced []sfu.Fenced
	for _, ev := range b.facts() {
		if ev.Fenced != nil {
			fenced = append(fenced, *ev.Fenced)
		}
	}
	if len(fenced) != 1 || fenced[0].Number != 1 || fenced[0].Stood != frozenAfter+1 {
		t.Fatalf("told %+v", fenced)
	}
	if sent, drops := b.receive(q.check(false), q.at); len(sent) != 1 {
		t.Errorf("a check: %d answers, dropped %q", len(sent), drops)
	}
	if _, drops := b.receive(q.nack(uint32(q.snap.Media.Slots[0].SSRC), restoreJump), q.at); drops != "fenced" {
		t.Errorf("a request to send again: dropped %q", drops)
	}
	b.out = nil
	b.pass(400 * time.Millisecond)
	if len(b.out) != 0 {
		t.Errorf("%d datagrams while fenced", len(b.out))
	}
	b.freeze(2 * time.Second)
	if b.command(sfu.Command{Confirm: &sfu.Confirm{Number: 1}}); forwards() {
		t.Error("forwards, and only the fence before is confirmed")
	}
	if b.command(sfu.Command{Confirm: &sfu.Confirm{Number: 2}}); !forwards() {
		t.Error("fenced, and confirmed")
	}
	// Nobody is there to confirm, or nobody does.
	for alone, limit := range map[bool]time.Duration{true: fenceAlone, false: fenceLimit} {
		b.srv.alone.Store(alone)
		b.freeze(2 * time.Second)
		began := b.now
		for !forwards() && b.now-began < 10*time.Second {
			b.receive(q.check(false), q.at)
			b.w.tick(b.now)
		}
		if took := b.now - began; took < limit || took > limit+100*time.Millisecond {
			t.Errorf("alone %v: fenced for %v", alone, took)
		}
	}
}

// latest is the number in the last packet that a client heard.
func (c *client) latest() (number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Sscanf(string(c.record.payload), "voice %d", &number)
	return number
}

// TestFrozenEngine stops an engine process for more than a second while two calls
// talk, and lets it go on (SIGSTOP, SIGCONT). It forwards nothing before it is
// confirmed; the call that was ended meanwhile hears nothing any more.
func TestFrozenEngine(t *testing.T) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	media, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	at := socket.LocalAddr().(*net.UDPAddr)
	process, _, stream := spawnEngine(t, media, memfd(t))
	enc, dec := sfu.NewEncoder(stream), sfu.NewDecoder(stream)
	seq := uint64(0)
	send := func(c sfu.Command) uint64 {
		t.Helper()
		seq++
		c.Seq = seq
		if err := enc.Encode(&c); err != nil {
			t.Fatal(err)
		}
		return seq
	}
	events := make(chan sfu.Event, 1000)
	go func() {
		defer close(events)
		for {
			var ev sfu.Event
			if dec.Decode(&ev) != nil {
				return
			}
			events <- ev
		}
	}()
	await := func(what string, match func(sfu.Event) bool) sfu.Event {
		t.Helper()
		deadline := time.After(15 * time.Second)
		for {
			select {
			case ev, ok := <-events:
				if !ok || ev.Err != nil {
					t.Fatalf("%s: engine says %+v", what, ev.Err)
				}
				if match(ev) {
					return ev
				}
			case <-deadline:
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	send(sfu.Command{Start: &sfu.Start{Advertise: []netip.Addr{at.AddrPort().Addr()}}})
	// Two calls of two: clients 0 and 1, 2 and 3. Only 0 and 2 speak.
	var clients []*client
	for i := range 4 {
		conn, err := net.DialUDP("udp4", nil, at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		profile := crypt.AEADAES128GCM
		keying := bytes.Repeat([]byte{byte(i + 1)}, profile.KeyingLen())
		in, out, _ := crypt.Split(profile, keying)
		sealer, _ := crypt.NewSealer(profile, in)
		opener, _ := crypt.NewOpener(profile, out)
		c := &client{conn: conn, sealer: sealer, record: newRecord(opener), last: map[uint32]uint16{}}
		id := string(rune('a' + i))
		slot := sfu.SSRC(8000 + i)
		c.record.first[uint32(slot)] = restoreJump
		snap := &sfu.Snapshot{
			Open: sfu.Open{Session: sfu.SessionID(id), Call: sfu.CallID{ID: snowflake.ID(1 + i/2)}, User: sfu.UserID{ID: snowflake.ID(i + 1)}, Rights: sfu.Rights{Speak: true}},
			SSRC: sfu.SSRC(100 + i), Port: uint16(at.Port), Remote: conn.LocalAddr().String(),
			LocalUfrag: "ufrag" + id, LocalPwd: "password-of-24-characters", RemoteUfrag: "client" + id,
			Profile: uint16(profile), Keying: keying,
			Media:     sfu.Media{MicMID: "0", MicSSRC: sfu.SSRC(7000 + i), OpusPT: 111, LevelExt: 1, NACK: true, Slots: []sfu.Slot{{MID: "1", SSRC: slot}}},
			SlotIndex: []uint64{0},
		}
		clients = append(clients, c)
		go c.read()
		restored := send(sfu.Command{Restore: snap})
		await("restore", func(ev sfu.Event) bool { return ev.Seq == restored })
	}
	packets := uint64(0)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	talk := func(done func() bool) {
		t.Helper()
		deadline := time.Now().Add(15 * time.Second)
		for !done() {
			if time.Now().After(deadline) {
				t.Fatalf("in vain; heard %d and %d", clients[1].count(), clients[3].count())
			}
			<-tick.C
			packets++
			for _, i := range []int{0, 2} {
				h := []byte{0x90, 111, byte(packets >> 8), byte(packets), 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0}
				binary.BigEndian.PutUint32(h[4:], uint32(packets)*960)
				binary.BigEndian.PutUint32(h[8:], uint32(7000+i))
				_, _ = clients[i].conn.Write(clients[i].sealer.SealRTP(nil, h, fmt.Appendf(nil, "voice %d", packets), packets))
			}
		}
	}
	heard := func() [2]int { return [2]int{clients[1].count(), clients[3].count()} }
	talk(func() bool { return clients[1].count() > 20 && clients[3].count() > 20 })
	// rest waits until the engine waits: what is between its last look at the clock
	// and the socket goes out as it wakes, and nothing in a process can prevent that.
	rest := func(listeners ...int) {
		t.Helper()
		deadline := time.Now().Add(15 * time.Second)
		for _, i := range listeners {
			for ; clients[i].latest() != packets; <-tick.C {
				if time.Now().After(deadline) {
					t.Fatalf("client %d has not heard packet %d, but %d", i, packets, clients[i].latest())
				}
			}
		}
	}

	listeners := []int{1, 3}
	for round := range 3 {
		rest(listeners...)
		if err := process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stopped := time.Now()
		talk(func() bool { return time.Since(stopped) > frozenAfter+300*time.Millisecond })
		before := heard()
		if err := process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		fenced := await("fence", func(ev sfu.Event) bool { return ev.Fenced != nil })
		told := time.Now()
		talk(func() bool { return time.Since(told) > 200*time.Millisecond })
		if after := heard(); after != before {
			t.Fatalf("round %d: forwards %v, then %v, after it stood still for %v", round, before, after, fenced.Fenced.Stood)
		}
		if round == 0 { // the second call has moved
			listeners = listeners[:1]
			for _, id := range []sfu.SessionID{"c", "d"} {
				send(sfu.Command{Close: &sfu.Close{Session: id}})
			}
		}
		send(sfu.Command{Confirm: &sfu.Confirm{Number: fenced.Fenced.Number}})
		talk(func() bool { return clients[1].count() > before[0]+20 })
		if after := heard(); after[1] != before[1] {
			t.Fatalf("round %d: %d packets to who has moved", round, after[1]-before[1])
		}
	}
}
