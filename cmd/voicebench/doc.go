// Voicebench loads a voice server and tells what it costs and what its listeners
// get. The work is done by the packages of bench; here are flags and words.
//
// It ends with status 1 when it could not measure, or not to the end, and with
// status 2 when it could and a goal was missed.
package main
