// Package sealtest holds every [seal.Sealer] to its contract.
package sealtest

import (
	"bytes"
	"errors"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
)

// Kit makes Sealers to be tested.
type Kit struct {
	// Kind is that of their stanzas.
	Kind string

	// Fresh returns two Sealers that have a fresh key in common: one that
	// seals, and one, made anew, that unseals what the first has sealed last.
	Fresh func(t *testing.T) (sealer, opener seal.Sealer)

	// Stride is how many bytes are left out between those that are tampered
	// with, where opening is slow on purpose.
	Stride int
}

// Conform tests the Sealers of a kit.
func Conform(t *testing.T, kit Kit) {
	t.Helper()
	binding := []byte("cluster one")
	sealed := func(t *testing.T) (root secret.Bytes, st seal.Stanza, opener seal.Sealer) {
		t.Helper()
		sealer, opener := kit.Fresh(t)
		root = secret.NewBytes(aead.NewKey())
		st, err := sealer.Seal(t.Context(), root, binding)
		if err != nil {
			t.Fatalf("Seal: %v", err)
		}
		return root, st, opener
	}
	opens := func(t *testing.T, what string, opener seal.Sealer, root secret.Bytes, stanzas ...seal.Stanza) {
		t.Helper()
		got, err := opener.Unseal(t.Context(), stanzas, binding)
		if err != nil || !same(got, root) {
			t.Errorf("%s: Unseal = %d bytes, %v; want the root key", what, got.Len(), err)
		}
	}
	refuses := func(t *testing.T, what string, opener seal.Sealer, binding []byte, stanzas ...seal.Stanza) error {
		t.Helper()
		got, err := opener.Unseal(t.Context(), stanzas, binding)
		if err == nil || got.Len() != 0 {
			t.Errorf("%s: Unseal = %d bytes, %v; want an error", what, got.Len(), err)
		}
		return err
	}

	t.Run("what is sealed opens", func(t *testing.T) {
		root, st, opener := sealed(t)
		if st.Kind != kit.Kind {
			t.Errorf("stanza of kind %q; want %q", st.Kind, kit.Kind)
		}
		opens(t, "one stanza", opener, root, st)
		opens(t, "again", opener, root, st)
		_ = root.Use(func(plain []byte) error {
			if bytes.Contains(st.Body, plain) {
				t.Error("the stanza holds the root key")
			}
			return nil
		})
		b, err := st.Append(nil)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		parsed, rest, err := seal.ParseStanza(b)
		if err != nil || len(rest) != 0 {
			t.Fatalf("ParseStanza: %d bytes left, %v", len(rest), err)
		}
		opens(t, "a stanza that was written and read", opener, root, parsed)
	})
	t.Run("one stanza among others", func(t *testing.T) {
		root, st, opener := sealed(t)
		_, other, _ := sealed(t)
		stranger := seal.Stanza{Kind: "stranger", Body: []byte("x")}
		opens(t, "behind one of another kind", opener, root, stranger, st)
		if kit.Kind != "shamir" { // whose people bring the shares of one set
			opens(t, "behind one of another key", opener, root, other, st)
		}
		opens(t, "before one of another key", opener, root, st, other)
	})
	t.Run("not mine", func(t *testing.T) {
		_, st, opener := sealed(t)
		for what, stanzas := range map[string][]seal.Stanza{
			"no stanza":       nil,
			"another's":       {{Kind: "stranger", Args: st.Args, Body: st.Body}},
			"kind's prefix":   {{Kind: kit.Kind[1:], Args: st.Args, Body: st.Body}},
			"two of others'":  {{Kind: "a"}, {Kind: "b"}},
			"kind and suffix": {{Kind: kit.Kind + "2", Args: st.Args, Body: st.Body}},
		} {
			if err := refuses(t, what, opener, binding, stanzas...); !errors.Is(err, seal.ErrNotMine) {
				t.Errorf("%s: Unseal: %v; want ErrNotMine", what, err)
			}
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		_, _, opener := sealed(t)
		_, other, _ := sealed(t)
		err := refuses(t, "another key", opener, binding, other)
		if !errors.Is(err, seal.ErrWrongKey) && !errors.Is(err, seal.ErrBadShare) {
			t.Errorf("another key: Unseal: %v; want ErrWrongKey or ErrBadShare", err)
		}
	})
	t.Run("wrong binding", func(t *testing.T) {
		_, st, opener := sealed(t)
		for _, b := range []string{"", "cluster two", "cluster one\x00", "cluster on"} {
			if err := refuses(t, "binding "+b, opener, []byte(b), st); errors.Is(err, seal.ErrNotMine) || errors.Is(err, seal.ErrMoreShares) {
				t.Errorf("binding %q: Unseal: %v; want a failure", b, err)
			}
		}
	})
	t.Run("tampered", func(t *testing.T) {
		_, st, opener := sealed(t)
		tampered := func(what string, st seal.Stanza) {
			t.Helper()
			if err := refuses(t, what, opener, binding, st); errors.Is(err, seal.ErrNotMine) || errors.Is(err, seal.ErrMoreShares) {
				t.Errorf("%s: Unseal: %v; want a failure", what, err)
			}
		}
		for i := 0; i < len(st.Body); i += 1 + kit.Stride {
			bad := st
			bad.Body = bytes.Clone(st.Body)
			bad.Body[i] ^= 4
			tampered("a byte of the body changed", bad)
			bad.Body = st.Body[:i]
			tampered("the body cut", bad)
		}
		for i, arg := range st.Args {
			for at := 0; at < len(arg); at += 1 + kit.Stride {
				b := []byte(arg)
				b[at] ^= 1
				bad := st
				bad.Args = append([]string{}, st.Args...)
				bad.Args[i] = string(b)
				tampered("an argument changed", bad)
			}
		}
		bad := st
		bad.Args = append(append([]string{}, st.Args...), "more")
		tampered("an argument added", bad)
	})
	t.Run("no two stanzas alike", func(t *testing.T) {
		sealer, _ := kit.Fresh(t)
		root := secret.NewBytes(aead.NewKey())
		a, err1 := sealer.Seal(t.Context(), root, binding)
		b, err2 := sealer.Seal(t.Context(), root, binding)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a.Body, b.Body) {
			t.Error("sealing twice gives the same body")
		}
	})
	t.Run("what is no root key", func(t *testing.T) {
		sealer, _ := kit.Fresh(t)
		for _, root := range []secret.Bytes{{}, secret.NewBytes(nil), secret.NewBytes(make([]byte, 31))} {
			if _, err := sealer.Seal(t.Context(), root, binding); err == nil {
				t.Errorf("Seal of %d bytes: no error", root.Len())
			}
		}
	})
}

func same(a, b secret.Bytes) (equal bool) {
	_ = a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			equal = len(x) > 0 && bytes.Equal(x, y)
			return nil
		})
	})
	return equal
}
