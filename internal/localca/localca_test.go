package localca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rotunda.dev/rotunda/internal/clock/clocktest"
	"rotunda.dev/rotunda/internal/localca"
)

var start = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func ensure(t *testing.T, dir string, c *clocktest.Fake, hosts ...string) *localca.CA {
	t.Helper()
	a, err := localca.Ensure(dir, hosts, c)
	if err != nil {
		t.Fatalf("Ensure(%v) = %v", hosts, err)
	}
	return a
}

func leaf(t *testing.T, a *localca.CA) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.CertFile(), a.KeyFile())
	if err != nil {
		t.Fatalf("the server's certificate and key: %v", err)
	}
	return pair.Leaf
}

func TestCertificateHoldsForItsHosts(t *testing.T) {
	c := clocktest.New(start)
	a := ensure(t, t.TempDir(), c, "localhost", "127.0.0.1", "::1", "vault.example.org")
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "vault.example.org"} {
		if _, err := leaf(t, a).Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: start}); err != nil {
			t.Errorf("Verify(%q) = %v", host, err)
		}
	}
	if _, err := leaf(t, a).Verify(x509.VerifyOptions{DNSName: "other.example.org", Roots: roots, CurrentTime: start}); err == nil {
		t.Error("Verify(other.example.org) = nil; want an error")
	}
}

func TestAuthorityStaysAndCertificateToo(t *testing.T) {
	c, dir := clocktest.New(start), t.TempDir()
	a := ensure(t, dir, c, "localhost")
	serial := leaf(t, a).SerialNumber
	b := ensure(t, dir, c, "localhost")
	if a.Pin() != b.Pin() || leaf(t, b).SerialNumber.Cmp(serial) != 0 {
		t.Error("a second Ensure changed the authority or the certificate")
	}
	if len(a.Pin()) != 64 {
		t.Errorf("Pin() = %q; want 64 hexadecimal digits", a.Pin())
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	c, dir := clocktest.New(start), t.TempDir()
	a := ensure(t, dir, c, "localhost")
	serial := leaf(t, a).SerialNumber
	if renewed, err := a.Renew(); renewed || err != nil {
		t.Errorf("Renew of a new certificate = %v, %v; want false", renewed, err)
	}
	c.Advance(61 * 24 * time.Hour)
	if renewed, err := a.Renew(); !renewed || err != nil {
		t.Errorf("Renew with 29 days left = %v, %v; want true", renewed, err)
	}
	if leaf(t, a).SerialNumber.Cmp(serial) == 0 {
		t.Error("the certificate is the same after it was renewed")
	}
	serial = leaf(t, a).SerialNumber
	b := ensure(t, dir, c, "localhost", "10.0.0.1")
	if leaf(t, b).SerialNumber.Cmp(serial) == 0 || b.Pin() != a.Pin() {
		t.Error("a new host did not lead to a new certificate of the same authority")
	}
}

func TestKeysAreForTheOwnerOnly(t *testing.T) {
	c, dir := clocktest.New(start), t.TempDir()
	ensure(t, dir, c, "localhost")
	for _, name := range []string{"ca-key.pem", "key.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v; want 0600", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := localca.Ensure(dir, []string{"localhost"}, c); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Ensure with a key that others can read = %v; want an error that says what to do", err)
	}
}

func TestDamageIsAnErrorNotANewAuthority(t *testing.T) {
	c := clocktest.New(start)
	for name, damage := range map[string]func(dir string) error{
		"key lost":    func(dir string) error { return os.Remove(filepath.Join(dir, "ca-key.pem")) },
		"certificate": func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o644) },
		"another key": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "key.pem"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "ca-key.pem"), b, 0o600)
		},
	} {
		dir := t.TempDir()
		ensure(t, dir, c, "localhost")
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if a, err := localca.Ensure(dir, []string{"localhost"}, c); err == nil {
			t.Errorf("%s: Ensure = %v, nil; want an error", name, a)
		}
	}
	dir := t.TempDir()
	ensure(t, dir, c, "localhost")
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	leaf(t, ensure(t, dir, c, "localhost")) // what it can make again it makes again
	if _, err := localca.Ensure(dir, nil, c); err == nil {
		t.Error("Ensure without hosts = nil; want an error")
	}
	c.Advance(11 * 365 * 24 * time.Hour)
	if _, err := localca.Ensure(dir, []string{"localhost"}, c); err == nil {
		t.Error("Ensure with an authority that has expired = nil; want an error")
	}
}

func TestKeepRenews(t *testing.T) {
	c, dir := clocktest.New(start), t.TempDir()
	a := ensure(t, dir, c, "localhost")
	serial := leaf(t, a).SerialNumber
	c.Advance(61 * 24 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Keep(ctx, slog.New(slog.DiscardHandler)) }()
	for c.Waiting() == 0 {
		runtime.Gosched()
	}
	c.Advance(12 * time.Hour)
	for c.Waiting() == 0 {
		runtime.Gosched()
	}
	cancel()
	<-done
	if leaf(t, a).SerialNumber.Cmp(serial) == 0 {
		t.Error("Keep did not renew the certificate")
	}
}
