// Package e2e holds the tests that run the real programs with the real clients:
// the voicefleet binary as processes with real signals, Chromium and Firefox by
// the visible controls of the page, and stock Discord libraries. It has no code
// of its own.
package e2e
