package doctor

import "time"

// Snapshot is what a machine was found to be like. Zero is what the kernel did not
// tell, where nothing else is said.
type Snapshot struct {
	Cores int

	// Socket buffers in bytes (net.core), and the packets a core queues.
	ReceiveMax, SendMax, ReceiveDefault, OptionMax int64
	Backlog                                        int64
	// Forced tells that this process may exceed the bounds of buffers
	// (CAP_NET_ADMIN, SO_RCVBUFFORCE).
	Forced bool
	// UDPMemory bounds all UDP sockets together, in bytes (net.ipv4.udp_mem, the
	// third value).
	UDPMemory int64

	FilesSoft, FilesHard uint64
	PortFirst, PortLast  int // of net.ipv4.ip_local_port_range

	Governors []string // of the cores, each once; none: the frequency is not ours to choose
	Turbo     string   // on, off, or empty
	SMT       bool     // two threads share a core
	Nodes     int      // NUMA

	// Shares of all cores' time over a second, 0 to 1.
	Busy, Steal float64

	ClockSource string
	// Jump is by how much the wall clock left the monotonic one over a second.
	Jump time.Duration
	// Synced tells whether the kernel's clock is disciplined; ClockError is what
	// the kernel believes it is off by at most. NoClock: it did not say.
	Synced     bool
	NoClock    bool
	ClockError time.Duration
	// Oversleep is by how much sleeps of 1 ms were longer.
	OversleepP50, OversleepP99 time.Duration

	MemoryTotal, MemoryAvailable int64

	// Connections tracked by the firewall, and how many can be.
	Tracked, TrackedMax int64

	IPv6Loopback bool

	Kernel string
	// What sockets of this kernel can do: segmentation offload of UDP, a time for
	// each packet, many messages in a call.
	Segments, SendTimes, ManyMessages bool

	// Quota is how many cores the control group may use; 0: all.
	Quota float64
	// Others are other processes of ours, as "voicefleet (42)".
	Others []string

	// Datagram is the CPU time of one datagram of 132 bytes in a loop of sendmmsg
	// over loopback, its delivery included.
	Datagram time.Duration
}
