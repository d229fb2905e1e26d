package storagetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// TestMain keeps rapid from noting how the planted stores fail.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func openMem(testing.TB) storage.Store { return mem.New(mem.Config{}) }

// bad is a store whose methods can be replaced.
type bad struct {
	storage.Store
	update  func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error
	view    func(ctx context.Context, fn func(storage.Reader) error) error
	changes func(ctx context.Context, since storage.Mark) (storage.Changes, error)
	close   func() error
}

func (b *bad) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	if b.update != nil {
		return b.update(ctx, locks, fn)
	}
	return b.Store.Update(ctx, locks, fn)
}

func (b *bad) View(ctx context.Context, fn func(storage.Reader) error) error {
	if b.view != nil {
		return b.view(ctx, fn)
	}
	return b.Store.View(ctx, fn)
}

func (b *bad) Changes(ctx context.Context, since storage.Mark) (storage.Changes, error) {
	if b.changes != nil {
		return b.changes(ctx, since)
	}
	return b.Store.Changes(ctx, since)
}

func (b *bad) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Store.Close()
}

// txOf is a Tx whose methods can be replaced.
type txOf struct {
	storage.Tx
	scan   func(scope, after, end string, limit int) ([]storage.Item, bool, error)
	get    func(k storage.Key) ([]byte, error)
	put    func(k storage.Key, v []byte)
	insert func(k storage.Key, v []byte)
}

func (t *txOf) Scan(scope, after, end string, limit int) ([]storage.Item, bool, error) {
	if t.scan != nil {
		return t.scan(scope, after, end, limit)
	}
	return t.Tx.Scan(scope, after, end, limit)
}

func (t *txOf) Get(k storage.Key) ([]byte, error) {
	if t.get != nil {
		return t.get(k)
	}
	return t.Tx.Get(k)
}

func (t *txOf) Put(k storage.Key, v []byte) {
	if t.put != nil {
		t.put(k, v)
		return
	}
	t.Tx.Put(k, v)
}

func (t *txOf) Insert(k storage.Key, v []byte) {
	if t.insert != nil {
		t.insert(k, v)
		return
	}
	t.Tx.Insert(k, v)
}

// liar is a Reader whose marks or values can be replaced.
type liar struct {
	storage.Reader
	mark func() storage.Mark
	get  func(k storage.Key) ([]byte, error)
}

func (l *liar) Mark() storage.Mark {
	if l.mark != nil {
		return l.mark()
	}
	return l.Reader.Mark()
}

func (l *liar) Get(k storage.Key) ([]byte, error) {
	if l.get != nil {
		return l.get(k)
	}
	return l.Reader.Get(k)
}

// Each of these stores breaks one promise, and a check of Conform sees it.
func TestConformCanFail(t *testing.T) {
	// changed returns stores whose Updates run over a Tx that tamper has changed.
	changed := func(tamper func(*txOf)) Open {
		return func(t testing.TB) storage.Store {
			s := openMem(t)
			return &bad{Store: s, update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				return s.Update(ctx, locks, func(tx storage.Tx) error {
					of := &txOf{Tx: tx}
					tamper(of)
					return fn(of)
				})
			}}
		}
	}
	with := func(make func(s storage.Store) *bad) Open {
		return func(t testing.TB) storage.Store {
			s := openMem(t)
			b := make(s)
			b.Store = s
			return b
		}
	}
	for name, c := range map[string]struct {
		open Open
		seen string // the check that must see it
	}{
		"keeps what failed": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				var own error
				if err := s.Update(ctx, locks, func(tx storage.Tx) error { own = fn(tx); return nil }); err != nil {
					return err
				}
				return own
			}}
		}), "error leaves nothing"},
		"swallows panics": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) (err error) {
				defer func() {
					if p := recover(); p != nil {
						err = fmt.Errorf("%v", p)
					}
				}()
				return s.Update(ctx, locks, fn)
			}}
		}), "panic leaves nothing"},
		"inserts over": {changed(func(tx *txOf) { tx.insert = tx.Tx.Put }), "insert"},
		"writes where it joins": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				return s.Update(ctx, storage.Locks{Own: append(slices.Clone(locks.Own), locks.Join...)}, fn)
			}}
		}), "join"},
		"needs no locks": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				known := slices.Clone(locks.Own)
				for i := range storage.MaxTouched - 16 {
					known = append(known, fmt.Sprint("many", i))
				}
				known = append(known[:min(len(known), 15)], "other")
				return s.Update(ctx, storage.Locks{Own: known, Join: locks.Join}, fn)
			}}
		}), "undeclared"},
		"reads without end": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				return s.Update(ctx, locks, func(tx storage.Tx) error {
					return s.View(ctx, func(r storage.Reader) error {
						return fn(&txOf{Tx: tx, get: r.Get})
					})
				})
			}}
		}), "bounds"},
		"takes no large key": {changed(func(tx *txOf) {
			tx.put = func(k storage.Key, v []byte) {
				if len(k.Row) > 1000 {
					k.Row = strings.Repeat("x", storage.MaxKey+1)
				}
				tx.Tx.Put(k, v)
			}
		}), "bounds"},
		"does not read its own writes": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				return s.Update(ctx, locks, func(tx storage.Tx) error {
					return s.View(ctx, func(r storage.Reader) error { return fn(&txOf{Tx: tx, get: r.Get, scan: r.Scan}) })
				})
			}}
		}), "own writes"},
		"scans by prefix": {changed(func(tx *txOf) {
			tx.scan = func(scope, after, end string, limit int) ([]storage.Item, bool, error) {
				items, more, err := tx.Tx.Scan(scope, after, end, limit)
				other, _, _ := tx.Tx.Scan(scope+"b", after, end, limit)
				return append(items, other...), more, err
			}
		}), "scan"},
		"includes the end": {changed(func(tx *txOf) {
			tx.scan = func(scope, after, end string, limit int) ([]storage.Item, bool, error) {
				if end != "" {
					end += "\x00"
				}
				return tx.Tx.Scan(scope, after, end, limit)
			}
		}), "model"},
		"gives its own values away": {with(func(storage.Store) *bad {
			return sharing()
		}), "values are copies"},
		"views what goes on": {with(func(s storage.Store) *bad {
			return &bad{view: func(ctx context.Context, fn func(storage.Reader) error) error {
				return s.View(ctx, func(r storage.Reader) error {
					return fn(&liar{Reader: r, get: func(k storage.Key) (v []byte, err error) {
						err = s.View(ctx, func(r storage.Reader) (err error) { v, err = r.Get(k); return err })
						return v, err
					}})
				})
			}}
		}), "snapshot"},
		"marks too late": {with(func(s storage.Store) *bad {
			return &bad{view: func(ctx context.Context, fn func(storage.Reader) error) error {
				return s.View(ctx, func(r storage.Reader) error {
					return fn(&liar{Reader: r, mark: func() storage.Mark { return r.Mark() - 1 }})
				})
			}}
		}), "changes"},
		"loses updates": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				var writes []func(storage.Tx)
				if err := s.View(ctx, func(r storage.Reader) error { return fn(&later{Reader: r, writes: &writes}) }); err != nil {
					return err
				}
				return s.Update(ctx, locks, func(tx storage.Tx) error {
					for _, w := range writes {
						w(tx)
					}
					return nil
				})
			}}
		}), "serial"},
		"tells of half": {with(func(s storage.Store) *bad {
			return &bad{changes: func(ctx context.Context, since storage.Mark) (storage.Changes, error) {
				c, err := s.Changes(ctx, since)
				c.Scopes = c.Scopes[:min(len(c.Scopes), 1)]
				return c, err
			}}
		}), "changes"},
		"tells late": {with(func(s storage.Store) *bad {
			var calls atomic.Int64
			return &bad{changes: func(ctx context.Context, since storage.Mark) (storage.Changes, error) {
				c, err := s.Changes(ctx, since)
				if calls.Add(1)%3 == 0 {
					c = storage.Changes{Mark: since, Now: c.Now}
				}
				return c, err
			}}
		}), "changes under load"},
		"answers when closed": {with(func(storage.Store) *bad {
			return &bad{close: func() error { return nil }}
		}), "closed"},
		"closes at once": {with(func(s storage.Store) *bad {
			closed := make(chan struct{})
			return &bad{
				close: func() error { close(closed); return nil },
				update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
					return s.Update(ctx, locks, func(tx storage.Tx) error {
						return fn(&txOf{Tx: tx, put: func(k storage.Key, v []byte) { <-closed; tx.Put(k, v) }})
					})
				},
			}
		}), "close waits"},
		"minds no context": {with(func(s storage.Store) *bad {
			return &bad{
				update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
					return s.Update(context.WithoutCancel(ctx), locks, fn)
				},
			}
		}), "context"},
		"keeps nothing": {with(func(s storage.Store) *bad {
			return &bad{update: func(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
				return lose(ctx, s, locks, fn)
			}}
		}), "own writes"},
		"finds what is not": {with(func(s storage.Store) *bad {
			return &bad{view: func(ctx context.Context, fn func(storage.Reader) error) error {
				return s.View(ctx, func(r storage.Reader) error {
					return fn(&liar{Reader: r, get: func(storage.Key) ([]byte, error) { return nil, nil }})
				})
			}}
		}), "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			for _, check := range checks {
				// Some would wait for ever for a store so bad, so only the one named.
				if check.name != c.seen {
					continue
				}
				if failed, _ := Fails(t, func(t testing.TB) { check.run(t, c.open) }); failed {
					seen = append(seen, check.name)
				}
			}
			if !slices.Contains(seen, c.seen) {
				t.Errorf("seen by %q, want %q", seen, c.seen)
			}
		})
	}
	seen := map[string]bool{}
	for _, check := range checks {
		if failed, log := Fails(t, func(t testing.TB) { check.run(t, openMem) }); failed {
			t.Errorf("check %q fails a good store: %q", check.name, log)
		}
		seen[check.name] = true
	}
	if len(seen) != len(checks) {
		t.Error("two checks have one name")
	}
}

// later is a Tx that writes when the transaction is over.
type later struct {
	storage.Reader
	writes *[]func(storage.Tx)
}

func (l *later) Put(k storage.Key, v []byte) {
	*l.writes = append(*l.writes, func(tx storage.Tx) { tx.Put(k, v) })
}

func (l *later) Insert(k storage.Key, v []byte) {
	*l.writes = append(*l.writes, func(tx storage.Tx) { tx.Insert(k, v) })
}

func (l *later) Delete(k storage.Key) {
	*l.writes = append(*l.writes, func(tx storage.Tx) { tx.Delete(k) })
}

// sharing returns a store that hands out one and the same slice for a key.
func sharing() *bad {
	s := mem.New(mem.Config{})
	var mu sync.Mutex
	known := map[storage.Key][]byte{}
	return &bad{Store: s, view: func(ctx context.Context, fn func(storage.Reader) error) error {
		return s.View(ctx, func(r storage.Reader) error {
			return fn(&liar{Reader: r, get: func(k storage.Key) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if v, ok := known[k]; ok {
					return v, nil
				}
				v, err := r.Get(k)
				known[k] = v
				return v, err
			}})
		})
	}, update: s.Update}
}

func TestEachFailure(t *testing.T) {
	move := func(steps ...func(storage.Tx)) func(storage.Store) error {
		return func(s storage.Store) error {
			for _, step := range append([]func(storage.Tx){func(tx storage.Tx) { tx.Put(key("s", "a"), []byte("thing")) }}, steps...) {
				if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error { step(tx); return nil }); err != nil {
					return fmt.Errorf("moving: %w", err)
				}
			}
			return nil
		}
	}
	add := func(tx storage.Tx) { tx.Put(key("s", "b"), []byte("thing")) }
	remove := func(tx storage.Tx) { tx.Delete(key("s", "a")) }
	atMostOne := func(t testing.TB, s storage.Store) {
		view(t, s, func(r storage.Reader) {
			if items, _, err := r.Scan("s", "", "", 0); err != nil || len(items) > 1 {
				t.Errorf("thing is in %d places, %v", len(items), err)
			}
		})
	}
	runs := 0
	EachFailure(t, openMem, func(s storage.Store) error {
		runs++
		return move(func(tx storage.Tx) { add(tx); remove(tx) })(s)
	}, atMostOne)
	if runs != 5 {
		t.Errorf("ran %d times, want 2 commits x 2 ways + 1", runs)
	}
	if failed, _ := Fails(t, func(t testing.TB) { EachFailure(t, openMem, move(add, remove), atMostOne) }); !failed {
		t.Error("a move in two steps is not seen")
	}
	if failed, _ := Fails(t, func(t testing.TB) {
		EachFailure(t, openMem, func(s storage.Store) error { _ = move(add)(s); return nil }, func(testing.TB, storage.Store) {})
	}); !failed {
		t.Error("an error that is swallowed is not seen")
	}
	outcome := map[bool]bool{} // by whether the error was ErrUnknown, whether it was kept
	EachFailure(t, openMem, func(s storage.Store) error {
		err := move()(s)
		if err != nil {
			_ = s.View(t.Context(), func(r storage.Reader) error {
				_, getErr := r.Get(key("s", "a"))
				outcome[errors.Is(err, storage.ErrUnknown)] = getErr == nil
				return nil
			})
		}
		return err
	}, atMostOne)
	if len(outcome) != 2 || outcome[false] || !outcome[true] {
		t.Errorf("kept, by whether it is unknown: %v", outcome)
	}
}

func TestFailing(t *testing.T) {
	f := Fail(openMem(t))
	put := func(row string) error {
		return f.Update(t.Context(), own("s"), func(tx storage.Tx) error { tx.Put(key("s", row), nil); return nil })
	}
	f.FailUpdate(2, Lost)
	f.FailUpdate(3, Unkept)
	f.FailUpdate(4, Unheard)
	f.FailUpdate(6, Poisoned)
	f.FailView(1, storage.ErrCorrupt)
	for i, want := range []error{nil, ErrInjected, storage.ErrUnknown, storage.ErrUnknown, nil, storage.ErrPoisoned, storage.ErrPoisoned} {
		if err := put(fmt.Sprint(i)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("Update %d = %v; want %v", i, err, want)
		}
	}
	if err := f.View(t.Context(), func(storage.Reader) error { return nil }); !errors.Is(err, storage.ErrPoisoned) {
		t.Errorf("View of a poisoned store = %v", err)
	}
	if _, err := f.Changes(t.Context(), 0); !errors.Is(err, storage.ErrPoisoned) {
		t.Errorf("Changes of a poisoned store = %v", err)
	}
	f.Heal()
	f.FailView(1, storage.ErrCorrupt)
	if err := f.View(t.Context(), func(storage.Reader) error { return nil }); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("View = %v; want ErrCorrupt", err)
	}
	f.FailChanges(ErrInjected)
	if _, err := f.Changes(t.Context(), 0); !errors.Is(err, ErrInjected) {
		t.Errorf("Changes = %v; want ErrInjected", err)
	}
	f.Heal()
	view(t, f, func(r storage.Reader) { wantScan(t, r, "s", "", "", 0, false, "0=", "3=", "4=") })
}

func TestTwice(t *testing.T) {
	runs := 0
	s := Twice(t, openMem(t))
	if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		runs++
		v, err := tx.Get(key("s", "n"))
		tx.Put(key("s", "n"), append(v, 'x'))
		tx.Insert(key("s", "i"), nil)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	}); err != nil || runs != 2 {
		t.Errorf("Update = %v after %d runs; want 2", err, runs)
	}
	want(t, s, key("s", "n"), "x")
	for name, twice := range map[string]func(testing.TB, storage.Store) storage.Store{"Twice": Twice, "TwiceSealed": TwiceSealed} {
		failed, _ := Fails(t, func(t testing.TB) {
			s := twice(t, openMem(t))
			n := 0
			_ = s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
				for range n {
					tx.Put(key("s", "a"), nil)
				}
				n++
				return nil
			})
		})
		if !failed {
			t.Errorf("%s does not see a function that remembers its first run", name)
		}
	}
}

// The second run of a transaction finds what its neighbour has left.
func TestNeighbour(t *testing.T) {
	count := func(n storage.Store) error {
		return n.Update(t.Context(), own("s"), func(tx storage.Tx) error {
			v, err := tx.Get(key("s", "n"))
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			tx.Put(key("s", "n"), append(v, 'x'))
			return nil
		})
	}
	s := Neighbour(openMem(t), count)
	if err := count(s); err != nil {
		t.Fatal(err)
	}
	want(t, s, key("s", "n"), "xx")

	var remembered []byte // which is the mistake
	s = Neighbour(openMem(t), count)
	if err := s.Update(t.Context(), own("s"), func(tx storage.Tx) error {
		if remembered == nil {
			v, _ := tx.Get(key("s", "n"))
			remembered = append(v, 'x')
		}
		tx.Put(key("s", "n"), remembered)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if failed, _ := Fails(t, func(t testing.TB) { want(t, s, key("s", "n"), "xx") }); !failed {
		t.Error("a function that remembers what it read is not seen")
	}
}

func TestStrict(t *testing.T) {
	for name, c := range map[string]struct {
		scope  string
		failed bool
	}{"declared": {"s", false}, "learned": {"l", false}, "undeclared": {"x", true}} {
		for how, touch := range map[string]func(storage.Tx){
			"Get":     func(tx storage.Tx) { _, _ = tx.Get(key(c.scope, "r")) },
			"GetMany": func(tx storage.Tx) { _, _ = tx.GetMany([]storage.Key{key(c.scope, "r")}) },
			"Scan":    func(tx storage.Tx) { _, _, _ = tx.Scan(c.scope, "", "", 1) },
			"Put":     func(tx storage.Tx) { tx.Put(key(c.scope, "r"), nil) },
			"Insert":  func(tx storage.Tx) { tx.Insert(key(c.scope, "r"), nil) },
			"Delete":  func(tx storage.Tx) { tx.Delete(key(c.scope, "r")) },
		} {
			failed, _ := Fails(t, func(t testing.TB) {
				s := Strict(t, openMem(t), func(scope string) bool { return scope == "l" })
				_ = s.Update(t.Context(), own("s"), func(tx storage.Tx) error { touch(tx); return nil })
			})
			if failed != c.failed {
				t.Errorf("%s of a scope that is %s: failed = %t", how, name, failed)
			}
		}
	}
}
