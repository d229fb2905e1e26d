// Package tokentest makes stores of tokens for tests.
package tokentest

import (
	"context"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/token"
)

// Start is the time at which the clock of a Rig stands until it is moved.
var Start = time.Date(2026, 11, 24, 9, 30, 0, 123456789, time.UTC)

// Rig is a store of tokens over an encrypted store.
type Rig struct {
	*token.Store
	Clock   *clocktest.Fake
	Raw     storage.Store // the store below the barrier
	Barrier *barrier.Barrier
	Fence   *fence.Fence
	Config  token.Config

	root secret.Bytes
}

// New returns a Rig over an empty store in memory.
func New(t testing.TB, config token.Config) *Rig {
	t.Helper()
	fake := clocktest.New(Start)
	return NewOver(t, config, mem.New(mem.Config{Clock: fake}), fake)
}

// NewOver is [New] over a store that holds nothing.
func NewOver(t testing.TB, config token.Config, raw storage.Store, fake *clocktest.Fake) *Rig {
	t.Helper()
	r := &Rig{Clock: fake, Raw: raw, Config: config, root: secret.NewBytes(aead.NewKey())}
	must(t, barrier.Create(context.Background(), raw, r.root, []seal.Stanza{{Kind: "test"}}))
	r.open(t, raw)
	t.Cleanup(func() { r.Barrier.Close() })
	return r
}

// Reopen opens everything anew over raw, as a server does that is started
// again; nil is the store that the Rig has.
func (r *Rig) Reopen(t testing.TB, raw storage.Store) {
	t.Helper()
	r.Barrier.Close()
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
	space, err := b.Space(ctx, barrier.Tokens)
	must(t, err)
	r.Raw, r.Barrier, r.Fence = raw, b, fence.New(raw)
	r.Store = token.NewStore(b, space, r.Fence, r.Clock, r.Config)
}

// Root issues a root token that does not expire.
func (r *Rig) Root(t testing.TB) op.Grant {
	t.Helper()
	g, err := r.Issue(context.Background(), r.Clock.Now(), token.Spec{
		DisplayName: "root", Path: "auth/token/root", Policies: []name.Name{name.Root}, Forever: true,
	})
	must(t, err)
	return g
}

// Lookup finds a token as a request of this moment does.
func (r *Rig) Lookup(text secret.Text) (*token.Entry, error) {
	ctx := context.Background()
	m, err := r.Fence.Arrive(ctx)
	if err != nil {
		return nil, err
	}
	return r.Find(ctx, m, r.Clock.Now(), text)
}

// Call returns a call of this moment by the holder of a token.
func (r *Rig) Call(t testing.TB, text secret.Text) *op.Call {
	t.Helper()
	e, err := r.Lookup(text)
	must(t, err)
	return &op.Call{
		ID: "00000000-0000-4000-8000-000000000000", Time: r.Clock.Now(), Caller: e.Caller(), Token: text,
		Mount: op.Mount{Path: "auth/token/", Accessor: "auth_token_00000000", Kind: "token"},
		May:   func(op.Verb, string) bool { return true },
	}
}

// Make creates a token for the holder of another.
func (r *Rig) Make(t testing.TB, parent secret.Text, ask token.Request) (op.Grant, []string, error) {
	t.Helper()
	c := r.Call(t, parent)
	err := r.Issuer().Update(context.Background(), r.CreateLocks(c.Caller, ask.Role), func(tx storage.Tx) error {
		c.Reply = op.Reply{}
		return r.Create(tx, c, ask)
	})
	if err != nil {
		return op.Grant{}, c.Reply.Warnings, err
	}
	return *c.Reply.Auth, c.Reply.Warnings, nil
}

// MustMake is [Rig.Make] of what is allowed.
func (r *Rig) MustMake(t testing.TB, parent secret.Text, ask token.Request) op.Grant {
	t.Helper()
	g, _, err := r.Make(t, parent, ask)
	must(t, err)
	return g
}

// Settled runs the queue until it is empty of what is due.
func (r *Rig) Settled(t testing.TB) {
	t.Helper()
	for range 1000 {
		n, err := r.Sweep(context.Background())
		must(t, err)
		if n == 0 {
			return
		}
	}
	t.Fatal("Sweep() found something due 1000 times")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
