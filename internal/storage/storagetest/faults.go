package storagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
)

// ErrInjected is what a failing store returns.
var ErrInjected = errors.New("storagetest: injected failure")

// EachFailure runs do once for every commit that do makes, failing that
// commit and all after it, as a crash would; then calls check with what a
// restarted server would find. It stops when do has run with no failure.
//
// Each failure is tried both ways that it can happen: the commit lost, and
// the commit kept but its success never heard, which do is told by an error
// that wraps [storage.ErrUnknown]. Each time begins with a store from open.
func EachFailure(t testing.TB, open Open, do func(storage.Store) error, check func(testing.TB, storage.Store)) {
	t.Helper()
	for n := 0; ; n++ {
		for _, kept := range []bool{false, true} {
			s := open(t)
			c := &crashing{Store: s, left: n, kept: kept}
			err := do(c)
			if !c.crashed() {
				if err != nil {
					t.Fatalf("with no failure injected: %v", err)
				}
				check(t, s)
				return
			}
			if !errors.Is(err, ErrInjected) {
				t.Errorf("commit %d failed (kept = %t) but the caller was told %v", n, kept, err)
			}
			check(t, s)
		}
	}
}

// crashing is a store that dies at a commit.
type crashing struct {
	storage.Store
	kept bool

	mu   sync.Mutex
	left int // commits until then
	dead bool
}

func (c *crashing) crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// Update implements [storage.Store].
func (c *crashing) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return ErrInjected
	}
	if c.left > 0 {
		// Only what commits counts: a transaction that fails by itself has no
		// outcome that could be lost.
		c.mu.Unlock()
		err := c.Store.Update(ctx, locks, fn)
		if err == nil {
			c.mu.Lock()
			c.left--
			c.mu.Unlock()
		}
		return err
	}
	c.mu.Unlock()
	err := lose(ctx, c.Store, locks, fn)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	if !c.kept {
		return ErrInjected
	}
	if err := c.Store.Update(ctx, locks, fn); err != nil {
		return fmt.Errorf("keeping what is not to be heard of: %w", err)
	}
	return fmt.Errorf("%w: %w", storage.ErrUnknown, ErrInjected)
}

// lose runs fn in a transaction that is not kept. It returns an error only
// if fn's transaction would have failed.
func lose(ctx context.Context, s storage.Store, locks storage.Locks, fn func(storage.Tx) error) error {
	lost := errors.New("lost")
	err := s.Update(ctx, locks, func(tx storage.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return lost
	})
	if errors.Is(err, lost) {
		return nil
	}
	return err
}

// Outcome is how a commit fails.
type Outcome int

// What a [Failing] store can do to an Update.
const (
	Lost     Outcome = iota // not kept, and ErrInjected says so
	Unkept                  // not kept, and nobody knows: ErrUnknown
	Unheard                 // kept, and nobody knows: ErrUnknown
	Poisoned                // not kept, and ErrPoisoned for everything from then on
)

// Failing is a store that fails when it is told to. Make it with [Fail].
type Failing struct {
	storage.Store

	mu      sync.Mutex
	updates map[int]Outcome // by how many Updates are to come before
	views   map[int]error
	asks    error // of Changes
	dead    bool
}

// Fail returns s, to be told when to fail.
func Fail(s storage.Store) *Failing {
	return &Failing{Store: s, updates: map[int]Outcome{}, views: map[int]error{}}
}

// FailUpdate makes the n-th Update from now fail; 1 is the next one.
func (f *Failing) FailUpdate(n int, how Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates[n] = how
}

// FailView makes the n-th View from now fail with err, at its end.
func (f *Failing) FailView(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views[n] = err
}

// FailChanges makes every call of Changes fail with err, until err is nil.
func (f *Failing) FailChanges(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = err
}

// Heal takes back every failure that is to come, and poison.
func (f *Failing) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.updates)
	clear(f.views)
	f.asks, f.dead = nil, false
}

// due takes what is due in m, and moves the rest nearer.
func due[V any](m map[int]V) (v V, ok bool) {
	v, ok = m[1]
	delete(m, 1)
	nearer := map[int]V{}
	for n, v := range m {
		nearer[n-1] = v
	}
	clear(m)
	maps.Copy(m, nearer)
	return v, ok
}

// Update implements [storage.Store].
func (f *Failing) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return storage.ErrPoisoned
	}
	how, fails := due(f.updates)
	if fails && how == Poisoned {
		f.dead = true
	}
	f.mu.Unlock()
	if !fails {
		return f.Store.Update(ctx, locks, fn)
	}
	run := func() error { return lose(ctx, f.Store, locks, fn) }
	if how == Unheard {
		run = func() error { return f.Store.Update(ctx, locks, fn) }
	}
	if err := run(); err != nil {
		return err
	}
	switch how {
	case Unkept, Unheard:
		return fmt.Errorf("%w: %w", storage.ErrUnknown, ErrInjected)
	case Poisoned:
		return fmt.Errorf("%w: %w", storage.ErrPoisoned, ErrInjected)
	case Lost:
	}
	return ErrInjected
}

// View implements [storage.Store].
func (f *Failing) View(ctx context.Context, fn func(storage.Reader) error) error {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return storage.ErrPoisoned
	}
	fail, fails := due(f.views)
	f.mu.Unlock()
	err := f.Store.View(ctx, fn)
	if fails {
		return fail
	}
	return err
}

// Changes implements [storage.Store].
func (f *Failing) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	f.mu.Lock()
	err := f.asks
	if f.dead {
		err = storage.ErrPoisoned
	}
	f.mu.Unlock()
	if err != nil {
		return storage.Changes{}, err
	}
	return f.Store.Changes(ctx, since)
}
