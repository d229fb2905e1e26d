package bolt_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotunda.dev/rotunda/internal/storage"
	"rotunda.dev/rotunda/internal/storage/bolt"
)

var update = flag.Bool("update", false, "write the store of this schema version to testdata/stores")

// golden are the rows of every store in testdata/stores.
func golden() map[storage.Key]string {
	rows := map[storage.Key]string{
		{Scope: "", Row: ""}:                            "both empty",
		{Scope: "empty", Row: "value"}:                  "",
		{Scope: "s\x00\xff", Row: "h\x00"}:              "\x00\xff",
		{Scope: "long", Row: strings.Repeat("r", 1020)}: "longest key",
		{Scope: "long", Row: "value"}:                   strings.Repeat("0123456789", 1000),
	}
	for i := range 100 {
		rows[storage.Key{Scope: "many", Row: fmt.Sprintf("%04d", i)}] = fmt.Sprint("value ", i)
	}
	return rows
}

// Stores of every schema version open for ever, and have what they had.
func TestOldStores(t *testing.T) {
	ctx := t.Context()
	current := filepath.Join("testdata", "stores", fmt.Sprint(bolt.Schema), bolt.FileName)
	if _, err := os.Stat(current); *update && errors.Is(err, os.ErrNotExist) {
		s := open(t, filepath.Join(t.TempDir(), "store"), bolt.Config{})
		for k, v := range golden() {
			if err := put(ctx, s, k.Scope, k.Row, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Dir(current), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(current)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.WriteTo(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for v := 1; v <= bolt.Schema; v++ {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", "stores", fmt.Sprint(v), bolt.FileName))
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "store")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, bolt.FileName), b, 0o600)); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, bolt.Config{})
			if err := s.Check(ctx); err != nil {
				t.Errorf("Check = %v", err)
			}
			n := 0
			if err := s.View(ctx, func(r storage.Reader) error {
				for k, want := range golden() {
					if got, err := r.Get(k); string(got) != want || err != nil {
						t.Errorf("Get(%q) = %q, %v; want %q", k, got, err, want)
					}
				}
				for _, scope := range []string{"", "empty", "s\x00\xff", "long", "many"} {
					items, _, err := r.Scan(scope, "", "", 0)
					if err != nil {
						return err
					}
					n += len(items)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if n != len(golden()) {
				t.Errorf("%d rows, want %d", n, len(golden()))
			}
			if err := put(ctx, s, "s", "later", "v"); err != nil {
				t.Errorf("Update = %v", err)
			}
		})
	}
}
