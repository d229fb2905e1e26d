package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

func open(t testing.TB, dir string, c bolt.Config) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(dir, c)
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(ctx context.Context, s storage.Store, scope, row, value string) error {
	return s.Update(ctx, storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: scope, Row: row}, []byte(value))
		return nil
	})
}

func get(ctx context.Context, s storage.Store, scope, row string) (string, error) {
	var v []byte
	err := s.View(ctx, func(r storage.Reader) (err error) {
		v, err = r.Get(storage.Key{Scope: scope, Row: row})
		return err
	})
	return string(v), err
}

func TestReopen(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "store"), t.Context()
	s := open(t, dir, bolt.Config{})
	if err := put(ctx, s, "s", "r", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(dir, bolt.Config{}); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("Open twice = %v; want ErrInUse", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := get(ctx, s, "s", "r"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("View of a closed store = %v; want ErrClosed", err)
	}
	s = open(t, dir, bolt.Config{})
	if v, err := get(ctx, s, "s", "r"); v != "v" || err != nil {
		t.Errorf("Get after Open = %q, %v; want v", v, err)
	}
	for _, name := range []string{"", bolt.FileName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("mode of %q = %v, %v; want nothing for others", name, info.Mode(), err)
		}
	}
}

// Of those who make one store at once, each gets it or hears that it is in use.
func TestMadeAtOnce(t *testing.T) {
	for range 5 {
		dir := filepath.Join(t.TempDir(), "store")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				s, err := bolt.Open(dir, bolt.Config{})
				if errors.Is(err, storage.ErrInUse) {
					return
				}
				if err != nil {
					t.Errorf("Open = %v; want a store or ErrInUse", err)
					return
				}
				if err := errors.Join(put(t.Context(), s, "s", fmt.Sprint(i), "v"), s.Close()); err != nil {
					t.Errorf("Update and Close = %v", err)
				}
				if s, err = bolt.Open(dir, bolt.Config{}); err == nil {
					if v, err := get(t.Context(), s, "s", fmt.Sprint(i)); v != "v" || err != nil {
						t.Errorf("Get of what was kept = %q, %v", v, err)
					}
					_ = s.Close()
				}
			})
		}
		wg.Wait()
	}
}

// Readers share one transaction of bbolt while others write: the race
// detector is the judge.
func TestSnapshotIsShared(t *testing.T) {
	s, ctx := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{}), t.Context()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				if err := put(ctx, s, "s", fmt.Sprint(i%50), fmt.Sprint(g, i)); err != nil {
					t.Errorf("Update = %v", err)
					return
				}
			}
		})
		wg.Go(func() {
			for range 500 {
				if err := s.View(ctx, func(r storage.Reader) error {
					items, _, err := r.Scan("s", "", "", 20)
					for _, it := range items {
						if v, err := r.Get(storage.Key{Scope: "s", Row: it.Row}); err != nil || string(v) != string(it.Value) {
							t.Errorf("Get(%q) = %q, %v; scanned %q", it.Row, v, err, it.Value)
						}
					}
					return err
				}); err != nil {
					t.Errorf("View = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	t.Logf("%d updates in %d commits", st.Updates, st.Commits)
	if err := s.Check(ctx); err != nil {
		t.Errorf("Check = %v", err)
	}
}
