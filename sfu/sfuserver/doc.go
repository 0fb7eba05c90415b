// Package sfuserver runs the media engine: sockets, workers and the command
// stream. [New] takes the stream to the agent and one UDP socket per worker,
// both lent; [Server.Run] serves until the stream ends.
//
// Goroutines: one reads commands (control.go), one writes events (events.go),
// one tells the load, and one per socket, a worker, does everything else. A
// worker owns its calls and sessions alone: orders reach it between two batches
// of packets (mail.go), so that the way of a packet (packet.go) takes no lock.
// Only a DTLS handshake has goroutines of its own, while it lasts.
//
//	stream ─► control ── orders ──► worker ◄─► socket
//	stream ◄─ events ◄── facts ───────┘
//
// Who may wait for whom: control waits for events to be written when too many
// answers are pending, a worker waits for its socket only.
package sfuserver
