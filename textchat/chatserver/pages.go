package chatserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/guild"
)

const (
	// pagesMost bounds the pages that are remembered, in bytes: some 1,600 of 50 short
	// messages. pageLargest is the largest of them, pageCost what one costs besides its
	// body.
	pagesMost   = 32 << 20
	pageLargest = 256 << 10
	pageCost    = 256
	// pageShards are locked apart.
	pageShards = 16
	// pageLife bounds how long a page may lack what was written and never told, as the
	// instance that wrote it died in between.
	pageLife = 5 * time.Second
	// confirmTry is how long the bus is asked for the last entry of a guild before the
	// store is read instead; confirmAgain how long it then is not asked.
	confirmTry   = 250 * time.Millisecond
	confirmAgain = time.Second
)

// pageSizes are the messages that are read when so many are asked for or fewer.
var pageSizes = [...]int{50, 100}

// pages remember the newest messages of channels of guilds, as they are sent: whoever
// opens a channel asks for them. See the package's documentation for why none is older
// than it may be. In private channels nothing is remembered: few ask for the same.
//
// The tables hold one pointer for a page, to bytes into which the collector does not
// look.
type pages struct {
	// Immutable. confirmed says whether what is remembered of a guild's channels is all
	// that was told so far; life is pageLife. A test may set them before Run.
	srv       *Server
	begun     time.Time // see now
	confirmed func(ctx context.Context, o *owner) bool
	life      time.Duration
	seed      maphash.Seed

	readings joints[newestKey, page]

	hits, misses, evicted prometheus.Counter
	size                  prometheus.Gauge

	shards [pageShards]struct {
		mu sync.Mutex
		// Guarded by mu. When it is full, an arbitrary page is forgotten.
		known   map[textchat.ID]page
		bytes   int
		filling map[textchat.ID]*filling
	}
}

// page is the newest messages of a channel.
type page struct {
	// body is the messages, with commas between them, and before them an index: for each
	// its id, and where it ends, doubled, plus one if it has reactions, which are those
	// of a viewer and not there.
	body  []byte
	n     uint8 // messages
	limit uint8 // there are more, perhaps, if n is not less
	base  uint64
	// It is good while the owner has this version, and has not been told of anything
	// in the channel after this entry.
	version, seq uint64
	read         time.Duration // when, see pages.now
}

const indexEntry = 12 // bytes

func (p *page) id(i int) textchat.ID {
	return textchat.ID(binary.LittleEndian.Uint64(p.body[i*indexEntry:]))
}

// message is the i-th, newest first, and whether it has reactions.
func (p *page) message(i int) (from, to int, reacted bool) {
	end := func(i int) uint32 { return binary.LittleEndian.Uint32(p.body[i*indexEntry+8:]) }
	from = int(p.n) * indexEntry
	if i > 0 {
		from = int(end(i-1)>>1) + 1 // and a comma
	}
	return from, int(end(i) >> 1), end(i)&1 != 0
}

// pack writes messages into a page.
func pack(list []textchat.Message, limit int) page {
	body := make([]byte, len(list)*indexEntry, len(list)*512)
	for i := range list {
		m := &list[i]
		reacted := uint32(0)
		if len(m.Reactions) > 0 {
			reacted, m.Reactions = 1, nil
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, encode(m)...)
		binary.LittleEndian.PutUint64(body[i*indexEntry:], uint64(m.ID))
		binary.LittleEndian.PutUint32(body[i*indexEntry+8:], uint32(len(body))<<1|reacted)
	}
	// A copy has no room to grow, which would be remembered with it.
	return page{body: bytes.Clone(body), n: uint8(len(list)), limit: uint8(limit)}
}

// filling is that pages of a channel are being read.
type filling struct {
	readers int
	told    uint64 // the last entry about it meanwhile; told without a log: untimed
	untimed bool
}

func (p *pages) init(s *Server) {
	p.srv, p.life, p.begun, p.seed = s, pageLife, time.Now(), maphash.MakeSeed()
	p.confirmed = func(ctx context.Context, o *owner) bool { return o.confirm(ctx) }
	p.hits, p.misses = s.metrics.cacheHits.WithLabelValues("pages"), s.metrics.cacheMisses.WithLabelValues("pages")
	p.evicted, p.size = s.metrics.cacheEvicted.WithLabelValues("pages"), s.metrics.cacheBytes.WithLabelValues("pages")
	for i := range p.shards {
		p.shards[i].known = make(map[textchat.ID]page)
		p.shards[i].filling = make(map[textchat.ID]*filling)
	}
}

// now is the time since the server began, which nobody sets back.
func (p *pages) now() time.Duration { return time.Since(p.begun) }

func pageShard(channel textchat.ID) int {
	return int((channel ^ channel>>22 ^ channel>>44) % pageShards)
}

// find looks for at least limit messages of a channel, or all there are.
func (p *pages) find(o *owner, channel textchat.ID, base uint64, limit int) (page, bool) {
	s := &p.shards[pageShard(channel)]
	s.mu.Lock()
	found, ok := s.known[channel]
	s.mu.Unlock()
	return found, ok && found.version == o.pagesVersion.Load() && found.base == base && (limit <= int(found.limit) || found.n < found.limit) &&
		p.now()-found.read < p.life
}

// told forgets the page of a channel of which an entry of the log tells something that
// the page does not have, perhaps; zero: there is no log. It comes before anybody hears
// of it.
func (p *pages) told(channel textchat.ID, seq uint64) {
	s := &p.shards[pageShard(channel)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.filling[channel]; f != nil {
		f.told, f.untimed = max(f.told, seq), f.untimed || seq == 0
	}
	if known, ok := s.known[channel]; ok && (seq == 0 || seq > known.seq) {
		p.forgetLocked(channel, known)
	}
}

func (p *pages) forgetLocked(channel textchat.ID, known page) {
	s := &p.shards[pageShard(channel)]
	delete(s.known, channel)
	s.bytes -= pageCost + len(known.body)
	p.size.Sub(float64(pageCost + len(known.body)))
}

// fill reads a page and remembers it, if it has all that was told until then.
func (p *pages) fill(o *owner, channel textchat.ID, base uint64, read func() (page, error)) (page, error) {
	s := &p.shards[pageShard(channel)]
	s.mu.Lock()
	f := s.filling[channel]
	if f == nil {
		f = new(filling)
		s.filling[channel] = f
	}
	f.readers++
	s.mu.Unlock()
	// What the entries up to here tell of was written before the reading begins.
	version, seq := o.pagesVersion.Load(), o.pagesSeq.Load()
	made, err := page{}, error(nil)
	now := p.now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.readers--; f.readers == 0 {
			delete(s.filling, channel)
		}
		if size := pageCost + len(made.body); err == nil && version != 0 && version == o.pagesVersion.Load() && !f.untimed && f.told <= seq && size <= pageLargest {
			p.keepLocked(channel, made)
		}
	}()
	made, err = read()
	made.base, made.version, made.seq, made.read = base, version, seq, now
	return made, err
}

func (p *pages) keepLocked(channel textchat.ID, made page) {
	s := &p.shards[pageShard(channel)]
	if known, ok := s.known[channel]; ok {
		p.forgetLocked(channel, known)
	}
	size := pageCost + len(made.body)
	for old, known := range s.known {
		if s.bytes+size <= pagesMost/pageShards {
			break
		}
		p.forgetLocked(old, known)
		p.evicted.Inc()
	}
	s.known[channel] = made
	s.bytes += size
	p.size.Add(float64(size))
}

// newestKey names readings that have one answer.
type newestKey struct {
	channel textchat.ID
	base    uint64
	size    int
}

// newestPage is the newest messages of a guild's channel.
func (c *call) newestPage(p place, limit int) (raw, error) {
	s, o, channel := &c.srv.pages, p.owner, p.channel.ID
	base := maphash.String(s.seed, c.srv.baseURL(c.r))
	if _, likely := s.find(o, channel, base, limit); likely && s.confirmed(c.ctx, o) {
		// What was told since it was looked for has been forgotten by now.
		if found, ok := s.find(o, channel, base, limit); ok {
			s.hits.Inc()
			return c.seen(&found, channel, limit)
		}
	}
	s.misses.Inc()
	size := pageSizes[0]
	if limit > size {
		size = pageSizes[1]
	}
	made, err := s.readings.do(c.ctx, c.srv, newestKey{channel, base, size}, func() (page, error) {
		ctx, cancel := context.WithTimeout(c.srv.life, requestTimeout)
		defer cancel()
		anyone := *c
		anyone.ctx, anyone.user = ctx, textchat.User{}
		return s.fill(o, channel, base, func() (page, error) {
			list, err := c.srv.store.Page(ctx, channel, textchat.PageQuery{Limit: size})
			if err != nil {
				return page{}, err
			}
			if list, err = anyone.dress(channel, list); err != nil {
				return page{}, err
			}
			return pack(list, size), nil
		})
	})
	if err != nil {
		return nil, err
	}
	return c.seen(&made, channel, limit)
}

// seen is what the caller sees of a page: with its own reactions.
func (c *call) seen(p *page, channel textchat.ID, limit int) (raw, error) {
	n := min(int(p.n), limit)
	if n == 0 {
		return raw{[]byte("[]")}, nil
	}
	var reacted []textchat.ID
	for i := range n {
		if _, _, ok := p.message(i); ok {
			reacted = append(reacted, p.id(i))
		}
	}
	from := int(p.n) * indexEntry
	_, to, _ := p.message(n - 1)
	if len(reacted) == 0 {
		return raw{[]byte{'['}, p.body[from:to], []byte{']'}}, nil
	}
	marks, err := c.srv.store.Marks(c.ctx, channel, reacted, c.user.ID)
	if err != nil {
		return nil, err
	}
	answer := raw{[]byte{'['}}
	for i := range n {
		_, end, ok := p.message(i)
		list := marks[p.id(i)].Reactions
		if !ok || len(list) == 0 {
			continue
		}
		// They come last in the message.
		answer = append(answer, p.body[from:end-1], []byte(`,"reactions":`), encode(list))
		from = end - 1
	}
	return append(answer, p.body[from:to], []byte{']'}), nil
}

// confirm says whether this instance has all entries of the guild that there are, by
// asking the bus.
func (o *owner) confirm(ctx context.Context) bool {
	e := o.srv.ensemble
	if e == nil || e.alone != nil {
		return true // all that is told passes here
	}
	if o.srv.pages.now() < time.Duration(o.doubted.Load()) {
		return false
	}
	last, err := e.lasts.do(ctx, o.srv, o.id, func() (uint64, error) {
		ctx, cancel := context.WithTimeout(o.srv.life, confirmTry)
		defer cancel()
		last, err := e.log.Last(ctx, o.key)
		if err != nil {
			o.doubted.Store(int64(o.srv.pages.now() + confirmAgain))
		}
		return last, err
	})
	return err == nil && last <= o.pagesSeq.Load()
}

// repage forgets the pages that an entry tells something of, before anybody is given its
// events; zero: there is no log.
func (o *owner) repage(out *guild.Out, seq uint64) {
	for _, e := range out.Events {
		if e.Channel != 0 && e.Name != textchat.EventTypingStart {
			o.srv.pages.told(e.Channel, seq)
		}
	}
	for _, channel := range out.Touched {
		o.srv.pages.told(channel, seq)
	}
	for _, c := range out.Changes {
		if c.PutChannel != nil || c.DropChannel != 0 {
			return // see rethread
		}
	}
	if seq != 0 {
		o.pagesSeq.Store(seq)
	}
}

// pagesAnew forgets all pages of the guild.
func (o *owner) pagesAnew() {
	if o.core != nil {
		o.pagesVersion.Store(o.srv.views.next())
	}
}

// rethread forgets the page that has the message of a new thread, of which it does not
// say that there is one; and all pages when a channel goes, which may have been a thread.
func (o *owner) rethread(c textchat.Change, seq uint64) {
	switch {
	case c.DropChannel != 0:
		o.pagesAnew()
	case c.PutChannel != nil:
		if t := o.core.Channel(c.PutChannel.ID); t != nil && t.Parent != nil {
			o.srv.pages.told(*t.Parent, seq)
		}
	}
}
