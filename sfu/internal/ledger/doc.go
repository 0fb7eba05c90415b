// Package ledger is what outlives an engine process: the packet indices of every
// session as they are at this moment, and what each worker is at work on. It lies
// in memory that the agent keeps (a memfd) and an engine maps, so that the next
// engine goes on exactly where the last one was killed: no AEAD nonce is used
// twice, and nothing that was taken in is taken in again.
//
//	head    magic, layout, one word per worker: the call it is at work on
//	records one per session, 640 bytes
//
// Each word has one writer, the worker of the session, which stores it before what
// it counts leaves the process. A store is one atomic instruction; there is no lock
// and nothing to flush: the kernel keeps the pages of a process that was killed.
// The first word of a record is its tag, random per session; whoever restores a
// session must name it, so that a record is never taken for another's.
package ledger
