package bus

import (
	"sync"
	"time"
	_ "unsafe" // for go:linkname
)

// How soon the servers of a cluster choose another leader. nats-server has 4 to 9 s,
// and no option for it: all that time nothing can be written, so that nobody joins a
// call that is not live yet. These are its own variables, which its own tests make
// shorter, too (1.5 to 3.5 s, with a heartbeat of 50 ms). A leader that is cut off
// for longer than minElection though it lives is replaced, which costs one election;
// heartbeats go to the two others of each bucket only.
//
// In a cluster with servers of the usual times ours win the elections.
const (
	minElection   = 700 * time.Millisecond
	maxElection   = 1300 * time.Millisecond
	raftHeartbeat = 150 * time.Millisecond
)

//go:linkname serverMinElection github.com/nats-io/nats-server/v2/server.minElectionTimeout
var serverMinElection time.Duration

//go:linkname serverMaxElection github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var serverMaxElection time.Duration

//go:linkname serverHeartbeat github.com/nats-io/nats-server/v2/server.hbInterval
var serverHeartbeat time.Duration

// electQuickly sets the times of all servers of this process; it comes before the
// first one. A nats-server that no longer has these variables keeps its times, and
// TestClusterLosesAServer tells.
var electQuickly = sync.OnceFunc(func() {
	serverMinElection, serverMaxElection, serverHeartbeat = minElection, maxElection, raftHeartbeat
})
