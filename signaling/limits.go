package signaling

import "time"

// Every bound of a voice connection has a name.
const (
	// MaxMessage bounds a message of a client. The largest are SDP offers: a
	// browser's with 26 sections is some 24 kB.
	MaxMessage = 64 << 10
	// MaxFirstMessage bounds what a client may send before it is
	// authenticated; Identify takes less than 1 KiB.
	MaxFirstMessage = 16 << 10
	// IdentifyTimeout ends a connection that has not identified or resumed.
	IdentifyTimeout = 5 * time.Second
	// DefaultHeartbeatInterval is what Hello asks for. A connection ends after
	// 1.75 intervals without a heartbeat.
	DefaultHeartbeatInterval = 10 * time.Second
	// MaxFrames is how many frames a client may send within FrameWindow, pings
	// included. A stock client sends some 12 heartbeats a minute.
	MaxFrames   = 120
	FrameWindow = 60 * time.Second
	// ReplayMessages and ReplayBytes bound what is kept of a session for its
	// resume; what falls out is made good by sending the state again.
	ReplayMessages = 256
	ReplayBytes    = 256 << 10
	// ReplayKept is how long the replay of a session without a connection is
	// kept. The session itself lives as long as its media.
	ReplayKept = 60 * time.Second
	// OutboxMessages and OutboxBytes bound what waits to be written to one
	// client. One that reads slower loses its connection ([CloseSlow]).
	OutboxMessages = 256
	OutboxBytes    = 256 << 10
	// ReportPause is the least time between two receive reports that are read; a
	// client sends one a second, and others in between as its silence grows.
	ReportPause = 100 * time.Millisecond
	// MaxWants bounds the sources named in one media sink wants message; a
	// session may mute as many users as sfu.Update takes.
	MaxWants = 1000
)
