package keys_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/keys"
	"rotunda.dev/rotunda/internal/safe"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// store is an initialized store with secrets in one space.
type store struct {
	raw   storage.Store
	root  secret.Bytes
	id    barrier.SpaceID
	clock *clocktest.Fake
}

const secrets = 12

// unknown is a space of which it is not known where its data keys are.
var unknown = barrier.SpaceID{1: 7}

func made(t testing.TB) *store {
	t.Helper()
	fake := clocktest.New(start)
	s := &store{mem.New(mem.Config{Clock: fake}), secret.NewBytes(aead.NewKey()), barrier.NewSpaceID(), fake}
	ctx := context.Background()
	if err := barrier.Create(ctx, s.raw, s.root, []seal.Stanza{{Kind: "test"}}); err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(ctx, s.raw, s.root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.AddSpace(ctx, s.id); err != nil {
		t.Fatal(err)
	}
	space, err := b.Space(ctx, s.id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range secrets {
		s.write(t, space, i)
	}
	return s
}

func path(i int) string { return fmt.Sprintf("dir%d/name%d", i%3, i) }

func (s *store) write(t testing.TB, space *barrier.Space, i int) {
	t.Helper()
	vault := safe.New(space)
	err := space.Update(context.Background(), storage.Locks{Own: []string{safe.Scope(path(i))}}, func(tx storage.Tx) error {
		x, err := vault.FindOrMake(tx, path(i), tx.Now())
		if err != nil {
			return err
		}
		for v := range 3 {
			if _, err := vault.Add(tx, x, safe.Draft{Kind: safe.Text, Value: []byte(fmt.Sprint("value ", i, v))}, tx.Now()); err != nil {
				return err
			}
		}
		x.Destroy(&x.Versions[1])
		return vault.Save(tx, x)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check reads every secret.
func (s *store) check(t testing.TB, b *barrier.Barrier) {
	t.Helper()
	space, err := b.Space(context.Background(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	vault := safe.New(space)
	err = space.View(context.Background(), func(r storage.Reader) error {
		for i := range secrets {
			x, err := vault.Find(r, path(i))
			if err != nil {
				return err
			}
			got, err := vault.Value(r, x, x.Current())
			if err != nil {
				return err
			}
			_ = got.Use(func(b []byte) error {
				if string(b) != fmt.Sprint("value ", i, 2) {
					t.Errorf("secret %d is %q", i, b)
				}
				return nil
			})
			if !x.Versions[1].Destroyed {
				t.Errorf("a destroyed version of secret %d is back", i)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("reading every secret: %v", err)
	}
}

func (s *store) keeper(t testing.TB, raw storage.Store, events *[]string) (*keys.Keeper, *barrier.Barrier, error) {
	t.Helper()
	ctx := context.Background()
	b, err := barrier.Open(ctx, raw, s.root)
	if err != nil {
		return nil, nil, err
	}
	core, err := b.Space(ctx, barrier.Core)
	if err != nil {
		return nil, nil, err
	}
	return keys.New(keys.Config{
		Barrier: b, Core: core, Clock: s.clock, Log: slog.New(slog.DiscardHandler), Grace: -1,
		Spaces: func(context.Context) ([]keys.Space, error) {
			return []keys.Space{{barrier.Core, "core", barrier.NoDataKeys{}}, {barrier.Tokens, "tokens", barrier.NoDataKeys{}}, {unknown, "other_1", nil}, {s.id, "kv_1", safe.Heads{}}}, nil
		},
		Record: func(_ context.Context, event string) error {
			if events != nil {
				*events = append(*events, event)
			}
			return nil
		},
	}), b, nil
}

// TestTend fails each commit of turning everything that has become old.
func TestTend(t *testing.T) {
	var s *store
	open := func(t testing.TB) storage.Store {
		s = made(t)
		s.clock.Advance(91 * 24 * time.Hour)
		return s.raw
	}
	do := func(raw storage.Store) error {
		k, b, err := s.keeper(t, raw, nil)
		if err != nil {
			return err
		}
		defer b.Close()
		return k.Tend(t.Context())
	}
	storagetest.EachFailure(t, open, do, func(t testing.TB, raw storage.Store) {
		k, b, err := s.keeper(t, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		s.check(t, b)
		if err := k.Tend(context.Background()); err != nil {
			t.Fatalf("going on after a crash: %v", err)
		}
		s.check(t, b)
		if term, _ := b.Term(); term < 2 || b.Terms() != 1 {
			t.Errorf("term %d of %d in the keyring", term, b.Terms())
		}
		for _, id := range []barrier.SpaceID{barrier.Core, barrier.Tokens, s.id} {
			st, err := k.Status(context.Background(), id)
			if err != nil || st.Turning || st.Generation < 2 {
				t.Errorf("space %s stands at %+v, %v", id, st, err)
			}
		}
	})
}

func TestTurnByCount(t *testing.T) {
	s := made(t)
	var events []string
	k, b, err := s.keeper(t, s.raw, &events)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := k.Tend(t.Context()); err != nil || len(events) > 0 {
		t.Errorf("Tend of young keys = %v, %q", err, events)
	}
	core, _ := b.Space(t.Context(), barrier.Core)
	set := func(p keys.Policy) {
		t.Helper()
		if err := core.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error { return keys.WritePolicy(tx, p) }); err != nil {
			t.Fatal(err)
		}
	}
	set(keys.Policy{Enabled: false, MaxOperations: 1})
	if err := k.Tend(t.Context()); err != nil || len(events) > 0 {
		t.Errorf("Tend where it is off = %v, %q", err, events)
	}
	set(keys.Policy{Enabled: true, MaxOperations: 1})
	if err := k.Tend(t.Context()); err != nil || !slices.Contains(events, "keyring rotated") || !slices.Contains(events, "older mount key destroyed: core") {
		t.Errorf("Tend after many seals = %v, %q", err, events)
	}
	s.check(t, b)
}

func TestTurnSpace(t *testing.T) {
	s := made(t)
	k, b, err := s.keeper(t, s.raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n, err := k.TurnSpace(t.Context(), s.id); n != 2 || err != nil {
		t.Errorf("TurnSpace = %d, %v; want 2", n, err)
	}
	if _, err := k.TurnSpace(t.Context(), s.id); !fault.Is(err, fault.Invalid) {
		t.Errorf("TurnSpace at once again = %v; want Invalid", err)
	}
	for _, id := range []barrier.SpaceID{unknown, barrier.NewSpaceID()} {
		if _, err := k.TurnSpace(t.Context(), id); !fault.Is(err, fault.Invalid) {
			t.Errorf("TurnSpace of a space whose data keys are not known = %v; want Invalid", err)
		}
	}
	if st, err := k.Status(t.Context(), s.id); err != nil || !st.Turning || st.Generation != 2 {
		t.Errorf("Status = %+v, %v", st, err)
	}
	s.check(t, b)
	if err := k.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := k.Status(t.Context(), s.id); err != nil || st.Turning || st.Generation != 2 || !st.Since.Equal(start.Truncate(time.Second)) {
		t.Errorf("Status = %+v, %v", st, err)
	}
	s.check(t, b)
}

// TestRun turns when it is woken, and when the time has come.
func TestRun(t *testing.T) {
	s := made(t)
	k, b, err := s.keeper(t, s.raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- k.Run(ctx) }()
	until := func(ok func(keys.Status) bool) {
		t.Helper()
		for {
			st, err := k.Status(t.Context(), s.id)
			if err != nil {
				t.Fatal(err)
			}
			if ok(st) {
				return
			}
			runtime.Gosched()
		}
	}
	if _, err := k.TurnSpace(t.Context(), s.id); err != nil { // asked for
		t.Fatal(err)
	}
	until(func(st keys.Status) bool { return st.Generation == 2 && !st.Turning })
	s.clock.Advance(91 * 24 * time.Hour) // become old
	until(func(st keys.Status) bool { return st.Generation == 3 && !st.Turning })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	s.check(t, b)
}

// TestDestroyBesideATurn destroys versions and whole secrets while the key of
// their space is turned: all of it stays destroyed, and the rest can be read.
func TestDestroyBesideATurn(t *testing.T) {
	s := made(t)
	k, b, err := s.keeper(t, s.raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	space, err := b.Space(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	vault := safe.New(space)
	change := func(i int, fn func(tx storage.Tx, x *safe.Secret) error) {
		t.Helper()
		err := space.Update(t.Context(), storage.Locks{Own: []string{safe.Scope(path(i))}}, func(tx storage.Tx) error {
			x, err := vault.Find(tx, path(i))
			if err != nil {
				return err
			}
			return fn(tx, x)
		})
		if err != nil {
			t.Errorf("changing secret %d: %v", i, err)
		}
	}
	turning := make(chan error)
	go func() {
		var errs []error
		for range 20 {
			_, err := k.TurnSpace(t.Context(), s.id)
			errs = append(errs, err, k.Tend(t.Context()))
		}
		turning <- errors.Join(errs...)
	}()
	for i := range secrets {
		if i%3 == 0 {
			change(i, func(tx storage.Tx, x *safe.Secret) error {
				_, err := vault.Remove(tx, x)
				return err
			})
			continue
		}
		change(i, func(tx storage.Tx, x *safe.Secret) error {
			x.Destroy(&x.Versions[0])
			return vault.Save(tx, x)
		})
	}
	if err := <-turning; err != nil {
		t.Fatal(err)
	}
	err = space.View(t.Context(), func(r storage.Reader) error {
		for i := range secrets {
			x, err := vault.Find(r, path(i))
			if i%3 == 0 {
				if !errors.Is(err, safe.ErrNone) {
					t.Errorf("secret %d, which was removed, is there: %v", i, err)
				}
				continue
			}
			if err != nil {
				return err
			}
			if _, err := vault.Value(r, x, &x.Versions[0]); !errors.Is(err, safe.ErrDestroyed) {
				t.Errorf("a destroyed version of secret %d = %v", i, err)
			}
			if _, err := vault.Value(r, x, x.Current()); err != nil {
				t.Errorf("secret %d = %v", i, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPolicyBounds(t *testing.T) {
	if err := keys.Default.Check(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, p := range []keys.Policy{
		{MaxOperations: keys.MinOperations - 1},
		{MaxOperations: keys.MaxOperations + 1},
		{MaxOperations: keys.MinOperations, Interval: time.Hour},
		{MaxOperations: keys.MinOperations, SpaceInterval: -1},
	} {
		if err := p.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("Check of %+v = %v; want Invalid", p, err)
		}
	}
}
