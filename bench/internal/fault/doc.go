// Package fault does to a server, and to the path of its media, what a scenario's
// steps say, at their times: it kills and freezes processes, has a node drained,
// and sets the rules of an impairing proxy. Everything that lasts is undone when
// its time is over and when the run ends, however it ends; a journal tells what
// was done when, and what came of it.
//
//	steps ─▶ New: may we?  ─▶ Run: time line ─┬─ signals ─▶ engine, agent
//	         whose are the                    ├─ Drain ───▶ host
//	         processes?                       └─ rules ───▶ proxy
//
// Only processes of this run are signalled: descendants of this process, and those
// that were when the steps were checked (an engine whose agent was killed belongs
// to init). A process is held by a handle (pidfd) between check and signal, so that
// another one with a used number is never met.
package fault
