// Package addrs finds the addresses a host can be reached at, best first, and
// follows them while they change: a laptop moves to another network, a lease
// runs out, a tunnel comes up.
//
// Addresses of container and machine bridges lead nowhere for others and are
// left out. Tunnels of virtual private networks (WireGuard, Tailscale, ZeroTier,
// tun) stay: friends who share one reach each other by it; they come after the
// network cards. Link-local, temporary, deprecated and not yet confirmed
// addresses are left out. Loopback stands alone, when there is nothing else.
package addrs
