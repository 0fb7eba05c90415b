package guild

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"voicefleet/allocator"
	"voicefleet/edgeagent"
	"voicefleet/textchat"
)

const (
	// queueLen bounds those who wait for a seat in one channel.
	queueLen = 64
	// queuePause is when the first in line is tried again after there was no room, and
	// queueRetry after the voice side did not answer.
	queuePause = time.Second
	queueRetry = 2 * time.Second
	// maxQueueWait bounds the wait that is told, in seconds.
	maxQueueWait = 3600
)

// queue are those who wait for a seat in a channel, as the fleet is full. They
// get in in their order; who asks meanwhile does not overtake them. It is replaced,
// never changed in place.
type queue struct {
	List []waiter
	// Asking says that the first in line is being placed; else Next is when to try.
	Asking bool
	Next   time.Time
	Every  float64 // seconds between two seats that get free; 0: unknown
}

// waiter is a user in line.
type waiter struct {
	User    textchat.ID
	Session string
	Wishes
	RTT    map[string]float64
	Region string
	Where  *edgeagent.Location
}

func waiterOf(in VoiceUpdate) waiter {
	return waiter{in.User, in.Session, in.Wishes, in.RTT, in.Region, in.Location}
}

// wait is about how long the n-th in line waits, in whole seconds; 0: nobody knows.
func (q *queue) wait(n int) int {
	return int(math.Ceil(min(maxQueueWait, q.Every*float64(n))))
}

// lineOf is the queue of a channel to be changed.
func (g *Guild) lineOf(channel textchat.ID) *queue {
	c := queue{}
	if q := g.queues[channel]; q != nil {
		c = *q
		c.List = slices.Clone(q.List)
	}
	return &c
}

func (g *Guild) setLine(channel textchat.ID, q *queue) {
	if len(q.List) == 0 {
		drop(g, g.queues, channel)
		return
	}
	put(g, g.queues, channel, q)
}

// waits finds the channel that a user stands in line for, and the place from 0.
func (g *Guild) waits(user textchat.ID) (channel textchat.ID, place int, ok bool) {
	for channel, q := range g.queues {
		if i := slices.IndexFunc(q.List, func(w waiter) bool { return w.User == user }); i >= 0 {
			return channel, i, true
		}
	}
	return 0, 0, false
}

// ordered looks after those in line when a user says where it wants to be. It is
// true when the user stays, or comes, in line, or is told that there is one.
func (g *Guild) ordered(now time.Time, in VoiceUpdate, out *Out) bool {
	channel, place, waits := g.waits(in.User)
	if waits && channel == in.Channel {
		q := g.lineOf(channel)
		rtt, region := q.List[place].RTT, q.List[place].Region
		w := waiterOf(in)
		if len(in.RTT) == 0 {
			w.RTT = rtt
		}
		if in.Region == "" {
			w.Region = region
		}
		q.List[place] = w
		g.setLine(channel, q)
		g.tellPlace(out, channel, place)
		return true
	}
	if waits {
		g.unline(now, out, in.User)
	}
	q := g.queues[in.Channel]
	if q == nil || g.inside(in.User, in.Channel) {
		return false
	}
	if in.Wait {
		g.enqueue(now, out, in, q.Every)
	} else {
		g.offer(out, in, "full here: others wait for a seat", nil, q.Every)
	}
	return true
}

// inside says whether a user is in the call of a channel, or on the way there.
func (g *Guild) inside(user, channel textchat.ID) bool {
	if v := g.voice[user]; v != nil && v.Channel == channel {
		return true
	}
	p := g.pending[user]
	return p != nil && p.Channel == channel
}

// enqueue puts a user at the end of the line.
func (g *Guild) enqueue(now time.Time, out *Out, in VoiceUpdate, every float64) {
	q := g.lineOf(in.Channel)
	if len(q.List) == queueLen {
		g.voiceError(out, in, string(allocator.CodeFull), fmt.Sprintf("full here: %d people wait for a seat already", queueLen))
		return
	}
	if len(q.List) == 0 {
		q.Next = now.Add(queuePause)
	}
	q.Every = every
	q.List = append(q.List, waiterOf(in))
	g.setLine(in.Channel, q)
	g.tellPlace(out, in.Channel, len(q.List)-1)
}

// unline takes a user out of the line it is in, and tells those behind.
func (g *Guild) unline(now time.Time, out *Out, user textchat.ID) {
	channel, place, ok := g.waits(user)
	if !ok {
		return
	}
	q := g.lineOf(channel)
	q.List = slices.Delete(q.List, place, place+1)
	if place == 0 {
		q.Asking, q.Next = false, now
	}
	g.setLine(channel, q)
	for i := place; i < len(q.List); i++ {
		g.tellPlace(out, channel, i)
	}
}

// tellPlace tells one in line its place.
func (g *Guild) tellPlace(out *Out, channel textchat.ID, i int) {
	q := g.queues[channel]
	w, full := q.List[i], &VoiceFull{Place: i + 1, Wait: q.wait(i + 1)}
	out.event(Event{Name: textchat.EventVoiceError, Session: w.Session, Data: VoiceError{
		Guild: g.self.ID, Channel: channel, Code: VoiceQueued, Message: "You are " + full.words() + ".", Full: full,
	}})
}

// offer tells a joiner that there is no room, and which place in line it would
// have.
func (g *Guild) offer(out *Out, in VoiceUpdate, message string, elsewhere *allocator.Elsewhere, every float64) {
	line := queue{Every: every}
	if q := g.queues[in.Channel]; q != nil {
		line = *q
	}
	full := &VoiceFull{Elsewhere: elsewhere}
	if n := len(line.List) + 1; n <= queueLen {
		full.Place, full.Wait = n, line.wait(n)
		message += ". If you wait, you are " + full.words()
	}
	out.event(Event{Name: textchat.EventVoiceError, Session: in.Session, Data: VoiceError{
		Guild: g.self.ID, Channel: in.Channel, Code: string(allocator.CodeFull), Message: message + ".", Full: full,
	}})
}

// words are "number 3 in line, for about 40 s".
func (f *VoiceFull) words() string {
	s := fmt.Sprintf("number %d in line", f.Place)
	switch {
	case f.Wait >= 120:
		s += fmt.Sprintf(", for about %d minutes", (f.Wait+30)/60)
	case f.Wait > 0:
		s += fmt.Sprintf(", for about %d s", f.Wait)
	}
	return s
}

// admit tries to seat the first in line of each channel where it is time.
func (g *Guild) admit(now time.Time, out *Out) {
	for _, channel := range slices.Sorted(maps.Keys(g.queues)) {
		for q := g.queues[channel]; q != nil && !q.Asking && !now.Before(q.Next); q = g.queues[channel] {
			w := q.List[0]
			in := VoiceUpdate{User: w.User, Session: w.Session, Channel: channel}
			if code, message := g.barred(w.User, channel); code != "" {
				g.unline(now, out, w.User)
				g.voiceError(out, in, code, message)
				continue
			}
			next := g.lineOf(channel)
			next.Asking = true
			g.setLine(channel, next)
			g.cancel(out, w.User) // on the way elsewhere by another session
			g.order(out, w.User, &pending{Channel: channel, Session: w.Session, Wishes: w.Wishes,
				RTT: w.RTT, Region: w.Region, Where: w.Where, Line: lineHead})
		}
	}
}

// line is what a user on the way has to do with the queue of the channel.
type line int

const (
	lineNone line = iota
	lineWait      // it waits if there is no room
	lineHead      // it is the first in line
)

// refused looks after the queue when a user was not placed. It says whether the
// user has been told, or need not be.
func (g *Guild) refused(now time.Time, in PlaceFailed, p *pending, out *Out) bool {
	full := in.Code == string(allocator.CodeFull)
	var every float64
	var elsewhere *allocator.Elsewhere
	if in.Full != nil {
		every, elsewhere = in.Full.SeatEvery, in.Full.Elsewhere
	}
	update := VoiceUpdate{User: in.User, Session: p.Session, Channel: p.Channel, Wishes: p.Wishes,
		RTT: p.RTT, Region: p.Region, Location: p.Where}
	switch {
	case p.Line == lineHead:
		if !full && in.Code != string(allocator.CodeUnavailable) && in.Code != string(allocator.CodeNoNodes) {
			g.unline(now, out, in.User)
			return false
		}
		q := g.lineOf(p.Channel)
		if len(q.List) == 0 {
			return true // the channel and its line are gone
		}
		q.Asking, q.Next = false, now.Add(queueRetry)
		if full {
			q.Next, q.Every = now.Add(queuePause), every
		}
		g.setLine(p.Channel, q)
		return true
	case !full || g.voice[in.User] != nil && g.voice[in.User].Channel == p.Channel:
		return false
	case p.Line == lineWait:
		g.enqueue(now, out, update, every)
		return true
	}
	g.offer(out, update, in.Message, elsewhere, every)
	return true
}
