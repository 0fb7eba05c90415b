//go:build race

package chatserver

// raceDetector tells how this was built.
const raceDetector = true
