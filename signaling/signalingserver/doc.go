// Package signalingserver serves the voice WebSocket: an http.Handler that
// upgrades requests to "/", and Run, which waits for all it started.
//
// Each connection has a reader and a writer goroutine, each session an owner
// goroutine that alone touches its session core. A session is handed a new
// connection when it is resumed on the instance that holds it.
package signalingserver
