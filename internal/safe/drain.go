package safe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rotunda.dev/rotunda/internal/directory"
	"rotunda.dev/rotunda/internal/storage"
)

const (
	drainNames = 8  // secrets that one transaction removes
	drainSteps = 64 // transactions of one call of Drain
)

// Sweep removes what [Safe.Remove] left, in bounded transactions of store, until
// nothing is left. It may be stopped at any moment and called again.
func (s *Safe) Sweep(ctx context.Context, store storage.Store) error {
	for {
		more, err := s.sweepOnce(ctx, store)
		if err != nil || !more {
			return err
		}
	}
}

func (s *Safe) sweepOnce(ctx context.Context, store storage.Store) (more bool, err error) {
	var items []storage.Item
	err = store.View(ctx, func(r storage.Reader) error {
		var err error
		items, _, err = r.Scan(garbageScope, "", "", 1)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("looking for what is left of removed secrets: %w", err)
	}
	if len(items) == 0 {
		return false, nil
	}
	path := string(items[0].Value)
	err = store.Update(ctx, storage.Locks{Own: []string{Scope(path), garbageScope}}, func(tx storage.Tx) error {
		done, err := shrink(tx, path)
		if err == nil && done {
			tx.Delete(storage.Key{Scope: garbageScope, Row: items[0].Row})
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("removing what is left of a removed secret: %w", err)
	}
	return true, nil
}

// shrink removes rows that the secret at path does not use, and its head where
// that is all that is left. It reports whether it is done.
func shrink(tx storage.Tx, path string) (done bool, err error) {
	x, err := find(tx, path)
	if errors.Is(err, ErrNone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	x.dropRows(tx)
	head := storage.Key{Scope: Scope(path), Row: headRow}
	switch {
	case x.gone && len(x.garbage) == 0:
		tx.Delete(head)
	default:
		tx.Put(head, encodeHead(x))
	}
	return len(x.garbage) == 0, nil
}

// Drain removes some of all secrets, in bounded transactions of store, and
// reports whether there are more. It may be stopped at any moment and called again.
func (s *Safe) Drain(ctx context.Context, store storage.Store) (more bool, err error) {
	for range drainSteps {
		if more, err = s.drainOnce(ctx, store); err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

func (s *Safe) drainOnce(ctx context.Context, store storage.Store) (more bool, err error) {
	dir, names, err := firstNames(ctx, store)
	if err != nil {
		return false, err
	}
	if len(names) == 0 {
		return s.sweepOnce(ctx, store)
	}
	locks := storage.Locks{Own: []string{directory.Scope(dir)}}
	for _, n := range names {
		locks.Own = append(locks.Own, Scope(dir+n))
	}
	err = store.Update(ctx, locks, func(tx storage.Tx) error {
		rows := 0
		for i, n := range names {
			x, err := find(tx, dir+n)
			switch {
			case errors.Is(err, ErrNone):
				if err := directory.Drop(tx, dir+n); err != nil {
					return err
				}
				continue
			case err != nil:
				return err
			}
			if rows += len(x.Versions) + len(x.garbage); i > 0 && rows > sweepRows {
				break // in the next transaction
			}
			if _, err := s.Remove(tx, x); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("removing secrets: %w", err)
	}
	return true, nil
}

// firstNames returns names of secrets in the first directory that has some.
func firstNames(ctx context.Context, store storage.Store) (dir string, names []string, err error) {
	err = store.View(ctx, func(r storage.Reader) error {
		dir, names = "", nil
		for {
			page, _, err := directory.List(r, dir, "", drainNames)
			if err != nil {
				return err
			}
			for _, n := range page {
				if !strings.HasSuffix(n, "/") {
					names = append(names, n)
				}
			}
			if len(names) > 0 || len(page) == 0 {
				return nil
			}
			dir += page[0]
		}
	})
	if err != nil {
		return "", nil, fmt.Errorf("looking for secrets: %w", err)
	}
	return dir, names, nil
}
