package replay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/secret"
	"rotunda.dev/rotunda/internal/server/servertest"
)

// sources calls fn with every file of the program, tests aside.
func sources(t *testing.T, fn func(path string, set *token.FileSet, f *ast.File)) {
	t.Helper()
	n := 0
	for _, dir := range []string{"internal", "cmd"} {
		root := os.DirFS(filepath.Join("..", "..", dir))
		err := fs.WalkDir(root, ".", func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "test/") {
				return err
			}
			b, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, b, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			n++
			fn(dir+"/"+path, set, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 100 {
		t.Errorf("%d files; want at least 100", n)
	}
}

// TestH059SecretsAreNotComparedByEquals looks for comparisons that stop at the
// first difference: the types of secrets have none, and no code compares what
// they reveal.
func TestH059SecretsAreNotComparedByEquals(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{reflect.TypeFor[secret.Text](), reflect.TypeFor[secret.JSON](), reflect.TypeFor[secret.Bytes]()} {
		if typ.Comparable() {
			t.Errorf("%v can be compared by ==", typ)
		}
	}
	if !secret.New("a").Equal(secret.New("a")) || secret.New("a").Equal(secret.New("b")) {
		t.Error("Equal does not compare")
	}
	reveals := func(e ast.Expr) bool {
		c, ok := e.(*ast.CallExpr)
		if !ok {
			return false
		}
		s, ok := c.Fun.(*ast.SelectorExpr)
		if ok && s.Sel.Name == "Reveal" {
			return true
		}
		for _, a := range c.Args { // string(x.Reveal())
			if inner, ok := a.(*ast.CallExpr); ok && len(c.Args) == 1 {
				if s, ok := inner.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
					f, ok := c.Fun.(*ast.Ident)
					return ok && f.Name == "string"
				}
			}
		}
		return false
	}
	isCiphertext := func(e ast.Expr) bool {
		i, ok := e.(*ast.Ident)
		return ok && (i.Name == "sealed" || i.Name == "record")
	}
	isEmptyText := func(e ast.Expr) bool { l, ok := e.(*ast.BasicLit); return ok && l.Value == `""` }
	sources(t, func(path string, set *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.BinaryExpr:
				if (x.Op == token.EQL || x.Op == token.NEQ) && (reveals(x.X) || reveals(x.Y)) && !isEmptyText(x.X) && !isEmptyText(x.Y) {
					t.Errorf("%s: a secret is compared by %s", set.Position(x.Pos()), x.Op)
				}
			case *ast.CallExpr:
				s, ok := x.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, _ := s.X.(*ast.Ident)
				if pkg == nil {
					return true
				}
				full := pkg.Name + "." + s.Sel.Name
				sensitive := slices.ContainsFunc([]string{"internal/token/", "internal/seal/", "internal/barrier/", "internal/aead/", "internal/secret/", "internal/gate/"}, func(p string) bool { return strings.HasPrefix(path, p) })
				if full == "strings.Compare" || full == "bytes.Compare" || full == "bytes.Equal" || full == "strings.EqualFold" || full == "hmac.New" && len(x.Args) != 2 {
					for _, a := range x.Args {
						if reveals(a) || sensitive && full == "bytes.Equal" && !slices.ContainsFunc(x.Args, isCiphertext) {
							t.Errorf("%s: %s where a comparison in constant time belongs", set.Position(x.Pos()), full)
							break
						}
					}
				}
			}
			return true
		})
	})
}

// TestH129FieldArithmeticHasNoTables looks into the arithmetic of Shamir's
// scheme for an index or a branch that a secret could decide, and opens a
// server with shares.
func TestH129FieldArithmeticHasNoTables(t *testing.T) {
	t.Parallel()
	sources(t, func(path string, set *token.FileSet, f *ast.File) {
		if path != "internal/seal/shamir/field.go" {
			return
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
					t.Errorf("%s: a variable of the package, such as a table", set.Position(d.Pos()))
				}
				continue
			}
			if fn.Name.Name == "weights" {
				continue // its input, the shares' numbers, is public
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n.(type) {
				case *ast.IndexExpr, *ast.IfStmt, *ast.SwitchStmt:
					t.Errorf("%s: an index or a branch in %s", set.Position(n.Pos()), fn.Name.Name)
				}
				return true
			})
		}
	})
	r := servertest.Start(t, servertest.Config{Shares: 5, Threshold: 3})
	r.Must(r.Root, http.MethodPost, "secret/data/a", `{"data":{"a":"b"}}`)
	r.Restart()
	flip := func(s string) string {
		c := byte('0')
		if s[10] == c {
			c = '1'
		}
		return s[:10] + string(c) + s[11:]
	}
	for _, bad := range []string{flip(r.Shares[0]), r.Shares[0][:20], "", strings.Repeat("00", 33), "not a share " + canary, r.Shares[0] + "00"} {
		got := r.Do("", http.MethodPut, "sys/unseal", `{"key":`+quote(bad)+`}`)
		if got.Status != http.StatusBadRequest || !isGeneric(got.Body) || bad != "" && strings.Contains(string(got.Body), bad) {
			t.Errorf("a bad share = %d %s; want 400", got.Status, got.Body)
		}
	}
	r.Must("", http.MethodPut, "sys/unseal", `{"key":"`+r.Shares[0]+`"}`)
	if got := r.Do("", http.MethodPut, "sys/unseal", `{"key":"`+r.Shares[0]+`"}`); got.Status == http.StatusOK && got.Number("progress") != 1 {
		t.Errorf("the same share again = %d %s; want it counted once", got.Status, got.Body)
	}
	if got := r.Do(r.Root, http.MethodGet, "secret/data/a", ""); got.Status != http.StatusServiceUnavailable {
		t.Errorf("with one share of three = %d; want 503", got.Status)
	}
	r.Must("", http.MethodPut, "sys/unseal", `{"key":"`+r.Shares[4]+`"}`)
	r.Must("", http.MethodPut, "sys/unseal", `{"key":"`+r.Shares[2]+`"}`)
	r.Must(r.Root, http.MethodGet, "secret/data/a", "")
	if leaks(r.Log()) {
		t.Error("the log shows a share")
	}
	for _, s := range r.Shares {
		if strings.Contains(r.Log(), s) {
			t.Error("the log shows a share")
		}
	}
}

// TestH132RandomnessIsTheSystems looks for any other source of it.
func TestH132RandomnessIsTheSystems(t *testing.T) {
	t.Parallel()
	kits := []string{"internal/bench/"} // loads, no keys
	sources(t, func(path string, set *token.FileSet, f *ast.File) {
		for _, imp := range f.Imports {
			if v := imp.Path.Value; strings.HasPrefix(v, `"math/rand`) && !slices.ContainsFunc(kits, func(k string) bool { return strings.HasPrefix(path, k) }) {
				t.Errorf("%s imports %s", path, v)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok {
				for _, l := range a.Lhs {
					if s, ok := l.(*ast.SelectorExpr); ok {
						if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "rand" {
							t.Errorf("%s: the source of randomness is replaced", set.Position(a.Pos()))
						}
					}
				}
			}
			return true
		})
	})
	b := make([]byte, 32)
	if n, err := rand.Read(b); n != 32 || err != nil || bytes.Equal(b, make([]byte, 32)) {
		t.Errorf("Read = %d, %v", n, err)
	}
}

// authority makes a certificate authority in dir, and a certificate of it for clients.
func authority(t *testing.T, dir string) (ca string, client tls.Certificate) {
	t.Helper()
	made := func(template, parent *x509.Certificate, key *ecdsa.PrivateKey, by *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, leaf := key(), key()
	now := time.Now()
	top := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := made(top, top, root, root)
	ca = filepath.Join(dir, "clients.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	low := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "client"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	return ca, tls.Certificate{Certificate: [][]byte{made(low, top, leaf, root)}, PrivateKey: leaf}
}

// TestH126ListenersShareOneTLS has clients without a certificate, of another
// authority, and of old versions, at each listener.
func TestH126ListenersShareOneTLS(t *testing.T) {
	t.Parallel()
	ca, mine := authority(t, t.TempDir())
	_, other := authority(t, t.TempDir())
	r := servertest.Start(t, servertest.Config{ClientCA: ca, Secondary: true, Uninitialized: true})
	for _, address := range []string{r.Address, r.Second} {
		try := func(change func(*tls.Config)) error {
			c := r.TLS.Clone()
			change(c)
			conn, err := tls.Dial("tcp", address, c)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			if err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 100))
			return err
		}
		if err := try(func(c *tls.Config) { c.Certificates = []tls.Certificate{mine} }); err != nil {
			t.Errorf("%s: with a certificate: %v", address, err)
		}
		for what, change := range map[string]func(*tls.Config){
			"without a certificate": func(*tls.Config) {},
			"of another authority":  func(c *tls.Config) { c.Certificates = []tls.Certificate{other} },
			"the server's own authority": func(c *tls.Config) {
				c.Certificates = []tls.Certificate{{Certificate: mine.Certificate, PrivateKey: other.PrivateKey}}
			},
			"TLS 1.2": func(c *tls.Config) { c.Certificates, c.MaxVersion = []tls.Certificate{mine}, tls.VersionTLS12 },
			"TLS 1.0": func(c *tls.Config) {
				c.Certificates, c.MinVersion, c.MaxVersion = []tls.Certificate{mine}, tls.VersionTLS10, tls.VersionTLS10
			},
			"an unknown protocol": func(c *tls.Config) { c.Certificates, c.NextProtos = []tls.Certificate{mine}, []string{"spdy/1"} },
		} {
			if err := try(change); err == nil {
				t.Errorf("%s: %s was let in", address, what)
			}
		}
	}
}
