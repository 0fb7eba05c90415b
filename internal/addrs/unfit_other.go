//go:build !linux

package addrs

import "net/netip"

func unfitAddrs() map[netip.Addr]bool { return nil }
