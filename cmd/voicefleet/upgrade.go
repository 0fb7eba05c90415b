package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"voicefleet/edgeagent/edgeagentserver"
)

// ownProgram is the file this process was started from, also when another stands
// in its place by now.
const ownProgram = "/proc/self/exe"

const (
	// versionTime bounds what a program may take to tell its version, versionBytes
	// how much of that is read.
	versionTime  = 3 * time.Second
	versionBytes = 200
)

// onDisk is the program in whose place this one was started.
type onDisk struct {
	path, version string
	engines       *engines
}

// program serves edgeagentserver.Config.Program: what does not even tell its
// version is not tried.
func (e *engines) program(ctx context.Context) (edgeagentserver.Program, error) {
	path, err := os.Executable() // as it was called at the start
	if err != nil {
		return nil, fmt.Errorf("find it: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.WaitDelay = versionTime
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s version: %w %s", path, err, firstLine(complaint.String()))
	}
	told := firstLine(out.String())
	if told == "" || strings.TrimSpace(out.String()) != told {
		return nil, fmt.Errorf("%s version: %q is no version", path, told)
	}
	return &onDisk{path: path, version: told, engines: e}, nil
}

// firstLine is the first line of what a program said, if it is short.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line[:min(len(line), versionBytes)]
}

func (p *onDisk) Version() string { return p.version }
func (p *onDisk) Use()            { p.engines.setProgram(p.path) }
func (p *onDisk) Revert()         { p.engines.setProgram("") }

// Exec keeps the process, its arguments and its place in the tree of processes.
// Everything else of this one is closed; the engine then waits for the next agent,
// which this process is about to be.
func (p *onDisk) Exec() error {
	if err := syscall.Exec(p.path, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", p.path, err)
	}
	return errors.New("unreachable")
}

func (e *engines) setProgram(path string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = path
}

// image is the file to start engines from: the one of an upgrade, or that of this
// process, whatever lies in its place now. By its name, if it still has one.
func (e *engines) image() (string, error) {
	if e.next != "" {
		return e.next, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	named, err1 := os.Stat(path)
	own, err2 := os.Stat(ownProgram)
	if err1 == nil && err2 == nil && !os.SameFile(named, own) || errors.Is(err1, os.ErrNotExist) {
		return ownProgram, nil
	}
	return path, nil
}
