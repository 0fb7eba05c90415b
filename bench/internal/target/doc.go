// Package target is the servers a run measures, and how it gets into them.
//
//	Node    voicefleet edge on a bus of our own; we are its allocator and open
//	        sessions by hand. The least that forwards: agent and engine.
//	Up      voicefleet up in a data folder of our own. Everything in one process.
//	Remote  a server that runs, reached by its front door alone: accounts, rooms,
//	        calls. An Up is entered as one too.
//
// What was started here ends with Stop, and with this process. A server that ends
// unasked says so by Done and Err, with the last of its log; whatever fails
// because of it says the same.
package target
