// Package guild is the core of one guild: members, roles, channels and voice
// states, and what may be done to them.
//
// In come inputs (what somebody asks, what a neighbour answers, time); out go
// changes for the store, events for sessions, and effects for the voice side.
// It has no socket, clock or goroutine; one owner calls it. An input that is
// refused changes nothing.
//
// Joining a voice channel takes two inputs: VoiceUpdate checks and asks for a
// placement under a new attempt number, Placed or PlaceFailed with that number
// ends it. A newer attempt makes the answers to older ones void.
package guild
