package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/overlay"
)

var _ storage.Whole = (*Store)(nil)

// Whole implements [storage.Whole]. The store goes on meanwhile, and its file
// grows by what is written to it.
func (s *Store) Whole(ctx context.Context, fn func(storage.Reader, func(func(storage.Key, []byte) error) error) error) error {
	return s.withSnapshot(func(sn *snapshot) error {
		r := overlay.NewReader(ctx, sn, sn.mark, s.config.Clock.Now, s.config.MaxView)
		defer r.Close()
		return fn(r, func(row func(storage.Key, []byte) error) error { return sn.each(ctx, row) })
	})
}

// eachPage is how many rows are taken at once: fn may take long, and must not
// run under the guard, which would take its panics for damage.
const eachPage = 256

func (s *snapshot) each(ctx context.Context, fn func(storage.Key, []byte) error) error {
	var from []byte
	for {
		page, next, err := s.page(from)
		if err != nil {
			return err
		}
		for _, x := range page {
			if err := fn(x.key, x.value); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		from = next
	}
}

type whole struct {
	key   storage.Key
	value []byte
}

// page returns the rows from a key of the bucket on, at most eachPage of them
// and storage.MaxBytes, and the key of the next one.
func (s *snapshot) page(from []byte) (page []whole, next []byte, err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	c := s.rows.Cursor()
	size := 0
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if len(page) == eachPage || size > storage.MaxBytes {
			return page, append([]byte(nil), k...), nil
		}
		key, err := decodeKey(k)
		if err != nil {
			return nil, nil, err
		}
		value, err := decodeValue(k, v)
		if err != nil {
			return nil, nil, err
		}
		page = append(page, whole{key, value})
		size += len(v)
	}
	return page, nil, nil
}

// loadFile is where Load makes a store, until it is complete. Open does not look there.
const loadFile = FileName + ".load"

// loadBytes is how much Load writes in one transaction.
const loadBytes = 16 << 20

// Load makes a store in dir, where there must be none, of the rows that next
// returns in the order of [storage.Whole], until io.EOF. The store is there when
// Load returns nil, and not before. It keeps the file that it is making for
// nobody: one that a crash has left is removed.
func Load(dir string, next func() (storage.Key, []byte, error)) (err error) {
	if err := makeDir(dir); err != nil {
		return err
	}
	path, fresh := filepath.Join(dir, FileName), filepath.Join(dir, loadFile)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("loading a store: there is one in %s already", dir)
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("loading a store: %w", err)
	}
	s := &Store{config: Config{MaxSize: defaultMaxSize}, path: path}
	db, err := s.openDB(fresh)
	if err != nil {
		return fmt.Errorf("loading a store: %w", err)
	}
	db.NoSync = true // until the end
	if err := s.load(db, next); err != nil {
		return errors.Join(fmt.Errorf("loading a store: %w", err), s.abandon(db), os.Remove(fresh))
	}
	db.NoSync = false
	if err := db.Sync(); err != nil {
		return errors.Join(fmt.Errorf("loading a store: %w", err), s.abandon(db))
	}
	if err := s.make(db, dir, fresh); err != nil {
		return fmt.Errorf("loading a store: %w", err)
	}
	return nil
}

func (s *Store) load(db *bbolt.DB, next func() (storage.Key, []byte, error)) error {
	for {
		more := true
		err := s.update(db, func(tx *bbolt.Tx) error {
			rows, err := tx.CreateBucketIfNotExists(rowsBucket)
			if err != nil {
				return err
			}
			rows.FillPercent = 0.95 // they ascend
			for size := 0; size < loadBytes; {
				k, v, err := next()
				if errors.Is(err, io.EOF) {
					more = false
					return nil
				}
				if err != nil {
					return err
				}
				key := encodeKey(k)
				if err := rows.Put(key, encodeValue(key, v)); err != nil {
					return err
				}
				size += len(key) + len(v)
			}
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
}
