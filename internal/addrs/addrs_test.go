package addrs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func list(s string) []netip.Addr {
	var out []netip.Addr
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}

func TestCandidates(t *testing.T) {
	lo := Interface{"lo", true, list("127.0.0.1 ::1")}
	eth := Interface{"eth0", true, list("fe80::1%eth0 2001:db8::5 192.168.1.5")}
	for name, c := range map[string]struct {
		in        []Interface
		advertise string
		want      string
	}{
		"a desktop":                   {[]Interface{lo, eth}, "", "192.168.1.5 2001:db8::5"},
		"nothing but loopback":        {[]Interface{lo}, "", "127.0.0.1 ::1"},
		"bridges lead nowhere":        {[]Interface{lo, {"docker0", true, list("172.17.0.1")}, {"br-0123456789ab", true, list("172.18.0.1")}, {"veth1", true, list("10.1.1.1")}, {"virbr0", true, list("192.168.122.1")}, eth}, "", "192.168.1.5 2001:db8::5"},
		"a router's bridge is real":   {[]Interface{{"br-lan", true, list("192.168.8.1")}}, "", "192.168.8.1"},
		"tunnels after cards":         {[]Interface{{"wg0", true, list("10.6.0.1")}, {"tailscale0", true, list("100.64.0.3")}, eth}, "", "192.168.1.5 2001:db8::5 10.6.0.1 100.64.0.3"},
		"down does not count":         {[]Interface{lo, {"wlan0", false, list("10.0.0.9")}}, "", "127.0.0.1 ::1"},
		"advertised first":            {[]Interface{lo, eth}, "203.0.113.9", "203.0.113.9 192.168.1.5 2001:db8::5"},
		"advertised is not repeated":  {[]Interface{lo, eth}, "2001:db8::5", "2001:db8::5 192.168.1.5"},
		"advertised without networks": {[]Interface{lo}, "203.0.113.9", "203.0.113.9"},
		"no IPv4-mapped form":         {[]Interface{{"eth0", true, list("::ffff:10.0.0.1")}}, "", "10.0.0.1"},
		"multicast and link-local":    {[]Interface{lo, {"eth0", true, list("169.254.3.3 224.0.0.1 fe80::1")}}, "", "127.0.0.1 ::1"},
	} {
		if got := Candidates(c.in, list(c.advertise)); !slices.Equal(got, list(c.want)) {
			t.Errorf("%s: got %v, want %v", name, got, list(c.want))
		}
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	many := Interface{Name: "eth0", Up: true}
	for i := range 40 {
		many.Addrs = append(many.Addrs, netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i+1)))
	}
	if got := Candidates([]Interface{many}, list("203.0.113.9")); len(got) != MaxAddrs || got[0] != list("203.0.113.9")[0] {
		t.Errorf("%d addresses, first %v", len(got), got[0])
	}
}

func TestParseAdvertise(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "auto": "", "203.0.113.9": "203.0.113.9", " 203.0.113.9 , auto,[2001:db8::1]": "203.0.113.9 2001:db8::1",
		"203.0.113.9,203.0.113.9": "203.0.113.9",
	} {
		got, err := ParseAdvertise(in)
		if err != nil || !slices.Equal(got, list(want)) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"example.org", "0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "1.2.3.4:5", ",", strings.Repeat("10.0.0.1,", 3) + "x"} {
		if got, err := ParseAdvertise(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestReadUnfit(t *testing.T) {
	const table = `00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000005 02 40 00 00     eth0
20010db8000000000000000000000006 02 40 00 01     eth0
20010db8000000000000000000000007 02 40 00 20     eth0
short line
zz 02 40 00 20     eth0
`
	got := readUnfit(strings.NewReader(table))
	if len(got) != 2 || !got[list("2001:db8::6")[0]] || !got[list("2001:db8::7")[0]] {
		t.Errorf("got %v", got)
	}
}

func TestWatcherFollows(t *testing.T) {
	var told [][]netip.Addr
	w, err := Watch(nil, func(a []netip.Addr) { told = append(told, a) })
	if err != nil {
		t.Fatal(err)
	}
	see := func(s string) func() ([]Interface, error) {
		return func() ([]Interface, error) { return []Interface{{"eth0", true, list(s)}}, nil }
	}
	w.look(see("10.0.0.1"))
	w.look(see("10.0.0.1"))
	w.look(see(""))                                                                // between two networks
	w.look(func() ([]Interface, error) { return nil, errors.New("netlink busy") }) // a failed look
	if got := w.Addrs(); !slices.Equal(got, list("10.0.0.1")) {
		t.Errorf("holds %v", got)
	}
	w.look(see("10.0.0.2"))
	if len(told) != 2 || !slices.Equal(told[1], list("10.0.0.2")) {
		t.Errorf("told %v", told)
	}
}
