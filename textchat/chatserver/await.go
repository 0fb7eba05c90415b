package chatserver

import (
	"errors"
	"time"

	"voicefleet/textchat"
)

const (
	// awaitLook is how often, and awaitLooks how many times, is looked for what a write
	// did of which the store did not say in time whether it is done.
	awaitLook  = time.Second
	awaitLooks = 120
	// awaitedMost bounds how many are looked for at once. Of more than that nobody is
	// told, and they show when what they changed is read.
	awaitedMost = 512
)

// await has a task look for what a write did, when err is that the store does not know
// yet. The request answers that error; whoever then tries again finds it done, and
// nobody else would hear of it. see looks, and tells when it is done, or says that it
// is to look again; lost, which may be nil, is for what was not seen in the end.
//
// What was so before the write, or was brought about by the next try, is told again: a
// look cannot tell these apart.
func (c *call) await(err error, see func(later *call) bool, lost func(later *call)) {
	if !errors.Is(err, textchat.ErrUnsure) {
		return
	}
	s := c.srv
	if s.awaited.Add(1) > awaitedMost {
		s.awaited.Add(-1)
		return
	}
	later := c.lasting()
	started := s.task(func() {
		defer s.awaited.Add(-1)
		defer s.recovered("await_write")
		look := time.NewTicker(awaitLook)
		defer look.Stop()
		for range awaitLooks {
			select {
			case <-look.C:
			case <-s.life.Done():
				return
			}
			if see(later) {
				return
			}
		}
		if lost != nil {
			lost(later)
		}
	})
	if !started {
		s.awaited.Add(-1)
	}
}

// lasting is the call for what goes on after its request is over.
func (c *call) lasting() *call {
	later := *c
	later.ctx = c.srv.life
	return &later
}

// gone says whether a message is not there any more.
func (c *call) gone(channel, message textchat.ID) bool {
	_, err := c.srv.store.Message(c.ctx, channel, message)
	return errors.Is(err, textchat.ErrNoRecord)
}

// marks are those of one message.
func (c *call) marks(m textchat.Message) (textchat.Marks, error) {
	marks, err := c.srv.store.Marks(c.ctx, m.Channel, []textchat.ID{m.ID}, c.user.ID)
	return marks[m.ID], err
}
