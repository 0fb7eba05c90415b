// Voicebench loads a voice server and tells what it costs and what its listeners
// get: forward and memory start a node and measure it, call and join put bots
// into a server that runs.
//
// It ends with status 1 when it could not measure, and with status 2 when it
// could and a goal was missed.
package main
