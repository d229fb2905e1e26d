package safe_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

var t0 = time.Date(2026, 11, 24, 9, 30, 0, 5, time.UTC)

func newSpace(t testing.TB) *barrier.Space {
	t.Helper()
	ctx := context.Background()
	raw, root := mem.New(mem.Config{}), secret.NewBytes(make([]byte, 32))
	if err := barrier.Create(ctx, raw, root, []seal.Stanza{{Kind: "test"}}); err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(ctx, raw, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	space, err := b.Space(ctx, barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	return space
}

func update(t testing.TB, s storage.Store, fn func(storage.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), storage.Locks{}, fn); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, store storage.Store, s *safe.Safe, path string, d safe.Draft) (id [16]byte) {
	t.Helper()
	update(t, store, func(tx storage.Tx) error {
		x, err := s.FindOrMake(tx, path, t0)
		if err != nil {
			return err
		}
		v, err := s.Add(tx, x, d, t0)
		if err != nil {
			return err
		}
		id = v.ID
		return s.Save(tx, x)
	})
	return id
}

// A version that is pending has no number until it is promoted, and the labels
// move with it.
func TestPendingVersion(t *testing.T) {
	store := newSpace(t)
	s := safe.New(store)
	first := add(t, store, s, "a", safe.Draft{Kind: safe.Text, Value: []byte("one")})
	next := add(t, store, s, "a", safe.Draft{Kind: safe.Text, Value: []byte("two"), Pending: true})
	later := add(t, store, s, "a", safe.Draft{Kind: safe.Text, Value: []byte("three")})
	check := func(what string, label safe.Label, id [16]byte, number uint64) {
		t.Helper()
		if err := store.View(t.Context(), func(r storage.Reader) error {
			x, err := s.Find(r, "a")
			if err != nil {
				return err
			}
			switch v := x.Labelled(label); {
			case v == nil && id != [16]byte{}:
				t.Errorf("%s: nothing is %s", what, label)
			case v != nil && (v.ID != id || v.Number != number):
				t.Errorf("%s: %s is %x, number %d; want %x, %d", what, label, v.ID, v.Number, id, number)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	check("before", safe.Current, later, 2)
	check("before", safe.Previous, first, 1)
	check("before", safe.Pending, next, 0)
	update(t, store, func(tx storage.Tx) error {
		x, err := s.Find(tx, "a")
		if err != nil {
			return err
		}
		x.Promote(x.WithID(next))
		x.SetLabel("blue", x.Numbered(1))
		return s.Save(tx, x)
	})
	check("after", safe.Current, next, 3)
	check("after", safe.Previous, later, 2)
	check("after", safe.Pending, [16]byte{}, 0)
	check("after", "blue", first, 1)
	update(t, store, func(tx storage.Tx) error {
		x, err := s.Find(tx, "a")
		if err != nil {
			return err
		}
		if got := fmt.Sprint(x.Labels(x.Current())); got != "[current]" {
			t.Errorf("labels of the current version = %s", got)
		}
		x.Prune(2)
		x.DropLabel(safe.Previous)
		return s.Save(tx, x)
	})
	check("pruned", "blue", [16]byte{}, 0)
	check("pruned", safe.Previous, [16]byte{}, 0)
}

func TestObjectOfEachKind(t *testing.T) {
	store := newSpace(t)
	s := safe.New(store)
	for _, c := range []struct {
		kind        safe.Kind
		value, want string
	}{
		{safe.JSON, `{"a": 1.0}`, `{"a": 1.0}`},
		{safe.Text, "a\"b\n", `{"value":"a\"b\n"}`},
		{safe.Binary, "\x00\xff", `{"value":"AP8="}`},
	} {
		path := fmt.Sprint("k", c.kind)
		add(t, store, s, path, safe.Draft{Kind: c.kind, Value: []byte(c.value)})
		if err := store.View(t.Context(), func(r storage.Reader) error {
			x, err := s.Find(r, path)
			if err != nil {
				return err
			}
			got, err := s.Object(r, x, x.Current())
			if err != nil || string(got.Reveal()) != c.want {
				t.Errorf("Object of kind %d = %s, %v; want %s", c.kind, got.Reveal(), err, c.want)
			}
			raw, err := s.Value(r, x, x.Current())
			if err != nil {
				return err
			}
			return raw.Use(func(b []byte) error {
				if string(b) != c.value {
					t.Errorf("Value of kind %d = %q; want %q", c.kind, b, c.value)
				}
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDestroyedHasNoValue(t *testing.T) {
	store := newSpace(t)
	s := safe.New(store)
	add(t, store, s, "a", safe.Draft{Kind: safe.Text, Value: []byte("one")})
	update(t, store, func(tx storage.Tx) error {
		x, err := s.Find(tx, "a")
		if err != nil {
			return err
		}
		x.Destroy(x.Current())
		x.Destroy(x.Current())
		if _, err := s.Value(tx, x, x.Current()); !errors.Is(err, safe.ErrDestroyed) {
			t.Errorf("Value = %v; want ErrDestroyed", err)
		}
		if got := x.Current().State(t0); got != safe.Destroyed {
			t.Errorf("State = %v; want destroyed", got)
		}
		return s.Save(tx, x)
	})
}

// Values are bound to their secret and version: a row that was moved in the
// store does not open.
func TestMovedValue(t *testing.T) {
	store := newSpace(t)
	s := safe.New(store)
	add(t, store, s, "a", safe.Draft{Kind: safe.Text, Value: []byte("one")})
	add(t, store, s, "b", safe.Draft{Kind: safe.Text, Value: []byte("two")})
	update(t, store, func(tx storage.Tx) error {
		row := "v\x00\x00\x00\x00\x00\x00\x00\x01"
		b, err := tx.Get(storage.Key{Scope: safe.Scope("a"), Row: row})
		if err != nil {
			return err
		}
		tx.Put(storage.Key{Scope: safe.Scope("b"), Row: row}, b)
		x, err := s.Find(tx, "b")
		if err != nil {
			return err
		}
		if _, err := s.Value(tx, x, x.Current()); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Value = %v; want ErrCorrupt", err)
		}
		tx.Delete(storage.Key{Scope: safe.Scope("b"), Row: row})
		if _, err := s.Value(tx, x, x.Current()); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Value of a row that is missing = %v; want ErrCorrupt", err)
		}
		return nil
	})
}

// many makes a secret with more versions than one transaction removes.
func many(t testing.TB, store storage.Store, s *safe.Safe, path string) {
	t.Helper()
	for range 200 {
		add(t, store, s, path, safe.Draft{Kind: safe.Text, Value: []byte("x")})
	}
}

func remove(t testing.TB, store storage.Store, s *safe.Safe, path string) (left bool) {
	t.Helper()
	update(t, store, func(tx storage.Tx) error {
		x, err := s.Find(tx, path)
		if err != nil {
			return err
		}
		left, err = s.Remove(tx, x)
		return err
	})
	return left
}

func rows(t testing.TB, store storage.Store, scope string) (n int) {
	t.Helper()
	if err := store.View(context.Background(), func(r storage.Reader) error {
		items, _, err := r.Scan(scope, "", "", 0)
		n = len(items)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// A removed secret is gone at once, however much is left of it, and another
// can take its place while that is being removed.
func TestRemoveManyVersions(t *testing.T) {
	for _, again := range []bool{false, true} {
		store := newSpace(t)
		s := safe.New(store)
		many(t, store, s, "d/a")
		if !remove(t, store, s, "d/a") {
			t.Fatal("nothing is left of 200 versions")
		}
		if err := store.View(t.Context(), func(r storage.Reader) error {
			_, err := s.Find(r, "d/a")
			return err
		}); !errors.Is(err, safe.ErrNone) {
			t.Errorf("Find = %v; want ErrNone", err)
		}
		want := 0
		if again {
			add(t, store, s, "d/a", safe.Draft{Kind: safe.Text, Value: []byte("y")})
			want = 2
		}
		if err := s.Sweep(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		if n, g := rows(t, store, safe.Scope("d/a")), rows(t, store, "g"); n != want || g != 0 {
			t.Errorf("made again=%t: %d rows and %d marks are left; want %d and none", again, n, g, want)
		}
		if !again {
			continue
		}
		if err := store.View(t.Context(), func(r storage.Reader) error {
			x, err := s.Find(r, "d/a")
			if err != nil {
				return err
			}
			if x.Last != 1 || len(x.Versions) != 1 {
				t.Errorf("the new secret has %d versions, the last number %d", len(x.Versions), x.Last)
			}
			_, err = s.Value(r, x, x.Current())
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

func TestDrain(t *testing.T) {
	store := newSpace(t)
	s := safe.New(store)
	for i := range 30 {
		add(t, store, s, fmt.Sprintf("d/%02d/x", i%3), safe.Draft{Kind: safe.Text, Value: []byte("x")})
		add(t, store, s, fmt.Sprintf("p%02d", i), safe.Draft{Kind: safe.Text, Value: []byte("x")})
	}
	many(t, store, s, "p10")
	many(t, store, s, "q")
	remove(t, store, s, "q")
	for {
		more, err := s.Drain(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	for _, scope := range []string{"g", "d", "dd/", "dd/01/", safe.Scope("p10"), safe.Scope("q"), safe.Scope("p29"), safe.Scope("d/00/x")} {
		if n := rows(t, store, scope); n != 0 {
			t.Errorf("%d rows are left in %q", n, scope)
		}
	}
}
