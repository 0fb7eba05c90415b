package chatserver

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"voicefleet/textchat"
)

// hijacked is an answer whose connection is taken over.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// reader is a session that resumes by itself, at any instance.
type reader struct {
	l     *schedule
	name  string
	token string
	rnd   *rand.Rand // its own goroutine's
	hold  pause      // it reads nothing

	mu sync.Mutex
	// Guarded by mu.
	line    *line
	session string
	seq     uint64
	streams [][]handed      // the messages that came in each session, in order
	forms   []forms         // and what became of them
	had     map[string]bool // by its sessions, or in the history where one began anew
	shown   map[string]int  // what it shows, in which form
	marked  map[textchat.ID]onIt
	entered bool // it has the guild
	on      bool // the connection there is was given its session
	resumed int
	over    bool
	shaky   bool // its connections are cut where a session begins or resumes
}

// handed is a message that a session was given.
type handed struct {
	text, channel string
	by            string // an instance
	number        uint64
	at            time.Time
}

func (g handed) String() string {
	return fmt.Sprintf("%s by %s as %d at %s", g.text, g.by, g.number, g.at.Format("05.000"))
}

// run keeps a connection, until the schedule is over.
func (r *reader) run() {
	for n := r.rnd.IntN(len(r.l.houses)); !r.isOver(); n++ {
		h := r.l.house(n)
		if h != nil {
			r.connect(h)
		}
		time.Sleep(time.Duration(20+r.rnd.IntN(200)) * time.Millisecond)
	}
}

func (r *reader) isOver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// connect is one connection, until it ends.
func (r *reader) connect(h *house) {
	near, ours := net.Pipe()
	theirs, far := net.Pipe()
	l := newLine(ours, theirs, socketRoom, r.l.delay, []*pause{&h.still}, []*pause{&h.still})
	defer l.cut()
	r.mu.Lock()
	r.line = l
	shaky := r.shaky
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.on = false
		r.mu.Unlock()
	}()
	req := httptest.NewRequest("GET", "/gateway?v=10&encoding=json", nil)
	for k, v := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		req.Header.Set(k, v)
	}
	if !h.attend(l) {
		return
	}
	defer h.leave(l)
	go func() {
		h.still.wait()
		h.srv.Handler().ServeHTTP(hijacked{httptest.NewRecorder(), far}, req)
	}()
	in := bufio.NewReader(near)
	_ = near.SetReadDeadline(time.Now().Add(3 * time.Second))
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	if shaky && r.rnd.IntN(3) == 0 {
		after := time.Duration(r.rnd.IntN(300)) * time.Millisecond
		cut := time.AfterFunc(after, l.cut)
		defer cut.Stop()
	}
	beat := time.NewTicker(20 * time.Second)
	over := make(chan struct{})
	var beating sync.WaitGroup
	defer beating.Wait()
	defer close(over)
	beating.Go(func() {
		defer beat.Stop()
		for {
			select {
			case <-over:
				return
			case <-beat.C:
				r.mu.Lock()
				seq := r.seq
				r.mu.Unlock()
				r.send(near, 1, seq)
			}
		}
	})
	for {
		_ = near.SetReadDeadline(time.Now().Add(25 * time.Second))
		r.hold.wait()
		op, body, err := nextFrame(in)
		if err != nil || op == 8 {
			if op == 8 && len(body) >= 2 {
				r.l.closed(r, binary.BigEndian.Uint16(body))
			}
			return
		}
		if op == 1 && !r.take(h, near, body) {
			return
		}
	}
}

// nextFrame reads a frame of a server.
func nextFrame(in *bufio.Reader) (op byte, body []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1] & 0x7f)
	var long [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(in, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(in, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	if err == nil {
		body = make([]byte, n)
		_, err = io.ReadFull(in, body)
	}
	return head[0] & 0xf, body, err
}

// send writes a masked frame: with a key of zeros the body stays as it is.
func (r *reader) send(to net.Conn, op int, d any) {
	b := encode(map[string]any{"op": op, "d": d})
	head := []byte{0x81, 0x80 | byte(len(b))}
	if len(b) > 125 {
		head = binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(b)))
	}
	head = append(head, 0, 0, 0, 0)
	_ = to.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = to.Write(append(head, b...))
}

// take is one frame of the gateway; false: the connection is to end.
func (r *reader) take(h *house, to net.Conn, body []byte) bool {
	var f frame
	if err := json.Unmarshal(body, &f); err != nil {
		r.l.fail("%s was sent %q", r.name, body)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f.Op == 10 && r.session != "":
		r.l.trace("%s resumes at %s from %d", r.name, h.name, r.seq)
		r.send(to, 6, map[string]any{"token": r.token, "session_id": r.session, "seq": r.seq})
	case f.Op == 10:
		r.send(to, 2, identify(r.token, 34305))
	case f.Op == 9 && f.Retry != 0:
		return false
	case f.Op == 9:
		r.l.anew(r)
		r.session, r.seq, r.entered = "", 0, false
		return false
	case f.Op == 0:
		if f.S <= r.seq {
			r.l.fail("%s: number %d after %d (%s)", r.name, f.S, r.seq, f.T)
		}
		r.seq = f.S
		switch f.T {
		case "READY":
			r.session = f.data()["session_id"].(string)
			r.streams, r.forms = append(r.streams, nil), append(r.forms, forms{})
		case "GUILD_CREATE":
			r.on = true
			if !r.entered {
				r.entered = true
				clear(r.shown)
				stored, marked := r.l.history() // as clients read it
				for text, list := range stored {
					r.had[text], r.shown[text] = true, list[0]
				}
				r.marked = marked
			}
		case "RESUMED":
			r.l.trace("%s is resumed by %s at %d", r.name, h.name, f.S)
			r.resumed++
			r.on = true
		case textchat.EventMessageCreate, textchat.EventMessageUpdate, textchat.EventMessageDelete, textchat.EventMessagesDelete:
			r.hand(h, f)
		case textchat.EventReactionAdd, textchat.EventReactionRemove:
			var d struct {
				Message textchat.ID `json:"message_id"`
			}
			_ = json.Unmarshal(f.D, &d)
			r.mark(d.Message, reacted, f.T == textchat.EventReactionAdd)
		}
	}
	return true
}

func (r *reader) mark(id textchat.ID, what int, on bool) {
	m := r.marked[id]
	m[what] = on
	r.marked[id] = m
}

// hand takes what came of a message.
func (r *reader) hand(h *house, f frame) {
	var d struct {
		ID      textchat.ID
		IDs     []textchat.ID
		Content string
		Channel textchat.ID `json:"channel_id"`
		Type    int
		Pinned  bool
	}
	_ = json.Unmarshal(f.D, &d)
	text, version := formOf(d.Content)
	n := len(r.streams) - 1
	switch f.T {
	case textchat.EventMessageCreate:
		if d.Type == textchat.MessagePinned {
			text = fmt.Sprint("the note ", d.ID)
			r.streams[n] = append(r.streams[n], handed{text, d.Channel.String(), h.name, f.S, time.Now()})
			break
		}
		r.l.known(text, d.Channel, d.ID)
		r.streams[n] = append(r.streams[n], handed{text, d.Channel.String(), h.name, f.S, time.Now()})
		r.had[text] = true
		r.shown[text] = max(r.shown[text], version)
	case textchat.EventMessageUpdate:
		r.l.reaches(text, version)
		r.mark(d.ID, pinned, d.Pinned)
		if _, ok := r.shown[text]; ok {
			r.shown[text] = version
		}
	case textchat.EventMessagesDelete:
		for _, id := range d.IDs {
			r.erase(n, id)
		}
	default:
		r.erase(n, d.ID)
	}
	if f.T == textchat.EventMessageUpdate && !r.l.tellsPin(text, r.forms[n][text], version) {
		r.forms[n][text] = append(r.forms[n][text], version)
	}
	r.l.trace("%s has %s %s/%d by %s as %d", r.name, f.T, text, version, h.name, f.S)
}

// erase takes that a message is gone.
func (r *reader) erase(n int, id textchat.ID) {
	text := r.l.vanishes(id)
	delete(r.shown, text)
	r.forms[n][text] = append(r.forms[n][text], erased)
}

// cut breaks the connection without a word.
func (r *reader) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil {
		r.line.cut()
	}
}

func (r *reader) end() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.cut()
}

// misses says what of the ledger has not come.
func (r *reader) misses() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	for text, e := range r.l.ledger {
		version, shows := r.shown[text]
		switch {
		case e.gone && shows:
			return "shows " + text + ", which is deleted"
		case !e.acked || e.deleting:
		case !r.had[text]:
			return "misses " + text
		case e.sure && version < e.version:
			return fmt.Sprintf("has %s in its %d. form of %d", text, version, e.version)
		}
		// One that the store had when it was tried again is told by who was asked first: by
		// nobody, if that one was killed.
		for what, on := range e.marks {
			if shows && e.acked && !e.deleting && !e.unsure[what] && r.marked[e.id][what] != on {
				return fmt.Sprintf("has %s with marks %v, not %v", text, r.marked[e.id], e.marks)
			}
		}
	}
	return ""
}

// judge looks for what came twice, and adds what came after what.
func (r *reader) judge(after map[string]map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, stream := range r.streams {
		seen := make(map[string]handed)
		last := make(map[string]string) // by channel
		for _, g := range stream {
			if first, again := seen[g.text]; again {
				r.l.fail("%s was given %v, and %v", r.name, first, g)
				continue
			}
			seen[g.text] = g
			if before := last[g.channel]; before != "" {
				if after[before] == nil {
					after[before] = make(map[string]string)
				}
				after[before][g.text] = r.name
			}
			last[g.channel] = g.text
		}
	}
	for _, of := range r.forms {
		for text, list := range of {
			e := r.l.ledger[text]
			if e == nil {
				continue // its beginning came in no session
			}
			for i := 1; i < len(list); i++ {
				// An edit that was tried again may be told again.
				if list[i-1] == erased && list[i] == erased && (e.sure || !e.bulk) || e.sure && (list[i-1] == erased || list[i] != erased && list[i] != list[i-1]+1) {
					r.l.fail("%s was told of %s in its forms %v", r.name, text, list)
					break
				}
			}
		}
	}
}
