// Package egress collects sealed datagrams for the kernel: packed one behind the
// other, with the address each goes to, so that one sendmmsg takes them all. Relay
// packets are bundled before.
package egress
