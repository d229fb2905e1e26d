package cubbyhole_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"rotunda.dev/rotunda/internal/engine"
	"rotunda.dev/rotunda/internal/engine/cubbyhole"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/token"
	"rotunda.dev/rotunda/internal/token/tokentest"
)

type server struct {
	*tokentest.Rig
	t   testing.TB
	ops []op.Op
}

func newServer(t testing.TB) *server {
	t.Helper()
	r := tokentest.New(t, token.Config{})
	i, err := cubbyhole.Kind(r.Store).Open(t.Context(), engine.Env{})
	ok(t, err)
	return &server{r, t, i.Ops}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run implements [op.Runner].
func (s *server) Run(ctx context.Context, c *op.Call, opName string, src op.Source) (any, error) {
	i := slices.IndexFunc(s.ops, func(o op.Op) bool { return o.Name == opName })
	return s.ops[i].Run(ctx, c, src, func(op.Ask) error { return nil })
}

func as[In, Out any](s *server, text secret.Text, d op.Def[In, Out], in In) (Out, op.Verb, error) {
	s.t.Helper()
	c := s.Call(s.t, text)
	c.Mount = op.Mount{Path: "cubbyhole/"}
	out, err := d.Do(s.t.Context(), s, c, in)
	return out, c.Asked.Verb, err
}

func object(text string) secret.JSON { return secret.NewJSON([]byte(text)) }

func TestCubbyhole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	one := s.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
	two := s.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
	batch := s.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Kind: "batch", Sudo: true}).ClientToken
	put := func(text secret.Text, path, data string) op.Verb {
		t.Helper()
		_, verb, err := as(s, text, cubbyhole.Write, cubbyhole.WriteIn{Path: path, Data: object(data)})
		ok(t, err)
		return verb
	}
	if v := put(one, "a/b", `{"n":18446744073709551615}`); v != op.Create {
		t.Errorf("the first write is a %v; want create", v)
	}
	if v := put(one, "a/b", `{"n":1.10}`); v != op.Update {
		t.Errorf("the second write is an %v; want update", v)
	}
	put(one, "a/c", `{}`)
	put(one, "d", `{}`)
	got, _, err := as(s, one, cubbyhole.Read, cubbyhole.PathIn{Path: "a/b"})
	if ok(t, err); string(got.Reveal()) != `{"n":1.10}` {
		t.Errorf("read = %s; want what was written", got.Reveal())
	}
	for dir, want := range map[string][]string{"": {"a/", "d"}, "a": {"b", "c"}, "a/": {"b", "c"}} {
		if out, _, err := as(s, one, cubbyhole.List, cubbyhole.DirIn{Path: dir}); err != nil || !slices.Equal(out.Keys, want) {
			t.Errorf("list %q = %v, %v; want %v", dir, out.Keys, err, want)
		}
	}
	// It belongs to the token: nobody else sees it, root neither.
	for _, other := range []secret.Text{two, root} {
		if _, _, err := as(s, other, cubbyhole.Read, cubbyhole.PathIn{Path: "a/b"}); !fault.Is(err, fault.NotFound) {
			t.Errorf("another's read = %v; want not found", err)
		}
		if _, _, err := as(s, other, cubbyhole.List, cubbyhole.DirIn{}); !fault.Is(err, fault.NotFound) {
			t.Errorf("another's list = %v; want not found", err)
		}
	}
	if _, _, err := as(s, batch, cubbyhole.Read, cubbyhole.PathIn{Path: "a"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("read with a batch token = %v; want invalid", err)
	}
	if _, _, err := as(s, batch, cubbyhole.Write, cubbyhole.WriteIn{Path: "a", Data: object(`{"a":1}`)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("write with a batch token = %v; want invalid", err)
	}
	for _, bad := range []cubbyhole.WriteIn{{Path: "x"}, {Path: "x", Data: object("null")}, {Path: "x", Data: object("[]")}, {Data: object(`{"a":1}`)}} {
		if _, _, err := as(s, one, cubbyhole.Write, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("write %+v = %v; want invalid", bad, err)
		}
	}
	if _, _, err := as(s, one, cubbyhole.Write, cubbyhole.WriteIn{Path: "x", Data: object(`"` + string(make([]byte, 512<<10)) + `"`)}); err == nil {
		t.Error("write of half a megabyte succeeds")
	}
	for range 2 {
		_, _, err = as(s, one, cubbyhole.Delete, cubbyhole.PathIn{Path: "a/b"})
		ok(t, err)
	}
	if _, _, err := as(s, one, cubbyhole.Read, cubbyhole.PathIn{Path: "a/b"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("read of what was deleted = %v; want not found", err)
	}
}

func TestItIsBoundedAndGoesWithTheToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	root := s.Root(t).ClientToken
	one := s.MustMake(t, root, token.Request{Policies: []name.Name{"a"}, Sudo: true}).ClientToken
	for i := range cubbyhole.MaxEntries {
		_, _, err := as(s, one, cubbyhole.Write, cubbyhole.WriteIn{Path: fmt.Sprint(i), Data: object(`{"a":1}`)})
		ok(t, err)
	}
	if _, _, err := as(s, one, cubbyhole.Write, cubbyhole.WriteIn{Path: "more", Data: object(`{"a":1}`)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("write of one too many = %v; want invalid", err)
	}
	_, _, err := as(s, one, cubbyhole.Write, cubbyhole.WriteIn{Path: "7", Data: object(`{"a":2}`)})
	ok(t, err)
	_, _, err = as(s, one, cubbyhole.Delete, cubbyhole.PathIn{Path: "7"})
	ok(t, err)
	_, _, err = as(s, one, cubbyhole.Write, cubbyhole.WriteIn{Path: "more", Data: object(`{"a":1}`)})
	ok(t, err)
	call := s.Call(t, one)
	ok(t, s.Revoke(t.Context(), call.Caller.TokenID))
	// A request that was on its way when its token ended leaves nothing behind.
	if _, err := cubbyhole.Write.Do(t.Context(), s, call, cubbyhole.WriteIn{Path: "late", Data: object(`{"a":1}`)}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("write with a token that has ended = %v; want permission denied", err)
	}
	s.Settled(t)
	ok(t, s.Space().View(t.Context(), func(r storage.Reader) error {
		items, _, err := r.Scan(token.CubbyScope(call.Caller.Cubby), "", "", 1)
		if err == nil && len(items) > 0 {
			err = errors.New("rows are left in the cubbyhole of a token that has ended")
		}
		return err
	}))
}
