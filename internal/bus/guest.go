package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A guest may make no consumers: who may, may end those of others, and have a stream's
// messages sent to any subject. It reads a bucket page by page, overhears what is put,
// and reads again where that is not all: of what expires nothing is heard, and what
// the bucket did not take is.
const (
	// guestPage is how many values are asked for at once.
	guestPage = 256
	// guestAgain is how soon after a value was overheard the bucket is read again, and
	// after the first reading, too: what was put just before that is heard no more, and
	// may not be in the bucket yet, or not in the server's copy that answers. Then it is
	// after twice that time, and so on. Not where each writes its own key: it is taken,
	// and written again within seconds.
	guestAgain = time.Second
)

// watchAsGuest is watchOnce for a guest.
func (b *Bucket[T]) watchAsGuest(ctx context.Context, known map[string]bool, fn func(Change[T])) error {
	reconnected := b.c.Reconnected()
	opening, cancel := withDeadline(ctx)
	defer cancel()
	if err := b.ensure(opening); err != nil {
		return err
	}
	heard := make(chan *nats.Msg, pendingMessages)
	sub, err := b.c.nc.ChanSubscribe("$KV."+b.name+".>", heard)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.c.Flush(opening); err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	last, err := b.readAll(ctx, 0, known, fn)
	if err != nil {
		return err
	}
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	var again <-chan time.Time
	wait := guestAgain
	if b.spec.ttl != leaseTTL {
		again = time.After(wait)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnected:
			return nil
		case m := <-heard:
			b.passHeard(m, known, fn)
			if b.spec.ttl != leaseTTL {
				last = 0 // what is not taken leaves no revision
				if again == nil || wait > guestAgain {
					wait = guestAgain
					again = time.After(wait)
				}
			}
			continue
		case <-again:
			again = nil
			if wait *= 2; wait < checkInterval {
				again = time.After(wait)
			}
		case <-check.C:
		}
		if last, err = b.readAll(ctx, last, known, fn); err != nil {
			return err
		}
	}
}

func (b *Bucket[T]) passHeard(m *nats.Msg, known map[string]bool, fn func(Change[T])) {
	key, ours := keyOf(b.name, m.Subject)
	if !ours {
		b.c.metrics.malformed.Inc()
		return
	}
	b.passValue(Change[T]{Entry: Entry[T]{Key: key}}, m.Data, m.Header.Get(kvOperation) != "", known, nil, fn)
}

// readAll tells all there is, and that it is all; nothing where the newest revision
// still is last and nothing can have expired. It returns the newest that it read: the
// copy that answers may be behind.
func (b *Bucket[T]) readAll(ctx context.Context, last uint64, known map[string]bool, fn func(Change[T])) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	// Servers that take an account's new JWT lose answers, and while one is waited for
	// nothing is heard: that a member was revoked, least of all.
	var stream jetstream.Stream
	err := b.c.insist(ctx, func(try context.Context) (err error) {
		stream, err = b.c.js.Stream(try, "KV_"+b.name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read bucket %s: %w", b.name, err)
	}
	info := stream.CachedInfo()
	if last != 0 && last == info.State.LastSeq {
		return last, nil
	}
	seen := make(map[string]bool)
	next := uint64(1)
	for more := true; more; {
		err := b.c.insist(ctx, func(try context.Context) (err error) {
			next, more, err = b.readPage(try, next, known, seen, fn)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("read bucket %s: %w", b.name, err)
		}
	}
	for key := range known {
		if !seen[key] {
			delete(known, key)
			fn(Change[T]{Entry: Entry[T]{Key: key}, Gone: true})
		}
	}
	fn(Change[T]{Synced: true, Born: info.Created, Age: max(0, info.TimeStamp.Sub(info.Created))})
	return next - 1, nil
}

// readPage tells the values from a revision on, where to go on, also after an error,
// and whether there are more.
func (b *Bucket[T]) readPage(ctx context.Context, from uint64, known, seen map[string]bool, fn func(Change[T])) (next uint64, more bool, err error) {
	body, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Next  string `json:"next_by_subj"`
		Batch int    `json:"batch"`
	}{from, "$KV." + b.name + ".>", guestPage})
	if err != nil {
		return from, true, err
	}
	next = from
	inbox := b.c.nc.NewInbox()
	sub, err := b.c.nc.SubscribeSync(inbox)
	if err != nil {
		return from, true, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.c.nc.PublishRequest("$JS.API.DIRECT.GET.KV_"+b.name, inbox, body); err != nil {
		return from, true, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return next, true, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204": // the end of the page
			if m.Header.Get("Nats-Num-Pending") == "0" {
				return next, false, nil
			}
			if next == from {
				return from, true, errors.New("a page of nothing")
			}
			return next, true, nil
		case "404":
			return next, false, nil // nothing from there on
		default:
			return next, true, fmt.Errorf("%s %s", status, m.Header.Get("Description"))
		}
		revision, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		key, ours := keyOf(b.name, m.Header.Get(jetstream.SubjectHeader))
		if err == nil {
			next = revision + 1
		}
		if err != nil || !ours {
			b.c.metrics.malformed.Inc()
			continue
		}
		written, _ := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
		over := m.Header.Get(kvOperation) != "" || m.Header.Get(jetstream.MarkerReasonHeader) != ""
		b.passValue(Change[T]{Entry: Entry[T]{Key: key, Revision: revision, Written: written}}, m.Data, over, known, seen, fn)
	}
}
