package doctor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func setTxtime(fd int, t sockTxtime) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_TXTIME, uintptr(unsafe.Pointer(&t)), unsafe.Sizeof(t), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func tryRecvmmsg(fd int) error {
	var heads [2]mmsghdr
	_, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&heads[0])), uintptr(len(heads)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
