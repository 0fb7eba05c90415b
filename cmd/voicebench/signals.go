package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreSignals lets a child outlive the Ctrl-C that its parent handles.
func ignoreSignals() { signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) }
