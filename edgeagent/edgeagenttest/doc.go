// Package edgeagenttest is for tests that need an agent without media: a media
// engine in memory that answers every command and says what the test wants.
package edgeagenttest
