package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// lan is a network namespace joined to the host by a cable of its own.
type lan struct {
	name   string
	server string // the address inside
}

// newLAN makes a namespace with one address; it is gone when the test ends.
func newLAN(t *testing.T) lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	sweepLANs(t)
	l := lan{name: fmt.Sprintf("vf%d", os.Getpid()), server: "10.77.0.2"}
	host, peer := l.name+"h", l.name+"n"
	for _, c := range [][]string{
		{"netns", "add", l.name},
		{"link", "add", host, "type", "veth", "peer", "name", peer, "netns", l.name},
		// No IPv6 of its own: an address that is settled a second later is a change
		// of network to a browser, which then drops what it is loading.
		{"link", "set", host, "addrgenmode", "none"},
		{"-n", l.name, "link", "set", peer, "addrgenmode", "none"},
		{"addr", "add", "10.77.0.1/24", "dev", host},
		{"link", "set", host, "up"},
		{"-n", l.name, "link", "set", peer, "name", "eth0"},
		{"-n", l.name, "addr", "add", l.server + "/24", "dev", "eth0"},
		{"-n", l.name, "link", "set", "eth0", "up"},
		{"-n", l.name, "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command("ip", c...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", c, err, out)
		}
		if c[0] == "netns" {
			t.Cleanup(func() {
				_ = exec.Command("ip", "link", "del", host).Run()
				_ = exec.Command("ip", "netns", "del", l.name).Run()
			})
		}
	}
	return l
}

// sweepLANs removes what runs left behind that were killed before their end: their
// addresses are ours.
func sweepLANs(t *testing.T) {
	t.Helper()
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatalf("ip netns list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		for prefix, link := range map[string]string{"vf": "vf", "closednet-": "cn"} {
			digits, ours := strings.CutPrefix(name, prefix)
			pid, err := strconv.Atoi(digits)
			if !ours || err != nil || syscall.Kill(pid, 0) == nil {
				continue
			}
			_ = exec.Command("ip", "link", "del", link+digits+"h").Run()
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	}
}

// fetch saves what a URL answers.
func fetch(url, path string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return os.WriteFile(path, b, 0o600)
}
