package sfuserver

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// mapping is a ledger's file, mapped.
type mapping struct {
	file   *os.File
	memory []byte
}

// mapLedger maps all of a file of at least so many bytes, and holds it alone: two
// engines that forward the same sessions would use the same nonces. The lock ends
// with the process that has it, however that ends.
func mapLedger(f *os.File, size int) (*mapping, error) {
	// Its own description: a lock belongs to that, and f's is shared with
	// whoever passed it on.
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	m := &mapping{file: own}
	failed := func(err error) (*mapping, error) {
		m.close()
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := unix.Flock(int(own.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return failed(errors.New("another media engine is still at work on it"))
		}
		return failed(os.NewSyscallError("flock", err))
	}
	info, err := own.Stat()
	if err != nil {
		return failed(err)
	}
	if info.Size() < int64(size) {
		if err := own.Truncate(int64(size)); err != nil {
			return failed(err)
		}
	}
	size = max(size, int(info.Size()))
	m.memory, err = syscall.Mmap(int(own.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return failed(os.NewSyscallError("mmap", err))
	}
	return m, nil
}

// close gives the ledger back. Nobody may touch the memory afterwards.
func (m *mapping) close() {
	if m.memory != nil {
		_ = syscall.Munmap(m.memory)
	}
	_ = m.file.Close()
}
