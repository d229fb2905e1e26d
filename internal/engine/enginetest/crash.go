package enginetest

import (
	"context"
	"errors"
	"testing"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// errCrash is what a commit answers that never did.
var errCrash = errors.New("enginetest: the server crashed here")

// crashing is a store whose commits fail from one on, as those of a server
// that crashed. The first that fails may have been kept.
type crashing struct {
	storage.Store

	left    int // commits that succeed; negative for all
	kept    bool
	crashed bool
}

// Update implements [storage.Store].
func (s *crashing) Update(ctx context.Context, locks storage.Locks, fn func(storage.Tx) error) error {
	if s.crashed {
		return errCrash
	}
	if s.left != 0 {
		err := s.Store.Update(ctx, locks, fn)
		if err == nil {
			s.left--
		}
		return err
	}
	if s.kept {
		if err := s.Store.Update(ctx, locks, fn); err != nil {
			return err
		}
	}
	s.crashed = true
	return errCrash
}

// testCrash runs the history once for each of its commits, and the draining of
// what it made once for each of those, with a crash there.
func (s Suite) testCrash(t *testing.T) {
	states := s.states(t)
	all := func(r *Rig) (int, error) {
		for i, step := range s.Steps {
			if _, err := step.run(t.Context(), r, r.Call()); err != nil {
				return i, err
			}
		}
		return len(s.Steps) - 1, nil
	}
	none := func(*Rig) (int, error) { return 0, nil }
	s.eachCrash(t, none, all, func(t *testing.T, r *Rig, step int) {
		t.Helper()
		if got := s.observe(t, r); got != states[step] && got != states[step+1] {
			t.Errorf("%s crashed halfway: afterwards the mount shows\n%s\nwhich is neither what was before\n%s\nnor what is after\n%s",
				s.Steps[step].name, got, states[step], states[step+1])
		}
	})
	drained := func(r *Rig) (int, error) { return 0, drain(t.Context(), r) }
	s.eachCrash(t, all, drained, func(*testing.T, *Rig, int) {})
}

// eachCrash makes a mount ready and calls do on it, crashing at one commit
// more each time, and check with the mount as it is found by a server that is
// started anew. do returns how far it came. The mount must then drain.
func (s Suite) eachCrash(t *testing.T, ready, do func(*Rig) (int, error), check func(*testing.T, *Rig, int)) {
	t.Helper()
	for n := 0; ; n++ {
		for _, kept := range []bool{false, true} {
			fake := clocktest.New(Start)
			sound := mem.New(mem.Config{Clock: fake})
			r := NewOver(t, s.Kind, s.Options, sound, fake)
			store := &crashing{Store: sound, left: -1, kept: kept}
			r.Reopen(t, store)
			if _, err := ready(r); err != nil {
				t.Fatalf("with no crash: %v", err)
			}
			store.left = n
			at, err := do(r)
			if !store.crashed {
				if err != nil {
					t.Fatalf("with no crash: %v", err)
				}
				return
			}
			if err != nil && !errors.Is(err, errCrash) {
				t.Errorf("commit %d crashed (kept=%t) and the caller was told %v", n, kept, err)
			}
			r.Reopen(t, sound)
			check(t, r, at)
			must(t, drain(t.Context(), r))
			WantEmpty(t, r)
		}
	}
}
