package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreSignals lets a child outlive the signals that its parent handles, when all of
// them get one.
func ignoreSignals() { signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) }
