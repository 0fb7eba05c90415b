package load

import (
	"fmt"
	"time"

	"voicefleet/bench"
	"voicefleet/bench/internal/impair"
)

// path tells what the proxy did to the media, which what was heard can be held
// against. It returns why the figures are not the server's, if the proxy itself lost
// datagrams or stood still.
func (r *run) path() string {
	if r.proxy == nil {
		return ""
	}
	counts := r.proxy.Counts()
	table := bench.Table{
		Title:  "What the proxy did to voice packets on their way, since the first member came",
		Head:   []string{"direction", "received", "passed", "lost", "clipped", "cut", "delayed", "twice", "reordered", "refused by the kernel", "late by over 0.2 ms", "worst ms"},
		Values: counts,
	}
	for _, d := range []struct {
		name string
		impair.Tally
	}{{"up", counts.Up}, {"down", counts.Down}} {
		table.Rows = append(table.Rows, []string{d.name, fmt.Sprint(d.Received), fmt.Sprint(d.Passed), fmt.Sprint(d.Lost), fmt.Sprint(d.Clipped), fmt.Sprint(d.Cut),
			fmt.Sprint(d.Delayed), fmt.Sprint(d.Duplicated), fmt.Sprint(d.Reordered), fmt.Sprint(d.Failed), fmt.Sprint(d.Late), fmt.Sprintf("%.2f", millis(d.Worst))})
	}
	r.report.Tables = append(r.report.Tables, table)
	total := counts.Total()
	switch own := total.Overflow + counts.SocketDrops + counts.TooLong; {
	case own > 0:
		return fmt.Sprintf("the proxy itself lost %d datagrams", own)
	case counts.Refused > 0:
		return fmt.Sprintf("the proxy refused %d datagrams: %s", counts.Refused, counts.Why)
	case total.Worst > stallAtMost:
		return fmt.Sprintf("the proxy stood still: a packet left %v late", total.Worst.Round(time.Millisecond))
	}
	return ""
}
