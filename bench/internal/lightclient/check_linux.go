package lightclient

import (
	"context"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

// The clock of ICE: the first checks come quickly, those that keep consent (RFC
// 7675) at a browser's pace. The latter are dealt evenly over the period, so that
// thousands of clients that joined at once do not ask at once.
const (
	checkEvery   = 2500 * time.Millisecond
	checkAtFirst = 50 * time.Millisecond
	checkTick    = 10 * time.Millisecond
	checkSlots   = int(checkEvery / checkTick)
	// Of clients that watch their path: silence after which they ask, and how often.
	watchSilence = 300 * time.Millisecond
	watchEvery   = 100 * time.Millisecond
)

// checker sends the STUN checks of all clients.
type checker struct {
	message stun.Message     // owned by run: its memory serves every check
	room    [reportRoom]byte // likewise, for reports

	mu sync.Mutex
	// Guarded by mu.
	wheel   [checkSlots][]*Client // whose consent is kept
	last    int                   // slot that got the last client
	eager   map[*Client]struct{}  // not answered yet
	watched map[*Client]struct{}
}

func newChecker() *checker {
	return &checker{eager: make(map[*Client]struct{}), watched: make(map[*Client]struct{})}
}

// begin checks a client that knows its server.
func (k *checker) begin(c *Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.eager[c] = struct{}{}
}

// watch asks for a client that hears nothing.
func (k *checker) watch(c *Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.checkSlot >= 0 { // not retired
		k.watched[c] = struct{}{}
	}
}

// heard keeps the consent of a client from now on. The next slot is a golden
// section of the wheel away from the last, which spreads any number evenly.
func (k *checker) heard(c *Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.eager[c]; !ok {
		return // closed meanwhile
	}
	delete(k.eager, c)
	k.last = (k.last + goldenStep) % checkSlots
	c.checkSlot = k.last
	k.wheel[k.last] = append(k.wheel[k.last], c)
}

// goldenStep is 250·0.618, without a divisor in common with 250.
const goldenStep = 153

// forget ends the checks of a client.
func (k *checker) forget(c *Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.eager, c)
	delete(k.watched, c)
	if c.checkSlot < 0 {
		return
	}
	list := k.wheel[c.checkSlot]
	for i := range list {
		if list[i] == c {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			k.wheel[c.checkSlot] = list[:len(list)-1]
			break
		}
	}
	c.checkSlot = -1
}

// run is the checker's goroutine.
func (k *checker) run(ctx context.Context) {
	t := time.NewTicker(checkTick)
	defer t.Stop()
	var due []*Client
	began, done := time.Now(), int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			// A ticker drops what a stall missed; the slots must not be skipped.
			upto := int64(now.Sub(began) / checkTick)
			done = max(done, upto-int64(checkSlots))
			for ; done < upto; done++ {
				due = k.due(due[:0], done, now)
				for _, c := range due {
					c.check(&k.message)
					c.report(now, k.room[:])
				}
			}
		}
	}
}

// due lists whose check tick number n is.
func (k *checker) due(list []*Client, n int64, now time.Time) []*Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	list = append(list, k.wheel[n%int64(checkSlots)]...)
	if n%int64(checkAtFirst/checkTick) == 0 {
		for c := range k.eager {
			list = append(list, c)
		}
	}
	if n%int64(watchEvery/checkTick) == 0 {
		for c := range k.watched {
			if now.UnixNano()-c.last.Load() > int64(watchSilence) {
				list = append(list, c)
			}
		}
	}
	return list
}
