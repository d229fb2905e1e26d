package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestCertificates holds what is said of a server's certificate that cannot be
// trusted, and that nothing is sent then.
func TestCertificates(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tc := range []struct {
		name        string
		from, until time.Time
		ip          string
		trusted     bool
		want        string
	}{
		{"good", now.Add(-time.Hour), now.Add(time.Hour), "127.0.0.1", true, ""},
		{"expired", now.Add(-2 * time.Hour), now.Add(-time.Hour), "127.0.0.1", true, "out of date, or one of the two clocks is wrong"},
		{"of tomorrow", now.Add(time.Hour), now.Add(2 * time.Hour), "127.0.0.1", true, "out of date, or one of the two clocks is wrong"},
		{"another's", now.Add(-time.Hour), now.Add(time.Hour), "127.0.0.2", true, "the certificate is for 127.0.0.2"},
		{"unknown", now.Add(-time.Hour), now.Add(time.Hour), "127.0.0.1", false, "not from an authority that this machine trusts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: tc.from, NotAfter: tc.until, IPAddresses: []net.IP{net.ParseIP(tc.ip)}, IsCA: true, BasicConstraintsValid: true}
			der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan string, 10)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Header.Get("X-Vault-Token")
				fmt.Fprint(w, `{"request_id":"r","data":{"a":"b"}}`)
			}))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
			srv.StartTLS()
			t.Cleanup(srv.Close)
			s := newShell(t, nil)
			s.env = append(s.env, "VAULT_ADDR="+srv.URL, "VAULT_TOKEN=tok")
			line := "read x"
			if tc.trusted {
				line += " -ca-cert=" + s.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
			}
			o := s.run(line)
			if tc.want == "" {
				if o.code != 0 || len(asked) != 1 {
					t.Errorf("rotunda %s: %+v, want success", line, o)
				}
				return
			}
			if o.code != 2 || !strings.Contains(o.err, tc.want) || !strings.Contains(o.err, "next: ") || len(asked) != 0 {
				t.Errorf("rotunda %s: %+v and %d requests; want exit code 2, %q and none", line, o, len(asked), tc.want)
			}
		})
	}
}

// TestFilesOfTrust are refused where they hold nothing, before anything is sent.
func TestFilesOfTrust(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := newShell(t, f)
	none := s.file("none", "no PEM")
	for _, args := range []string{"-ca-cert=" + none, "-ca-cert=" + none + ".missing", "-ca-path=" + s.home, "-ca-path=" + none, "-client-cert=" + none + " -client-key=" + none, "-client-cert=" + none, "-client-key=" + none} {
		if o := s.run("read x " + args); o.code != 1 || !strings.Contains(o.err, "certificate") {
			t.Errorf("read %s: %+v, want a refusal", args, o)
		}
	}
	if n := len(f.asked()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}
