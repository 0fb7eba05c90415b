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

// logSpec is what a log is like, whoever comes first.
type logSpec struct {
	about    string
	subject  string // of the entries of a key, less the key
	told     string // where those that were taken are told, less the key
	life     time.Duration
	maxBytes int64
}

var logSpecs = map[string]logSpec{
	GuildsLog: {about: "what happens in each guild, in its order", subject: "v1.guild.", told: "v1.told.", life: LogLife, maxBytes: 64 << 20},
}

// Any stands for whatever entry is the last one.
const Any = ^uint64(0)

// LogLife is how long the entries of a log are kept.
const LogLife = 10 * time.Minute

// Log is a list of entries for each of many keys, each list in one order that all
// who follow it see alike. An entry is taken only from who knows the last one, so of
// two who append at once one learns of the other. Entries are kept in memory for some
// minutes, by which time all have them. Safe for concurrent use.
type Log struct {
	// Immutable.
	c    *Conn
	name string
	spec logSpec
}

// Record is an entry of a log. Seq grows within a key, with gaps; Prev is the one of
// the entry before it, zero when that is not kept any more.
type Record struct {
	Seq, Prev uint64
	Body      []byte
}

// OpenLog opens a log of subjects.go and makes it when it is not there.
func OpenLog(ctx context.Context, c *Conn, name string) (*Log, error) {
	spec, ok := logSpecs[name]
	if !ok {
		return nil, fmt.Errorf("open log %q: no such log", name)
	}
	l := &Log{c: c, name: name, spec: spec}
	ctx, cancel := within(ctx, openTimeout)
	defer cancel()
	if err := c.insist(ctx, l.ensure); err != nil {
		return nil, err
	}
	return l, nil
}

// ensure makes the stream, if it is not there. One that is made anew counts on where
// any before it can have come: numbers never run backwards.
func (l *Log) ensure(ctx context.Context) error {
	if _, err := l.c.js.Stream(ctx, l.name); !lost(err) {
		return err
	}
	_, err := l.c.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        l.name,
		Description: l.spec.about,
		Subjects:    []string{l.spec.subject + "*"},
		MaxAge:      l.spec.life,
		MaxBytes:    l.spec.maxBytes,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.MemoryStorage,
		Replicas:    l.c.replicas,
		AllowDirect: true,
		FirstSeq:    uint64(time.Now().UnixMilli()) << 10,
		RePublish:   &jetstream.RePublish{Source: l.spec.subject + "*", Destination: l.spec.told + "{{wildcard(1)}}"},
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("open log %s: %w", l.name, err)
	}
	return nil
}

// Append adds an entry to the list of a key, after the entry last (zero: the first,
// or of those before none is kept; Any: wherever) and returns its number. ErrConflict: last is not
// the last one. Any other error leaves open whether the entry was taken.
func (l *Log) Append(ctx context.Context, key string, last uint64, body []byte) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := l.c.await(ctx); err != nil {
		return 0, fmt.Errorf("append to %s: %w", l.name, err)
	}
	var opts []jetstream.PublishOpt
	if last != Any {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(last))
	}
	ack, err := l.c.js.Publish(ctx, l.spec.subject+key, body, opts...)
	if lost(err) {
		if err = l.ensure(ctx); err == nil {
			ack, err = l.c.js.Publish(ctx, l.spec.subject+key, body, opts...)
		}
	}
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, fmt.Errorf("append to %s: %w", l.name, ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", l.name, err)
	}
	return ack.Sequence, nil
}

// Since lists the entries of a key after one, in order. They are all there are, up to
// some that are just being appended.
func (l *Log) Since(ctx context.Context, key string, after uint64) ([]Record, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := l.c.await(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.name, err)
	}
	var list []Record
	last := after
	for more := true; more; {
		page, left, err := l.page(ctx, key, last)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", l.name, err)
		}
		if n := len(page); n > 0 {
			last = page[n-1].Seq
		}
		list, more = append(list, page...), left
	}
	// Whoever gave pages may lag behind; the leader of the stream does not.
	for {
		r, err := l.get(ctx, logRequest{Seq: last + 1, Next: l.spec.subject + key})
		if errors.Is(err, jetstream.ErrMsgNotFound) || lost(err) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", l.name, err)
		}
		r.Prev, last = last, r.Seq
		list = append(list, r)
	}
}

// logPage is how many entries are asked for at once, logPageBytes about how much.
const (
	logPage      = 1000
	logPageBytes = 8 << 20
)

// logRequest asks a stream for entries.
type logRequest struct {
	Seq   uint64 `json:"seq,omitempty"`
	Next  string `json:"next_by_subj,omitempty"` // the first of this subject from Seq on
	Last  string `json:"last_by_subj,omitempty"`
	Batch int    `json:"batch,omitempty"`
	Bytes int    `json:"max_bytes,omitempty"`
}

// page lists entries of a key after one by a single request that any server answers;
// more says that there are others. A log that was made before this was so has none.
func (l *Log) page(ctx context.Context, key string, after uint64) (list []Record, more bool, err error) {
	body, err := json.Marshal(logRequest{Seq: after + 1, Next: l.spec.subject + key, Batch: logPage, Bytes: logPageBytes})
	if err != nil {
		return nil, false, err
	}
	inbox := l.c.nc.NewInbox()
	sub, err := l.c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := l.c.nc.PublishRequest("$JS.API.DIRECT.GET."+l.name, inbox, body); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, getTry)
	defer cancel()
	for last := after; ; {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return list, false, nil // what is missing the leader has
		}
		switch m.Header.Get("Status") {
		case "":
		case "204": // the end of the page
			return list, m.Header.Get("Nats-Num-Pending") != "0" && len(list) > 0, nil
		default:
			return list, false, nil
		}
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil || seq <= last {
			l.c.metrics.malformed.Inc()
			return list, false, nil
		}
		list = append(list, Record{Seq: seq, Prev: last, Body: m.Data})
		last = seq
	}
}

// get asks the leader of the stream for one entry.
func (l *Log) get(ctx context.Context, req logRequest) (Record, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return Record{}, err
	}
	m, err := l.c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+l.name, body)
	if err != nil {
		return Record{}, err
	}
	var rep struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &rep); err != nil {
		return Record{}, err
	}
	switch {
	case rep.Error == nil:
		return Record{Seq: rep.Message.Seq, Body: rep.Message.Data}, nil
	case rep.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Record{}, jetstream.ErrMsgNotFound
	case rep.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return Record{}, jetstream.ErrStreamNotFound
	}
	return Record{}, rep.Error
}

// Position is the number of the last entry of any key.
func (l *Log) Position(ctx context.Context) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := l.c.await(ctx); err != nil {
		return 0, fmt.Errorf("read %s: %w", l.name, err)
	}
	s, err := l.c.js.Stream(ctx, l.name)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", l.name, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Last is the number of the last entry of a key, zero when none is kept.
func (l *Log) Last(ctx context.Context, key string) (uint64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if err := l.c.await(ctx); err != nil {
		return 0, fmt.Errorf("read %s: %w", l.name, err)
	}
	r, err := l.get(ctx, logRequest{Last: l.spec.subject + key})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound) || lost(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", l.name, err)
	}
	return r.Seq, nil
}

// Follow calls fn with every entry of a key that is appended from now on, one after
// the other. Some may be missing: Prev shows it, and Since has them. It may be called
// from within fn; when it returns, the server knows of it.
func (l *Log) Follow(ctx context.Context, key string, fn func(r Record)) (*Subscription, error) {
	s := &Subscription{}
	sub, err := l.c.nc.Subscribe(l.spec.told+key, func(m *nats.Msg) {
		if s.gone.Load() {
			return
		}
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			l.c.metrics.malformed.Inc()
			return
		}
		prev, _ := strconv.ParseUint(m.Header.Get(jetstream.LastSequenceHeader), 10, 64)
		fn(Record{Seq: seq, Prev: prev, Body: m.Data})
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", l.name, err)
	}
	s.sub = sub
	if err := l.c.Flush(ctx); err != nil {
		s.Unsubscribe()
		return nil, fmt.Errorf("follow %s: %w", l.name, err)
	}
	return s, nil
}
