package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"voicefleet/sfu"
)

// window is what the figures are averaged over.
const window = 3 * time.Second

// Meter turns readings of counters into rates. The zero value is ready to use.
// Not safe for concurrent use.
type Meter struct {
	media   []mediaSample // at most window old, oldest first, and one before
	machine []machineSample
}

type mediaSample struct {
	at      time.Time
	packets uint64
	bytes   uint64
}

type machineSample struct {
	at   time.Time
	time CPUTime
}

// Media takes in what the engine counts. Counters that step back are those of a
// new engine.
func (m *Meter) Media(now time.Time, r sfu.LoadReading) {
	if n := len(m.media); n > 0 && (r.PacketsOut < m.media[n-1].packets || r.BytesOut < m.media[n-1].bytes) {
		m.media = m.media[:0]
	}
	m.media = append(m.media, mediaSample{now, r.PacketsOut, r.BytesOut})
	for len(m.media) > 2 && now.Sub(m.media[1].at) >= window {
		m.media = m.media[1:]
	}
}

// Machine takes in how long the machine was busy.
func (m *Meter) Machine(now time.Time, t CPUTime) {
	m.machine = append(m.machine, machineSample{now, t})
	for len(m.machine) > 2 && now.Sub(m.machine[1].at) >= window {
		m.machine = m.machine[1:]
	}
}

// Rates are packets and bits per second sent. Without a reading for twice the
// window nothing is sent.
func (m *Meter) Rates(now time.Time) (pps, bps float64) {
	if len(m.media) < 2 {
		return 0, 0
	}
	first, last := m.media[0], m.media[len(m.media)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 || now.Sub(last.at) > 2*window {
		return 0, 0
	}
	return float64(last.packets-first.packets) / took, float64(last.bytes-first.bytes) * 8 / took
}

// CPU is the busy share of the whole machine, 0..1.
func (m *Meter) CPU() float64 {
	if len(m.machine) < 2 {
		return 0
	}
	first, last := m.machine[0].time, m.machine[len(m.machine)-1].time
	if last.Total <= first.Total || last.Busy < first.Busy {
		return 0
	}
	return min(1, float64(last.Busy-first.Busy)/float64(last.Total-first.Total))
}

// CPUTime is how long all processors together were busy, and how long there were,
// in ticks since boot.
type CPUTime struct {
	Busy, Total uint64
}

// ReadCPUTime reads the form of /proc/stat: its first line is "cpu user nice
// system idle iowait irq softirq steal ...". What a hypervisor stole counts as
// busy: it is gone.
func ReadCPUTime(r io.Reader) (CPUTime, error) {
	var t CPUTime
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return t, fmt.Errorf("read processor times: %w", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[0] != "cpu" {
		return t, fmt.Errorf("read processor times: %.40q is no cpu line", line)
	}
	for i, f := range fields[1:min(len(fields), 9)] { // guest times are parts of user and nice
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return t, fmt.Errorf("read processor times: %w", err)
		}
		t.Total += n
		if i != 3 && i != 4 { // idle, iowait
			t.Busy += n
		}
	}
	return t, nil
}
