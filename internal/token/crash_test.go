package token_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

// crash runs do with every failure of every commit, and check after a restart.
func crash(t *testing.T, given func(*tokentest.Rig), do func(*tokentest.Rig) error, check func(testing.TB, *tokentest.Rig)) {
	t.Helper()
	var r *tokentest.Rig
	open := func(t testing.TB) storage.Store {
		fake := clocktest.New(tokentest.Start)
		raw := mem.New(mem.Config{Clock: fake})
		r = tokentest.NewOver(t, token.Config{}, raw, fake)
		given(r)
		return raw
	}
	storagetest.EachFailure(t, open, func(s storage.Store) error {
		r.Reopen(t, s)
		return do(r)
	}, func(t testing.TB, s storage.Store) {
		r.Reopen(t, s)
		check(t, r)
	})
}

func sweepAll(r *tokentest.Rig) error {
	for {
		n, err := r.Sweep(context.Background())
		if n == 0 || err != nil {
			return err
		}
	}
}

// wantTidy checks that after the queue has run no row is left but those of the
// given number of tokens.
func wantTidy(t testing.TB, r *tokentest.Rig, tokens int) {
	t.Helper()
	r.Clock.Advance(time.Minute) // the claims of the process that died end
	r.Settled(t)
	rows := left(t, r)
	if rows["t"] != tokens || rows["a"] != tokens {
		t.Errorf("rows: %v; want those of %d tokens", rows, tokens)
	}
}

func TestCrashWhileCreating(t *testing.T) {
	t.Parallel()
	var root, made secret.Text
	crash(t, func(r *tokentest.Rig) { root, made = r.Root(t).ClientToken, secret.Text{} }, func(r *tokentest.Rig) error {
		g, _, err := r.Make(t, root, token.Request{Policies: []name.Name{"a"}, TTL: time.Hour, Sudo: true})
		made = g.ClientToken
		return err
	}, func(t testing.TB, r *tokentest.Rig) {
		if !made.Empty() {
			wantAlive(t, r, "acknowledged", made)
		}
		r.Clock.Advance(2 * time.Hour)
		wantTidy(t, r, 1)
	})
}

func TestCrashWhileATreeEnds(t *testing.T) {
	t.Parallel()
	var top secret.Text
	var all []secret.Text
	var revoked bool
	crash(t, func(r *tokentest.Rig) {
		all, revoked = nil, false
		top = r.MustMake(t, r.Root(t).ClientToken, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
		for range 9 {
			child := r.MustMake(t, top, token.Request{}).ClientToken
			all = append(all, child, r.MustMake(t, child, token.Request{}).ClientToken)
		}
	}, func(r *tokentest.Rig) error {
		e, err := r.Lookup(top)
		if err != nil {
			return err
		}
		if err := r.Revoke(context.Background(), e.ID); err != nil {
			return err
		}
		revoked = true
		return sweepAll(r)
	}, func(t testing.TB, r *tokentest.Rig) {
		_, err := r.Lookup(top)
		if revoked && err == nil {
			t.Error("a token is found whose revocation was acknowledged")
		}
		// All of the tree or none of it, before anything is swept.
		for _, text := range all {
			if _, at := r.Lookup(text); (at == nil) != (err == nil) {
				t.Errorf("descendant: %v; its ancestor: %v", at, err)
			}
		}
		if err != nil {
			wantTidy(t, r, 1)
		}
	})
}

func TestCrashWhileOrphaning(t *testing.T) {
	t.Parallel()
	var top secret.Text
	var children []secret.Text
	crash(t, func(r *tokentest.Rig) {
		children = nil
		above := r.MustMake(t, r.Root(t).ClientToken, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
		top = r.MustMake(t, above, token.Request{}).ClientToken
		for range 9 {
			children = append(children, r.MustMake(t, top, token.Request{}).ClientToken)
		}
	}, func(r *tokentest.Rig) error {
		e, err := r.Lookup(top)
		if err != nil {
			return err
		}
		err = r.Space().Update(context.Background(), r.RevokeLocks(e.ID), func(tx storage.Tx) error {
			_, err := r.ReleaseTx(tx, e.ID)
			return err
		})
		if err != nil {
			return err
		}
		return sweepAll(r)
	}, func(t testing.TB, r *tokentest.Rig) {
		alive := 0
		if _, err := r.Lookup(top); err == nil {
			alive = 1
		}
		for _, text := range children {
			wantAlive(t, r, "child", text)
		}
		wantTidy(t, r, 2+alive+len(children))
		for _, text := range children {
			if e := wantAlive(t, r, "child", text); (e.Parent == "") != (alive == 0) {
				t.Errorf("Parent is %q; the parent lives: %d", e.Parent, alive)
			}
		}
	})
}

func TestCrashWhileUnwrapping(t *testing.T) {
	t.Parallel()
	var w op.Wrap
	got := ""
	unwrap := func(r *tokentest.Rig) error {
		return r.Space().Update(context.Background(), r.WrappingLocks(w.Token), func(tx storage.Tx) error {
			j, err := r.Unwrap(tx, r.Clock.Now(), w.Token)
			got = string(j.Reveal())
			return err
		})
	}
	var heard error
	crash(t, func(r *tokentest.Rig) {
		var err error
		w, err = r.Wrap(context.Background(), r.Clock.Now(), secret.NewJSON([]byte(`{"a":1}`)), time.Minute, "x", "")
		ok(t, err)
	}, func(r *tokentest.Rig) error {
		heard = unwrap(r)
		return heard
	}, func(t testing.TB, r *tokentest.Rig) {
		again := unwrap(r)
		switch {
		case heard == nil && again == nil:
			t.Error("an answer was had twice")
		case again == nil && got != `{"a":1}`:
			t.Errorf("Unwrap = %s", got)
		case again != nil && !fault.Is(again, fault.Invalid):
			t.Errorf("Unwrap = %v", again)
		case again != nil && heard != nil && !errors.Is(heard, storage.ErrUnknown):
			t.Errorf("the answer is gone, though unwrapping failed: %v", heard)
		}
		r.Clock.Advance(time.Hour)
		wantTidy(t, r, 0)
	})
}

func TestCrashWhileCountingUses(t *testing.T) {
	t.Parallel()
	var text secret.Text
	won := 0
	use := func(r *tokentest.Rig) error {
		e, err := r.Lookup(text)
		if err == nil {
			err = r.Use(context.Background(), e)
		}
		if err == nil {
			won++
			err = r.AfterUse(context.Background(), e)
		}
		return err
	}
	crash(t, func(r *tokentest.Rig) {
		won = 0
		text = r.MustMake(t, r.Root(t).ClientToken, token.Request{Policies: []name.Name{"a"}, NumUses: 2, Sudo: true}).ClientToken
	}, func(r *tokentest.Rig) error {
		return errors.Join(use(r), use(r))
	}, func(t testing.TB, r *tokentest.Rig) {
		for use(r) == nil {
		}
		if won > 2 {
			t.Errorf("%d uses of a token that has 2", won)
		}
		r.Clock.Advance(3 * time.Minute)
		wantTidy(t, r, 1)
	})
}
