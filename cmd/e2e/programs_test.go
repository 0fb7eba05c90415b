package e2e

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"voicefleet/internal/freeport"
)

// voicefleet is the voicefleet program under test, built once.
var voicefleet string

func TestMain(m *testing.M) {
	if os.Getenv(partnerEnv) != "" {
		os.Exit(m.Run()) // a client in another network, of a test that has the program
	}
	dir, err := os.MkdirTemp("", "voicefleet-e2e-")
	if err != nil {
		panic(err)
	}
	voicefleet = filepath.Join(dir, "voicefleet")
	build := exec.Command("go", "build", "-o", voicefleet, "voicefleet/cmd/voicefleet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build voicefleet: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := cqlServer.Stop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop the CQL server: %v\n", err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program is one running voicefleet process.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and was waited for

	mu   sync.Mutex
	more *sync.Cond
	text strings.Builder
	eof  bool
}

// start runs voicefleet, inside the network namespace ns unless that is empty,
// and ends it when the test does.
func start(t *testing.T, ns string, args ...string) *program {
	t.Helper()
	name, argv := voicefleet, args
	if ns != "" {
		name, argv = "ip", append([]string{"netns", "exec", ns, voicefleet}, args...)
	}
	p := &program{t: t, cmd: exec.Command(name, argv...), done: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go p.read(r)
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(15 * time.Second):
			t.Errorf("voicefleet %s did not end within 15 s of SIGTERM", args[0])
			p.signal(syscall.SIGKILL)
			<-p.done
		}
		if t.Failed() {
			t.Logf("voicefleet %s said:\n%s", strings.Join(args, " "), p.said())
		}
	})
	return p
}

func (p *program) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		p.text.WriteString(line)
		p.eof = err != nil
		p.mu.Unlock()
		p.more.Broadcast()
		if err != nil {
			return
		}
	}
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *program) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// await waits until the program has printed a match and gives its first group
// (or the match itself).
func (p *program) await(re string) string {
	p.t.Helper()
	m := p.find(re, 30*time.Second)
	if m == "" {
		p.t.Fatalf("voicefleet printed no %s; it said:\n%s", re, p.said())
	}
	return m
}

// find is await for what may not come: then it is empty, when the program has ended or
// that time has passed.
func (p *program) find(re string, within time.Duration) string {
	pattern := regexp.MustCompile(re)
	timeout := time.AfterFunc(within, func() {
		p.mu.Lock()
		p.eof = true
		p.mu.Unlock()
		p.more.Broadcast()
	})
	defer timeout.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if m := pattern.FindStringSubmatch(p.text.String()); m != nil {
			return cmp.Or(m[len(m)-1], m[0])
		}
		if p.eof {
			return ""
		}
		p.more.Wait()
	}
}

// freePort is a TCP port nobody listens on now, another one each time.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.TCP()
	must(t, err)
	return port
}

// freeMediaPort is the first of n UDP ports nobody listens on now, others each time.
func freeMediaPort(t *testing.T, n int) int {
	t.Helper()
	first, err := freeport.UDP(n)
	must(t, err)
	return first
}

// house is one `voicefleet up`.
type house struct {
	*program
	port   int    // of the control side
	media  int    // the first UDP port
	invite string // the code
	data   string
}

// startUp runs `voicefleet up` with an empty data folder on free ports.
func startUp(t *testing.T, ns string, args ...string) *house {
	t.Helper()
	h := &house{port: freePort(t), media: freeMediaPort(t, 4), data: t.TempDir()}
	h.program = start(t, ns, append([]string{"up", "--port", fmt.Sprint(h.port), "--media-port", fmt.Sprint(h.media), "--data", h.data}, args...)...)
	h.invite = h.await(`/invite/([A-Za-z0-9_-]+)`)
	return h
}

// page is the address of a page of the house, by http on localhost.
func (h *house) page(path string) string { return fmt.Sprintf("http://localhost:%d%s", h.port, path) }
