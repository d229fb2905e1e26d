package keyfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/aead"
	"rotunda.dev/rotunda/internal/seal"
	"rotunda.dev/rotunda/internal/seal/keyfile"
	"rotunda.dev/rotunda/internal/seal/sealtest"
	"rotunda.dev/rotunda/internal/secret"
)

func made(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unseal.key")
	if err := keyfile.Create(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConform(t *testing.T) {
	sealtest.Conform(t, sealtest.Kit{Kind: keyfile.Kind, Fresh: func(t *testing.T) (seal.Sealer, seal.Sealer) {
		path := made(t)
		return keyfile.New(keyfile.Config{Path: path}), keyfile.New(keyfile.Config{Path: path})
	}})
}

func TestCreate(t *testing.T) {
	path := made(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); info.Size() != 32 || mode != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("key file of %d bytes and mode %04o; want 32 and 0600", info.Size(), mode)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create over a key file: %v; want ErrExist", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Error("Create changed a key file that was there")
	}
}

// What a crash left of making a key file is removed by the next who makes it,
// and a copy that somebody keeps beside it is not.
func TestCreateAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "unseal.key")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".unseal.key.new-1"), make([]byte, 7), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".1", make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(filepath.Dir(path), ".unseal.key.new-2")); err != nil { // it ended between its two names
		t.Fatal(err)
	}
	if err := keyfile.Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create over a key file: %v; want ErrExist", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "unseal.key unseal.key.1" {
		t.Errorf("the directory holds %s; want the key and the copy", got)
	}
}

func TestBadFiles(t *testing.T) {
	path := made(t)
	s := keyfile.New(keyfile.Config{Path: path})
	root := secret.NewBytes(aead.NewKey())
	st, err := s.Seal(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		damage     func() error
		is         error
	}{
		{"short", "not a key file", func() error { return os.WriteFile(path, make([]byte, 31), 0o600) }, seal.ErrDamaged},
		{"long", "more than 32", func() error { return os.WriteFile(path, make([]byte, 33), 0o600) }, seal.ErrDamaged},
		{"another key", "holds key", func() error { return os.WriteFile(path, make([]byte, 32), 0o600) }, seal.ErrWrongKey},
		{"gone", path, func() error { return os.Remove(path) }, os.ErrNotExist},
	} {
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Unseal(t.Context(), []seal.Stanza{st}, nil)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Unseal: %v; want one that says %q", c.name, err, c.want)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	path = made(t)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.New(keyfile.Config{Path: path}).Seal(t.Context(), root, nil); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("Seal with a key that the group can read: %v; want an error that names the mode", err)
	}
}
