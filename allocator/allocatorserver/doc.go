// Package allocatorserver runs an allocator, and speaks to the allocators over
// the bus. Any number of [Server] may run; they share the requests and agree
// through the calls bucket. [Client] asks whichever is free.
package allocatorserver
