package barrier

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/mem"
)

var stanza = seal.Stanza{Kind: "test", Args: []string{"a", ""}, Body: []byte("body")}

// made returns an open barrier over an empty store in memory.
func made(t testing.TB) (*Barrier, storage.Store, secret.Bytes) {
	t.Helper()
	raw := mem.New(mem.Config{})
	root := secret.NewBytes(aead.NewKey())
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, raw, root
}

func space(t testing.TB, b *Barrier, id SpaceID) *Space {
	t.Helper()
	if err := b.AddSpace(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s, err := b.Space(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s storage.Store, scope, row string, value []byte) {
	t.Helper()
	err := s.Update(t.Context(), storage.Locks{Own: []string{scope}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: scope, Row: row}, bytes.Clone(value))
		return nil
	})
	if err != nil {
		t.Fatalf("Put(%q, %q): %v", scope, row, err)
	}
}

func get(t testing.TB, s storage.Store, scope, row string) (b []byte, err error) {
	t.Helper()
	err = s.View(t.Context(), func(r storage.Reader) error {
		b, err = r.Get(storage.Key{Scope: scope, Row: row})
		return err
	})
	return b, err
}

func TestCreateThenOpen(t *testing.T) {
	raw := mem.New(mem.Config{})
	root := secret.NewBytes(aead.NewKey())
	if ok, err := Initialized(t.Context(), raw); ok || err != nil {
		t.Fatalf("Initialized of an empty store = %v, %v", ok, err)
	}
	if _, err := Stanzas(t.Context(), raw); !errors.Is(err, ErrUninitialized) {
		t.Errorf("Stanzas of an empty store: %v; want ErrUninitialized", err)
	}
	if _, err := Open(t.Context(), raw, root); !errors.Is(err, ErrUninitialized) {
		t.Errorf("Open of an empty store: %v; want ErrUninitialized", err)
	}
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); !errors.Is(err, ErrInitialized) {
		t.Errorf("Create again: %v; want ErrInitialized", err)
	}
	if ok, err := Initialized(t.Context(), raw); !ok || err != nil {
		t.Errorf("Initialized = %v, %v; want true", ok, err)
	}
	stanzas, err := Stanzas(t.Context(), raw)
	if err != nil || fmt.Sprint(stanzas) != fmt.Sprint([]seal.Stanza{stanza}) {
		t.Errorf("Stanzas = %v, %v; want %v", stanzas, err, stanza)
	}
	if got, err := Binding(t.Context(), raw); err != nil || !bytes.Equal(got, BindingOf(root)) {
		t.Errorf("Binding = %x, %v; want %x", got, err, BindingOf(root))
	}
	if _, err := Open(t.Context(), raw, secret.NewBytes(aead.NewKey())); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open with another key: %v; want ErrWrongKey", err)
	}
	if _, err := Open(t.Context(), raw, secret.NewBytes([]byte("short"))); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open with a short key: %v; want ErrWrongKey", err)
	}
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, space(t, b, Core), "mounts", "r", []byte("v"))
	token, derived := b.MAC(ForTokens, []byte("x")), b.Derive("batch-token")
	b.Close()

	b, err = Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := b.Space(t.Context(), Core)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, s, "mounts", "r"); string(got) != "v" || err != nil {
		t.Errorf("Get after opening again = %q, %v; want v", got, err)
	}
	if b.MAC(ForTokens, []byte("x")) != token {
		t.Error("MAC differs after opening again")
	}
	if !bytes.Equal(plain(derived), plain(b.Derive("batch-token"))) || bytes.Equal(plain(derived), plain(b.AuditKey())) {
		t.Error("Derive is not one key for each purpose")
	}
	if b.ClusterID() == "" || strings.Count(b.ClusterID(), "-") != 4 {
		t.Errorf("ClusterID = %q; want a UUID", b.ClusterID())
	}
}

func plain(b secret.Bytes) (p []byte) {
	_ = b.Use(func(k []byte) error {
		p = bytes.Clone(k)
		return nil
	})
	return p
}

func TestMACSeparatesPurposesAndParts(t *testing.T) {
	b, _, _ := made(t)
	seen := map[[32]byte]string{}
	for _, p := range []Purpose{ForTokens, ForAudit, ForLeaks} {
		for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {}} {
			var in [][]byte
			for _, s := range parts {
				in = append(in, []byte(s))
			}
			sum := b.MAC(p, in...)
			if was, ok := seen[sum]; ok {
				t.Errorf("MAC(%d, %q) is that of %s", p, parts, was)
			}
			seen[sum] = fmt.Sprintf("%d %q", p, parts)
		}
	}
}

func TestSpaceIsAStore(t *testing.T) {
	b, _, _ := made(t)
	s := space(t, b, NewSpaceID())
	for i := range 5 {
		put(t, s, "sapp/db", fmt.Sprint("v", i), []byte(fmt.Sprint("value ", i)))
	}
	put(t, s, "sapp/dc", "v0", []byte("other scope"))
	err := s.View(t.Context(), func(r storage.Reader) error {
		items, more, err := r.Scan("sapp/db", "v0", "v4", 2)
		if err != nil || len(items) != 2 || !more || items[0].Row != "v1" || string(items[1].Value) != "value 2" {
			t.Errorf("Scan = %v, %v, %v", items, more, err)
		}
		many, err := r.GetMany([]storage.Key{{Scope: "sapp/db", Row: "v1"}, {Scope: "sapp/db", Row: "w"}})
		if err != nil || string(many[0]) != "value 1" || many[1] != nil {
			t.Errorf("GetMany = %q, %v", many, err)
		}
		if _, err := r.Get(storage.Key{Scope: "sno", Row: "v1"}); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get of nothing: %v; want ErrNotFound", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), storage.Locks{Own: []string{"sapp/db"}}, func(tx storage.Tx) error {
		tx.Delete(storage.Key{Scope: "sapp/db", Row: "v1"})
		tx.Insert(storage.Key{Scope: "sapp/db", Row: "v0"}, []byte("x"))
		return nil
	})
	if !errors.Is(err, storage.ErrExists) {
		t.Errorf("Insert over a row: %v; want ErrExists", err)
	}
	if got, err := get(t, s, "sapp/db", "v1"); string(got) != "value 1" || err != nil {
		t.Errorf("after a failed Update, Get = %q, %v", got, err)
	}
	// Scopes that were not declared are learned.
	err = s.Update(t.Context(), storage.Locks{}, func(tx storage.Tx) error {
		b, err := tx.Get(storage.Key{Scope: "sapp/db", Row: "v1"})
		if err != nil {
			return err
		}
		tx.Put(storage.Key{Scope: "snew", Row: "r"}, b)
		if got, err := tx.Get(storage.Key{Scope: "snew", Row: "r"}); err != nil || !bytes.Equal(got, b) {
			t.Errorf("Get of its own write = %q, %v", got, err)
		}
		return nil
	})
	if got, _ := get(t, s, "snew", "r"); err != nil || string(got) != "value 1" {
		t.Errorf("after an Update that declared nothing: %q, %v", got, err)
	}
}

// all returns every row of the physical scopes given.
func all(t testing.TB, raw storage.Store, scopes ...string) map[storage.Key][]byte {
	t.Helper()
	out := map[storage.Key][]byte{}
	err := raw.View(t.Context(), func(r storage.Reader) error {
		for _, scope := range scopes {
			items, _, err := r.Scan(scope, "", "", 1000)
			if err != nil {
				return err
			}
			for _, i := range items {
				out[storage.Key{Scope: scope, Row: i.Row}] = i.Value
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// changed returns every physical scope that was ever written to.
func changed(t testing.TB, raw storage.Store) []string {
	t.Helper()
	c, err := raw.Changes(t.Context(), 1)
	if err != nil || c.All {
		t.Fatalf("Changes = %+v, %v; want every scope", c, err)
	}
	return c.Scopes
}

func TestNothingIsReadableBelow(t *testing.T) {
	b, raw, _ := made(t)
	s := space(t, b, NewSpaceID())
	const canary = "canary-in-the-mine"
	put(t, s, "s"+canary, "h", []byte(canary+" value"))
	put(t, s, "d"+canary+"/", "p", []byte(canary))
	core, err := b.Space(t.Context(), Core)
	if err != nil {
		t.Fatal(err)
	}
	put(t, core, "p"+canary, "r", []byte(canary))
	wrapped, sealed, err := s.Seal(Value{Kind: 1}, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "s"+canary, "v", append(wrapped, sealed...))

	scopes := changed(t, raw)
	rows := all(t, raw, scopes...)
	if len(rows) < 4+2+3 {
		t.Fatalf("%d rows in %d scopes; want all that was put", len(rows), len(scopes))
	}
	for k, v := range rows {
		for _, bad := range []string{canary, "canary", "mine"} {
			if strings.Contains(k.Scope+"\x00"+k.Row+"\x00"+string(v), bad) {
				t.Errorf("row %q holds %q", k, bad)
			}
		}
	}
	if bytes.Contains(append(wrapped, sealed...), []byte("canary")) {
		t.Error("a sealed value can be read")
	}
}

// Values that are moved to another row, scope, space or cluster do not open there.
func TestMovedRowsDoNotOpen(t *testing.T) {
	b, raw, _ := made(t)
	s1, s2 := space(t, b, NewSpaceID()), space(t, b, NewSpaceID())
	other, otherRaw, _ := made(t)
	o := space(t, other, s1.ID())
	for _, s := range []*Space{s1, s2, o} {
		for _, scope := range []string{"sa", "sb", "da"} {
			put(t, s, scope, "1", []byte("one"))
			put(t, s, scope, "2", []byte("two"))
		}
	}
	from := storage.Key{Scope: s1.Physical("sa"), Row: "1"}
	value := all(t, raw, from.Scope)[from]
	for _, to := range []struct {
		name  string
		raw   storage.Store
		space *Space
		scope string
		row   string
	}{
		{"row", raw, s1, "sa", "2"},
		{"scope", raw, s1, "sb", "1"},
		{"table", raw, s1, "da", "1"},
		{"space", raw, s2, "sa", "1"},
		{"cluster", otherRaw, o, "sa", "1"},
	} {
		if got, err := get(t, to.space, to.scope, to.row); err != nil {
			t.Fatalf("%s: before: %q, %v", to.name, got, err)
		}
		put(t, to.raw, to.space.Physical(to.scope), to.row, value)
		if got, err := get(t, to.space, to.scope, to.row); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("moved to another %s: Get = %q, %v; want ErrCorrupt", to.name, got, err)
		}
	}
	if got, err := get(t, s1, "sa", "1"); string(got) != "one" || err != nil {
		t.Errorf("in its place: Get = %q, %v; want one", got, err)
	}

	// The keys of a space do not open as another's, nor in another cluster.
	record := all(t, raw, KeyScope(s1.ID()))[storage.Key{Scope: KeyScope(s1.ID()), Row: keyRow}]
	for name, to := range map[string]*Space{"space": s2, "cluster": o} {
		put(t, to.b.raw.Store, KeyScope(to.ID()), keyRow, record)
		err := to.Update(t.Context(), storage.Locks{}, func(storage.Tx) error { return nil })
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("keys of another %s: Update: %v; want ErrCorrupt", name, err)
		}
	}
}

func TestMovedValuesDoNotOpen(t *testing.T) {
	b, _, _ := made(t)
	s1, s2 := space(t, b, NewSpaceID()), space(t, b, NewSpaceID())
	other, _, _ := made(t)
	o := space(t, other, s1.ID())
	v := Value{Secret: NewSpaceID(), Version: NewSpaceID(), Kind: 1}
	wrapped, sealed, err := s1.Seal(v, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s1.Unseal(v, wrapped, sealed); string(got) != "plain" || err != nil {
		t.Fatalf("Unseal = %q, %v; want plain", got, err)
	}
	again, sealedAgain, _ := s1.Seal(v, []byte("plain"))
	for name, try := range map[string]func() ([]byte, error){
		"secret":     func() ([]byte, error) { w := v; w.Secret[3]++; return s1.Unseal(w, wrapped, sealed) },
		"version":    func() ([]byte, error) { w := v; w.Version[3]++; return s1.Unseal(w, wrapped, sealed) },
		"kind":       func() ([]byte, error) { w := v; w.Kind++; return s1.Unseal(w, wrapped, sealed) },
		"space":      func() ([]byte, error) { return s2.Unseal(v, wrapped, sealed) },
		"cluster":    func() ([]byte, error) { return o.Unseal(v, wrapped, sealed) },
		"key":        func() ([]byte, error) { return s1.Unseal(v, again, sealed) },
		"ciphertext": func() ([]byte, error) { return s1.Unseal(v, wrapped, sealedAgain) },
		"nothing":    func() ([]byte, error) { return s1.Unseal(v, nil, nil) },
		"no value":   func() ([]byte, error) { return s1.Unseal(v, wrapped, nil) },
	} {
		if got, err := try(); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("with another %s: Unseal = %q, %v; want ErrCorrupt", name, got, err)
		}
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if got, err := s1.Unseal(v, bad, sealed); !refused(err) {
			t.Errorf("byte %d of the wrapped key changed: Unseal = %q, %v", i, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := s1.Unseal(v, wrapped, bad); !refused(err) {
			t.Errorf("byte %d of the value changed: Unseal = %q, %v", i, got, err)
		}
	}
}

// refused reports whether err says that data is damaged, or (where the byte
// that says so is what was damaged) of a newer format.
func refused(err error) bool {
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNewer)
}

func TestDamageIsSeen(t *testing.T) {
	b, raw, root := made(t)
	s := space(t, b, NewSpaceID())
	put(t, s, "sa", "r", []byte("value"))

	at := storage.Key{Scope: s.Physical("sa"), Row: "r"}
	whole := all(t, raw, at.Scope)[at]
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		put(t, raw, at.Scope, at.Row, bad)
		if got, err := get(t, s, "sa", "r"); !refused(err) {
			t.Errorf("byte %d of a row changed: Get = %q, %v", i, got, err)
		}
		put(t, raw, at.Scope, at.Row, whole[:i])
		if got, err := get(t, s, "sa", "r"); !refused(err) {
			t.Errorf("row cut at %d: Get = %q, %v", i, got, err)
		}
	}
	put(t, raw, at.Scope, at.Row, whole)

	for _, k := range []storage.Key{{Scope: keyringScope, Row: keyringRow}, {Scope: keyringScope, Row: sealRow}, {Scope: KeyScope(Core), Row: keyRow}} {
		whole := all(t, raw, k.Scope)[k]
		for i := range whole {
			bad := bytes.Clone(whole)
			bad[i] ^= 0x10
			put(t, raw, k.Scope, k.Row, bad)
			err := openAll(t.Context(), raw, root)
			if !refused(err) {
				t.Errorf("byte %d of %q changed: %v", i, k, err)
			}
			if errors.Is(err, ErrWrongKey) {
				t.Errorf("byte %d of %q changed: %v; damage is not a wrong key", i, k, err)
			}
		}
		put(t, raw, k.Scope, k.Row, whole)
	}
	if err := openAll(t.Context(), raw, root); err != nil {
		t.Errorf("all put back: %v", err)
	}
}

func openAll(ctx context.Context, raw storage.Store, root secret.Bytes) error {
	b, err := Open(ctx, raw, root)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = b.Space(ctx, Core)
	return err
}

func TestSealGenerationsMustAgree(t *testing.T) {
	b, raw, root := made(t)
	at := storage.Key{Scope: keyringScope, Row: sealRow}
	old := all(t, raw, at.Scope)[at]
	err := b.SetStanzas(t.Context(), func(s []seal.Stanza) ([]seal.Stanza, error) {
		return append(s, seal.Stanza{Kind: "second"}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Stanzas(t.Context(), raw)
	if err != nil || len(got) != 2 || got[1].Kind != "second" {
		t.Errorf("Stanzas = %v, %v; want a second one", got, err)
	}
	if err := openAll(t.Context(), raw, root); err != nil {
		t.Errorf("Open after a slot was added: %v", err)
	}
	if err := b.SetStanzas(t.Context(), func([]seal.Stanza) ([]seal.Stanza, error) { return nil, nil }); err == nil {
		t.Error("SetStanzas took every slot away")
	}
	put(t, raw, at.Scope, at.Row, old)
	if err := openAll(t.Context(), raw, root); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Open with an old row of slots: %v; want ErrCorrupt", err)
	}
}

func TestDropSpaceDestroys(t *testing.T) {
	b, raw, _ := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	put(t, s, "sa", "r", []byte("x"))
	over := s.Physical("sa")
	if err := b.AddSpace(t.Context(), id); err != nil {
		t.Fatalf("AddSpace again: %v", err)
	}
	if got, err := get(t, s, "sa", "r"); string(got) != "x" || err != nil {
		t.Fatalf("after AddSpace again: Get = %q, %v", got, err)
	}
	for range 2 {
		if err := b.DropSpace(t.Context(), id); err != nil {
			t.Fatalf("DropSpace: %v", err)
		}
	}
	if _, err := b.Space(t.Context(), id); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Space after DropSpace: %v; want ErrNoSpace", err)
	}
	if _, err := get(t, s, "sa", "r"); !errors.Is(err, ErrNoSpace) {
		t.Errorf("View after DropSpace: %v; want ErrNoSpace", err)
	}
	if err := s.Update(t.Context(), storage.Locks{}, func(storage.Tx) error { return nil }); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Update after DropSpace: %v; want ErrNoSpace", err)
	}
	err := raw.Update(t.Context(), storage.Locks{Own: []string{over}, Join: []string{s.KeyScope()}}, func(tx storage.Tx) error {
		v := s.OverTx(tx)
		if _, err := v.Get(storage.Key{Scope: "sa", Row: "r"}); !errors.Is(err, ErrNoSpace) {
			t.Errorf("OverTx.Get after DropSpace: %v; want ErrNoSpace", err)
		}
		v.Put(storage.Key{Scope: "sa", Row: "r2"}, []byte("plain"))
		return nil
	})
	if err == nil {
		t.Error("a transaction that wrote to a dropped space was kept")
	}
	// The same id again has other keys: what was there does not open.
	s = space(t, b, id)
	if s.Physical("sa") == over {
		t.Error("a space that is added again has its old name key")
	}
}

// An Update that began before a space was dropped by another node is refused.
func TestUpdateChecksTheKeys(t *testing.T) {
	b, raw, root := made(t)
	id := NewSpaceID()
	s := space(t, b, id)
	second, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.DropSpace(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), storage.Locks{Own: []string{"sa"}}, func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "sa", Row: "r"}, []byte("x"))
		return nil
	})
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("Update of a space that is gone: %v; want ErrNoSpace", err)
	}
	// Keys that were changed elsewhere are taken up, by readers and writers.
	if err := second.AddSpace(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	put(t, s, "sa", "r", []byte("new"))
	other, err := second.Space(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, other, "sa", "r"); string(got) != "new" || err != nil {
		t.Errorf("Get = %q, %v; want new", got, err)
	}
}

func TestSpacesShareATransaction(t *testing.T) {
	b, _, _ := made(t)
	s1, s2 := space(t, b, NewSpaceID()), space(t, b, NewSpaceID())
	raw := b.Raw()
	if _, ok := raw.(storage.Near); !ok {
		t.Error("Raw hides that the store is near")
	}
	locks := storage.Locks{Own: []string{s1.Physical("sa"), s2.Physical("sb")}, Join: []string{s1.KeyScope(), s2.KeyScope()}}
	carried, done := 0, 0
	ctx := storage.WithRider(t.Context(), &storage.Rider{
		Locks: storage.Locks{Own: []string{"Orider"}},
		Write: func(tx storage.Tx) error {
			carried++
			tx.Put(storage.Key{Scope: "Orider", Row: "r"}, []byte("r"))
			return nil
		},
		Done: func() { done++ },
	})
	for range 2 {
		err := raw.Update(ctx, locks, func(tx storage.Tx) error {
			s1.OverTx(tx).Put(storage.Key{Scope: "sa", Row: "r"}, []byte("1"))
			s2.OverTx(tx).Put(storage.Key{Scope: "sb", Row: "r"}, []byte("2"))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if carried == 0 || done != 1 {
		t.Errorf("rider written %d times and done %d times; want done once", carried, done)
	}
	_ = raw.View(t.Context(), func(r storage.Reader) error {
		if got, err := s1.Over(r).Get(storage.Key{Scope: "sa", Row: "r"}); string(got) != "1" || err != nil {
			t.Errorf("Get = %q, %v; want 1", got, err)
		}
		if got, err := s2.Over(r).Get(storage.Key{Scope: "sb", Row: "r"}); string(got) != "2" || err != nil {
			t.Errorf("Get = %q, %v; want 2", got, err)
		}
		return nil
	})
}

func TestRider(t *testing.T) {
	b, raw, _ := made(t)
	s := space(t, b, NewSpaceID())
	boom := errors.New("boom")
	var fail error
	done := 0
	rider := &storage.Rider{
		Locks: storage.Locks{Own: []string{"Orider"}},
		Write: func(tx storage.Tx) error {
			tx.Put(storage.Key{Scope: "Orider", Row: "r"}, []byte("r"))
			return fail
		},
		Done: func() { done++ },
	}
	ctx := storage.WithRider(t.Context(), rider)
	outcome := error(nil)
	write := func(tx storage.Tx) error {
		tx.Put(storage.Key{Scope: "sa", Row: "r"}, []byte("x"))
		return outcome
	}
	lost := func(when string) {
		t.Helper()
		if n := len(all(t, raw, "Orider", s.Physical("sa"))); n != 0 || done != 0 {
			t.Errorf("%s: %d rows kept, done %d times; want none", when, n, done)
		}
	}
	locks := storage.Locks{Own: []string{"sa"}}
	outcome = boom
	if err := s.Update(ctx, locks, write); !errors.Is(err, boom) {
		t.Errorf("Update = %v; want boom", err)
	}
	outcome = nil
	lost("the function failed")
	fail = boom
	if err := s.Update(ctx, locks, write); !errors.Is(err, boom) {
		t.Errorf("Update = %v; want boom", err)
	}
	lost("the rider failed")
	fail = nil
	for range 3 {
		if err := s.Update(ctx, locks, write); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(all(t, raw, "Orider", s.Physical("sa"))); n != 2 || done != 1 {
		t.Errorf("%d rows kept, done %d times; want 2 and once", n, done)
	}
}

func TestClosed(t *testing.T) {
	b, _, _ := made(t)
	s := space(t, b, NewSpaceID())
	root := b.root
	if b.root.Len() != 32 {
		t.Fatalf("root key of %d bytes", b.root.Len())
	}
	b.Close()
	b.Close()
	if root.Len() != 0 {
		t.Error("Close left the root key")
	}
	if _, err := b.Space(t.Context(), Core); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Space: %v; want ErrClosed", err)
	}
	if _, err := get(t, s, "sa", "r"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("View: %v; want ErrClosed", err)
	}
	if err := s.Update(t.Context(), storage.Locks{}, func(storage.Tx) error { return nil }); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Update: %v; want ErrClosed", err)
	}
	if _, _, err := s.Seal(Value{}, nil); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Seal: %v; want ErrClosed", err)
	}
	if _, err := s.Unseal(Value{}, nil, nil); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Unseal: %v; want ErrClosed", err)
	}
	if err := b.AddSpace(t.Context(), NewSpaceID()); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("AddSpace: %v; want ErrClosed", err)
	}
	if _, err := b.Root(); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Root: %v; want ErrClosed", err)
	}
	if got := s.Physical("sa"); got != "" {
		t.Errorf("Physical = %q; want nothing", got)
	}
}

func TestSpaceID(t *testing.T) {
	id := NewSpaceID()
	if got, err := ParseSpaceID(id.String()); got != id || err != nil {
		t.Errorf("ParseSpaceID(%q) = %v, %v", id, got, err)
	}
	for _, bad := range []string{"", "0", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32)} {
		if got, err := ParseSpaceID(bad); err == nil {
			t.Errorf("ParseSpaceID(%q) = %v; want an error", bad, got)
		}
	}
}

func BenchmarkSpace(b *testing.B) {
	bar, _, _ := made(b)
	s := space(b, bar, NewSpaceID())
	value := make([]byte, 300)
	rand.Read(value)
	put(b, s, "sapp/db", "r", value)
	key := storage.Key{Scope: "sapp/db", Row: "r"}
	b.Run("physical", func(b *testing.B) {
		for b.Loop() {
			s.Physical(key.Scope)
		}
	})
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		_ = s.View(b.Context(), func(r storage.Reader) error {
			for b.Loop() {
				if _, err := r.Get(key); err != nil {
					b.Fatal(err)
				}
			}
			return nil
		})
	})
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			_ = s.View(b.Context(), func(r storage.Reader) error { _, err := r.Get(key); return err })
		}
	})
	k := s.keys.Load()
	t := &tx{reader: reader{s: s, keys: k}}
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t.seal(key, value)
		}
	})
	b.Run("update", func(b *testing.B) {
		locks := storage.Locks{Own: []string{key.Scope}}
		for b.Loop() {
			_ = s.Update(b.Context(), locks, func(tx storage.Tx) error { tx.Put(key, bytes.Clone(value)); return nil })
		}
	})
	b.Run("value-seal", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = s.Seal(Value{}, value)
		}
	})
	w, sealed, _ := s.Seal(Value{}, value)
	b.Run("value-unseal", func(b *testing.B) {
		for b.Loop() {
			_, _ = s.Unseal(Value{}, w, sealed)
		}
	})
	b.Run("mac", func(b *testing.B) {
		b.ReportAllocs()
		in := value[:32]
		for b.Loop() {
			bar.MAC(ForTokens, in)
		}
	})
}
