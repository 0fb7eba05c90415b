package bench_test

import (
	"testing"
	"time"

	"voicefleet/bench"
)

func TestMoment(t *testing.T) {
	for _, c := range []struct {
		m    bench.Moment
		want string
	}{
		{bench.Moment{Loss: -1, CPU: -1, Generator: -1, Elapsed: 65 * time.Second}, "1:05"},
		{bench.Moment{Phase: "window 3 of 8", Elapsed: 30 * time.Second, Total: 2 * time.Minute, Users: 3060, Packets: 141_234, P99: 2310 * time.Microsecond, CPU: .845, Generator: .612},
			"[#####---------------]  window 3 of 8  0:30  1:30 to go\n3060 users · 141 k packets/s · loss 0 % · p99 2.31 ms · CPU 0.84 cores · generator 61 %"},
		{bench.Moment{Loss: -1, CPU: -1, Generator: -1, Elapsed: 2 * time.Hour, Total: time.Hour}, "[####################]  2:00:00  0:00 to go"},
	} {
		if got := c.m.Status(); got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.m, got, c.want)
		}
	}
}
