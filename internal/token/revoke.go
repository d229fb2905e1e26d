package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/storage"
)

// Space returns the space of tokens as a store for operations that change or
// end tokens: it wakes the queue after each Update that was kept.
func (s *Store) Space() storage.Store { return waker{s.space, s} }

type waker struct {
	storage.Store
	s *Store
}

// Update implements [storage.Store].
func (w waker) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	err := w.Store.Update(ctx, locks, fn)
	if err == nil {
		w.s.queue.Wake()
	}
	return err
}

// RevokeLocks returns what is known of the scopes that ending the token id touches.
func (s *Store) RevokeLocks(id string) storage.Locks {
	return storage.Locks{Own: []string{tokenScope(id)}, Join: []string{s.queue.Scope(id)}}
}

// Revoke ends the token id and all of its descendants. It is not an error if
// there is no such token.
func (s *Store) Revoke(ctx context.Context, id string) error {
	return s.Space().Update(ctx, s.RevokeLocks(id), func(tx storage.Tx) error {
		_, err := s.RevokeTx(tx, id)
		return err
	})
}

// RevokeTx is [Store.Revoke] in a transaction of [Store.Space]. It reports
// whether there was such a token. With the transaction all descendants have
// ended, too; what is left of them is removed by [Store.Settle].
func (s *Store) RevokeTx(tx storage.Tx, id string) (bool, error) {
	e, err := read(tx, id)
	if errors.Is(err, errNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if e.state == released {
		return false, nil // its end has begun, and spares its children
	}
	if err := s.remove(tx, e); err != nil {
		return false, err
	}
	s.queue.Add(tx, s.asap(), id)
	return true, nil
}

// ReleaseTx ends the token id and makes its children orphans. It reports
// whether there was such a token.
func (s *Store) ReleaseTx(tx storage.Tx, id string) (bool, error) {
	e, err := read(tx, id)
	if errors.Is(err, errNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if e.state == released {
		return false, nil
	}
	e.state = released
	write(tx, e)
	s.queue.Add(tx, s.asap(), id)
	return true, nil
}

// asap is a time that is past for the queue.
func (s *Store) asap() time.Time { return time.Unix(1, 0) }

// remove takes away the rows by which a token is found.
func (s *Store) remove(tx storage.Tx, e *Entry) error {
	if e.alias != "" {
		key := storage.Key{Scope: tableAlias + e.alias, Row: rowEntry}
		switch id, err := tx.Get(key); {
		case err == nil && string(id) == e.ID:
			tx.Delete(key)
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return err
		}
	}
	tx.Delete(storage.Key{Scope: tokenScope(e.ID), Row: rowEntry})
	if e.wrap {
		tx.Delete(storage.Key{Scope: tokenScope(e.ID), Row: rowWrapped})
	}
	tx.Delete(s.accessorKey(e.Accessor))
	if e.Parent != "" {
		tx.Delete(storage.Key{Scope: childrenScope(e.Parent), Row: e.ID})
	}
	return nil
}

const (
	childPage = 8  // children ended in one transaction: three scopes each
	cubbyPage = 64 // rows of a cubbyhole removed in one transaction
	pages     = 64 // transactions of one Settle; the queue comes back for the rest
)

// Settle brings the token id to the end that it has reached: one that has
// expired is ended, and of one that has ended everything that is left is
// removed, its children first made orphans or ended, too. It does a bounded
// part and returns when to go on; the zero Time where nothing is to be done.
// Doing it again, or after any part of it, is right.
func (s *Store) Settle(ctx context.Context, id string) (again time.Time, err error) {
	var next time.Time
	ended := false
	free := false // the children become orphans
	err = s.space.View(ctx, func(r storage.Reader) error {
		now := s.now(later(r.Now(), time.Unix(0, s.latest.Load())))
		e, err := read(r, id)
		if errors.Is(err, errNone) {
			ended = true
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case e.state == released:
			ended, free = true, true
		case e.state == spent:
			if ended = s.idle(id); !ended {
				next = s.soon()
			}
		case !e.Expires.IsZero() && !now.Before(e.Expires):
			ended = true
		case !e.Expires.IsZero():
			next = e.Expires
		}
		return nil
	})
	if err != nil || !ended {
		return next, err
	}
	if err := s.space.Update(ctx, s.RevokeLocks(id), func(tx storage.Tx) error { return s.end(tx, id) }); err != nil {
		return time.Time{}, fmt.Errorf("ending a token: %w", err)
	}
	for range pages {
		more, err := s.settleChildren(ctx, id, free)
		if err == nil && !more {
			more, err = s.settleCubby(ctx, id)
		}
		if err != nil {
			return time.Time{}, err
		}
		if more {
			continue
		}
		if s.config.Gone != nil {
			if err := s.config.Gone(ctx, id); err != nil {
				return time.Time{}, fmt.Errorf("ending what was lent to a token: %w", err)
			}
		}
		if free {
			err = s.space.Update(ctx, s.RevokeLocks(id), func(tx storage.Tx) error {
				e, err := read(tx, id)
				if errors.Is(err, errNone) || err == nil && e.state != released {
					return nil
				}
				if err != nil {
					return err
				}
				return s.remove(tx, e)
			})
		}
		return time.Time{}, err
	}
	return s.asap(), nil
}

// idle reports that no request uses the token.
func (s *Store) idle(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flying[id] == 0
}

// end removes the rows of a token that has expired or was used up. It looks
// again, because it may have been renewed.
func (s *Store) end(tx storage.Tx, id string) error {
	e, err := read(tx, id)
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.state == spent || e.state == live && !e.Expires.IsZero() && !s.now(tx.Now()).Before(e.Expires) {
		return s.remove(tx, e)
	}
	return nil
}

// settleChildren ends some children of a token that has ended, or makes them
// orphans, and reports whether there may be more.
func (s *Store) settleChildren(ctx context.Context, id string, free bool) (more bool, err error) {
	var children []storage.Item
	err = s.space.View(ctx, func(r storage.Reader) (err error) {
		children, more, err = r.Scan(childrenScope(id), "", "", childPage)
		return err
	})
	if err != nil || len(children) == 0 {
		return false, err
	}
	locks := storage.Locks{Own: []string{childrenScope(id)}}
	for _, child := range children {
		locks.Own = append(locks.Own, tokenScope(child.Row))
	}
	err = s.space.Update(ctx, locks, func(tx storage.Tx) error {
		for _, child := range children {
			tx.Delete(storage.Key{Scope: childrenScope(id), Row: child.Row})
			e, err := read(tx, child.Row)
			if errors.Is(err, errNone) {
				continue // its own end removes the rest
			}
			if err != nil {
				return err
			}
			switch {
			case e.Parent != id || e.state == released:
			case free:
				e.Parent, e.Depth = "", 0
				write(tx, e)
			default:
				if err := s.remove(tx, e); err != nil {
					return err
				}
				s.queue.Add(tx, s.asap(), e.ID)
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("ending the children of a token: %w", err)
	}
	return more, nil
}

// settleCubby removes some rows of the cubbyhole of a token that has ended,
// and reports whether there are more.
func (s *Store) settleCubby(ctx context.Context, id string) (more bool, err error) {
	scope := CubbyScope(id)
	var rows []storage.Item
	err = s.space.View(ctx, func(r storage.Reader) (err error) {
		rows, more, err = r.Scan(scope, "", "", cubbyPage)
		return err
	})
	if err != nil || len(rows) == 0 {
		return false, err
	}
	err = s.space.Update(ctx, storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
		for _, row := range rows {
			tx.Delete(storage.Key{Scope: scope, Row: row.Row})
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("emptying a cubbyhole: %w", err)
	}
	return more, nil
}
