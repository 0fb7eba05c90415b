package chatserver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/textchat"
)

// booked is what is known of a message: what was acknowledged, or told to any session.
// Guarded by the mu of its schedule.
type booked struct {
	text    string
	channel textchat.ID
	id      textchat.ID
	acked   bool // that it is posted
	version int  // how many edits
	gone    bool // it is deleted
	// deleting is set before that is tried, bulk when it is with others, pinning before it
	// is pinned; sure: all edits and deletions were acknowledged at the first try.
	deleting, bulk, pinning, sure bool
	marks                         onIt
	unsure                        onIt // those that were tried again: they stay as they are
}

// onIt is what may be on a message: the reaction of its writer, and that it is pinned.
type onIt [2]bool

const (
	reacted = iota
	pinned
)

// thumb is the reaction.
const thumb = "👍"

// forms are the versions of messages that a session was told of, in order.
type forms map[string][]int

// erased stands for the deletion of a message.
const erased = -1

// formOf takes apart what a message says: its text, and how often it was edited.
func formOf(content string) (text string, version int) {
	text, number, _ := strings.Cut(content, "/")
	version, _ = strconv.Atoi(number)
	return text, version
}

// known is a message that somebody knows of.
func (l *schedule) known(text string, channel, id textchat.ID) *booked {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.ledger[text]
	if e == nil {
		e = &booked{text: text, channel: channel, id: id, sure: true}
		l.ledger[text] = e
	}
	return e
}

// reaches notes that somebody knows of an edit.
func (l *schedule) reaches(text string, version int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.ledger[text]; e != nil {
		e.version = max(e.version, version)
	}
}

// tellsPin says whether an update says nothing new of what a message says: it was pinned,
// or it is no more.
func (l *schedule) tellsPin(text string, before []int, version int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, last := l.ledger[text], 0
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	return e != nil && e.pinning && (version == last || len(before) == 0)
}

// vanishes notes that somebody knows that a message is deleted.
func (l *schedule) vanishes(id textchat.ID) (text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.ledger {
		if e.id == id {
			e.gone = true
			return e.text
		}
	}
	return ""
}

// edit edits a message until that is acknowledged; false: it gave up.
func (l *schedule) edit(e *booked, token string, rnd *rand.Rand) bool {
	l.mu.Lock()
	next := e.version + 1
	l.mu.Unlock()
	body := map[string]any{"content": fmt.Sprintf("%s/%d", e.text, next)}
	status, sure := l.insist("PATCH", e.path(), token, body, rnd)
	l.tried(sure, e)
	if status != http.StatusOK {
		return false
	}
	l.trace("%s is acknowledged", body["content"])
	l.reaches(e.text, next)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Edits++
	return true
}

// delete deletes a message.
func (l *schedule) delete(e *booked, token string, rnd *rand.Rand) {
	l.mu.Lock()
	e.deleting = true
	l.mu.Unlock()
	status, sure := l.insist("DELETE", e.path(), token, nil, rnd)
	l.tried(sure, e)
	if status != http.StatusNoContent {
		return
	}
	l.trace("%s is deleted", e.text)
	l.vanishes(e.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Deletes++
}

// deleteMany deletes messages of one channel at once.
func (l *schedule) deleteMany(list []*booked, token string, rnd *rand.Rand) {
	ids := make([]textchat.ID, len(list))
	l.mu.Lock()
	for i, e := range list {
		e.deleting, e.bulk = true, true
		ids[i] = e.id
	}
	l.mu.Unlock()
	status, sure := l.insist("POST", fmt.Sprintf("/channels/%v/messages/bulk-delete", list[0].channel), token, map[string]any{"messages": ids}, rnd)
	l.tried(sure, list...)
	if status != http.StatusNoContent {
		return
	}
	for _, e := range list {
		l.trace("%s is deleted with others", e.text)
		l.vanishes(e.id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Deletes += len(list)
}

// mark puts a mark on a message, or takes it away. One that had to be tried again stays:
// an earlier try may come over what is done later.
func (l *schedule) mark(e *booked, what int, token string, rnd *rand.Rand) {
	l.mu.Lock()
	next, unsure := !e.marks[what], e.unsure[what] || !e.sure
	e.pinning = e.pinning || what == pinned && !unsure
	l.mu.Unlock()
	if unsure {
		return
	}
	path := e.path() + "/reactions/" + url.PathEscape(thumb) + "/@me"
	if what == pinned {
		path = fmt.Sprintf("/channels/%v/pins/%v", e.channel, e.id)
	}
	method := "DELETE"
	if next {
		method = "PUT"
	}
	status, sure := l.insist(method, path, token, nil, rnd)
	l.mu.Lock()
	e.unsure[what] = !sure
	if status == http.StatusNoContent {
		e.marks[what] = next
		l.tally.Marks++
	}
	l.mu.Unlock()
	l.trace("%s has %v", e.text, e.marks)
}

func (e *booked) path() string { return fmt.Sprintf("/channels/%v/messages/%v", e.channel, e.id) }

// tried notes of messages whether what was done to them was acknowledged at once.
func (l *schedule) tried(sure bool, list ...*booked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range list {
		e.sure = e.sure && sure
	}
}

// insist does something until it is answered; sure: at the first try.
func (l *schedule) insist(method, path, token string, body any, rnd *rand.Rand) (status int, sure bool) {
	for try := 0; ; try++ {
		status, b, err := l.ask(l.house(rnd.IntN(len(l.houses))), method, path, token, body)
		switch {
		case err == nil && status < 300:
			return status, try == 0
		case err == nil && status == http.StatusNotFound && method == "DELETE" && try > 0:
			return status, false // an earlier try did it
		case err == nil && status < 500 && status != http.StatusTooManyRequests:
			l.fail("%s %s is answered %d %s", method, path, status, b)
			return status, false
		case try > 600:
			l.fail("%s %s is not taken: %d %s %v", method, path, status, b, err)
			return status, false
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// browse reads the newest messages of channels, of any instance: what was known of a
// message before it asked must show.
func (l *schedule) browse(token string, rnd *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rnd.IntN(400)) * time.Millisecond):
		}
		channel := l.channels[rnd.IntN(len(l.channels))]
		limit := []int{3, 50, 50, 50, 100}[rnd.IntN(5)]
		h := l.house(rnd.IntN(len(l.houses)))
		if h == nil {
			continue
		}
		before := make(map[*booked]booked)
		l.mu.Lock()
		for _, e := range l.ledger {
			if e.channel == channel {
				before[e] = *e
			}
		}
		l.mu.Unlock()
		status, b, err := l.ask(h, "GET", fmt.Sprintf("/channels/%v/messages?limit=%d", channel, limit), token, nil)
		if err != nil || status >= 500 || status == http.StatusTooManyRequests {
			continue
		}
		var page []struct {
			ID      textchat.ID
			Content string
		}
		if err := json.Unmarshal(b, &page); err != nil || status != http.StatusOK {
			l.fail("a page of %s is answered %d %s", h.name, status, b)
			return
		}
		l.trace("%d messages by %s", len(page), h.name)
		at := make(map[textchat.ID]int)
		for i, m := range page {
			if at[m.ID] = i; i > 0 && page[i-1].ID <= m.ID {
				l.fail("a page of %s has %v after %v", h.name, m.ID, page[i-1].ID)
			}
		}
		for e, was := range before {
			i, shows := at[was.id]
			l.mu.Lock()
			deleting := e.deleting
			l.mu.Unlock()
			switch {
			case shows && was.gone:
				l.fail("a page of %s has %s, which is deleted", h.name, was.text)
			case !shows && !deleting && (len(page) < limit || was.id > page[limit-1].ID):
				l.fail("a page of %s lacks %s", h.name, was.text)
			case shows:
				if _, version := formOf(page[i].Content); version < was.version {
					l.fail("a page of %s has %s in its %d. form of %d", h.name, was.text, version, was.version)
				}
			}
		}
		l.mu.Lock()
		l.tally.Pages++
		l.mu.Unlock()
	}
}

// countHits counts the pages that an instance had remembered.
func (l *schedule) countHits(from prometheus.Gatherer) {
	families, err := from.Gather()
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "voicefleet_cache_hits_total" && m.GetLabel()[0].GetValue() == "pages" {
				l.tally.Hits += int(m.GetCounter().GetValue())
			}
		}
	}
}
