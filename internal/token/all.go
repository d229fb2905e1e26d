package token

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/storage"
)

// Batch tokens are not kept, so what ends them all is a time: those that were
// made before it, or in the same second, are worth nothing.
//
//	scope "b", row "h": Unix nanoseconds, 8
const tableBatch = "b"

var batchKey = storage.Key{Scope: tableBatch, Row: rowEntry}

// readFloor returns the time before which batch tokens are worth nothing; the
// zero Time where they were never ended.
func readFloor(r storage.Reader) (time.Time, error) {
	b, err := r.Get(batchKey)
	if errors.Is(err, storage.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if len(b) != 8 {
		return time.Time{}, fmt.Errorf("reading when batch tokens were ended: %w", storage.ErrCorrupt)
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(), nil //nolint:gosec // G115: as it was written
}

// floor is readFloor from the cache.
func (s *Store) floor(ctx context.Context, m fence.Moment) (time.Time, error) {
	at, err := s.floors.Get(ctx, m, struct{}{}, func(raw storage.Reader) (time.Time, error) { return readFloor(s.space.Over(raw)) })
	if err != nil {
		return time.Time{}, fmt.Errorf("looking up when batch tokens were ended: %w", err)
	}
	return at, nil
}

// allPage is how many tokens one transaction of [Store.EndAll] ends: their
// scopes are declared, those of their accessors are learned.
const allPage = 4

// EndAll ends every token that there is, of all kinds, and what was lent to
// them. It returns how many were kept. It can be called again where it failed.
func (s *Store) EndAll(ctx context.Context, now time.Time) (ended int, err error) {
	floor := binary.BigEndian.AppendUint64(nil, uint64(s.now(now).UnixNano()))
	err = s.space.Update(ctx, storage.Locks{Own: []string{tableBatch}}, func(tx storage.Tx) error {
		tx.Put(batchKey, floor)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ending the batch tokens: %w", err)
	}
	ids, err := s.ids(ctx)
	if err != nil {
		return 0, err
	}
	for from := 0; from < len(ids); from += allPage {
		page := ids[from:min(from+allPage, len(ids))]
		locks := storage.Locks{}
		for _, id := range page {
			locks.Own = append(locks.Own, tokenScope(id))
		}
		n := 0
		err := s.Space().Update(ctx, locks, func(tx storage.Tx) error {
			n = 0
			for _, id := range page {
				was, err := s.RevokeTx(tx, id)
				if err != nil {
					return err
				}
				if was {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return ended, fmt.Errorf("ending all tokens: %w", err)
		}
		ended += n
	}
	for {
		n, err := s.Sweep(ctx)
		if err != nil {
			return ended, fmt.Errorf("removing what is left of tokens: %w", err)
		}
		if n == 0 {
			return ended, nil
		}
	}
}

// ids returns the ids of all tokens that are kept.
func (s *Store) ids(ctx context.Context) (ids []string, err error) {
	err = s.eachAccessor(ctx, func(id, _ string) { ids = append(ids, id) })
	return ids, err
}

// eachAccessor calls fn with the id and the accessor of every token that is kept.
func (s *Store) eachAccessor(ctx context.Context, fn func(id, accessor string)) error {
	for bucket := range byte(buckets) {
		for after, more := "", true; more; {
			err := s.space.View(ctx, func(r storage.Reader) error {
				items, rest, err := r.Scan(accessorScope(bucket), after, "", 1000)
				if err != nil {
					return err
				}
				more = rest
				for _, item := range items {
					n := len(item.Value) - accessorLen
					if n < 0 {
						return fmt.Errorf("reading an accessor: %w", errEntry)
					}
					fn(string(item.Value[:n]), string(item.Value[n:]))
					after = item.Row
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("listing accessors: %w", err)
			}
		}
	}
	return nil
}
