package aead

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Ciphers are used in this package and in no other, so that one page says how
// everything is encrypted.
func TestNoOtherPackageEncrypts(t *testing.T) {
	denied := map[string]bool{
		"crypto/aes": true, "crypto/cipher": true, "crypto/des": true, "crypto/rc4": true,
		"golang.org/x/crypto/chacha20": true, "golang.org/x/crypto/chacha20poly1305": true,
		"golang.org/x/crypto/nacl/box": true, "golang.org/x/crypto/nacl/secretbox": true,
	}
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != "." || d.Name() == "testdata" || d.Name() == "node_modules" || file == "test") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasPrefix(file, "internal/aead/") {
			return nil
		}
		src, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			if imp, err := strconv.Unquote(spec.Path.Value); err == nil && denied[imp] {
				t.Errorf("%s imports %s: encryption is in internal/aead and nowhere else", file, imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
