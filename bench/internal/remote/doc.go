// Package remote lets the generators of one run live on many machines, under one
// coordinator, over the bus.
//
// A generator is a process that serves verbs (child.Verb, the same that a child
// process serves over its pipes). In comes a name and what opens those verbs; out
// goes, for the coordinator, a handle with the Call of child.Process, so that
// whoever calls does not know where the generator lives.
//
// The nouns:
//
//   - generator: announces itself in the bucket bus.GeneratorsBucket ([Info]) and
//     serves one coordinator at a time; a second one is refused by the name of the
//     first.
//
//   - lease: what the coordinator holds. It beats every second; a generator that
//     has heard nothing for 4 s ends what runs, closes everything that was opened
//     and is free for the next within 5 s. A coordinator that was not answered for
//     4 s gives the generator up.
//
//   - call: a verb with its body and its answer. Both go in parts of 256 KiB, in
//     order, each answered before the next is sent, up to 16 MiB. The deadline of
//     the caller travels with the call, and a caller who gives up ends the verb.
//
//   - clock: how far a generator's clock is from ours, measured over the bus
//     ([Align]), with what it may be off by ([Clock]).
//
//     coordinator                              generator
//     take {lease, who, version}  ───────────►  opens its verbs
//     ask  {call 7, part 1 of 3}  ───────────►  keeps it
//     ask  {call 7, part 3 of 3}  ───────────►  runs the verb ...
//     ◄─────────────────────────── pending, after 2 s
//     fetch {call 7, from 0}      ───────────►
//     ◄─────────────────────────── part 1 of 2 of the answer
//     beat {done with 7}          ───────────►  forgets call 7
//     free                        ───────────►  closes all
//
// # Clocks
//
// A mark carries the clock of whoever talks, an arrival that of whoever listens.
// When they are in different generators, a latency of theirs is off by the
// difference of the two offsets; [Skew] is that difference and what it may be off
// by, the sum of both uncertainties. A report states it beside every such latency
// ([Clocks]): a one-way latency between machines is never known better than that.
// Between clients of one generator it is exact.
package remote
