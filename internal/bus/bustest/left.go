package bustest

import "go.uber.org/goleak"

// Left are the goroutines that a server in this process may leave behind: one that is
// ended while it makes a stream forgets the stream's files (nats-server v2.15.2).
func Left() []goleak.Option {
	const server = "github.com/nats-io/nats-server/v2/server"
	return []goleak.Option{
		goleak.IgnoreAnyFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server + "/ats.Register.func1"),
	}
}
