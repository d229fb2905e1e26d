package token_test

import (
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

// herd makes tokens of all kinds, and returns their texts and the number of
// those that are kept.
func herd(t testing.TB, r *tokentest.Rig) (all []secret.Text, kept int) {
	t.Helper()
	root := r.Root(t).ClientToken
	all = append(all, root)
	for range 9 {
		child := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
		orphan := r.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true, Orphan: true}).ClientToken
		all = append(all, child, orphan, r.MustMake(t, child, token.Request{}).ClientToken)
	}
	kept = len(all)
	batch := r.MustMake(t, root, token.Request{Kind: "batch", Policies: []name.Name{"a"}, Sudo: true, Orphan: true, TTL: time.Hour}).ClientToken
	return append(all, batch), kept
}

func TestEndAll(t *testing.T) {
	t.Parallel()
	r := tokentest.New(t, token.Config{})
	all, kept := herd(t, r)
	for _, text := range all {
		wantAlive(t, r, "before", text)
	}
	ended, err := r.EndAll(t.Context(), r.Clock.Now())
	if ok(t, err); ended != kept {
		t.Errorf("EndAll ended %d tokens; there were %d", ended, kept)
	}
	for _, text := range all {
		wantDead(t, r, "after", text)
		if _, err := r.Store.Lookup(t.Context(), r.Clock.Now(), token.ByText(text)); err == nil {
			t.Error("Lookup finds a token that was ended with all others")
		}
	}
	if rows := left(t, r); rows["t"] != 0 || rows["a"] != 0 || rows["c"] != 0 {
		t.Errorf("rows: %v; want none of tokens", rows)
	}
	r.Clock.Advance(time.Second)
	root := r.Root(t).ClientToken
	wantAlive(t, r, "made afterwards", root)
	wantAlive(t, r, "batch token made afterwards", r.MustMake(t, root, token.Request{Kind: "batch", Policies: []name.Name{"a"}, Sudo: true, Orphan: true, TTL: time.Hour}).ClientToken)
}

func TestCrashWhileAllEnds(t *testing.T) {
	t.Parallel()
	var all []secret.Text
	var done bool
	crash(t, func(r *tokentest.Rig) { all, _ = herd(t, r); done = false }, func(r *tokentest.Rig) error {
		_, err := r.EndAll(t.Context(), r.Clock.Now())
		done = err == nil
		return err
	}, func(t testing.TB, r *tokentest.Rig) {
		if !done { // it is called again
			r.Clock.Advance(time.Minute) // the claims of the process that died end
			if _, err := r.EndAll(t.Context(), r.Clock.Now()); err != nil {
				t.Fatalf("EndAll again: %v", err)
			}
		}
		for _, text := range all {
			wantDead(t, r, "ended with all others", text)
		}
		wantTidy(t, r, 0)
	})
}
