package sqlite

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// deadManSwitch is the byte of textchat.db-shm that every process with the log open
// holds a shared lock on (os_unix.c, UNIX_SHM_DMS). One that finds an exclusive lock
// there says that the database is locked.
const deadManSwitch = 128

// ownIndex makes SQLite keep the index of the log in memory of the process's own, and
// not in a file that it maps: threads that touch a page of a file whose file system
// stands still are stopped where they are, and with them, as the runtime cannot take
// them off, the program. All connections of a process share one index either way. Those
// of other processes cannot any more, so they are locked out.
//
// It is the means that SQLite offers: in place of mmap(2) it calls ours.
var ownIndex = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	vfs := pointer[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
	name, err := libc.CString("mmap")
	if err != nil {
		return fmt.Errorf("keep index in memory: %w", err)
	}
	defer libc.Xfree(tls, name)
	// A function value of C is the data word of one in an interface.
	var ours any = mapIndex
	set := vfs.FxSetSystemCall
	rc := (*(*func(*libc.TLS, uintptr, uintptr, uintptr) int32)(unsafe.Pointer(&struct{ uintptr }{set})))(tls,
		uintptr(unsafe.Pointer(vfs)), name, (*[2]uintptr)(unsafe.Pointer(&ours))[1])
	if rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("keep index in memory: SQLite's code %d", rc)
	}
	return nil
})

// mapIndex is mmap(2) as SQLite calls it. What is written to by mapping is the index and
// nothing else; it is asked for in regions, from the first on. Its pages are freed by
// munmap(2), as those of a file are.
func mapIndex(_ *libc.TLS, at uintptr, length sqlite3.Tsize_t, prot, flags, fd int32, offset sqlite3.Toff_t) uintptr {
	if prot&unix.PROT_WRITE != 0 {
		// The shared lock becomes an exclusive one, which is the process's until it closes
		// the file.
		err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: deadManSwitch, Len: 1})
		lockedOut.Store(err == unix.EAGAIN || err == unix.EACCES)
		if err != nil {
			return ^uintptr(0) // MAP_FAILED
		}
		flags, fd, offset = unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0
	}
	p, err := unix.MmapPtr(int(fd), int64(offset), *(*unsafe.Pointer)(unsafe.Pointer(&at)), uintptr(length), int(prot), int(flags))
	if err != nil {
		return ^uintptr(0)
	}
	return uintptr(p)
}

// pointer is an address of C.
func pointer[T any](at uintptr) *T { return *(**T)(unsafe.Pointer(&at)) }
