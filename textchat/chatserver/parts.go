package chatserver

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"voicefleet/internal/bus"
	"voicefleet/textchat"
)

// What an instance has of a guild may not fit into one message of the bus: of each
// member who is online it tells some 70 bytes. Such an answer is kept for a moment, as
// it was when it was asked for, and fetched part by part.

// parts are answers that are being fetched.
type parts struct {
	mu sync.Mutex
	// Guarded by mu.
	of map[string]parted
}

// parted is one of them.
type parted struct {
	body  []byte // JSON of a liveReply
	until time.Time
}

// keep keeps an answer and gives the first part of it.
func (p *parts) keep(now time.Time, body []byte) (liveReply, error) {
	p.sweep(now)
	id := randomCode(16)
	p.mu.Lock()
	if p.of == nil {
		p.of = make(map[string]parted)
	}
	full := len(p.of) >= partsMost
	if !full {
		p.of[id] = parted{body, now.Add(partsKept)}
	}
	p.mu.Unlock()
	if full {
		return liveReply{}, textchat.Unavailable("Others ask for as much, try again.", time.Second)
	}
	return p.part(id, 0)
}

// part is what comes from an offset on. The answer is forgotten with its last part.
func (p *parts) part(id string, offset int) (liveReply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	whole, ok := p.of[id]
	if !ok || offset < 0 || offset >= len(whole.body) {
		return liveReply{}, textchat.Refuse(404, textchat.CodeGeneral, "There is no such part any more.")
	}
	end := min(offset+livePart, len(whole.body))
	if end == len(whole.body) {
		delete(p.of, id)
	}
	return liveReply{Parts: id, Size: len(whole.body), Part: whole.body[offset:end]}, nil
}

// sweep forgets what nobody fetched.
func (p *parts) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, one := range p.of {
		if now.After(one.until) {
			delete(p.of, id)
		}
	}
}

// askLive asks another instance what it has of a guild.
func (e *ensemble) askLive(ctx context.Context, name string, id textchat.ID) (liveReply, error) {
	req := liveRequest{Guild: id, From: e.self, Parted: true}
	var whole []byte
	for {
		rep, err := e.askPart(ctx, name, req)
		switch {
		case err != nil || rep.Parts == "":
			return rep, err
		case len(rep.Part) == 0 || rep.Size > liveMost || len(whole)+len(rep.Part) > rep.Size:
			return liveReply{}, fmt.Errorf("%s has %d bytes of guild %v, and sends %d at %d", name, rep.Size, id, len(rep.Part), len(whole))
		}
		whole = append(whole, rep.Part...)
		if len(whole) == rep.Size {
			rep = liveReply{}
			err := json.Unmarshal(whole, &rep)
			return rep, err
		}
		req.Parts, req.Offset = rep.Parts, len(whole)
	}
}

func (e *ensemble) askPart(ctx context.Context, name string, req liveRequest) (liveReply, error) {
	ctx, cancel := context.WithTimeout(ctx, liveTry)
	defer cancel()
	return bus.Request[liveRequest, liveReply](ctx, e.bus, bus.TextSubject(name, "live"), req)
}
