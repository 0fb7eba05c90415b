// Package custody is the agent's mind: which sessions the node has, which orders
// the media engine has not answered yet, which grants are used up, and what the
// next engine must be told when one dies. It has no I/O, clock or goroutine:
// requests, engine events and the passing of time come in with the time now, and
// commands, replies and call events go out as values, in order.
//
//	Open, Resume, Negotiate, Update, Close, Drain ─┐        ┌─► Command → engine
//	EngineUp, EngineFound, Event, EngineLost ──────┼─ Core ─┼─► Reply → asker
//	Tick, Advertise, Shutdown ─────────────────────┘        └─► Event → bus
package custody
