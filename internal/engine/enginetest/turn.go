package enginetest

import (
	"context"
	"errors"
	"testing"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

// Turn turns the key of a space, or goes on where that was ended, and destroys
// the one before.
func Turn(ctx context.Context, b *barrier.Barrier, id barrier.SpaceID, h barrier.Holder) error {
	_, err := b.TurnSpace(ctx, id)
	if err != nil && !errors.Is(err, barrier.ErrTurning) {
		return err
	}
	gens, err := b.Generations(ctx, id)
	if err != nil {
		return err
	}
	for at, more := (barrier.Place{}), true; more; {
		if at, _, more, err = b.Sweep(ctx, id, at, h); err != nil {
			return err
		}
	}
	return b.RetireSpace(ctx, id, gens[len(gens)-1].Number)
}

// testTurn fails each commit of turning the mount's key.
func (s Suite) testTurn(t *testing.T) {
	if New(t, s.Kind, s.Options).Instance.Keys == nil {
		t.Fatalf("%s does not say which of its rows hold data keys", s.Kind.Name)
	}
	var r *Rig
	var want string
	open := func(testing.TB) storage.Store {
		r = New(t, s.Kind, s.Options)
		for i, step := range s.Steps {
			if err := step.Run(t.Context(), r); err != nil {
				t.Fatalf("step %d, %s: %v", i, step.name, err)
			}
		}
		want = s.observe(t, r)
		return r.Raw
	}
	do := func(raw storage.Store) error {
		b, err := barrier.Open(t.Context(), raw, r.root)
		if err != nil {
			return err
		}
		defer b.Close()
		return Turn(t.Context(), b, r.id, r.Instance.Keys)
	}
	storagetest.EachFailure(t, open, do, func(t testing.TB, raw storage.Store) {
		r.Reopen(t, raw)
		for _, when := range []string{"after a crash", "in the end"} {
			if got, err := s.Observe(t.Context(), r); err != nil || got != want {
				t.Errorf("%s there is\n%s, %v; want\n%s", when, got, err, want)
			}
			if err := Turn(t.Context(), r.Barrier, r.id, r.Instance.Keys); err != nil {
				t.Errorf("turning the key %s: %v", when, err)
			}
		}
		gens, err := r.Barrier.Generations(t.Context(), r.id)
		if err != nil || len(gens) != 1 {
			t.Errorf("the mount has keys %v, %v; want one", gens, err)
		}
		if got, err := s.Observe(t.Context(), r); err != nil || got != want {
			t.Errorf("with the old keys destroyed there is\n%s, %v; want\n%s", got, err, want)
		}
	})
}
