//go:build !linux

package sqlite

// ownIndex is Linux's; elsewhere the index of the log is a mapped file.
func ownIndex() error { return nil }
