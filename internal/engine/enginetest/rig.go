// Package enginetest tests secret engines: [Conform] holds one to the contract
// of package engine, and a [Rig] runs its operations over a store in memory.
package enginetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

// Start is the time at which the clock of a Rig stands until it is moved.
var Start = time.Date(2026, 11, 24, 9, 30, 0, 123456789, time.UTC)

// Rig is one mounted engine over an encrypted store. It is an [op.Runner] that
// lets every caller do everything.
type Rig struct {
	Env      engine.Env
	Instance engine.Instance
	Clock    *clocktest.Fake
	Raw      storage.Store // the store below the barrier
	Barrier  *barrier.Barrier

	kind engine.Kind
	root secret.Bytes
	id   barrier.SpaceID
}

// New mounts an engine of kind k over an empty store in memory.
func New(t testing.TB, k engine.Kind, options map[string]string) *Rig {
	t.Helper()
	fake := clocktest.New(Start)
	return NewOver(t, k, options, mem.New(mem.Config{Clock: fake}), fake)
}

// NewOver is [New] over a store that the caller has made, which holds nothing.
func NewOver(t testing.TB, k engine.Kind, options map[string]string, raw storage.Store, fake *clocktest.Fake) *Rig {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	r := &Rig{Raw: raw, Clock: fake, kind: k, root: secret.NewBytes(key), id: barrier.NewSpaceID()}
	ctx := context.Background()
	must(t, barrier.Create(ctx, raw, r.root, []seal.Stanza{{Kind: "test"}}))
	b, err := barrier.Open(ctx, raw, r.root)
	must(t, err)
	must(t, b.AddSpace(ctx, r.id))
	b.Close()
	r.Env = engine.Env{
		Mount:   op.Mount{Path: "mount/", ID: r.id.String(), Accessor: k.Name + "_00000000", Kind: k.Name},
		Options: options, DefaultTTL: 768 * time.Hour, MaxTTL: 768 * time.Hour,
		Clock: fake, Log: slog.New(slog.DiscardHandler),
	}
	r.open(t, raw)
	t.Cleanup(func() { must(t, r.close()) })
	return r
}

// Reopen ends the instance and opens another over raw, as a server does that
// is started anew; nil is the store that the Rig has.
func (r *Rig) Reopen(t testing.TB, raw storage.Store) {
	t.Helper()
	must(t, r.close())
	if raw == nil {
		raw = r.Raw
	}
	r.open(t, raw)
}

func (r *Rig) open(t testing.TB, raw storage.Store) {
	t.Helper()
	ctx := context.Background()
	b, err := barrier.Open(ctx, raw, r.root)
	must(t, err)
	space, err := b.Space(ctx, r.id)
	must(t, err)
	r.Raw, r.Barrier = raw, b
	r.Env.Store, r.Env.Values = space, space
	r.Instance, err = r.kind.Open(ctx, r.Env)
	must(t, err)
}

func (r *Rig) close() error {
	defer r.Barrier.Close()
	if r.Instance.Close == nil {
		return nil
	}
	return r.Instance.Close()
}

// Call returns a call of now that may see everything.
func (r *Rig) Call() *op.Call {
	return &op.Call{
		ID: "00000000-0000-4000-8000-000000000000", Time: r.Clock.Now(), Mount: r.Env.Mount,
		Caller: op.Caller{TokenID: "caller", Accessor: "accessor", Kind: "service"},
		May:    func(op.Verb, string) bool { return true },
	}
}

// Op returns the operation with a name.
func (r *Rig) Op(opName string) (op.Op, bool) {
	for _, o := range r.Instance.Ops {
		if o.Name == opName {
			return o, true
		}
	}
	return op.Op{}, false
}

// Run implements [op.Runner].
func (r *Rig) Run(ctx context.Context, c *op.Call, opName string, src op.Source) (any, error) {
	o, ok := r.Op(opName)
	if !ok {
		return nil, fmt.Errorf("enginetest: no operation %q", opName)
	}
	return o.Run(ctx, c, src, func(op.Ask) error { return nil })
}

// Do runs d with in at this moment. The value comes together with an error of
// kind Deleted, as it does for doors.
func Do[In, Out any](ctx context.Context, r *Rig, d op.Def[In, Out], in In) (Out, error) {
	return DoAs(ctx, r, r.Call(), d, in)
}

// DoAs is [Do] for a call that the caller has made.
func DoAs[In, Out any](ctx context.Context, r *Rig, c *op.Call, d op.Def[In, Out], in In) (Out, error) {
	got, err := r.Run(ctx, c, d.Name, whole[In]{in})
	out, _ := got.(Out)
	return out, err
}

type whole[In any] struct{ in In }

// Fill implements [op.Source].
func (w whole[In]) Fill(in any) error {
	p, ok := in.(*In)
	if !ok {
		return fmt.Errorf("enginetest: the operation takes a %T", in)
	}
	*p = w.in
	return nil
}

// Params implements [op.Source].
func (whole[In]) Params() ([]op.Param, error) { return nil, nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
