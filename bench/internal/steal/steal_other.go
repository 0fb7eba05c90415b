//go:build !linux

package steal

import "time"

// Watch sees nothing taken: only Linux tells.
type Watch struct{}

// Begin watches nothing.
func Begin() *Watch { return &Watch{} }

// Reset does nothing.
func (*Watch) Reset() {}

// Most is nothing.
func (*Watch) Most() time.Duration { return 0 }

// End does nothing.
func (*Watch) End() {}
