package chatserver

import (
	"bytes"
	"encoding/json"
	"strings"

	"voicefleet/textchat"
	"voicefleet/textchat/internal/gatewaysession"
	"voicefleet/textchat/internal/guild"
)

// The addresses of files are paths in the store and in what instances tell each other;
// each client gets them whole, with the address by which it reached us itself: what the
// one who wrote a message calls this server is nothing to the others.

// filePath begins the paths of files.
const filePath = "/attachments/"

// forAll makes messages that are told to others: the addresses of their files stay paths.
func (c *call) forAll() *call {
	all := *c
	all.paths = true
	return &all
}

// linked makes the addresses of a message's files whole, unless they are: an instance of
// an older version told them so.
func linked(m textchat.Message, base string) textchat.Message {
	whole := func(u string) string {
		if strings.HasPrefix(u, filePath) {
			return base + u
		}
		return u
	}
	if len(m.Attachments) > 0 {
		m.Attachments = append([]textchat.Attachment{}, m.Attachments...)
		for i := range m.Attachments {
			a := &m.Attachments[i]
			a.URL = whole(a.URL)
			a.ProxyURL = a.URL
		}
		m.Embeds = append([]textchat.Embed{}, m.Embeds...)
		for i := range m.Embeds {
			pictures(&m.Embeds[i], whole)
		}
	}
	if m.Referenced != nil {
		ref := linked(*m.Referenced, base)
		m.Referenced = &ref
	}
	return m
}

// pictures gives the pictures of an embed other addresses. What is behind its pointers
// may be shared: it is copied.
func pictures(e *textchat.Embed, find func(u string) string) {
	for _, m := range []**textchat.EmbedMedia{&e.Image, &e.Thumbnail} {
		if *m != nil {
			*m = &textchat.EmbedMedia{URL: find((*m).URL)}
		}
	}
	if e.Footer != nil {
		f := *e.Footer
		f.IconURL = find(f.IconURL)
		e.Footer = &f
	}
	if e.Author != nil {
		a := *e.Author
		a.IconURL = find(a.IconURL)
		e.Author = &a
	}
}

// filed is an event that names files; its body depends on how its reader reached us.
type filed struct {
	name   string
	late   gatewaysession.Key
	at     uint64
	data   guild.MessageEvent
	byBase map[string]*gatewaysession.Event
}

// filedEvent is one whose data names files, or nil.
func filedEvent(name string, late gatewaysession.Key, at uint64, data any) *filed {
	m, ok := data.(guild.MessageEvent)
	if !ok || len(m.Attachments) == 0 && (m.Referenced == nil || len(m.Referenced.Attachments) == 0) {
		return nil
	}
	return &filed{name: name, late: late, at: at, data: m}
}

// filedBody is one whose body is written already, or nil.
func filedBody(e *gatewaysession.Event) *filed {
	if e.Name != textchat.EventMessageCreate && e.Name != textchat.EventMessageUpdate || !bytes.Contains(e.Body, []byte(filePath)) {
		return nil
	}
	var m guild.MessageEvent
	if json.Unmarshal(e.Body, &m) != nil {
		return nil
	}
	return filedEvent(e.Name, e.Late, e.At, m)
}

// of is the event for a session.
func (f *filed) of(s *session) *gatewaysession.Event {
	base := s.reached()
	e := f.byBase[base]
	if e == nil {
		if f.byBase == nil {
			f.byBase = make(map[string]*gatewaysession.Event)
		}
		m := f.data
		m.Message = linked(m.Message, base)
		e = &gatewaysession.Event{Name: f.name, Body: encode(m), Late: f.late, At: f.at}
		f.byBase[base] = e
	}
	return e
}

// baseOf is where files are for who reached the gateway by this address.
func baseOf(gatewayURL string) string {
	return "http" + strings.TrimSuffix(strings.TrimPrefix(gatewayURL, "ws"), "/gateway")
}
