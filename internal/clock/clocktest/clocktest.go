// Package clocktest is a clock that stands still until a test moves it.
package clocktest

import (
	"context"
	"sync"
	"time"
)

// Fake is a clock.Clock that a test sets. Make it with [New].
type Fake struct {
	mu      sync.Mutex
	now     time.Time
	waiters map[chan struct{}]time.Time
}

// New returns a clock that stands at t.
func New(t time.Time) *Fake {
	return &Fake{now: t.UTC(), waiters: map[chan struct{}]time.Time{}}
}

// Now returns the time that the clock stands at.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Wait returns nil once the clock has been moved to t or beyond.
func (f *Fake) Wait(ctx context.Context, t time.Time) error {
	f.mu.Lock()
	if !f.now.Before(t) {
		f.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	f.waiters[ch] = t
	f.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		f.mu.Lock()
		delete(f.waiters, ch)
		f.mu.Unlock()
		return ctx.Err()
	}
}

// Advance moves the clock by d, which may be negative, and wakes who waited
// for a time that has come.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	for ch, t := range f.waiters {
		if !f.now.Before(t) {
			close(ch)
			delete(f.waiters, ch)
		}
	}
}

// Waiting returns how many calls of Wait have not returned.
func (f *Fake) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters)
}
