package barrier

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
	"rotunda.dev/rotunda/internal/storage/mem"
	"rotunda.dev/rotunda/internal/storage/storagetest"
)

func TestNothingIsReadableOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store") // made for its owner alone
	raw, err := bolt.Open(dir, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	root := secret.NewBytes(aead.NewKey())
	if err := Create(t.Context(), raw, root, []seal.Stanza{stanza}); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), raw, root)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := space(t, b, NewSpaceID())
	const canary = "canary-in-the-mine"
	for range 3 { // pages that were freed are looked at too
		put(t, s, "s"+canary, "h", []byte(canary))
		wrapped, sealed, err := s.Seal(Value{Kind: 1}, []byte(canary))
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "s"+canary, "v", append(wrapped, sealed...))
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	disk := os.DirFS(dir)
	err = fs.WalkDir(disk, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		whole, err := fs.ReadFile(disk, path)
		if err != nil {
			return err
		}
		seen += len(whole)
		for _, bad := range [][]byte{[]byte("canary"), []byte("the-mine"), plain(root)} {
			if bytes.Contains(whole, bad) {
				t.Errorf("%s holds what should not be readable", path)
			}
		}
		return nil
	})
	if err != nil || seen < 4096 {
		t.Errorf("%d bytes looked at, %v", seen, err)
	}
}

// A crash leaves a store that is as it was, or as it was to be.
func TestCreateIsAtomic(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	storagetest.EachFailure(t, func(testing.TB) storage.Store { return mem.New(mem.Config{}) },
		func(s storage.Store) error { return Create(t.Context(), s, root, []seal.Stanza{stanza}) },
		func(t testing.TB, s storage.Store) {
			there, err := Initialized(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if err := openAll(t.Context(), s, root); there && err != nil || !there && !errors.Is(err, ErrUninitialized) {
				t.Errorf("initialized: %t, Open: %v", there, err)
			}
		})
}

func TestSetStanzasIsAtomic(t *testing.T) {
	root := secret.NewBytes(aead.NewKey())
	storagetest.EachFailure(t,
		func(t testing.TB) storage.Store {
			s := mem.New(mem.Config{})
			if err := Create(t.Context(), s, root, []seal.Stanza{stanza}); err != nil {
				t.Fatal(err)
			}
			return s
		},
		func(s storage.Store) error {
			b, err := Open(t.Context(), s, root)
			if err != nil {
				return err
			}
			defer b.Close()
			return b.SetStanzas(t.Context(), func(old []seal.Stanza) ([]seal.Stanza, error) {
				return append(old, seal.Stanza{Kind: "second"}), nil
			})
		},
		func(t testing.TB, s storage.Store) {
			if err := openAll(t.Context(), s, root); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
}
