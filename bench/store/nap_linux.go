package store

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps to within some 0.1 ms. The runtime's own timers are late by up to 1 ms in a
// process that has nothing else to do.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&t, nil) // woken early it is asked again
}
