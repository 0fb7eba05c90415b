//go:build !linux

package chatserver

import "errors"

// poll is for Linux. Elsewhere every connection has a goroutine.
type poll struct{}

func newPoll() (*poll, error) { return nil, nil }

var errNoPoll = errors.New("connections are not waited for here")

func (*poll) run(func(*conn))           {}
func (*poll) close()                    {}
func (*poll) watch(*conn) error         { return errNoPoll }
func (*poll) again(*conn) error         { return errNoPoll }
func (*poll) forget(*conn)              {}
func (*wire) look([]byte) (int, error)  { return 0, errNoPoll }
func (*wire) offer([]byte) (int, error) { return 0, errNoPoll }
