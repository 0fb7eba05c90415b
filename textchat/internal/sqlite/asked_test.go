package sqlite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"runtime"
	"testing"
	"time"

	"voicefleet/internal/snowflake"
	"voicefleet/textchat"
)

// askedEnv makes this test a process that has the store in that folder open, and does
// what it is asked for.
const askedEnv = "VOICEFLEET_ASKED"

// asked opens the store and answers each line: it writes a message, and told to read reads
// it too, and stops the world for a moment. It ends with its input.
func asked(dir string, in io.Reader, out io.Writer) {
	s, err := Open(dir, Config{})
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	defer s.Close()
	fmt.Fprintln(out, "open")
	var mint snowflake.Mint
	for lines := bufio.NewScanner(in); lines.Scan(); {
		_, _, err := s.AddMessage(ctx, textchat.Message{ID: mint.Next(time.Now()), Channel: 1, Author: textchat.User{ID: 1}}, "")
		var page []textchat.Message
		var perr error
		if lines.Text() == "read" {
			page, perr = s.Page(ctx, 1, textchat.PageQuery{Limit: 1})
		}
		runtime.GC()
		switch {
		case perr != nil || len(page) > 1:
			fmt.Fprintln(out, "page:", len(page), perr)
		case errors.Is(err, textchat.ErrBusy):
			fmt.Fprintln(out, "busy")
		default:
			fmt.Fprintln(out, "written:", err)
		}
	}
}

// process is such a process.
type process struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
}

// ask starts one with the store in dir.
func ask(t *testing.T, dir string) *process {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), askedEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &process{t: t, in: in, lines: make(chan string)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		in.Close()
		for range p.lines {
		}
		<-read
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// hear is the next line of the process, or what kept it from saying any.
func (p *process) hear() string {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "nothing more"
		}
		return line
	case <-time.After(30 * time.Second):
		return "nothing in 30 s"
	}
}

// try asks it to write and, so told, to read.
func (p *process) try(word string) string {
	if _, err := io.WriteString(p.in, word+"\n"); err != nil {
		p.t.Error(err)
	}
	return p.hear()
}

// written asks until a message was written: a busy disk may be late.
func (p *process) written() {
	p.t.Helper()
	got := p.try("")
	for got == "busy" {
		got = p.try("")
	}
	if got != "written: <nil>" {
		p.t.Fatalf("a message: %s", got)
	}
}
