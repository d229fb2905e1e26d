// Package localca makes a certificate authority for one machine, and a server
// certificate by it.
//
// It is for a server that is started with one command: clients of the same
// user find the authority's certificate in a file and pin it, and nothing has
// to be trusted by the system. The directory holds:
//
//	ca.pem       the authority's certificate, ten years; its digest is the pin
//	ca-key.pem   its key, 0600
//	cert.pem     the server's certificate, 90 days
//	key.pem      its key, 0600
//
// A certificate is replaced when a third of its time is left, and when it does
// not hold for every host. The authority is made once and never replaced, so a
// pin stays right.
package localca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"rotunda.dev/rotunda/internal/clock"
	"rotunda.dev/rotunda/internal/durable"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	renewAt  = leafLife / 3
	skew     = 5 * time.Minute // clocks of clients may be behind
)

// CA is a certificate authority and the server certificate that it made. Make
// it with [Ensure].
type CA struct {
	dir   string
	hosts []string
	clock clock.Clock
	cert  *x509.Certificate
	key   crypto.Signer
}

// Ensure returns the authority in dir, which it makes where there is none,
// with a server certificate that holds for hosts: names and IP addresses.
func Ensure(dir string, hosts []string, c clock.Clock) (*CA, error) {
	if len(hosts) == 0 {
		return nil, errors.New("a server certificate needs a host")
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of certificates: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil { // of what a crash has left unsynced
		return nil, fmt.Errorf("syncing the directory of certificates: %w", err)
	}
	a := &CA{dir: dir, hosts: hosts, clock: c}
	err := a.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create()
	}
	if err != nil {
		return nil, err
	}
	if _, err := a.Renew(); err != nil {
		return nil, err
	}
	return a, nil
}

// CAFile returns the path of the authority's certificate.
func (a *CA) CAFile() string { return filepath.Join(a.dir, "ca.pem") }

// CertFile returns the path of the server's certificate.
func (a *CA) CertFile() string { return filepath.Join(a.dir, "cert.pem") }

// KeyFile returns the path of the server's key.
func (a *CA) KeyFile() string { return filepath.Join(a.dir, "key.pem") }

func (a *CA) caKeyFile() string { return filepath.Join(a.dir, "ca-key.pem") }

// Certificate returns the authority's certificate.
func (a *CA) Certificate() *x509.Certificate { return a.cert }

// Pin returns what stands for the authority: the SHA-256 digest of its
// certificate, in hexadecimal.
func (a *CA) Pin() string { return PinOf(a.cert) }

// PinOf returns the pin of a certificate.
func PinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Renew replaces the server's certificate if it does not hold for every host
// or a third of its time is left, and says whether it did.
func (a *CA) Renew() (bool, error) {
	if a.good() {
		return false, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, fmt.Errorf("making a server key: %w", err)
	}
	template, err := a.template("Rotunda", leafLife)
	if err != nil {
		return false, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range a.hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, ip.WithZone("").AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return false, fmt.Errorf("making a server certificate: %w", err)
	}
	// The key goes first: a certificate without its key is of no use, and who
	// loads the pair in between keeps what it has.
	if err := writeKey(a.KeyFile(), key); err != nil {
		return false, err
	}
	if err := writePEM(a.CertFile(), 0o644, "CERTIFICATE", der); err != nil {
		return false, err
	}
	return true, nil
}

// Keep renews the server's certificate in time until ctx ends.
func (a *CA) Keep(ctx context.Context, log *slog.Logger) {
	for a.clock.Wait(ctx, a.clock.Now().Add(12*time.Hour)) == nil {
		switch renewed, err := a.Renew(); {
		case err != nil:
			log.LogAttrs(ctx, slog.LevelError, "renewing the server certificate", slog.Any("cause", err))
		case renewed:
			log.LogAttrs(ctx, slog.LevelInfo, "server certificate renewed")
		}
	}
}

// good reports whether the server's certificate can stay.
func (a *CA) good() bool {
	cert, err := readCert(a.CertFile())
	if err != nil {
		return false
	}
	key, err := readKey(a.KeyFile())
	if err != nil {
		return false
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !public.Equal(cert.PublicKey) || cert.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	now := a.clock.Now()
	if now.Before(cert.NotBefore) || now.Add(renewAt).After(cert.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(a.hosts, func(h string) bool { return cert.VerifyHostname(h) != nil })
}

// load reads the authority. The error is fs.ErrNotExist where there is none.
func (a *CA) load() error {
	cert, err := readCert(a.CAFile())
	if err != nil {
		return err
	}
	info, err := os.Stat(a.caKeyFile())
	if err != nil {
		return fmt.Errorf("reading the authority's key: %s is there and its key is not: move the directory %s away to have a new authority made", a.CAFile(), a.dir)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("reading the authority's key: others can read %s: run chmod 600 on it", a.caKeyFile())
	}
	key, err := readKey(a.caKeyFile())
	if err != nil {
		return err
	}
	if public, ok := key.Public().(*ecdsa.PublicKey); !ok || !public.Equal(cert.PublicKey) {
		return fmt.Errorf("reading the authority: %s and %s do not belong together", a.CAFile(), a.caKeyFile())
	}
	if a.clock.Now().After(cert.NotAfter) {
		return fmt.Errorf("reading the authority: %s has expired: move the directory %s away to have a new one made", a.CAFile(), a.dir)
	}
	a.cert, a.key = cert, key
	return nil
}

func (a *CA) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the authority's key: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	template, err := a.template("Rotunda local CA on "+host, caLife)
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making the authority's certificate: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("reading the authority's certificate: %w", err)
	}
	a.key = key
	// The certificate goes last: where it is, its key is.
	if err := writeKey(a.caKeyFile(), key); err != nil {
		return err
	}
	return writePEM(a.CAFile(), 0o644, "CERTIFICATE", der)
}

func (a *CA) template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	now := a.clock.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-skew), NotAfter: now.Add(life),
	}, nil
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	defer clear(der)
	return writePEM(file, 0o600, "PRIVATE KEY", der)
}

func writePEM(file string, mode os.FileMode, kind string, der []byte) error {
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	defer clear(b)
	if err := durable.WriteFile(file, b, mode); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

func readCert(file string) (*x509.Certificate, error) {
	block, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s: %w", file, err)
	}
	return cert, nil
}

func readKey(file string) (crypto.Signer, error) {
	block, err := readPEM(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	defer clear(block)
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading the key %s: it cannot sign", file)
	}
	return signer, nil
}

func readPEM(file, kind string) ([]byte, error) {
	b, err := os.ReadFile(file) //nolint:gosec // in the directory that the caller chose
	if err != nil {
		return nil, fmt.Errorf("reading a certificate or key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("reading %s: no %s in it", file, kind)
	}
	return block.Bytes, nil
}
