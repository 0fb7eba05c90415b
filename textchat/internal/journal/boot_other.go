//go:build !linux

package journal

// boot is not known here.
func boot() string { return "" }
