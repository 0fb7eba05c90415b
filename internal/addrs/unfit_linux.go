package addrs

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// unfitFlags of linux/if_addr.h: temporary (RFC 8981), duplicate found,
// deprecated, tentative. Such an address is gone before others learn of it.
const unfitFlags = 0x01 | 0x08 | 0x20 | 0x40

func unfitAddrs() map[netip.Addr]bool {
	f, err := os.Open("/proc/net/if_inet6")
	if err != nil {
		return nil // no IPv6 on this host
	}
	defer f.Close()
	return readUnfit(f)
}

// readUnfit reads lines of six columns: address, interface index, prefix
// length, scope, flags (hexadecimal all) and interface name.
func readUnfit(r io.Reader) map[netip.Addr]bool {
	unfit := make(map[netip.Addr]bool)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) != 6 {
			continue
		}
		flags, err := strconv.ParseUint(col[4], 16, 32)
		raw, err2 := hex.DecodeString(col[0])
		if err != nil || err2 != nil || flags&unfitFlags == 0 {
			continue
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			unfit[a] = true
		}
	}
	return unfit
}
