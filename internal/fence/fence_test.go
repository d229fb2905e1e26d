package fence_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// far is a store whose Changes are not answered from memory.
type far struct{ storage.Store }

func stores(t *testing.T, test func(*testing.T, storage.Store)) {
	t.Run("mem", func(t *testing.T) { test(t, mem.New(mem.Config{})) })
	t.Run("far", func(t *testing.T) { test(t, far{mem.New(mem.Config{})}) })
	t.Run("bolt", func(t *testing.T) {
		s, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
}

func put(ctx context.Context, s storage.Store, scope string, n uint64) error {
	return s.Update(ctx, storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: scope}, binary.BigEndian.AppendUint64(nil, n))
		return nil
	})
}

func number(r storage.Reader, scope string) (uint64, error) {
	v, err := r.Get(storage.Key{Scope: scope})
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// What was built is built once until a scope that it came from changes: one
// that was read, one that was empty, one that was scanned.
func TestKeptUntilChanged(t *testing.T) {
	stores(t, func(t *testing.T, s storage.Store) {
		ctx := t.Context()
		f := fence.New(s)
		c := fence.NewCache[string, uint64](f, 10)
		builds := 0
		get := func() uint64 {
			t.Helper()
			m, err := f.Arrive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			v, err := c.Get(ctx, m, "k", func(r storage.Reader) (uint64, error) {
				builds++
				n, err := number(r, "read")
				if err != nil {
					return 0, err
				}
				if _, err := r.GetMany([]storage.Key{{Scope: "empty"}}); err != nil {
					return 0, err
				}
				_, _, err = r.Scan("scanned", "", "", 10)
				return n, err
			})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		want := 0
		for i, scope := range []string{"read", "empty", "scanned", "other"} {
			get()
			if get(); builds != want+1 {
				t.Errorf("built %d times, want %d", builds, want+1)
			}
			if err := put(ctx, s, scope, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
			want = builds
		}
		if v := get(); v != 1 || builds != want {
			t.Errorf("after a change elsewhere: %d, built %d times; want 1 and %d", v, builds, want)
		}
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	s := mem.New(mem.Config{})
	f := fence.New(s)
	c := fence.NewCache[int, int](f, 10)
	m, err := f.Arrive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad")
	if _, err := c.Get(t.Context(), m, 1, func(storage.Reader) (int, error) { return 1, bad }); !errors.Is(err, bad) {
		t.Errorf("Get = %v; want the builder's error", err)
	}
	if v, err := c.Get(t.Context(), m, 1, func(storage.Reader) (int, error) { return 2, nil }); v != 2 || err != nil {
		t.Errorf("Get = %d, %v; want 2", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Arrive(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Arrive at a closed store = %v; want ErrClosed", err)
	}
}

// A value is not kept if what it was built from changes while it is built.
func TestChangedWhileBuilt(t *testing.T) {
	s := mem.New(mem.Config{})
	ctx := t.Context()
	f := fence.New(s)
	c := fence.NewCache[int, uint64](f, 10)
	m, err := f.Arrive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Get(ctx, m, 1, func(r storage.Reader) (uint64, error) {
		n, err := number(r, "a")
		if err := put(ctx, s, "a", 7); err != nil { // a View is no transaction: another may write
			return 0, err
		}
		if _, err := f.Arrive(ctx); err != nil {
			return 0, err
		}
		return n, err
	})
	if v != 0 || err != nil {
		t.Fatalf("Get = %d, %v; want what the snapshot has", v, err)
	}
	if m, err = f.Arrive(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, m, 1, func(r storage.Reader) (uint64, error) { return number(r, "a") }); v != 7 || err != nil {
		t.Errorf("Get after the change = %d, %v; want 7", v, err)
	}
}

func TestBounded(t *testing.T) {
	s := mem.New(mem.Config{})
	f := fence.New(s)
	c := fence.NewCache[int, int](f, 64)
	m, err := f.Arrive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	builds := 0
	get := func(k int) {
		v, err := c.Get(t.Context(), m, k, func(r storage.Reader) (int, error) {
			builds++
			_, err := number(r, fmt.Sprint(k))
			return k, err
		})
		if v != k || err != nil {
			t.Fatalf("Get(%d) = %d, %v", k, v, err)
		}
	}
	for k := range 1000 {
		get(k)
		get(0) // used all the time, so it stays
	}
	if builds > 1100 {
		t.Errorf("built %d times: what is in use does not stay", builds)
	}
	builds = 0
	for k := range 1000 {
		get(k)
	}
	if kept := 1000 - builds; kept > 64 {
		t.Errorf("%d values are kept, want at most 64", kept)
	}
}

func TestNowNeverGoesBack(t *testing.T) {
	c := clocktest.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	f := fence.New(mem.New(mem.Config{Clock: c}))
	m1, err := f.Arrive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(-time.Hour)
	m2, err := f.Arrive(t.Context())
	if err != nil || m2.Now.Before(m1.Now) {
		t.Errorf("Arrive after the clock went back = %v, %v; want %v", m2.Now, err, m1.Now)
	}
}

// A read that begins after an Update has returned sees that Update or a later
// one, whatever is cached, and no reader sees time go back.
func TestNeverFromThePast(t *testing.T) {
	stores(t, func(t *testing.T, s storage.Store) {
		ctx := t.Context()
		f := fence.New(s)
		c := fence.NewCache[int, [2]uint64](f, 8)
		const keys = 3
		var done [keys]atomic.Uint64 // the last number whose Update has returned
		var writers, readers sync.WaitGroup
		stop := make(chan struct{})
		for k := range keys {
			writers.Go(func() {
				for n := uint64(1); n <= 150; n++ {
					if err := s.Update(ctx, storage.Locks{}, func(tx storage.Tx) error {
						for _, half := range []string{"a", "b"} {
							tx.Put(storage.Key{Scope: fmt.Sprint(half, k)}, binary.BigEndian.AppendUint64(nil, n))
						}
						return nil
					}); err != nil {
						t.Errorf("Update = %v", err)
						return
					}
					done[k].Store(n)
				}
			})
		}
		var seen [keys]atomic.Uint64 // the largest number that any reader has returned
		for g := range 4 {
			readers.Go(func() {
				for i := g; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					k := i % keys
					least := max(done[k].Load(), seen[k].Load())
					m, err := f.Arrive(ctx)
					if err != nil {
						t.Errorf("Arrive = %v", err)
						return
					}
					v, err := c.Get(ctx, m, k, func(r storage.Reader) ([2]uint64, error) {
						a, err := number(r, fmt.Sprint("a", k))
						if err != nil {
							return [2]uint64{}, err
						}
						b, err := number(r, fmt.Sprint("b", k))
						return [2]uint64{a, b}, err
					})
					if err != nil {
						t.Errorf("Get = %v", err)
						return
					}
					if v[0] != v[1] || v[0] < least {
						t.Errorf("read %v of key %d, want two alike and at least %d", v, k, least)
						return
					}
					for {
						old := seen[k].Load()
						if v[0] <= old || seen[k].CompareAndSwap(old, v[0]) {
							break
						}
					}
				}
			})
		}
		writers.Wait()
		close(stop)
		readers.Wait()
	})
}

func BenchmarkArrive(b *testing.B) {
	f := fence.New(mem.New(mem.Config{}))
	for b.Loop() {
		if _, err := f.Arrive(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHit(b *testing.B) {
	f := fence.New(mem.New(mem.Config{}))
	c := fence.NewCache[string, int](f, 100)
	ctx := b.Context()
	m, err := f.Arrive(ctx)
	if err != nil {
		b.Fatal(err)
	}
	build := func(storage.Reader) (int, error) { return 1, nil }
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Get(ctx, m, "some key", build); err != nil {
				b.Error(err)
			}
		}
	})
}
