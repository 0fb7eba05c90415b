// Package store measures the stores of messages (textchat.Store): the embedded one on
// this machine's disk, and one node of CQL that it starts, or a cluster of yours.
//
// In come the engines and how long each step takes; out goes a [bench.Report] of Kind
// store. Every figure is that of the store's own interface, as the chat server calls
// it: JSON, queues, breakers and all.
//
// A run is up to four steps for each engine:
//
//  1. writes: as many writers as there are, each with its next message when the last
//     one is durable: messages a second;
//
//  2. steady: messages and pages that are due at fixed moments, whether or not those
//     before them are done; a time begins when it was due, so that a store that stands
//     still is not flattered by having been asked less. It is of ten windows, and one in
//     which the host took a core away at once is done again;
//
//  3. equal reads (CQL): many who read one page at once, and as many who read a page
//     each; what it cost in queries;
//
//  4. history: messages of a year in a hundred channels, some busier than others, are
//     written in about the order of their time; at each power of ten pages of 50 are read,
//     from the newest to the oldest, as of people who scroll back. Flat means that at any
//     depth of the whole history a page comes in the time that a person is promised, and
//     that its median is within a factor of the newest one's, and of those in a history of
//     a hundredth of the length that is read by turns with it: what the machine does
//     meanwhile is then the same for both.
//
// Server, store and load share this machine: its figures are those of all three.
package store
