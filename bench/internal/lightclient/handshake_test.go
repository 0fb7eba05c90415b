package lightclient

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestPipeDeadlines holds what pion/dtls needs of a PacketConn: a read that waits
// ends when a deadline is set in the past, and a later one reads again.
func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		p := newPipe(func([]byte) { sent++ }, &net.UDPAddr{Port: 9})
		var b [10]byte
		read := func() (int, error) {
			n, _, err := p.ReadFrom(b[:])
			return n, err
		}
		done := make(chan error, 1)
		go func() { _, err := read(); done <- err }()
		synctest.Wait()
		_ = p.SetReadDeadline(time.Now().Add(-time.Second))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("cancelled read: %v", err)
		}
		p.push([]byte{1, 2, 3})
		if _, err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read behind its deadline: %v", err)
		}
		_ = p.SetReadDeadline(time.Time{})
		if n, err := read(); n != 3 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		start := time.Now()
		_ = p.SetReadDeadline(start.Add(time.Minute))
		_ = p.SetReadDeadline(start.Add(time.Second))
		if _, err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read ended after %v: %v", time.Since(start), err)
		}
		_ = p.SetReadDeadline(start.Add(time.Hour))
		_ = p.SetReadDeadline(time.Time{})
		go func() { _, err := read(); done <- err }()
		synctest.Wait()
		_, _ = p.WriteTo(nil, nil)
		_ = p.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed pipe: %v", err)
		}
		if _, _ = p.WriteTo(nil, nil); sent != 1 {
			t.Errorf("%d datagrams sent, one before the end", sent)
		}
	})
}
