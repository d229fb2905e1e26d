package door

import "rotunda.dev/rotunda/internal/clock"

// GuardConfig bounds how much is let in. Zero fields stand for the defaults.
type GuardConfig struct{}

// Guard sheds what is too much before any of it is read.
type Guard struct{ clock clock.Clock }

// NewGuard returns a Guard.
func NewGuard(_ GuardConfig, c clock.Clock) *Guard { return &Guard{clock: c} }
