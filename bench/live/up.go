package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"voicefleet/bench/internal/freeport"
)

// UpConfig starts a server of our own for one run: voicefleet up in a temporary
// data folder, reachable on this machine only by its loopback address.
type UpConfig struct {
	Program   string // default bin/voicefleet
	MediaPort int    // default: a free one
	Workers   int    // default 1
	Log       io.Writer
}

const (
	upTimeout  = 30 * time.Second
	endTimeout = 15 * time.Second
	logKept    = 16 << 10
)

// Up is a server of our own.
type Up struct {
	// Data is its data folder.
	Data string

	cmd   *exec.Cmd
	ended chan struct{}
	log   *tail
}

// StartUp starts it and returns when it takes calls.
func StartUp(ctx context.Context, c UpConfig) (*Up, error) {
	if c.Program == "" {
		c.Program = "bin/voicefleet"
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if _, err := os.Stat(c.Program); err != nil {
		return nil, fmt.Errorf("no program to measure: %w (make build makes it)", err)
	}
	port, err := freeport.TCP()
	if err == nil && c.MediaPort == 0 {
		c.MediaPort, err = freeport.UDP(c.Workers)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "voicebench-")
	if err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	u := &Up{Data: dir, ended: make(chan struct{}), log: &tail{also: c.Log}}
	u.cmd = exec.Command(c.Program, "up", "--data", dir, "--port", strconv.Itoa(port), "--media-port", strconv.Itoa(c.MediaPort),
		"--workers", strconv.Itoa(c.Workers), "--advertise", "127.0.0.1", "--log-level", "warn")
	u.cmd.Stdout, u.cmd.Stderr = u.log, u.log
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() { // ends with the process; Stop waits for it
		// The death signal comes when the thread ends that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(u.ended)
		err := u.cmd.Start()
		started <- err
		if err == nil {
			_ = u.cmd.Wait() // how it ended is told by whoever misses it
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w", err), os.RemoveAll(dir))
	}
	if err := u.await(ctx, "http://127.0.0.1:"+strconv.Itoa(port)); err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w\n%s", err, u.log.text()), u.Stop())
	}
	return u, nil
}

// await asks until it is ready and has its first guild.
func (u *Up) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		if u.ready(ctx, client, url) {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-u.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v", upTimeout)
		}
	}
}

// ready says whether the server answers /readyz and the operator sees a guild.
func (u *Up) ready(ctx context.Context, client *http.Client, url string) bool {
	token, err1 := word(filepath.Join(u.Data, "admin.token"))
	_, err2 := word(filepath.Join(u.Data, "admin.url"))
	if err1 != nil || err2 != nil {
		return false
	}
	for _, path := range []string{"/readyz", "/api/admin/guilds"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || path != "/readyz" && !bytes.Contains(body, []byte(`"id"`)) {
			return false
		}
	}
	return true
}

// Stop ends it and removes its data.
func (u *Up) Stop() error {
	if u.cmd.Process != nil {
		_ = u.cmd.Process.Signal(syscall.SIGTERM)
	}
	var err error
	select {
	case <-u.ended:
	case <-time.After(endTimeout):
		_ = u.cmd.Process.Kill()
		<-u.ended
		err = fmt.Errorf("server did not end within %v of SIGTERM", endTimeout)
	}
	return errors.Join(err, os.RemoveAll(u.Data))
}

// tail keeps the last of a log.
type tail struct {
	also io.Writer

	mu sync.Mutex
	// Guarded by mu.
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - logKept; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.also != nil {
		_, _ = t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
