package edgeagent

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
)

func TestMediaAddrs(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		addrs []netip.Addr
		ports []uint16
		want  string
	}{
		{nil, []uint16{1}, "[]"},
		{[]netip.Addr{four}, nil, "[]"},
		{[]netip.Addr{four, six}, []uint16{1, 2}, "[192.0.2.1:1 [2001:db8::1]:1 192.0.2.1:2 [2001:db8::1]:2]"},
		{[]netip.Addr{four}, []uint16{1, 2, 3, 4, 5, 6, 7, 8, 9}, "[192.0.2.1:1 192.0.2.1:2 192.0.2.1:3 192.0.2.1:4 192.0.2.1:5 192.0.2.1:6 192.0.2.1:7 192.0.2.1:8]"},
	} {
		if got := fmt.Sprint((&Heartbeat{Addrs: c.addrs, Ports: c.ports}).MediaAddrs()); got != c.want {
			t.Errorf("%v × %v: %s", c.addrs, c.ports, got)
		}
	}
}

func TestParseLocation(t *testing.T) {
	for s, want := range map[string]Location{
		"50.11,8.68": {50.11, 8.68}, "-33.9, 151.2": {-33.9, 151.2}, " 0,0 ": {}, "90,-180": {90, -180},
	} {
		if got, err := ParseLocation(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ",", "50", "50,", "91,0", "0,181", "NaN,0", "0,Inf", "a,b", "50,8,1"} {
		if got, err := ParseLocation(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b Location
		want float64
	}{
		{Location{Lat: 50.1, Lon: 8.7}, Location{Lat: 40.7, Lon: -74}, 6205},
		{Location{Lat: 0, Lon: 179}, Location{Lat: 0, Lon: -179}, 222.4},
		{Location{Lat: 90}, Location{Lat: -90}, math.Pi * 6371},
		{Location{Lat: 1, Lon: 2}, Location{Lat: 1, Lon: 2}, 0},
	} {
		if got := c.a.Distance(c.b); math.Abs(got-c.want) > c.want*0.005 {
			t.Errorf("%v to %v: %.1f km, want %.1f", c.a, c.b, got, c.want)
		}
	}
}
