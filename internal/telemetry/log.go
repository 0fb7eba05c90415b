package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// NewLogger writes to w: format "text" (the default when empty) or "json", from
// level "debug", "info" (the default when empty), "warn" or "error" on.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("log level %.20q: want debug, info, warn or error", level)
		}
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %.20q: want text or json", format)
}

// Discard is a logger for a Config whose Log is nil.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// maxFloodKeys bounds what a Flood remembers. Keys are written in the code, so
// there are few; whatever comes beyond shares one budget.
const maxFloodKeys = 256

// Flood logs what strangers can cause: at most PerSecond lines per second and
// key. The first line after a second that held some back says how many. Safe
// for concurrent use.
type Flood struct {
	// Immutable.
	log       *slog.Logger
	perSecond int
	now       func() time.Time

	mu sync.Mutex
	// Guarded by mu.
	keys map[string]*floodKey
}

type floodKey struct {
	second  int64
	written int
	held    int
}

// NewFlood limits what goes to log; perSecond below 1 means 1.
func NewFlood(log *slog.Logger, perSecond int) *Flood {
	if log == nil {
		log = Discard()
	}
	return &Flood{log: log, perSecond: max(1, perSecond), now: time.Now, keys: make(map[string]*floodKey)}
}

// Log writes msg at level, or counts it as held back. key is a constant of the
// caller, never something that came from outside.
func (f *Flood) Log(level slog.Level, key, msg string, args ...any) {
	if !f.log.Enabled(context.Background(), level) {
		return
	}
	held, ok := f.admit(key)
	if !ok {
		return
	}
	if held > 0 {
		args = append(args, slog.Int("held_back", held))
	}
	f.log.Log(context.Background(), level, msg, args...)
}

func (f *Flood) admit(key string) (held int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.keys[key]
	if k == nil {
		if len(f.keys) >= maxFloodKeys {
			key = ""
			k = f.keys[key]
		}
		if k == nil {
			k = &floodKey{}
			f.keys[key] = k
		}
	}
	if second := f.now().Unix(); second != k.second {
		k.second, k.written = second, 0
	}
	if k.written >= f.perSecond {
		k.held++
		return 0, false
	}
	k.written++
	held, k.held = k.held, 0
	return held, true
}
