// Package sqlite is the embedded store: one file in write-ahead mode, one
// writer that commits in groups, several readers.
//
// Writers hand a function to the one writing goroutine. It takes what waits (at
// most groupMax), runs all of it in one transaction, commits with one fsync and
// only then tells them. So a write that returned is durable, and 64 writers share
// the price of one disk flush. When one of them fails the others are done again
// without it.
//
// A disk that stands still holds up no caller for longer than Config.Patience, and
// readers, who have connections of their own, not at all. That is so while only writes
// and flushes wait. The index of the log is mapped memory (textchat.db-shm): a file
// system that makes whoever touches a mapped page wait, as one frozen by fsfreeze does,
// stops the threads of the program, and so all of it, until it goes on.
package sqlite
