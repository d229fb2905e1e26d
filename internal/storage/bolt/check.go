package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"rotunda.dev/rotunda/internal/storage"
)

// Check reads every row and returns an error wrapping [storage.ErrCorrupt] if
// one is damaged or out of order or would not be found by its key, if the
// file takes pages for free that are in use, or if one of its two meta pages is
// damaged. The store goes on meanwhile, but for writes towards the end.
func (s *Store) Check(ctx context.Context) error {
	return s.withSnapshot(func(sn *snapshot) error {
		if err := sn.walk(ctx, true); err != nil {
			return err
		}
		return errors.Join(s.checkMeta(), s.checkFree())
	})
}

// checkFree looks for pages that are free and in use, which would be written
// over, and for keys that lead to a wrong page. bbolt looks on a goroutine of its own, which a fault would end, with
// the process: only after a walk has met none, and nothing lies out of bounds.
func (s *Store) checkFree() (err error) {
	if err := s.checkBounds(); err != nil {
		return err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	tx, err := s.begin() // for the lock
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.rollback(tx)) }()
	defer guard(&err, debug.SetPanicOnFault(true))
	for found := range tx.Check() { // to its end, or its goroutine stays
		// bbolt gives texts only. A walk does not see the keys that lead to
		// pages, by which rows are found. A page that is neither free nor in
		// use is lost room.
		for _, bad := range []string{": already freed", ": reachable freed", ": multiple references", ": out of bounds", "needs to be"} {
			if err == nil && strings.Contains(found.Error(), bad) {
				err = fmt.Errorf("%w: %w", storage.ErrCorrupt, found)
			}
		}
	}
	return err
}

// walk meets every page that has rows. With sums, it checks each row's, too.
func (s *snapshot) walk(ctx context.Context, sums bool) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	c := s.rows.Cursor()
	var last []byte
	n := 0
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("%w: row %d is out of order", storage.ErrCorrupt, n)
		}
		last = append(last[:0], k...)
		if !sums {
			continue
		}
		if _, err := decodeKey(k); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		if _, err := decodeValue(k, v); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
	}
	return nil
}

// WriteTo writes a copy of the store as it is, which is a store's file
// itself. The store goes on meanwhile, and grows by what is written to it.
func (s *Store) WriteTo(w io.Writer) (n int64, err error) {
	err = s.withSnapshot(func(sn *snapshot) (err error) {
		defer guard(&err, debug.SetPanicOnFault(true))
		n, err = sn.tx.WriteTo(w)
		return err
	})
	return n, err
}

func (s *Store) withSnapshot(fn func(*snapshot) error) error {
	if !s.gate.Enter() {
		return storage.ErrClosed
	}
	defer s.gate.Leave()
	sn, err := s.acquire()
	if err != nil {
		return err
	}
	defer sn.release()
	return fn(sn)
}
