package listen

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rotunda.dev/rotunda/internal/clock"
)

// TLSConfig says how connections are encrypted. One of them serves every
// listener, so that no door is weaker than another.
type TLSConfig struct {
	CertFile     string // PEM: the server's certificate and those that lead to its root
	KeyFile      string // PEM
	ClientCAFile string // PEM; where it is given, a client may show a certificate
	RequireCert  bool   // where ClientCAFile is given, a client must show one
	AllowTLS12   bool   // ECDHE with AEAD ciphers only; nothing older can be allowed
}

// curves are offered in this order: X25519 with ML-KEM-768 resists whoever
// keeps the traffic for a quantum computer.
var curves = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}

// ciphers12 are the cipher suites of TLS 1.2. Those of 1.3 cannot be chosen.
var ciphers12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// TLS is how connections are encrypted, as its files say. It reads them again
// when asked and when they have changed; connections that stand are left alone.
type TLS struct {
	config  TLSConfig
	current atomic.Pointer[loaded]
	mu      sync.Mutex // held while loading
}

type loaded struct {
	tls    *tls.Config
	digest [sha256.Size]byte // of the files
	leaf   *x509.Certificate
}

// LoadTLS reads the files that config names.
func LoadTLS(config TLSConfig) (*TLS, error) {
	t := &TLS{config: config}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload reads the files again. Where that fails, what was loaded stays in use.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	cert, key, cas, err := t.read()
	if err != nil {
		return err
	}
	digest := digestOf(cert, key, cas)
	if old := t.current.Load(); old != nil && old.digest == digest {
		return nil
	}
	made, err := t.make(cert, key, cas)
	if err != nil {
		return err
	}
	made.digest = digest
	t.current.Store(made)
	return nil
}

func (t *TLS) read() (cert, key, cas []byte, err error) {
	if cert, err = os.ReadFile(t.config.CertFile); err != nil {
		return nil, nil, nil, fmt.Errorf("reading the TLS certificate: %w", err)
	}
	if key, err = os.ReadFile(t.config.KeyFile); err != nil {
		return nil, nil, nil, fmt.Errorf("reading the TLS key: %w", err)
	}
	if t.config.ClientCAFile != "" {
		if cas, err = os.ReadFile(t.config.ClientCAFile); err != nil {
			return nil, nil, nil, fmt.Errorf("reading the client CAs: %w", err)
		}
	}
	return cert, key, cas, nil
}

func digestOf(files ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		sum := sha256.Sum256(f)
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (t *TLS) make(cert, key, cas []byte) (*loaded, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("pairing the TLS certificate %s with its key: %w", t.config.CertFile, err)
	}
	c := &tls.Config{
		Certificates:     []tls.Certificate{pair},
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves,
		CipherSuites:     ciphers12,
		NextProtos:       []string{"h2", "http/1.1"},
	}
	if t.config.AllowTLS12 {
		c.MinVersion = tls.VersionTLS12
	}
	if t.config.ClientCAFile != "" {
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(cas) {
			return nil, fmt.Errorf("reading the client CAs: %s holds no certificate", t.config.ClientCAFile)
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if t.config.RequireCert {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	} else if t.config.RequireCert {
		return nil, errors.New("reading the client CAs: client certificates are required and no file of CAs is named")
	}
	return &loaded{tls: c, leaf: pair.Leaf}, nil
}

// Leaf returns the server's own certificate that is in use.
func (t *TLS) Leaf() *x509.Certificate { return t.current.Load().leaf }

// Server returns the configuration for a server; it follows every reload.
func (t *TLS) Server() *tls.Config {
	c := t.current.Load().tls.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load().tls, nil }
	return c
}

// Watch reloads the files whenever they have changed, looking every so often,
// until ctx ends. A file that cannot be used is logged once and tried again.
func (t *TLS) Watch(ctx context.Context, c clock.Clock, every time.Duration, log *slog.Logger) {
	said := ""
	for c.Wait(ctx, c.Now().Add(every)) == nil {
		before := t.current.Load()
		err := t.Reload()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			log.LogAttrs(ctx, slog.LevelError, "reloading the TLS certificate", slog.Any("cause", err))
		case err == nil:
			said = ""
			if now := t.current.Load(); now != before {
				log.LogAttrs(ctx, slog.LevelInfo, "TLS certificate reloaded", slog.Time("not_after", now.leaf.NotAfter))
			}
		}
	}
}
