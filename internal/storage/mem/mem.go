// Package mem is a [storage.Store] in memory, for tests and for what need not
// survive. It holds its callers to the whole contract.
package mem

import (
	"context"
	"sync/atomic"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/overlay"
)

// Config says how a Store behaves. Its zero value is right for most.
type Config struct {
	Clock clock.Clock // the machine's if nil
}

// Store keeps everything in memory. Make it with [New].
type Store struct {
	clock   clock.Clock
	gate    *overlay.Gate
	turn    chan struct{} // holds one token; the Update that takes it may change state
	state   atomic.Pointer[state]
	history *overlay.History
}

var _ storage.Near = (*Store)(nil)

type state struct {
	tree overlay.Tree
	mark storage.Mark
}

// New returns an empty Store.
func New(c Config) *Store {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	s := &Store{
		clock:   c.Clock,
		gate:    overlay.NewGate(),
		turn:    make(chan struct{}, 1),
		history: overlay.NewHistory(1),
	}
	s.turn <- struct{}{}
	s.state.Store(&state{mark: 1})
	return s
}

// View implements [storage.Store].
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.gate.Enter() {
		return storage.ErrClosed
	}
	defer s.gate.Leave()
	st := s.state.Load()
	r := overlay.NewReader(ctx, overlay.Layer{Writes: st.tree}, st.mark, s.clock.Now, storage.MaxView)
	defer r.Close()
	return fn(r)
}

// Update implements [storage.Store]. Updates run one after another.
func (s *Store) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	if !s.gate.Enter() {
		return storage.ErrClosed
	}
	defer s.gate.Leave()
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	st := s.state.Load()
	tx, err := overlay.Run(ctx, locks, s.clock.Now, func() (overlay.Base, storage.Mark, error) {
		return overlay.Layer{Writes: st.tree}, st.mark, nil
	}, fn)
	if err != nil {
		return err
	}
	if tx.Writes().Len() == 0 {
		return nil
	}
	next := state{st.tree, st.mark + 1}
	for k, v := range tx.Writes().All() {
		if v == nil {
			next.tree = next.tree.Without(k)
		} else {
			next.tree = next.tree.With(k, v)
		}
	}
	s.history.Append(next.mark, tx.Scopes())
	s.state.Store(&next)
	return nil
}

// Changes implements [storage.Store].
func (s *Store) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	if err := ctx.Err(); err != nil {
		return storage.Changes{}, err
	}
	if s.gate.Closed() {
		return storage.Changes{}, storage.ErrClosed
	}
	return s.history.Since(since, s.state.Load().mark, s.clock.Now()), nil
}

// ChangesAreNear implements [storage.Near].
func (s *Store) ChangesAreNear() {}

// Close implements [storage.Store].
func (s *Store) Close() error {
	s.gate.Close()
	return nil
}
