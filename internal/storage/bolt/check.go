package bolt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"rotunda.dev/rotunda/internal/storage"
)

// Check reads every row and returns an error wrapping [storage.ErrCorrupt] if
// one is damaged or out of order. The store goes on meanwhile.
func (s *Store) Check(ctx context.Context) error {
	return s.withSnapshot(func(sn *snapshot) (err error) {
		defer guard(&err, debug.SetPanicOnFault(true))
		c := sn.rows.Cursor()
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
			if _, err := decodeKey(k); err != nil {
				return fmt.Errorf("row %d: %w", n, err)
			}
			if _, err := decodeValue(k, v); err != nil {
				return fmt.Errorf("row %d: %w", n, err)
			}
		}
		return nil
	})
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
