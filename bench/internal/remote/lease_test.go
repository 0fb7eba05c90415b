package remote

import (
	"strings"
	"testing"
	"time"
)

func TestLease(t *testing.T) {
	l := lease{ttl: leaseTTL}
	after := func(d time.Duration) time.Time { return noon.Add(d) }
	want := func(step string, err error, code, text string) {
		t.Helper()
		switch {
		case code == "" && err != nil:
			t.Errorf("%s: %v", step, err)
		case code != "" && (!refused(err, code) || !strings.Contains(err.Error(), text)):
			t.Errorf("%s: %v, want %s with %q", step, err, code, text)
		}
	}
	is := func(step string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: over is %v", step, got)
		}
	}
	is("never taken", l.over(after(time.Hour)), false)
	want("a lease of nobody", l.holds(noon, ""), codeGone, "not leased")
	want("no token", l.take(noon, "", "desk"), codeBadRequest, "token")
	want("no name", l.take(noon, "one", ""), codeBadRequest, "name")
	want("first", l.take(noon, "one", "desk"), "", "")
	want("second", l.take(after(time.Second), "two", "couch"), codeBusy, `"desk" since 12:00:00 UTC`)
	want("a stranger's beat", l.holds(after(time.Second), "two"), codeGone, "not leased")
	is("just in time", l.over(after(leaseTTL-1)), false)
	want("a beat", l.holds(after(leaseTTL-1), "one"), "", "")
	is("kept", l.over(after(2*leaseTTL-2)), false)
	is("silent", l.over(after(2*leaseTTL-1)), true)
	l.end()
	is("closing", l.over(after(3*leaseTTL)), false)
	want("a late beat", l.holds(after(2*leaseTTL), "one"), codeGone, "not leased")
	want("during the closing", l.take(after(2*leaseTTL), "two", "couch"), codeBusy, "still closes")
	l.closed()
	want("the next", l.take(after(2*leaseTTL), "two", "couch"), "", "")
}
