// Package fence keeps caches that never answer from the past.
//
// A cache entry is a value and all the scopes of the store that it was built
// from: those that were read, found empty, or scanned. A request that is to
// be answered from caches first asks [Fence.Arrive], which returns when every
// change from before the request has been applied to every cache: entries
// built from a changed scope are gone. So a request that begins after an
// Update has returned never meets what that Update replaced.
//
// Where the store answers Changes from memory ([storage.Near]), Arrive
// compares two numbers. For other stores, one call serves all requests that
// wait, if it was sent after they came.
package fence

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// maxChanged is how many changed scopes a Fence remembers, for the values
// that are being built while they change.
const maxChanged = 1 << 14

// Fence stands before the caches of one physical store. Make it with [New].
type Fence struct {
	store storage.Store
	near  bool

	applied atomic.Uint64 // mark up to which changes are applied; written under mu
	latest  atomic.Int64  // the latest Moment's Now, in nanoseconds; never goes back

	// mu guards what follows, and the places of entries in their caches. It
	// is held for instructions, and never while the store is called.
	mu      sync.Mutex
	changed map[string]storage.Mark // when a scope was last changed, or later
	floor   storage.Mark            // changes up to here may be missing from changed
	users   map[string]map[entry]struct{}
	entries map[entry]struct{}

	flights flights
}

// entry is a cached value, as its Fence sees it.
type entry interface {
	scopes() []string
	mark() storage.Mark
	remove() // from its cache, where it is
}

// New returns the Fence of s.
func New(s storage.Store) *Fence {
	_, near := s.(storage.Near)
	return &Fence{
		store:   s,
		near:    near,
		changed: map[string]storage.Mark{},
		users:   map[string]map[entry]struct{}{},
		entries: map[entry]struct{}{},
	}
}

// Moment is when a request arrived, in the store's history and on its clock.
type Moment struct {
	Mark storage.Mark
	Now  time.Time // never earlier than that of a Moment before it
}

// Arrive returns the Moment of a request that has come: all that was changed
// before the call has been applied to the caches.
func (f *Fence) Arrive(ctx context.Context) (Moment, error) {
	if !f.near {
		return f.flights.join(ctx, f.advance)
	}
	return f.advance(ctx)
}

// advance asks the store what has changed, and applies it.
func (f *Fence) advance(ctx context.Context) (Moment, error) {
	since := storage.Mark(f.applied.Load())
	c, err := f.store.Changes(ctx, since)
	if err != nil {
		return Moment{}, fmt.Errorf("asking what has changed: %w", err)
	}
	if c.All || c.Mark != since {
		f.apply(c)
	}
	return Moment{c.Mark, f.notBefore(c.Now)}, nil
}

// notBefore returns now, or the latest it has returned if that is later.
func (f *Fence) notBefore(now time.Time) time.Time {
	n := now.UnixNano()
	for {
		latest := f.latest.Load()
		if n <= latest {
			return time.Unix(0, latest).UTC()
		}
		if f.latest.CompareAndSwap(latest, n) {
			return now
		}
	}
}

// apply removes the entries that c makes old. What c covers begins at a mark
// that had been applied.
func (f *Fence) apply(c storage.Changes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	applied := storage.Mark(f.applied.Load())
	if c.All && c.Mark < applied {
		// A store whose marks began anew, or the answer to a call from long
		// ago: either way nothing may stay.
		c.Mark = applied
	}
	if c.All {
		for e := range f.entries {
			f.forget(e)
		}
		clear(f.changed)
		f.floor = c.Mark
	}
	for _, scope := range c.Scopes {
		if f.changed[scope] < c.Mark {
			f.changed[scope] = c.Mark
		}
		for e := range f.users[scope] {
			if e.mark() < c.Mark {
				f.forget(e)
			}
		}
	}
	if len(f.changed) > maxChanged {
		clear(f.changed)
		f.floor = max(f.floor, c.Mark)
	}
	if c.Mark > applied {
		f.applied.Store(uint64(c.Mark))
	}
}

// admit puts e, built at its mark, into its cache by calling place, unless
// something that it was built from has changed meanwhile.
func (f *Fence) admit(e entry, place func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.mark() < f.floor {
		return
	}
	for _, scope := range e.scopes() {
		if f.changed[scope] > e.mark() {
			return
		}
	}
	place()
	f.entries[e] = struct{}{}
	for _, scope := range e.scopes() {
		users := f.users[scope]
		if users == nil {
			users = map[entry]struct{}{}
			f.users[scope] = users
		}
		users[e] = struct{}{}
	}
}

// forget removes e everywhere. f.mu is held.
func (f *Fence) forget(e entry) {
	if _, ok := f.entries[e]; !ok {
		return
	}
	delete(f.entries, e)
	e.remove()
	for _, scope := range e.scopes() {
		users := f.users[scope]
		delete(users, e)
		if len(users) == 0 {
			delete(f.users, scope)
		}
	}
}

// flights lets callers share calls: each gets the result of a call that
// began after it had come.
type flights struct {
	mu   sync.Mutex
	busy bool    // a call is under way
	next *flight // that begins when the one under way ends
}

type flight struct {
	done   chan struct{}
	moment Moment
	err    error
}

// join returns the result of a call that begins after join has been called.
func (fs *flights) join(ctx context.Context, call func(context.Context) (Moment, error)) (Moment, error) {
	fs.mu.Lock()
	fl := fs.next
	if fl == nil {
		fl = &flight{done: make(chan struct{})}
		fs.next = fl
	}
	if !fs.busy {
		fs.busy = true
		go fs.run(context.WithoutCancel(ctx), call) // for others too, so it does not end with ctx
	}
	fs.mu.Unlock()
	select {
	case <-fl.done:
		return fl.moment, fl.err
	case <-ctx.Done():
		return Moment{}, ctx.Err()
	}
}

// run makes calls while there is someone to wait for one; join's callers, who
// have all come before, wait for it.
func (fs *flights) run(ctx context.Context, call func(context.Context) (Moment, error)) {
	for {
		fs.mu.Lock()
		fl := fs.next
		fs.next = nil
		if fl == nil {
			fs.busy = false
			fs.mu.Unlock()
			return
		}
		fs.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, storage.MaxView)
		fl.moment, fl.err = call(within)
		cancel()
		close(fl.done)
	}
}
