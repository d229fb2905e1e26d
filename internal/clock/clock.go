// Package clock is the time, as something a test can hold.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and waits for it.
type Clock interface {
	// Now returns the current time in UTC.
	Now() time.Time

	// Wait returns nil at t, or ctx's error if that comes first.
	Wait(ctx context.Context, t time.Time) error
}

// System is the machine's clock.
type System struct{}

// Now returns the machine's time in UTC, with its monotonic reading.
func (System) Now() time.Time { return time.Now().UTC() }

// Wait sleeps until t.
func (System) Wait(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
