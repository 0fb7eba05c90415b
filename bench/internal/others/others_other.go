//go:build !linux

package others

// Watch notes nothing: only Linux says what it does with its time.
func Watch(string, func(format string, args ...any)) (stop func()) { return func() {} }
