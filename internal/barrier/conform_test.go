package barrier

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// A Space keeps every promise of a store, but for two: its bounds are
// narrower, for which see TestBounds, and its Changes are those of the store below.
func TestConform(t *testing.T) {
	storagetest.Conform(t, func(t testing.TB) storage.Store {
		if strings.HasSuffix(t.Name(), "/bounds") {
			return mem.New(mem.Config{})
		}
		b, raw, _ := made(t)
		return &whole{Space: space(t, b, NewSpaceID()), raw: raw, names: map[string]string{}}
	})
}

// whole is a Space that owns the store below, and tells of changes in its own scopes.
type whole struct {
	*Space

	raw   storage.Store
	mu    sync.Mutex
	names map[string]string
}

func (w *whole) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	return w.Space.Update(ctx, locks, func(t storage.Tx) error {
		tx, ok := t.(*tx)
		if !ok {
			return errors.New("no transaction of a space")
		}
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, k := range tx.known {
				w.names[k.below] = k.scope
			}
		}()
		return fn(t)
	})
}

func (w *whole) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	c, err := w.Space.Changes(ctx, since)
	if err != nil {
		return c, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	below := c.Scopes
	c.Scopes = nil
	for _, s := range below {
		if name, ok := w.names[s]; ok {
			c.Scopes = append(c.Scopes, name)
		}
	}
	return c, nil
}

func (w *whole) Close() error { return w.raw.Close() }

func TestBounds(t *testing.T) {
	b, _, _ := made(t)
	s := space(t, b, NewSpaceID())
	const below = 1 + 16 + 20 // bytes of a scope in the store below
	row := func(i int) storage.Key { return storage.Key{Scope: "s", Row: fmt.Sprint(i)} }
	reads := func(n int) func(storage.Tx) {
		return func(tx storage.Tx) {
			for i := range n {
				_, _ = tx.Get(row(i))
			}
		}
	}
	writes := func(n int) func(storage.Tx) {
		return func(tx storage.Tx) {
			for i := range n {
				tx.Put(row(i), []byte("v"))
			}
		}
	}
	long := func(n int) func(storage.Tx) {
		return func(tx storage.Tx) { tx.Put(storage.Key{Scope: "s", Row: strings.Repeat("r", n)}, nil) }
	}
	size := func(n int) func(storage.Tx) {
		return func(tx storage.Tx) { tx.Put(row(0), make([]byte, n)) }
	}
	for _, c := range []struct {
		name     string
		in, over func(storage.Tx)
	}{
		{"reads", reads(storage.MaxReads - 1), reads(storage.MaxReads)},
		{"writes", writes(storage.MaxWrites), writes(storage.MaxWrites + 1)},
		{"row", long(storage.MaxKey - below), long(storage.MaxKey - below + 1)},
		{"bytes", size(storage.MaxBytes - 1024), size(storage.MaxBytes)},
	} {
		update := func(fn func(storage.Tx)) error {
			return s.Update(t.Context(), storage.Locks{Own: []string{"s"}}, func(tx storage.Tx) error { fn(tx); return nil })
		}
		if err := update(c.in); err != nil {
			t.Errorf("%s: at the bound: %v", c.name, err)
		}
		if err := update(c.over); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("%s: beyond the bound: %v; want ErrTooLarge", c.name, err)
		}
	}
	for n, want := range map[int]bool{storage.MaxScopes - 1: true, storage.MaxScopes: false} {
		var locks storage.Locks
		for i := range n {
			locks.Own = append(locks.Own, fmt.Sprint("s", i))
		}
		err := s.Update(t.Context(), locks, func(storage.Tx) error { return nil })
		if (err == nil) != want {
			t.Errorf("%d scopes: %v", n, err)
		}
	}
}
