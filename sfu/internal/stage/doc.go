// Package stage holds the rule by which speakers win seats: the 33 positions of a
// call's stage, and the K slots of each listener. The rule is the same for both
// and is written here so that anyone can compute from it which packets a listener
// must get.
//
// Loudness. Each packet that the silence gate lets through has a strength x:
// 127 minus its level (RFC 6464), 77 when it has none, plus 64 for a priority
// speaker. The loudness S of a speaker, in 256ths of a decibel, begins with
// 256·x at the first packet of a talk spurt; every further packet moves it by
// (256·x - S)/8, rounded towards zero.
//
// Seats. A speaker is audible while its gate is open. An audible speaker without
// a seat gets
//
//  1. the seat it had last, if nobody has taken it since (slots only),
//  2. else the first seat that nobody has,
//  3. else, of the seats whose speaker is not audible, the one that has been
//     silent longest,
//  4. else the seat of the quietest speaker, if that has been there for at least
//     400 ms and the newcomer is louder by at least 6 dB;
//
// otherwise none, and it asks again: for the stage with its packets, at most
// every 100 ms; for slots, every 500 ms, and when someone leaves the call. Of equals, the lower seat number loses
// its speaker. Nobody loses a seat for being silent: only to someone else, or by
// leaving.
//
// So with at most 33 speakers in a call all are on stage, and with at most K of
// them besides the listener each keeps one slot.
package stage
