package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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

var scratch string // of this run of the tests

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "voicefleet-test-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// binary builds the program as it is shipped, once.
var binary = sync.OnceValue(func() string {
	path := filepath.Join(scratch, "voicefleet")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build: %v\n%s", err, out))
	}
	return path
})

// wait bounds everything a test waits for.
const wait = 30 * time.Second

// process is a running voicefleet.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu    sync.Mutex
	said  bytes.Buffer  // both outputs
	lines chan struct{} // a token after each line
}

// launch starts the program; when the test ends it is ended, and none of its
// children may be left.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	return launchProgram(t, binary(), args...)
}

// launchProgram is launch of another build.
func launchProgram(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), done: make(chan struct{}), lines: make(chan struct{}, 1)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C for the test is not for it
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{}) // closed when nobody can write any more
	go func() {
		defer close(silent)
		defer r.Close()
		for lines := bufio.NewReader(r); ; {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.said.WriteString(line)
			p.mu.Unlock()
			select {
			case p.lines <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(dyingTime + 5*time.Second):
			t.Errorf("%v did not end after SIGTERM", args)
			p.cmd.Process.Kill()
			<-p.done
		}
		// Children write to the same pipe: its end is theirs.
		select {
		case <-silent:
		case <-time.After(wait):
			t.Errorf("%v left processes behind", args)
		}
		if t.Failed() {
			t.Logf("%v said:\n%s", args, p.text())
		}
	})
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// says waits until the program has printed a match, and gives its first group.
func (p *process) says(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(wait)
	for {
		if m := re.FindStringSubmatch(p.text()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-p.lines:
		case <-p.done:
			if m := re.FindStringSubmatch(p.text()); m != nil {
				return m[len(m)-1]
			}
			p.t.Fatalf("ended without saying %s", pattern)
		case <-deadline:
			p.t.Fatalf("did not say %s", pattern)
		}
	}
}

// ends sends a signal and gives the exit code and how long the end took.
func (p *process) ends(s syscall.Signal) (code int, took time.Duration) {
	p.t.Helper()
	begun := time.Now()
	p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(wait):
		p.t.Fatalf("did not end after %v", s)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(begun)
}

// freePorts gives n free TCP ports.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = freeport.TCP(); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

// freeMedia gives the first of n free UDP ports in a row.
func freeMedia(t *testing.T, n int) int {
	t.Helper()
	first, err := freeport.UDP(n)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// running is one `voicefleet up`.
type running struct {
	*process
	port, media int
	data        string
	invite      string
}

func (r *running) http(path string) string { return fmt.Sprintf("http://localhost:%d%s", r.port, path) }
func (r *running) https(path string) string {
	return fmt.Sprintf("https://localhost:%d%s", r.port, path)
}

func (r *running) args(more ...string) []string {
	return append([]string{"up", "--port", fmt.Sprint(r.port), "--media-port", fmt.Sprint(r.media), "--data", r.data, "--capacity-pps", "100000"}, more...)
}

// launchUp starts `voicefleet up` on free ports and an empty folder.
func launchUp(t *testing.T, more ...string) *running {
	t.Helper()
	r := &running{port: freePorts(t, 1)[0], media: freeMedia(t, 2), data: filepath.Join(t.TempDir(), "data")}
	r.process = launch(t, r.args(more...)...)
	r.invite = r.says(`/invite/([A-Za-z0-9_-]+)`)
	r.says(`End +Ctrl-C`)
	return r
}

// trusting is a client that trusts the authority at /ca.pem.
func (r *running) trusting() *http.Client {
	r.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(get(r.t, http.DefaultClient, r.http("/ca.pem")))) {
		r.t.Fatal("/ca.pem holds no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: wait}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v: %.200s", url, resp.Status, err, body)
	}
	return string(body)
}

// post sends JSON and reads JSON.
func post[T any](t *testing.T, c *http.Client, url, token string, body any) T {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	var v T
	if err != nil || resp.StatusCode/100 != 2 || json.Unmarshal(answer, &v) != nil {
		t.Fatalf("%s: %s, %v: %.300s", url, resp.Status, err, answer)
	}
	return v
}

// ctlSays runs `voicefleet ctl` on a data folder.
func ctlSays(t *testing.T, data string, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary(), append([]string{"ctl", "--data", data}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
