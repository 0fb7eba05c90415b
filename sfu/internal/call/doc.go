// Package call is the forward core: it decides for every packet of a call who
// gets it and in what form. It has no socket, clock, goroutine or log; time is an
// argument, counted from the start of the engine.
//
// In come members with their keys and rights, their opened voice packets
// ([Call.Voice]) and RTCP ([Call.Feedback]), and the time ([Call.Tick]). Out go
// sealed datagrams into an [egress.Batch], and facts: who speaks, who is in which
// slot of whom.
//
// A member is a speaker and, if its offer had slots, a listener. Speakers whose
// gate is open compete for the 33 positions of the stage, and those on stage for
// the slots of each listener (package stage). Nobody hears itself; in an echo
// call one hears nobody else.
//
// What a listener gets in a slot looks like one source that never misses a
// packet: the slot's SSRC, sequence numbers that rise by one, timestamps that
// follow the time. Who speaks is told by CSRC. A talk spurt and a change of
// speaker begin with the marker bit (RFC 3551 section 4.1).
//
// A call may span nodes ([Call.SetRelay]). Each gives what it forwards of its own
// members to the others, so the loudest are chosen where they speak; what comes
// from there ([Call.Relayed]) is the voice of a speaker without a session, which
// takes the same way from the gate on, but goes to no other node. Who may speak is
// decided where it speaks, who wants to hear it where that one listens.
//
// Timestamps: each speaker's are moved, once, onto the 48 kHz clock of the
// engine; a slot adds a constant of its own and, when its speakers change too
// fast for the clock, as much as keeps it rising. A speaker whose clock runs away
// is moved again: at a talk spurt when it is off by more than 100 ms, at once when
// by more than 2 s.
package call
