package sqlite

import (
	"bytes"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Of linux/fs.h, _IOWR('X', 119, int) and 120.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// TestIndexIsOurs: what the store writes to by memory is no file.
func TestIndexIsOurs(t *testing.T) {
	s := open(t, t.TempDir())
	must(t, s.SetSetting(ctx, "a", "b"))
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	if bytes.Contains(maps, []byte(File)) {
		t.Errorf("a file of the store is mapped:\n%s", maps)
	}
}

// TestOneProcess: who has the store open has it alone. Another process finds the lock by
// which SQLite locks it out, and one that comes while another is there is told so.
func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	p := ask(t, dir)
	if got := p.hear(); got != "open" {
		t.Fatal(got)
	}
	p.written()
	index, err := os.OpenFile(filepath.Join(dir, File+"-shm"), os.O_RDWR, 0)
	must(t, err)
	defer index.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: deadManSwitch, Len: 1}
	must(t, unix.FcntlFlock(index.Fd(), unix.F_GETLK, &lock))
	if lock.Type != unix.F_WRLCK {
		t.Errorf("another process may come in: %+v", lock)
	}
	p.written()

	dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, File+"-shm"), nil, 0o600))
	index, err = os.OpenFile(filepath.Join(dir, File+"-shm"), os.O_RDWR, 0)
	must(t, err)
	defer index.Close()
	must(t, unix.FcntlFlock(index.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: deadManSwitch, Len: 1}))
	if got := ask(t, dir).hear(); !strings.Contains(got, "another process has it open") {
		t.Errorf("beside another process: %s", got)
	}
}

// TestNotLocked: an index that cannot be locked is not taken for one of another process.
func TestNotLocked(t *testing.T) {
	lockedOut.Store(true)
	defer lockedOut.Store(false)
	if p := mapIndex(nil, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, -1, 0); p != ^uintptr(0) || lockedOut.Load() {
		t.Errorf("no file is mapped at %x; another process has it: %v", p, lockedOut.Load())
	}
}

// TestFrozenFileSystem: on a file system that was frozen (fsfreeze) writes are refused
// within their time, reads go on and so does the program; thawed, it writes again.
func TestFrozenFileSystem(t *testing.T) {
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := osexec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system of its own (root, mkfs.ext4 and loop devices make one): %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := osexec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	root, err := os.Open(dir)
	must(t, err)
	p := ask(t, dir)
	// Before the process is waited for, and before it is unmounted.
	t.Cleanup(func() {
		_ = unix.IoctlSetInt(int(root.Fd()), fiThaw, 0) // it may be thawed
		root.Close()
	})
	if got := p.hear(); got != "open" {
		t.Fatal(got)
	}
	p.written()
	// Should the test be killed meanwhile: who writes to what is frozen cannot be ended.
	thaw := osexec.Command("sh", "-c", `sleep 120; fsfreeze -u "$0"`, dir)
	thaw.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, thaw.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-thaw.Process.Pid, syscall.SIGKILL)
		_ = thaw.Wait()
	})
	must(t, unix.IoctlSetInt(int(root.Fd()), fiFreeze, 0))
	for range 3 {
		if got := p.try("read"); got != "busy" {
			t.Fatalf("a message while the file system is frozen: %s", got)
		}
	}
	must(t, unix.IoctlSetInt(int(root.Fd()), fiThaw, 0))
	p.written()
}
