// Package meter judges what one listener heard of its talkers.
//
// In come the marks of packets with the time they arrived ([Listener.Hear]) and the
// plan of what was sent ([Listener.Expect]); out comes a [Result], which can be
// merged with those of other listeners and sent as JSON. There is no clock, no
// goroutine and no I/O, and a Listener has one owner at a time.
//
// The nouns: a frame is 20 ms of a talker, known by its Index; a spurt is a row of
// voiced frames with one Onset; a frame is played when it is there at its playout
// moment and concealed when not; a gap is a hole in a spurt that can be heard.
//
// # What counts
//
// A packet is judged when its Due lies in [Config.From, Config.To). Loss, duplicates
// and the time series go by Due, not by arrival, so a packet that is late belongs to
// the second in which it was to be sent. Latency is arrival less Due: a generator
// that sends late is measured as latency, not left out. It is that of voiced packets:
// a server that forwards the silence before a spurt sends it when the spurt begins.
//
// A server may withhold the frames of pauses. Loss is therefore counted for the two
// kinds of frames, voiced and not, and only for those kinds that the plan of a talker
// holds. What arrives of a kind that the plan does not hold is counted beside it:
// Unvoiced for frames of pauses, Stray for voiced frames, which nobody should have
// sent here.
//
// # Playout
//
// Each talker has a jitter buffer in the manner of WebRTC's NetEq (delay_manager.cc,
// underrun_optimizer.cc): the greatest delay in each half second, relative to the
// least of the last 1 to 2 s, goes into a histogram of 20 ms steps that forgets (factor
// 0.983); its 95 % quantile and one step is the target, 20 to 200 ms, 80 ms at the
// start. The playout moment of a frame is Due and the current delay, which follows the
// target by 2 ms in each frame, and at once between spurts.
//
// A packet that comes later than its moment, but is the newest of its talker, finds an
// empty buffer: it is played when it comes, and what was waited is concealment put in
// between, as long as the delay stays within 200 ms; for 2 s the delay does not fall
// again. Any other late packet is thrown
// away and its frame is concealed. With a fixed [Config.Playout] every late packet is.
//
// Concealment is silent in pauses. The frames of a talker are those from the first to
// the last of its plan, pauses included, and what was put in between.
//
// # Gaps
//
// An audible gap goes from the last good packet before to the first of ten consecutive
// good ones after, measured between their arrivals. Good is a voiced frame that is
// played, in order of Index: a packet that only came out of order or twice is good, and
// so is lateness that the jitter buffer covers. A frame that is not played breaks the
// row, and so does a wait for a late one of 20 ms or more. Frames are judged when their
// playout moment has passed.
//
// Gaps are judged within a spurt: a talker who pauses may have been silent. Where the
// spurt ends before ten good ones came, the row that reaches its end closes the gap.
// Where the plan says that the spurt went on for ten frames or more after the last that
// was heard, the gap is open (Result.Open) and lasts until the end of the plan. A single
// lost packet is a gap of 40 ms. A gap counts when one of its frames is due in the window.
//
// # Bounds
//
// A listener follows at most [MaxTalkers] talkers; packets and plans of more are counted
// in Ignored and not judged. Of each talker it remembers which of the last 1024 frames
// (20.48 s) came, and when the last 32 did. A packet older than that is counted in Old.
// [Listener.Bytes] tells what a listener holds: 40 KiB for its histograms, 0.7 KiB for
// each talker and 168 bytes for each slice of the time series; 72 KiB with 25 talkers
// over a minute. Nothing is allocated after the first packet of a talker.
package meter
