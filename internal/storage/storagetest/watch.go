package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
)

// recorder notes what a function reads and writes.
type recorder struct {
	storage.Tx
	reads  [][]byte // results, in order
	writes []string
}

func (r *recorder) read(what string, v []byte, err error) {
	r.reads = append(r.reads, fmt.Appendf(nil, "%s=%x %v", what, v, err))
}

func (r *recorder) wrote(what string, k storage.Key, v []byte) {
	r.writes = append(r.writes, fmt.Sprintf("%s %q %q: %q", what, k.Scope, k.Row, v))
}

// Get implements [storage.Reader].
func (r *recorder) Get(k storage.Key) ([]byte, error) {
	v, err := r.Tx.Get(k)
	r.read(fmt.Sprintf("%q", k), v, err)
	return v, err
}

// GetMany implements [storage.Reader].
func (r *recorder) GetMany(ks []storage.Key) ([][]byte, error) {
	vs, err := r.Tx.GetMany(ks)
	for _, v := range vs {
		r.read(fmt.Sprintf("%q %t", ks, v == nil), v, err)
	}
	return vs, err
}

// Scan implements [storage.Reader].
func (r *recorder) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	items, more, err := r.Tx.Scan(scope, after, end, limit)
	r.read(fmt.Sprintf("%q %q %q %d %t", scope, after, end, limit, more), fmt.Append(nil, items), err)
	return items, more, err
}

// Put implements [storage.Tx].
func (r *recorder) Put(k storage.Key, v []byte) {
	r.wrote("put", k, v)
	r.Tx.Put(k, v)
}

// Insert implements [storage.Tx].
func (r *recorder) Insert(k storage.Key, v []byte) {
	r.wrote("insert", k, v)
	r.Tx.Insert(k, v)
}

// Delete implements [storage.Tx].
func (r *recorder) Delete(k storage.Key) {
	r.wrote("delete", k, nil)
	r.Tx.Delete(k)
}

// Twice returns s, whose every Update runs its function twice, as a store may,
// first in a transaction that is lost. It is an error of the test if the two
// runs read the same and do not write the same: the function has kept
// something between its runs. Functions that draw random numbers must draw
// them before the Update; for those that cannot, as under a barrier, see
// [TwiceSealed].
func Twice(t testing.TB, s storage.Store) storage.Store { return &twice{s, t, false} }

// TwiceSealed is Twice, and compares how much is written and not what.
func TwiceSealed(t testing.TB, s storage.Store) storage.Store { return &twice{s, t, true} }

type twice struct {
	storage.Store
	t      testing.TB
	sealed bool
}

// Update implements [storage.Store].
func (w *twice) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	w.t.Helper()
	var first, second recorder
	if err := lose(ctx, w.Store, locks, func(tx storage.Tx) error {
		first = recorder{Tx: tx}
		return fn(&first)
	}); ctx.Err() != nil {
		return err
	}
	err := w.Store.Update(ctx, locks, func(tx storage.Tx) error {
		second = recorder{Tx: tx}
		return fn(&second)
	})
	if !slices.EqualFunc(first.reads, second.reads, bytes.Equal) {
		return err // others have written meanwhile, or what it reads is its own and sealed
	}
	switch {
	case w.sealed && len(first.writes) != len(second.writes):
		w.t.Errorf("a function that ran twice wrote %d rows, then %d", len(first.writes), len(second.writes))
	case !w.sealed && !slices.Equal(first.writes, second.writes):
		w.t.Errorf("a function that ran twice wrote\n%q, then\n%q", first.writes, second.writes)
	}
	return err
}

// Neighbour returns s, whose every Update first runs its function in a
// transaction that is lost, then lets neighbour commit, and then runs the
// function anew, as a store does after a conflict. The result must be as if
// the first run had never been.
func Neighbour(s storage.Store, neighbour func(storage.Store) error) storage.Store {
	return &neighboured{s, neighbour}
}

type neighboured struct {
	storage.Store
	neighbour func(storage.Store) error
}

// Update implements [storage.Store].
func (n *neighboured) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	_ = lose(ctx, n.Store, locks, fn) // its error is of a world that is gone
	if err := n.neighbour(n.Store); err != nil {
		return fmt.Errorf("neighbour: %w", err)
	}
	return n.Store.Update(ctx, locks, fn)
}

// Strict returns s, for which it is an error of the test to touch a scope
// that was not declared, unless learned says that the scope may be.
func Strict(t testing.TB, s storage.Store, learned func(scope string) bool) storage.Store {
	return &strict{s, t, learned}
}

type strict struct {
	storage.Store
	t       testing.TB
	learned func(string) bool
}

// Update implements [storage.Store].
func (s *strict) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	s.t.Helper()
	var bad []string
	err := s.Store.Update(ctx, locks, func(tx storage.Tx) error {
		return fn(&touching{tx, func(scope string) {
			known := slices.Contains(locks.Own, scope) || slices.Contains(locks.Join, scope)
			if !known && !s.learned(scope) && !slices.Contains(bad, scope) {
				bad = append(bad, scope)
			}
		}})
	})
	for _, scope := range bad {
		s.t.Errorf("scope %q is touched and not declared in %+v", scope, locks)
	}
	return err
}

// touching tells of every scope that is touched.
type touching struct {
	storage.Tx
	touch func(scope string)
}

// Get implements [storage.Reader].
func (t *touching) Get(k storage.Key) ([]byte, error) { t.touch(k.Scope); return t.Tx.Get(k) }

// GetMany implements [storage.Reader].
func (t *touching) GetMany(ks []storage.Key) ([][]byte, error) {
	for _, k := range ks {
		t.touch(k.Scope)
	}
	return t.Tx.GetMany(ks)
}

// Scan implements [storage.Reader].
func (t *touching) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	t.touch(scope)
	return t.Tx.Scan(scope, after, end, limit)
}

// Put implements [storage.Tx].
func (t *touching) Put(k storage.Key, v []byte) { t.touch(k.Scope); t.Tx.Put(k, v) }

// Insert implements [storage.Tx].
func (t *touching) Insert(k storage.Key, v []byte) { t.touch(k.Scope); t.Tx.Insert(k, v) }

// Delete implements [storage.Tx].
func (t *touching) Delete(k storage.Key) { t.touch(k.Scope); t.Tx.Delete(k) }

// Probe is a [testing.TB] that notes failures and does not report them, to
// show that a check can fail. Run it with [Fails].
type Probe struct {
	testing.TB

	mu     sync.Mutex
	failed bool
	log    []string // of failures
}

// Fails reports whether check fails, with what it said.
func Fails(t testing.TB, check func(testing.TB)) (failed bool, log []string) {
	t.Helper()
	p := &Probe{TB: t}
	done := make(chan any)
	go func() {
		finished := false
		defer func() {
			r := recover()
			if r == nil && !finished && !p.Failed() {
				r = errors.New("the check ended itself") // by another Goexit than the Probe's
			}
			done <- r
		}()
		check(p)
		finished = true
	}()
	if r := <-done; r != nil {
		return true, append(p.log, fmt.Sprint(r))
	}
	return p.Failed(), p.log
}

func (p *Probe) note(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
	p.log = append(p.log, s)
}

// Failed implements [testing.TB].
func (p *Probe) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Helper implements [testing.TB].
func (p *Probe) Helper() {}

// Error implements [testing.TB].
func (p *Probe) Error(args ...any) { p.note(fmt.Sprint(args...)) }

// Errorf implements [testing.TB].
func (p *Probe) Errorf(format string, args ...any) { p.note(fmt.Sprintf(format, args...)) }

// Fail implements [testing.TB].
func (p *Probe) Fail() { p.note("Fail") }

// FailNow implements [testing.TB].
func (p *Probe) FailNow() { p.note("FailNow"); runtime.Goexit() }

// Fatal implements [testing.TB].
func (p *Probe) Fatal(args ...any) { p.note(fmt.Sprint(args...)); runtime.Goexit() }

// Fatalf implements [testing.TB].
func (p *Probe) Fatalf(format string, args ...any) {
	p.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
