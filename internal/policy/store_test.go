package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"rotunda.dev/rotunda/internal/barrier"
	"rotunda.dev/rotunda/internal/fault"
	"rotunda.dev/rotunda/internal/fence"
	"rotunda.dev/rotunda/internal/name"
	"rotunda.dev/rotunda/internal/op"
	"rotunda.dev/rotunda/internal/policy"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

type kept struct {
	*policy.Store
	core  *barrier.Space
	fence *fence.Fence
}

func newStore(t testing.TB) kept {
	t.Helper()
	raw := mem.New(mem.Config{})
	root := secret.NewBytes(slices.Repeat([]byte{7}, 32))
	if err := barrier.Create(t.Context(), raw, root, []seal.Stanza{{Kind: "test", Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	core, err := b.Space(t.Context(), barrier.Core)
	if err != nil {
		t.Fatal(err)
	}
	f := fence.New(raw)
	return kept{policy.NewStore(core, f, policy.Config{}), core, f}
}

func (k kept) put(t testing.TB, n name.Name, text string) {
	t.Helper()
	err := k.core.Update(t.Context(), k.Locks(n), func(tx storage.Tx) error {
		_, err := k.Put(tx, n, text)
		return err
	})
	if err != nil {
		t.Fatalf("Put(%q) = %v", n, err)
	}
}

func (k kept) drop(t testing.TB, n name.Name) error {
	t.Helper()
	return k.core.Update(t.Context(), k.Locks(n), func(tx storage.Tx) error { return k.Delete(tx, n) })
}

func (k kept) allows(t testing.TB, path string, held ...name.Name) bool {
	t.Helper()
	m, err := k.fence.Arrive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acl, err := k.ACL(t.Context(), m, held)
	if err != nil {
		t.Fatalf("ACL(%v) = %v", held, err)
	}
	return acl.Allow(op.Ask{Verb: op.Read, Resource: path}).Allowed
}

func (k kept) list(t testing.TB, after name.Name, limit int) (out []name.Name, more bool) {
	t.Helper()
	err := k.core.View(t.Context(), func(r storage.Reader) (err error) {
		out, more, err = k.List(r, after, limit)
		return err
	})
	if err != nil {
		t.Fatalf("List = %v", err)
	}
	return out, more
}

// What is changed counts for the next request, also where it was only missing.
func TestStoreForgetsWhatChanges(t *testing.T) {
	t.Parallel()
	k := newStore(t)
	if k.allows(t, "a", "dev", "dev") {
		t.Error("a policy that is not there allows something")
	}
	k.put(t, "dev", `path "a" { capabilities = ["read"] }`)
	if !k.allows(t, "a", "dev") || !k.allows(t, "a", "other", "dev") {
		t.Error("a policy that was put does not count")
	}
	k.put(t, "other", `path "a" { capabilities = ["deny"] }`)
	if k.allows(t, "a", "other", "dev") || k.allows(t, "a", "dev", "other") {
		t.Error("a deny that was put does not count")
	}
	k.put(t, "dev", `path "b" { capabilities = ["read"] }`)
	if k.allows(t, "a", "dev") || !k.allows(t, "b", "dev") {
		t.Error("a policy that was changed counts as it was")
	}
	if err := k.drop(t, "dev"); err != nil || k.allows(t, "b", "dev") {
		t.Errorf("Delete = %v; want a policy that does not count", err)
	}
	if err := k.drop(t, "dev"); err != nil {
		t.Errorf("Delete of what is gone = %v; want nil", err)
	}
	if !k.allows(t, "anything", "dev", name.Root) {
		t.Error("root does not allow everything")
	}
}

// Names that make one text when they are joined are two lists.
func TestStoreTellsListsApart(t *testing.T) {
	t.Parallel()
	k := newStore(t)
	k.put(t, "ab", `path "x" { capabilities = ["read"] }`)
	k.put(t, "a", `path "y" { capabilities = ["read"] }`)
	if !k.allows(t, "x", "ab") || k.allows(t, "x", "a", "b") || !k.allows(t, "y", "a", "b") || k.allows(t, "y", "ab") {
		t.Error("the lists (ab) and (a, b) are confused")
	}
}

func TestStoreKeepsRootAndDefault(t *testing.T) {
	t.Parallel()
	k := newStore(t)
	for range 2 {
		if err := k.EnsureDefaults(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !k.allows(t, "auth/token/lookup-self", policy.Default) || k.allows(t, "sys/policies/acl/default", policy.Default) {
		t.Error("the default policy is not the one it should be")
	}
	for _, n := range []name.Name{name.Root, policy.Default} {
		if err := k.drop(t, n); !fault.Is(err, fault.Invalid) {
			t.Errorf("Delete(%q) = %v; want Invalid", n, err)
		}
	}
	err := k.core.Update(t.Context(), k.Locks(name.Root), func(tx storage.Tx) error {
		_, err := k.Put(tx, name.Root, "")
		return err
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("Put(root) = %v; want Invalid", err)
	}
	k.put(t, policy.Default, `path "only/this" { capabilities = ["read"] }`)
	if err := k.EnsureDefaults(t.Context()); err != nil || !k.allows(t, "only/this", policy.Default) {
		t.Errorf("EnsureDefaults = %v; want the changed text kept", err)
	}
	err = k.core.View(t.Context(), func(r storage.Reader) error {
		p, err := k.Get(r, name.Root)
		if err != nil || p.Text != "" {
			t.Errorf("Get(root) = %+v, %v; want no text", p, err)
		}
		if p, err := k.Get(r, "nothing"); !fault.Is(err, fault.NotFound) {
			t.Errorf("Get(nothing) = %+v, %v; want NotFound", p, err)
		}
		gone, err := k.Missing(r, []name.Name{"x", name.Root, policy.Default})
		if err != nil || !slices.Equal(gone, []name.Name{"x"}) {
			t.Errorf("Missing = %v, %v; want x", gone, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStoreLists(t *testing.T) {
	t.Parallel()
	k := newStore(t)
	if got, more := k.list(t, "", 0); more || !slices.Equal(got, []name.Name{name.Root}) {
		t.Errorf("List of an empty store = %v, %t; want root", got, more)
	}
	for _, n := range []name.Name{"zoo", "dev", "app", "root-like", "rooms"} {
		k.put(t, n, "")
	}
	all := []name.Name{"app", "dev", "rooms", "root", "root-like", "zoo"}
	if got, more := k.list(t, "", 0); more || !slices.Equal(got, all) {
		t.Errorf("List = %v, %t; want %v", got, more, all)
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []name.Name
		after := name.Name("")
		for {
			page, more := k.list(t, after, limit)
			if got = append(got, page...); !more {
				break
			}
			if len(page) != limit {
				t.Fatalf("List(%q, %d) = %v and more; want a full page", after, limit, page)
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, all) {
			t.Errorf("List by %d = %v; want %v", limit, got, all)
		}
	}
}

func TestStoreRefusesDamage(t *testing.T) {
	t.Parallel()
	k := newStore(t)
	for what, row := range map[string]struct {
		value []byte
		want  error
	}{"newer": {[]byte{2}, storage.ErrNewer}, "empty": {[]byte{}, storage.ErrCorrupt}, "text": {append([]byte{1}, "path"...), storage.ErrCorrupt}} {
		err := k.core.Update(t.Context(), k.Locks("dev"), func(tx storage.Tx) error {
			tx.Put(storage.Key{Scope: "pdev", Row: "h"}, row.value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := k.fence.Arrive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.ACL(t.Context(), m, []name.Name{"dev"}); !errors.Is(err, row.want) {
			t.Errorf("%s: ACL = %v; want %v", what, err, row.want)
		}
	}
}

func BenchmarkStoreACL(b *testing.B) {
	k := newStore(b)
	var held []name.Name
	for i := range 50 {
		n := name.Name(fmt.Sprintf("p%02d", i))
		k.put(b, n, fmt.Sprintf(`path "secret/%d/*" { capabilities = ["read"] }`, i))
		held = append(held, n)
	}
	b.ReportAllocs()
	for b.Loop() {
		m, err := k.fence.Arrive(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := k.ACL(b.Context(), m, held); err != nil {
			b.Fatal(err)
		}
	}
}
