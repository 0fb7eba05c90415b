// Package child runs a part of the harness as a process of its own, so that its
// CPU time can be told from the server's. Parent and child speak lines of JSON
// over the child's standard input and output: a request with a number, and its
// answer with the same one, in any order. A child ends when its input ends, so
// none survives its parent.
package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// maxLine bounds a line. The largest is the plan of a raw loop: 40 bytes for each
// of up to 100,000 targets.
const maxLine = 16 << 20

// maxAtOnce bounds the requests a child works on at the same time; further ones
// wait in the pipe.
const maxAtOnce = 256

// stopGrace is how long a child may take to end before it is killed.
const stopGrace = 10 * time.Second

type request struct {
	ID   uint64          `json:"id"`
	Verb string          `json:"verb"`
	Body json.RawMessage `json:"body,omitempty"`
}

type reply struct {
	ID   uint64          `json:"id"`
	Err  string          `json:"err,omitempty"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Verb answers one kind of request.
type Verb func(ctx context.Context, body json.RawMessage) (any, error)

// On makes a Verb of a typed function.
func On[In, Out any](f func(ctx context.Context, in In) (Out, error)) Verb {
	return func(ctx context.Context, body json.RawMessage) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("read request: %w", err)
			}
		}
		return f(ctx, in)
	}
}

// Serve answers requests of in on out until in ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer, verbs map[string]Verb) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var mu sync.Mutex // guards out
	slots := make(chan struct{}, maxAtOnce)
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			answer := reply{ID: r.ID}
			if verb := verbs[r.Verb]; verb == nil {
				answer.Err = fmt.Sprintf("no verb %q", r.Verb)
			} else if v, err := verb(ctx, r.Body); err != nil {
				answer.Err = err.Error()
			} else if answer.Body, err = json.Marshal(v); err != nil {
				answer.Err = fmt.Sprintf("write answer: %v", err)
			}
			line, err := json.Marshal(answer)
			if err != nil {
				return // a reply of bytes and strings always marshals
			}
			mu.Lock()
			defer mu.Unlock()
			_, _ = out.Write(append(line, '\n')) // a parent that is gone ends in
		})
	}
	return lines.Err()
}

// Process is a running child.
type Process struct {
	// Immutable.
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when the output has ended

	sending sync.Mutex // one line at a time

	mu sync.Mutex
	// Guarded by mu.
	last    uint64
	waiting map[uint64]chan reply // nil once the output has ended
}

// Start runs the program with args as a child; what it writes to its standard
// error goes to ours.
func Start(name, program string, args ...string) (*Process, error) {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for its parent
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, stdin: stdin, done: make(chan struct{}), waiting: make(map[uint64]chan reply)}
	go p.read(stdout) // ends with the output; Stop waits
	return p, nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue
		}
		p.mu.Lock()
		answer := p.waiting[r.ID]
		delete(p.waiting, r.ID)
		p.mu.Unlock()
		if answer != nil {
			answer <- r // has room for one
		}
	}
	p.mu.Lock()
	p.waiting = nil
	p.mu.Unlock()
}

// Call sends a request and waits for its answer. in and out may be nil.
func (p *Process) Call(ctx context.Context, verb string, in, out any) error {
	r := request{Verb: verb}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask %s to %s: %w", p.name, verb, err)
		}
		r.Body = body
	}
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.waiting == nil {
		p.mu.Unlock()
		return fmt.Errorf("ask %s to %s: it has ended", p.name, verb)
	}
	p.last++
	r.ID = p.last
	p.waiting[r.ID] = answer
	p.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask %s to %s: %w", p.name, verb, err)
	}
	p.sending.Lock()
	_, err = p.stdin.Write(append(line, '\n'))
	p.sending.Unlock()
	if err != nil {
		return fmt.Errorf("ask %s to %s: %w", p.name, verb, err)
	}
	select {
	case a := <-answer:
		if a.Err != "" {
			return fmt.Errorf("%s: %s: %s", p.name, verb, a.Err)
		}
		if out != nil {
			if err := json.Unmarshal(a.Body, out); err != nil {
				return fmt.Errorf("%s: %s: read answer: %w", p.name, verb, err)
			}
		}
		return nil
	case <-p.done:
		return fmt.Errorf("ask %s to %s: it ended meanwhile", p.name, verb)
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiting, r.ID)
		p.mu.Unlock()
		return fmt.Errorf("ask %s to %s: %w", p.name, verb, ctx.Err())
	}
}

// Stop ends the child's input and waits for it; after stopGrace it is killed.
func (p *Process) Stop() error {
	_ = p.stdin.Close()
	kill := time.AfterFunc(stopGrace, func() { _ = p.cmd.Process.Kill() })
	<-p.done
	err := p.cmd.Wait()
	if !kill.Stop() {
		return fmt.Errorf("stop %s: killed after %v", p.name, stopGrace)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	return nil
}
