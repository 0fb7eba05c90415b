package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// linesPerMessage and window bound how often one message is written: what a
	// stranger can provoke fills no disk. Errors are counted the same way.
	linesPerMessage = 20
	window          = 10 * time.Second
	// maxMessages bounds the table. Messages are constants of the program, a
	// few hundred; beyond that all share one entry.
	maxMessages = 1000
)

// NewLog writes lines of text to w, or of JSON, from level up.
func NewLog(w io.Writer, level slog.Level, json bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if json {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(&limited{Handler: h, seen: &seen{lines: make(map[string]*line)}})
}

// limited drops lines beyond linesPerMessage; the first of the next window tells
// how many.
type limited struct {
	slog.Handler
	seen *seen // shared by all loggers derived from one
}

type seen struct {
	mu sync.Mutex
	// Guarded by mu.
	lines map[string]*line
}

type line struct {
	begun   time.Time
	written int
	dropped int
}

func (h *limited) Handle(ctx context.Context, r slog.Record) error {
	ok, dropped := h.seen.admit(r.Message, r.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("dropped_before", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

func (s *seen) admit(message string, now time.Time) (ok bool, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[message]
	if l == nil {
		if len(s.lines) >= maxMessages {
			message = ""
			l = s.lines[message]
		}
		if l == nil {
			l = &line{begun: now}
			s.lines[message] = l
		}
	}
	if now.Sub(l.begun) >= window {
		dropped = l.dropped
		*l = line{begun: now}
	}
	if l.written >= linesPerMessage {
		l.dropped++
		return false, 0
	}
	l.written++
	return true, dropped
}

func (h *limited) WithAttrs(a []slog.Attr) slog.Handler {
	return &limited{h.Handler.WithAttrs(a), h.seen}
}

func (h *limited) WithGroup(name string) slog.Handler {
	return &limited{h.Handler.WithGroup(name), h.seen}
}
