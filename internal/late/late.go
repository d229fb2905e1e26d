// Package late has contexts that cost nothing until somebody waits for them.
//
// Most requests end before anyone looks whether they should have: for those a
// timer, a channel and an entry in the parent's book are work for nothing.
package late

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// Context ends with its parent, with another context, and at a time, whichever
// comes first, and when [Context.End] is called. Make it with [New].
type Context struct {
	context.Context //nolint:containedctx // the parent: this is a context

	also     context.Context //nolint:containedctx // nil for none
	deadline time.Time
	ended    atomic.Bool

	mu     sync.Mutex // held to make or end waited
	waited atomic.Pointer[waited]
}

// waited is a context of package context, made when somebody has to wait.
type waited struct {
	ctx context.Context //nolint:containedctx // what Done, Err and Value are of
	end func()
}

// New returns a context below parent that ends with also as well, if that is
// not nil, and at the deadline, if that is not zero. The caller calls End.
func New(parent, also context.Context, deadline time.Time) *Context {
	return &Context{Context: parent, also: also, deadline: deadline}
}

// End ends c, and lets go of what was made for those who waited.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended.Store(true)
	if w := c.waited.Load(); w != nil {
		w.end()
	}
}

// Deadline implements [context.Context].
func (c *Context) Deadline() (time.Time, bool) {
	at, ok := c.Context.Deadline()
	if c.deadline.IsZero() || ok && at.Before(c.deadline) {
		return at, ok
	}
	return c.deadline, true
}

// Err implements [context.Context].
func (c *Context) Err() error {
	if w := c.waited.Load(); w != nil {
		return w.ctx.Err()
	}
	if c.ended.Load() {
		return context.Canceled
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	if c.also != nil && c.also.Err() != nil {
		return context.Canceled
	}
	if !c.deadline.IsZero() && !(clock.System{}).Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Done implements [context.Context]. From the first call on, c is a context of
// package context.
func (c *Context) Done() <-chan struct{} {
	if w := c.waited.Load(); w != nil {
		return w.ctx.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waited.Load()
	if w == nil {
		w = c.wait()
		c.waited.Store(w)
	}
	return w.ctx.Done()
}

func (c *Context) wait() *waited {
	var w waited
	var cancel context.CancelFunc
	if c.deadline.IsZero() {
		w.ctx, cancel = context.WithCancel(c.Context)
	} else {
		w.ctx, cancel = context.WithDeadline(c.Context, c.deadline)
	}
	w.end = cancel
	if c.also != nil {
		stop := context.AfterFunc(c.also, cancel)
		w.end = func() { stop(); cancel() }
	}
	if c.ended.Load() {
		w.end()
	}
	return &w
}

// Value implements [context.Context].
func (c *Context) Value(key any) any {
	if w := c.waited.Load(); w != nil {
		return w.ctx.Value(key)
	}
	return c.Context.Value(key)
}
