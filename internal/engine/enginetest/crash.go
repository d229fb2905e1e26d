package enginetest

import (
	"testing"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// testTwice runs the history over a store that runs every function twice.
func (s Suite) testTwice(t *testing.T) {
	states := s.states(t)
	fake := clocktest.New(Start)
	raw := mem.New(mem.Config{Clock: fake})
	r := NewOver(t, s.Kind, s.Options, raw, fake)
	r.Reopen(t, storagetest.TwiceSealed(t, raw))
	for i, step := range s.Steps {
		must(t, step.Run(t.Context(), r))
		if got := s.observe(t, r); got != states[i+1] {
			t.Fatalf("%s ran twice: afterwards the mount shows\n%s\nwant\n%s", step.name, got, states[i+1])
		}
	}
	must(t, drain(t.Context(), r))
	WantEmpty(t, r)
}

// testCrash runs the history once for each of its commits, and the draining of
// what it made once for each of those, with a crash there.
func (s Suite) testCrash(t *testing.T) {
	states := s.states(t)
	var r *Rig
	empty := func(testing.TB) storage.Store {
		fake := clocktest.New(Start)
		raw := mem.New(mem.Config{Clock: fake})
		r = NewOver(t, s.Kind, s.Options, raw, fake)
		return raw
	}
	at := 0 // the step that runs
	all := func(store storage.Store) error {
		r.Reopen(t, store)
		for at = range s.Steps {
			if err := s.Steps[at].Run(t.Context(), r); err != nil {
				return err
			}
		}
		return nil
	}
	drained := func(t testing.TB, store storage.Store) {
		t.Helper()
		r.Reopen(t, store)
		must(t, drain(t.Context(), r))
		WantEmpty(t, r)
	}
	storagetest.EachFailure(t, empty, all, func(tb testing.TB, store storage.Store) {
		tb.Helper()
		r.Reopen(tb, store)
		if got := s.observe(t, r); got != states[at] && got != states[at+1] {
			tb.Errorf("%s crashed halfway: afterwards the mount shows\n%s\nwhich is neither what was before\n%s\nnor what is after\n%s",
				s.Steps[at].name, got, states[at], states[at+1])
		}
		drained(tb, store)
	})
	full := func(tb testing.TB) storage.Store {
		store := empty(tb)
		must(tb, all(store))
		return store
	}
	storagetest.EachFailure(t, full, func(store storage.Store) error {
		r.Reopen(t, store)
		return drain(t.Context(), r)
	}, drained)
}
