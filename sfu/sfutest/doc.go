// Package sfutest is for tests that need a real media engine: [Start] runs one on
// loopback ports and gives typed calls to it, [Listen] and [Serve] are its parts,
// and [Dial] connects a WebRTC client that speaks and listens.
package sfutest
