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
// readers, who have connections of their own, not at all. For that the index of the log
// lies in memory of the process (Linux; index_linux.go): mapped from a file, as SQLite
// has it by itself, it stops whole threads while a file system is frozen. Its price: one
// process at a time. Another one, even one that only reads, is told that the database is
// locked; make a copy for it (Backup).
package sqlite
