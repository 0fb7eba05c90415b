// Package journal keeps what a server that is alone told its clients, in files, so that
// the next life of it knows: entries of many keys, each list in one order, as a
// [bus.Log] keeps them for several, and notes.
//
//	j, err := journal.Open(journal.Config{Dir: dir, Past: known, Head: current})
//	seq, err := j.Append(ctx, key, last, body)   // bus.ErrConflict: last is not the last one
//	list, err := j.Since(ctx, key, seq)
//
// What Append and Note have returned from is there when the process is killed at once:
// it was handed to the system. Nothing waits for the disk, so a machine that loses its
// power may lose some of it; therefore nothing counts that was written in another run of
// the machine, and a file that is not whole, but for where a process died, spoils all.
//
// Files are kept for Keep after their last record, and 256 MiB of them at most. Each has
// its name when all is in it that it must begin with.
package journal
