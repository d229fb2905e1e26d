package seal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotunda.dev/rotunda/internal/seal"
)

func TestStanzaBounds(t *testing.T) {
	for name, s := range map[string]seal.Stanza{
		"no kind":   {},
		"long kind": {Kind: strings.Repeat("k", 65)},
		"many args": {Kind: "k", Args: make([]string, 65)},
		"long arg":  {Kind: "k", Args: []string{strings.Repeat("a", 4097)}},
		"long body": {Kind: "k", Body: make([]byte, 64<<10+1)},
	} {
		if _, err := s.Append(nil); err == nil {
			t.Errorf("%s: Append: no error", name)
		}
	}
}

func FuzzParseStanza(f *testing.F) {
	for _, s := range []seal.Stanza{{Kind: "k"}, {Kind: "shamir", Args: []string{"5", "3", ""}, Body: []byte("body")}} {
		b, err := s.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, "rest"...))
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := seal.ParseStanza(b)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("ParseStanza(%x): %v; want ErrDamaged", b, err)
			}
			return
		}
		again, err := s.Append(nil)
		if err != nil {
			t.Fatalf("Append of what was parsed from %x: %v", b, err)
		}
		if !bytes.Equal(append(again, rest...), b) {
			t.Errorf("%x re-encodes as %x with %x behind it", b, again, rest)
		}
		back, _, err := seal.ParseStanza(again)
		if err != nil || !cmp.Equal(back, s) {
			t.Errorf("ParseStanza(%x) = %v, %v; want %v", again, back, err, s)
		}
	})
}

func TestReadPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if _, err := seal.ReadPrivate(path, 4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v; want ErrNotExist", err)
	}
	if _, err := seal.ReadPrivate(dir, 4); err == nil {
		t.Error("a directory: no error")
	}
	for size, want := range map[int]bool{0: true, 3: true, 4: true, 5: false} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := seal.ReadPrivate(path, 4)
		if (err == nil) != want || err == nil && b.Len() != size {
			t.Errorf("%d bytes, limit 4: %d bytes, %v", size, b.Len(), err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false, 0o666: false, 0o601: false} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.ReadPrivate(path, 4); (err == nil) != want {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}
