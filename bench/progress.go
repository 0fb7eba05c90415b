package bench

import (
	"fmt"
	"strings"
	"time"

	"voicefleet/bench/internal/chart"
)

// Progress is told how a run goes. Both methods may be called by any goroutine.
type Progress interface {
	// Say tells something that stays to be read.
	Say(format string, args ...any)
	// Status tells how it stands: one to three lines that take the place of the
	// status before.
	Status(line string)
}

// Silent is a Progress that tells nobody.
var Silent Progress = silent{}

type silent struct{}

func (silent) Say(string, ...any) {}
func (silent) Status(string)      {}

// Moment is how a run stands. What is not known is left zero, or below zero where
// zero is a figure, and is not told.
type Moment struct {
	Phase          string // "warm-up", "window 3 of 8"
	Elapsed, Total time.Duration
	Users          int
	Packets        float64       // packets/s to listeners
	Loss           float64       // percent; below 0: not known
	P99            time.Duration // one-way latency
	CPU            float64       // cores of the server; below 0: not known
	Generator      float64       // busy share of the busiest generator thread, 0 to 1; below 0: not known
}

// Status is the moment in two lines: how far it is, and the figures.
func (m Moment) Status() string {
	var first []string
	if m.Total > 0 {
		first = append(first, bar(m.Elapsed, m.Total))
	}
	if m.Phase != "" {
		first = append(first, m.Phase)
	}
	first = append(first, minutes(m.Elapsed))
	if m.Total > 0 {
		first = append(first, minutes(max(m.Total-m.Elapsed, 0))+" to go")
	}
	var second []string
	add := func(known bool, format string, args ...any) {
		if known {
			second = append(second, fmt.Sprintf(format, args...))
		}
	}
	add(m.Users > 0, "%d users", m.Users)
	add(m.Packets > 0, "%s", chart.Value(m.Packets, "packets/s"))
	add(m.Loss >= 0, "loss %s", chart.Value(m.Loss, "%"))
	add(m.P99 > 0, "p99 %s", chart.Value(float64(m.P99)/1e6, "ms"))
	add(m.CPU >= 0, "CPU %.2f cores", m.CPU)
	add(m.Generator >= 0, "generator %.0f %%", 100*m.Generator)
	text := strings.Join(first, "  ")
	if len(second) > 0 {
		text += "\n" + strings.Join(second, " · ")
	}
	return text
}

// bar is how much of the whole is done, in 20 characters.
func bar(done, whole time.Duration) string {
	const n = 20
	filled := int(n * min(max(float64(done)/float64(whole), 0), 1))
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", n-filled) + "]"
}

// minutes is a length as a clock shows it: 1:05.
func minutes(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
