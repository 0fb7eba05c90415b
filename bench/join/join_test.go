package join

import (
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"voicefleet/bench"
)

func TestRefusals(t *testing.T) {
	for want, c := range map[string]Config{
		"want 1 to 100,000":       {Joins: -1},
		"of 1 to 1,000":           {Accounts: 1001},
		"name it with --server":   {Target: Target{Invite: "x"}},
		"no program to measure":   {Up: UpConfig{Program: "no-such-program"}},
		"no http or https URL":    {Target: Target{Server: "voice.example", Invite: "x"}},
		"bots need a way in":      {Target: Target{Server: "http://192.0.2.1"}},
		"tokens need the guild":   {Target: Target{Server: "http://192.0.2.1", Tokens: []string{"x"}}},
		"holds none":              {Target: Target{Server: "http://192.0.2.1", Invite: "x", CA: "join_test.go"}},
		"no-such-folder/admin.to": {Target: Target{Data: "no-such-folder"}},
	} {
		if r, err := Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// TestConclude holds that every stage is told with its samples, that goals are those
// of a server of our own only, and that joins which all failed meet none.
func TestConclude(t *testing.T) {
	made := func(c Config, joins int) *bench.Report {
		j := &joiner{config: c, report: &bench.Report{}, times: make(map[string]*hdrhistogram.Histogram), each: make(map[string][]float64)}
		for i, s := range stages {
			j.times[s] = hdrhistogram.New(1000, 60_000_000_000, 3)
			for n := range joins {
				d := time.Duration(n+1) * time.Duration(i+1) * 100 * time.Microsecond
				_ = j.times[s].RecordValue(d.Nanoseconds())
				j.each[s] = append(j.each[s], float64(d)/1e6)
			}
		}
		j.conclude()
		return j.report
	}
	r := made(Config{}, 3)
	if len(r.Metrics) != len(stages) || len(r.Tables[0].Rows) != len(stages) || len(r.Distributions) != 2 || len(r.Missed()) > 0 || len(r.Goals) != 5 {
		t.Errorf("%+v", r)
	}
	for _, m := range r.Metrics {
		if len(m.Samples) != 3 || m.Samples[2] <= m.Samples[0] {
			t.Errorf("%+v", m)
		}
	}
	if r := made(Config{Target: Target{Server: "http://192.0.2.1"}}, 3); len(r.Goals) != 1 {
		t.Errorf("goals of loopback for another server: %+v", r.Goals)
	}
	if r := made(Config{}, 0); len(r.Missed()) != len(r.Goals) || len(r.Metrics) != 0 {
		t.Errorf("nothing met %+v", r.Goals)
	}
}
