// Package live puts faithful bots into the channels of a running server, through
// every door a person goes through: account, gateway, voice gateway, media.
//
// [Call] has some of them talk and measures what each listener gets: time to
// first audio, loss, one-way latency, and whether the right voice arrived.
// [Join] measures the way in, stage by stage, and the server's own part of it.
//
// A frame is known by its bytes, so a listener finds out whose it is, which in
// the row, and when it was due to be sent, without a mark that real speech has no
// place for: talkers and listeners live in this process and share a clock. Latency
// counts from the moment a frame was due, so that a generator that falls behind
// shows as latency instead of hiding it.
package live
