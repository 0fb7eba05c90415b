package capacity

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// payload is a voice packet: 20 ms of Opus at 40 kbit/s and its RTP header.
	payload = 112
	// tag is the authentication tag of AEAD_AES_128_GCM (RFC 7714).
	tag = 16
	// headers of UDP and IPv4.
	headers = 28
	// packetBits is one packet on the wire.
	packetBits = (payload + tag + headers) * 8
	// headroom is the share of what was measured that a node offers: the rest
	// is for receiving, checks, handshakes and everything else on the machine.
	headroom = 0.5
	// slice is how long each of the two measurements takes.
	slice = 80 * time.Millisecond
	// batch is how many packets one system call carries.
	batch = 32
)

// Measure is the packets per second that workers may send, each on a processor
// of its own.
func Measure(workers int) (pps float64, err error) {
	seal, err := sealRate(slice)
	if err != nil {
		return 0, fmt.Errorf("measure capacity: %w", err)
	}
	send, err := sendRate(slice)
	if err != nil {
		return 0, fmt.Errorf("measure capacity: %w", err)
	}
	return Offer(seal, send, workers), nil
}

// Offer is what a node offers whose processors seal and send at these rates, one
// packet after the other.
func Offer(seal, send float64, workers int) float64 {
	if seal <= 0 || send <= 0 {
		return 0
	}
	return headroom * float64(workers) / (1/seal + 1/send)
}

// sealRate is how many packets a second one processor encrypts.
func sealRate(took time.Duration) (float64, error) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return 0, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return 0, err
	}
	nonce, packet := make([]byte, aead.NonceSize()), make([]byte, payload, payload+tag)
	n, began := 0, time.Now()
	for time.Since(began) < took {
		for range batch {
			aead.Seal(packet[:12], nonce, packet[12:payload], packet[:12])
			n++
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// sendRate is how many packets a second one processor sends, over loopback: the
// kernel's way in is part of it, in place of the network driver's way out.
func sendRate(took time.Duration) (float64, error) {
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer sink.Close()
	source, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer source.Close()
	// Nobody reads: what does not fit the receive buffer is dropped there.
	if err := sink.SetReadBuffer(4096); err != nil {
		return 0, err
	}
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, payload+tag)}, Addr: sink.LocalAddr()}
	}
	conn := ipv4.NewPacketConn(source)
	if err := source.SetWriteDeadline(time.Now().Add(2 * took)); err != nil {
		return 0, err
	}
	n, began := 0, time.Now()
	for time.Since(began) < took {
		sent, err := conn.WriteBatch(messages, 0)
		if err != nil {
			return 0, err
		}
		n += sent
	}
	if n == 0 {
		return 0, errors.New("no packet was sent")
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

const (
	// enoughBusy is how busy the busiest worker must be for its load to say what it
	// could carry.
	enoughBusy = 0.3
	// fullBusy is how busy it is to be at what the node offers.
	fullBusy = 0.8
	// correction is the part of the way to a better figure that one step goes: half
	// of it in 7 s.
	correction = 0.1
	// least and most bound what is made of the first measurement.
	least, most = 0.25, 2.0
)

// Correct is what a node that measured so many packets/s at its start, and offers
// so many now, offers next, when it sends pps with its busiest worker at work for
// a share busy of the time.
func Correct(measured, offered, pps, busy float64) float64 {
	if busy < enoughBusy || pps <= 0 {
		return offered
	}
	carries := min(max(pps/busy*fullBusy, least*measured), most*measured)
	return offered + correction*(carries-offered)
}

// Bits is the bits per second that go with pps, or the speed of the fastest
// network card when that is less (with a tenth left free).
func Bits(pps, card float64) float64 {
	bps := pps * packetBits
	if card > 0 {
		bps = min(bps, 0.9*card)
	}
	return bps
}

// CardSpeed is the speed of the fastest physical network card that is up, in
// bits per second, or 0 when none says. sys is the file system of /sys.
func CardSpeed(sys fs.FS) float64 {
	cards, err := fs.ReadDir(sys, "class/net")
	if err != nil {
		return 0
	}
	fastest := 0.0
	for _, card := range cards {
		dir := path.Join("class/net", card.Name())
		if _, err := fs.Stat(sys, path.Join(dir, "device")); err != nil {
			continue // virtual
		}
		if state := word(sys, path.Join(dir, "operstate")); state != "up" && state != "unknown" {
			continue
		}
		// Mbit/s; -1 when the card does not know.
		if mbits, err := strconv.ParseFloat(word(sys, path.Join(dir, "speed")), 64); err == nil && mbits > 0 {
			fastest = max(fastest, mbits*1e6)
		}
	}
	return fastest
}

func word(sys fs.FS, name string) string {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
